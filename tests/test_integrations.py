"""Losses by class where people train: what is logged is what brute force gives."""

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from imbalance import FrequencyBuckets, LossByClass, class_counts
from imbalance.integrations import scalars
from imbalance.integrations.windows import Windows

SCRIPTS = Path(__file__).parent / "scripts"
BUCKETS = FrequencyBuckets.thresholds([9, 5, 1, 1, 0], [5])  # classes 0, 1 | 2, 3 | 4 in none

# Other people's libraries warn of each other's changes: the reason that they stand here by name.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:::{library}")
    for library in ("accelerate", "lightning", "pytorch_lightning", "tensorboard", "transformers")
] + [
    # Lightning and torch disagree on a class of torch.utils._pytree, by a logged warning.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def transformers(torch):
    return pytest.importorskip("transformers")


def brute_force(logits, label):
    """Losses in float64 and right predictions of labels that are not -100, with these labels."""
    logits, label = np.asarray(logits, np.float64), np.asarray(label)
    top = logits.max(-1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    kept = label != -100
    label = label[kept]
    loss = -np.take_along_axis(log_p[kept], label[:, None], -1)[:, 0]
    return loss, logits[kept].argmax(-1) == label, label


# Any logger --------------------------------------------------------------------------------------


def fed():
    losses = LossByClass(5)
    losses.update([1.0, 2.0, 4.0, 8.0], [0, 0, 1, 4], correct=[True, False, True, False])
    return losses


def test_scalars_are_the_numbers_under_their_names():
    found = scalars(fed(), BUCKETS, prefix="val/")
    assert found == {
        "val/loss/overall": 15 / 4,
        "val/loss/macro": (1.5 + 4 + 8) / 3,
        "val/accuracy/overall": 0.5,
        "val/accuracy/balanced": (0.5 + 1 + 0) / 3,
        "val/loss/bucket_0": 7 / 3,
        "val/accuracy/bucket_0": 2 / 3,  # bucket 1 has no example: it is left out
    }
    assert all(type(value) is float for value in found.values())
    json.dumps(found, allow_nan=False)


def test_scalars_without_buckets_or_predictions_leave_them_out():
    assert set(scalars(fed())) == {
        "loss/overall",
        "loss/macro",
        "accuracy/overall",
        "accuracy/balanced",
    }
    losses = LossByClass(5)
    assert scalars(losses, BUCKETS) == {}
    losses.update([1.0], [2])
    assert scalars(losses, BUCKETS) == {
        "loss/overall": 1,
        "loss/macro": 1,
        "loss/bucket_1": 1,
    }


def test_scalars_take_the_names_of_buckets():
    losses = LossByClass(3)
    losses.update([1.0, 2.0, 3.0], [0, 1, 2])
    found = scalars(losses, FrequencyBuckets.shots([500, 50, 5]))
    assert [found[f"loss/bucket_{name}"] for name in ("many", "medium", "few")] == [1, 2, 3]
    same = FrequencyBuckets([2, 1, 0], [0, 1, -1], 2, names=("one", "one"))
    with pytest.raises(ValueError, match="give each bucket its own"):
        scalars(losses, same)


def test_scalars_count_diverged_losses():
    losses = LossByClass(5)
    with pytest.warns(UserWarning, match="NaN"):
        losses.update([1.0, np.nan, np.inf], [0, 0, 1])
    found = scalars(losses, BUCKETS)
    assert found["loss/diverged"] == 2 and found["loss/overall"] == found["loss/bucket_0"] == 1


def test_a_window_ends_with_its_report():
    windows = Windows(BUCKETS, gathered=lambda losses: losses.merge(losses))
    windows.update("one", [1.0, 3.0], [0, -100])
    windows.update("one", [3.0], [1])
    windows.update("other", [9.0], [0])
    assert windows.report("one", "x/")["x/loss/overall"] == 2
    assert windows.latest["one"].count.sum() == 4  # gathered
    assert windows.report("one") == {}  # a new one
    windows.clear("other")
    assert windows.report("other") == {}


def test_mistakes_show_before_the_first_batch():
    with pytest.raises(TypeError, match="give FrequencyBuckets"):
        Windows([9, 5, 1, 1, 0])
    with pytest.raises(ValueError, match="2 names for 5 classes"):
        Windows(BUCKETS, names=["a", "b"])


def test_a_logger_needs_no_library():
    code = "import sys, imbalance.integrations; print(*{'torch', 'transformers'} & {*sys.modules})"
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.split() == []


def test_tensorboard_takes_them(tmp_path):
    writers = pytest.importorskip("torch.utils.tensorboard")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = scalars(fed(), BUCKETS, "val/")
    with writers.SummaryWriter(str(tmp_path)) as writer:
        for name, value in found.items():
            writer.add_scalar(name, value, 3)
    read = events.EventAccumulator(str(tmp_path)).Reload()
    assert set(read.Tags()["scalars"]) == set(found)
    for name, value in found.items():
        (event,) = read.Scalars(name)
        assert event.step == 3 and event.value == pytest.approx(value, rel=1e-6)  # float32


# PyTorch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 40, 2**24])
@pytest.mark.parametrize("shape", [(6,), (3, 5), (0,), (2, 0)])
def test_example_losses_are_those_of_float64(torch, monkeypatch, at_once, shape):
    from imbalance.integrations import pytorch

    monkeypatch.setattr(pytorch, "_NUMBERS_AT_ONCE", at_once)
    logits = 3 * torch.randn(*shape, 11, requires_grad=True)
    label = torch.randint(0, 11, shape)
    label.flatten()[:1] = -100
    loss, correct = pytorch.example_losses(logits, label)
    assert loss.shape == correct.shape == shape and not loss.requires_grad
    kept = label != -100
    wanted, right, _ = brute_force(logits.detach(), label)
    np.testing.assert_allclose(loss[kept], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(correct[kept], right)
    assert (loss[~kept] == 0).all() and not correct[~kept].any()
    half = pytorch.example_losses(logits.bfloat16(), label)[0]
    assert half.dtype == torch.float32
    exact = brute_force(logits.detach().bfloat16().float(), label)[0]
    np.testing.assert_allclose(half[kept], exact, rtol=1e-5, atol=1e-6)


def test_example_losses_refuse_several_labels_and_numbers(torch):
    from imbalance.integrations.pytorch import example_losses

    with pytest.raises(ValueError, match=r"logits have shape \(2, 3\), labels \(2, 3\)"):
        example_losses(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="float32"):
        example_losses(torch.zeros(2, 3), torch.zeros(2))


def run_in_processes(commands, **environment):
    scripts = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command, own in zip(commands, environments(len(commands), environment), strict=True)
    ]
    outputs = [script.communicate(timeout=300)[0] for script in scripts]
    assert not any(script.returncode for script in scripts), "\n".join(outputs)


def environments(number, shared):
    return [{**shared, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(number)]


def test_one_process_keeps_its_sums(torch):
    from imbalance.integrations.pytorch import over_processes

    losses = fed()
    assert over_processes(losses) is losses


def test_two_processes_have_the_same_sums_to_the_last_bit(torch, tmp_path):
    rng = np.random.default_rng(0)
    parts = [
        [
            (rng.exponential(size=n).tolist(), rng.integers(0, 7, n).tolist(), correct)
            for n in sizes
            for correct in ([bool(right) for right in rng.integers(0, 2, n)],)
        ]
        for sizes in ((5, 8), (3,))  # unequal streams
    ]
    streams = tmp_path / "streams.json"
    streams.write_text(json.dumps(parts))
    script, store = SCRIPTS / "gloo_losses.py", tmp_path / "store"
    run_in_processes([[script, store, 2, i, streams, tmp_path / f"{i}.json"] for i in range(2)])
    (one, merged, name), (other, again, other_name) = (
        json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2)
    )
    assert merged == again

    def losses(state):
        loaded = LossByClass(7)
        loaded.load_state_dict(state)
        return loaded

    assert merged == losses(one).merge(losses(other)).state_dict()
    whole = LossByClass(7)
    for loss, label, correct in parts[0] + parts[1]:
        whole.update(loss, label, correct=correct)
    assert merged["count"] == whole.count.tolist()
    np.testing.assert_allclose(losses(merged).mean, whole.mean, rtol=1e-14)
    np.testing.assert_array_equal(losses(merged).accuracy, whole.accuracy)
    assert name[0].endswith("of process 0") and other_name[0].endswith("of process 1")


# The Hugging Face Trainer ------------------------------------------------------------------------

VOCABULARY, LENGTH = 30, 8


def model_of(name):
    """A tiny model that is made here, and nothing of which is downloaded."""
    import transformers

    small = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    size = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    bert = {**small, **size, "intermediate_size": 16, "num_labels": 5}
    bart = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
    configs = {
        "LlamaForCausalLM": ("LlamaConfig", {**small, **size, "intermediate_size": 16}),
        "GPT2LMHeadModel": (
            "GPT2Config",
            {**small, "n_embd": 16, "n_layer": 1, "n_head": 2}
            | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
        ),
        "BertForSequenceClassification": ("BertConfig", bert),
        "BertForMaskedLM": ("BertConfig", bert),
        "BertForTokenClassification": ("BertConfig", {**bert, "num_labels": VOCABULARY}),
        "BartForCausalLM": ("BartConfig", {**small, **bart}),
    }
    config, fields = configs[name]
    return getattr(transformers, name)(getattr(transformers, config)(**fields))


def rows_of(torch, number=24, ignored=0):
    """Rows of tokens by 1/k, whose last labels are ignored as if they were padding."""
    token = torch.multinomial(1 / torch.arange(1, VOCABULARY + 1), number * LENGTH, True)
    token = token.reshape(number, LENGTH)
    label = token.clone()
    label[::2, LENGTH - ignored :] = -100
    return [{"input_ids": row, "labels": wanted} for row, wanted in zip(token, label, strict=True)]


def trainer_of(transformers, model, rows, callback=None, evaluated=None, **arguments):
    settings = {
        "output_dir": "trainer",
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 5,
        "logging_steps": 2,
        "learning_rate": 0.0,
        "weight_decay": 0.0,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**settings | arguments),
        train_dataset=rows,
        eval_dataset=rows if evaluated is None else evaluated,
    )
    if callback is not None:
        callback.add_to(trainer)
    return trainer


def callback_of(counts=None, **options):
    from imbalance.integrations.huggingface import LossByClassCallback

    counts = np.arange(VOCABULARY, 0, -1) if counts is None else counts
    return LossByClassCallback(FrequencyBuckets.from_counts(counts, 3), **options)


def wanted_of(torch, model, rows, buckets, shift):
    """`scalars` by brute force, from the model's logits."""
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    with torch.no_grad():
        logits = model.eval()(**batch)["logits"]
    label = batch["labels"]
    if shift:
        logits, label = logits[:, :-1], label[:, 1:]
    loss, correct, label = brute_force(logits, label)
    bucket = buckets.bucket_of_class[label]
    wanted = {"loss/overall": loss.mean(), "accuracy/overall": correct.mean()}
    wanted["loss/macro"] = np.mean([loss[label == k].mean() for k in np.unique(label)])
    wanted["accuracy/balanced"] = np.mean([correct[label == k].mean() for k in np.unique(label)])
    for b in np.unique(bucket):
        wanted[f"loss/bucket_{b}"] = loss[bucket == b].mean()
        wanted[f"accuracy/bucket_{b}"] = correct[bucket == b].mean()
    return wanted


def assert_logged(log, wanted, prefix=""):
    found = {name: value for name, value in log.items() if "/" in name}
    assert found == pytest.approx({prefix + name: v for name, v in wanted.items()}, rel=2e-6)


@pytest.mark.parametrize(
    ("name", "shift"),
    [
        ("LlamaForCausalLM", True),
        ("GPT2LMHeadModel", True),
        ("BartForCausalLM", False),  # in spite of its name
        ("BertForMaskedLM", False),
        ("BertForTokenClassification", False),
    ],
)
def test_logs_hold_what_brute_force_gives_and_the_shift_is_found(torch, transformers, name, shift):
    model, rows, evaluated = model_of(name), rows_of(torch, ignored=2), rows_of(torch, 13)
    for module in model.modules():  # so that training, at the rate 0, is an evaluation
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if name == "BartForCausalLM":
        model.model.decoder.dropout = model.model.decoder.layers[0].dropout = 0.0
    counts = class_counts(torch.cat([row["input_ids"] for row in rows]), VOCABULARY)
    callback = callback_of(counts + 1)
    trainer = trainer_of(
        transformers,
        model,
        rows,
        callback,
        evaluated,
        logging_strategy="epoch",
        eval_strategy="epoch",
        gradient_accumulation_steps=2,
    )
    trainer.train()
    buckets = FrequencyBuckets.from_counts(counts + 1, 3)
    of_training, of_evaluation, summary = trainer.state.log_history
    assert_logged(of_training, wanted_of(torch, model, rows, buckets, shift))
    wanted = wanted_of(torch, model, evaluated, buckets, shift)
    assert_logged(of_evaluation, wanted, "eval_")
    assert_logged(trainer.evaluate(), wanted, "eval_")
    assert_logged(trainer.evaluate(metric_key_prefix="other"), wanted, "other_")
    assert not [name for name in summary if "/" in name]
    positions = LENGTH - shift
    assert callback.latest["training"].count.sum() == 12 * positions + 12 * (positions - 2)
    assert callback.latest["evaluation"].count.sum() == 13 * positions


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize(
    ("name", "ratio"), [("GPT2LMHeadModel", (LENGTH - 1) / LENGTH), ("LlamaForCausalLM", 1)]
)
def test_why_the_loss_of_the_trainer_is_another(torch, transformers, name, ratio, accumulated):
    """It divides by all labels where the Trainer does not know that the loss shifts them."""
    trainer = trainer_of(
        transformers,
        model_of(name),
        rows_of(torch),
        callback_of(),
        learning_rate=1e-2,
        gradient_accumulation_steps=accumulated,
        logging_steps=1,
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert len(logs) == 6 // accumulated
    for log in logs:  # every step has as many labels as the others
        assert log["loss"] == pytest.approx(ratio * log["loss/overall"], rel=1e-5)
        means = [value for name, value in log.items() if name.startswith("loss/bucket_")]
        assert min(means) <= log["loss/overall"] <= max(means)


def test_a_mean_of_means_is_another_where_rows_differ(torch, transformers):
    """`eval_loss` weighs batches by rows, `loss/overall` by labels."""
    rows = rows_of(torch, 8, ignored=6)
    rows = rows[::2] + rows[1::2]  # four of two labels, then four of eight
    model = model_of("BertForMaskedLM").eval()
    callback = callback_of()
    trainer = trainer_of(transformers, model, rows, callback, per_device_eval_batch_size=4)
    found = trainer.evaluate()
    halves = [
        wanted_of(torch, model, some, callback._windows.buckets, False)["loss/overall"]
        for some in (rows[:4], rows[4:])
    ]
    assert found["eval_loss"] == pytest.approx(np.mean(halves), rel=1e-6)
    assert found["eval_loss/overall"] == pytest.approx(np.average(halves, weights=[8, 32]))
    assert abs(found["eval_loss"] - found["eval_loss/overall"]) > 1e-3


def test_a_classifier(torch, transformers):
    label = torch.randint(0, 5, (13,))
    rows = [
        {"input_ids": row["input_ids"], "labels": k}
        for row, k in zip(rows_of(torch, 13), label, strict=True)
    ]
    model = model_of("BertForSequenceClassification")
    callback = callback_of([9, 5, 3, 2, 1], names=["a", "b", "c", "d", "e"])
    trainer = trainer_of(transformers, model, rows, callback)
    buckets = FrequencyBuckets.from_counts([9, 5, 3, 2, 1], 3)
    assert_logged(trainer.evaluate(), wanted_of(torch, model, rows, buckets, False), "eval_")
    assert set(callback.latest["evaluation"].worst(5).name) <= set("abcde")
    trainer.predict(rows)  # no part of the next evaluation
    model(input_ids=rows[0]["input_ids"][None], labels=label[:1])  # nor this
    trainer.evaluate()
    assert callback.latest["evaluation"].count.sum() == 13


def test_reports_reach_tensorboard_and_the_best_model(torch, transformers, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "events")
    callback = callback_of()
    trainer = trainer_of(
        transformers,
        model_of("LlamaForCausalLM"),
        rows_of(torch),
        callback,
        report_to="tensorboard",
        logging_strategy="epoch",
        eval_strategy="epoch",
        save_strategy="epoch",
        num_train_epochs=2,
        learning_rate=1e-2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss/bucket_2",
        greater_is_better=False,
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "eval_loss" in log]
    assert trainer.state.best_metric == min(log["eval_loss/bucket_2"] for log in logs)
    read = events.EventAccumulator("events").Reload()
    assert {f"{kind}/loss/bucket_{b}" for kind in ("train", "eval") for b in range(3)} <= set(
        read.Tags()["scalars"]
    )
    found = [event.value for event in read.Scalars("eval/loss/bucket_2")]
    assert found == pytest.approx([log["eval_loss/bucket_2"] for log in logs], rel=1e-6)


def test_training_is_not_touched(torch, transformers):
    weights = []
    for callback in (None, callback_of()):
        torch.manual_seed(1)
        model, rows = model_of("LlamaForCausalLM"), rows_of(torch)
        trainer_of(transformers, model, rows, callback, learning_rate=1e-2).train()
        weights.append(model.lm_head.weight.detach().clone())
    assert torch.equal(*weights)


def test_a_loss_that_does_not_tell_the_shift_is_refused(torch, transformers):
    rows = rows_of(torch)

    def trainer(callback):
        model = model_of("LlamaForCausalLM")
        torch.nn.init.zeros_(model.lm_head.weight)  # all losses are ln 30
        return trainer_of(transformers, model, rows, callback)

    with pytest.raises(ValueError, match=r"3.4012, does not tell .* give .*shift=True"):
        trainer(callback_of()).evaluate()
    found = trainer(callback_of(shift=True)).evaluate()
    assert found["eval_loss/overall"] == pytest.approx(np.log(30), rel=1e-6)


def test_what_the_callback_cannot_see_is_said(torch, transformers):
    from imbalance.integrations.huggingface import LossByClassCallback

    rows, model = rows_of(torch), model_of("LlamaForCausalLM")
    with pytest.raises(ValueError, match="takes the labels out"):
        trainer_of(transformers, model, rows, callback_of(), label_smoothing_factor=0.1)
    trainer = trainer_of(transformers, model, rows)
    with pytest.raises(ValueError, match="add_to"):
        transformers.Trainer(model=model, args=trainer.args, callbacks=[callback_of()])
    with pytest.raises(TypeError, match="give FrequencyBuckets"):
        LossByClassCallback(buckets=[3, 2, 1])
    with pytest.raises(ValueError, match="returns no logits"):
        callback_of()._see(model, (), {"labels": torch.zeros(2, 3).long()}, {"loss": 1.0})

    class Silent(torch.nn.Module):
        """A model that is given its labels under another name."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, wanted):
            return {"loss": self.weight + wanted.sum(), "logits": self.weight}

    rows = [{"wanted": torch.ones(2)}] * 4
    with pytest.warns(UserWarning, match="no labels came to the model's forward"):
        trainer_of(transformers, Silent(), rows, callback_of(), logging_steps=1).train()


def test_labels_that_are_shifted_before_are_taken_as_they_are(torch, transformers):
    model, rows = model_of("LlamaForCausalLM").eval(), rows_of(torch, 4)
    token = torch.stack([row["input_ids"] for row in rows])
    shifted = torch.nn.functional.pad(token[:, 1:], (0, 1), value=-100)
    callback = callback_of()
    with torch.no_grad():
        output = model(input_ids=token)
    callback._see(model, (), {"labels": token, "shift_labels": shifted}, output)
    callback._add("evaluation")
    found = callback._windows.report("evaluation")
    wanted = wanted_of(torch, model, rows, callback._windows.buckets, True)
    assert found == pytest.approx(wanted, rel=2e-6)


@pytest.mark.slow
def test_two_processes_of_the_trainer_count_every_row_once(torch, transformers, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    run_in_processes(
        [[SCRIPTS / "trainer_in_processes.py", tmp_path / f"{i}.json"] for i in range(2)],
        WORLD_SIZE="2",
        MASTER_ADDR="localhost",
        MASTER_PORT=port,
    )
    one, other = (json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2))
    assert one["processes"] == 2 and one["losses"] == other["losses"]
    counts = class_counts(np.array(one["token"])[:, 1:].reshape(-1), 20)
    assert one["losses"]["count"] == counts.tolist()  # 13 rows in batches of 2 x 4
    assert {"eval_loss/overall", "eval_loss/bucket_0"} <= set(one["evaluated"])
    for name, value in one["evaluated"].items():
        assert "/" not in name or value == other["evaluated"][name]
    logs = [log for log in one["logs"] if "loss" in log]
    assert len(logs) == 2 and all("loss/bucket_2" in log for log in logs)


@pytest.mark.slow
def test_a_compiled_model(torch, transformers):
    model, rows = model_of("LlamaForCausalLM"), rows_of(torch, 8)
    callback = callback_of()
    arguments = {"torch_compile": True, "torch_compile_backend": "eager"}
    trainer = trainer_of(transformers, model, rows, callback, logging_strategy="epoch", **arguments)
    trainer.train()
    wanted = wanted_of(torch, model, rows, callback._windows.buckets, True)
    assert_logged(trainer.state.log_history[0], wanted)


# Lightning ---------------------------------------------------------------------------------------


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request, torch):
    pytest.importorskip(request.param.split(".")[0])
    return importlib.import_module(request.param)


def classifier_of(lightning, torch, drop=()):
    """A model, its data in batches of 7, and counts of the labels; ``drop`` is not returned."""

    class Classifier(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(4, 5)

        def training_step(self, batch, batch_idx):
            x, label = batch
            logits = self.head(x)
            losses = torch.nn.functional.cross_entropy(logits, label, reduction="none")
            step = {"loss": losses.mean(), "losses": losses, "labels": label}
            step["correct"] = logits.argmax(-1) == label
            return {name: value for name, value in step.items() if name not in drop}

        validation_step = test_step = training_step

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    x, label = torch.randn(40, 4), torch.randint(0, 5, (40,))
    data = torch.utils.data.TensorDataset(x, label)
    model = Classifier()
    model.lr = 0.0
    return SimpleNamespace(
        model=model,
        batches=torch.utils.data.DataLoader(data, batch_size=7),
        buckets=FrequencyBuckets.from_counts([9, 5, 3, 2, 1], 3),
        wanted=lambda: _wanted_of_classifier(model, x, label, torch),
    )


def _wanted_of_classifier(model, x, label, torch):
    buckets = FrequencyBuckets.from_counts([9, 5, 3, 2, 1], 3)
    with torch.no_grad():
        loss, correct, label = brute_force(model.head(x), label)
    losses = LossByClass(5)
    losses.update(loss, label, correct=correct)
    return scalars(losses, buckets)


def lightning_trainer(lightning, *callbacks, **options):
    settings = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    return lightning.Trainer(callbacks=list(callbacks), **settings | options)


def of_kind(metrics, kind):
    return {name: float(value) for name, value in metrics.items() if name.startswith(kind)}


def test_lightning_logs_what_brute_force_gives(lightning, torch):
    from imbalance.integrations.lightning import LossByClassCallback

    r = classifier_of(lightning, torch)
    callback = LossByClassCallback(r.buckets)
    trainer = lightning_trainer(lightning, callback)
    trainer.fit(r.model, r.batches, r.batches)  # checks two batches of validation before
    wanted = r.wanted()
    for kind in ("train", "val"):
        found = of_kind(trainer.callback_metrics, f"{kind}/")
        assert found == pytest.approx({f"{kind}/{name}": v for name, v in wanted.items()}, rel=2e-6)
        assert callback.latest[kind].count.sum() == 40
    (found,) = trainer.test(r.model, r.batches, verbose=False)
    assert found == pytest.approx({f"test/{name}": v for name, v in wanted.items()}, rel=2e-6)


def test_lightning_reports_steps_and_accumulates(lightning, torch):
    from imbalance.integrations.lightning import LossByClassCallback

    r = classifier_of(lightning, torch)
    logger = importlib.import_module(f"{lightning.__name__}.loggers").CSVLogger("logs")
    seen = []
    logger.log_metrics = lambda metrics, step=None: seen.append((step, metrics))
    callback = LossByClassCallback(r.buckets, every_n_steps=2)
    options = {"logger": logger, "accumulate_grad_batches": 2, "max_epochs": 2}
    lightning_trainer(lightning, callback, **options).fit(r.model, r.batches)
    found = [(step, metrics) for step, metrics in seen if "train/loss/overall" in metrics]
    assert [step for step, _ in found] == [2, 4, 6]  # of 6 batches, 3 steps, an epoch
    assert callback.latest["train"].count.sum() == 26  # four batches, the last of 5 examples
    with pytest.raises(ValueError, match="every_n_steps is 0"):
        LossByClassCallback(r.buckets, every_n_steps=0)


def test_lightning_chooses_the_best_model_by_a_bucket(lightning, torch):
    from imbalance.integrations.lightning import LossByClassCallback

    r = classifier_of(lightning, torch)
    r.model.lr = 0.1
    callbacks = importlib.import_module(f"{lightning.__name__}.callbacks")
    best = callbacks.ModelCheckpoint("best", monitor="val/loss/bucket_2")
    callback = LossByClassCallback(r.buckets)
    options = {"max_epochs": 3, "enable_checkpointing": True}
    trainer = lightning_trainer(lightning, callback, best, **options)
    trainer.fit(r.model, r.batches, r.batches)
    assert float(best.best_model_score) <= float(trainer.callback_metrics["val/loss/bucket_2"])
    assert Path(best.best_model_path).exists()


def test_lightning_says_what_a_step_must_return(lightning, torch):
    from imbalance.integrations.lightning import LossByClassCallback

    r = classifier_of(lightning, torch, drop=("labels",))
    trainer = lightning_trainer(lightning, LossByClassCallback(r.buckets))
    with pytest.raises(ValueError, match=r"training_step returned \['loss', 'losses', 'correct'\]"):
        trainer.fit(r.model, r.batches)
    with pytest.raises(ValueError, match="validation_step returned NoneType"):
        LossByClassCallback(r.buckets)._add("val", "validation_step", None)
