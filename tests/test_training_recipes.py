"""Every block of docs/training.md is run where its library is installed, and checked at its end."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from imbalance import LossByClass, class_counts
from imbalance.integrations import scalars

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training.md"
TEXT = PAGE.read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCKS = {
    title: re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    for title, section in SECTIONS.items()
    if "```python" in section
}

# Other people's libraries warn of each other's changes: the reason that they stand here by name.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:::{library}")
    for library in ("accelerate", "equinox", "haliax", "lightning", "tensorboard", "transformers")
] + [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_block(title):
    """What the block ends with."""
    namespace = {"__name__": "recipe"}
    exec(compile(BLOCKS[title], f"{PAGE.name}: {title}", "exec"), namespace)
    return SimpleNamespace(**namespace)


def logged_in_tensorboard(folder):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = events.EventAccumulator(folder).Reload()
    return {name: [e.value for e in read.Scalars(name)] for name in read.Tags()["scalars"]}


def assert_rare_is_behind(means):
    assert np.isfinite(means).all()
    assert np.argmax(means) == len(means) - 1 and means[-1] > means[0] + 0.3


def buckets_of(log, prefix, number):
    return np.array([log[f"{prefix}loss/bucket_{b}"] for b in range(number)])


def test_every_block_has_a_test():
    assert TEXT.count("```python") == len(BLOCKS)
    source = Path(__file__).read_text()
    assert set(re.findall(r"(?:run_block|in_processes)\(\s*\"(.+?)\"", source)) == set(BLOCKS)


def test_every_link_leads_to_a_section():
    titles = {title: re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in SECTIONS}
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links == set(titles.values())
    for page, anchor in re.findall(r"\]\((\w+\.md)#([^)]+)\)", TEXT):
        headings = re.findall(r"^## (.+)$", PAGE.with_name(page).read_text(), re.MULTILINE)
        assert anchor in {
            re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
        }


def test_the_versions_are_those_that_run_here():
    """Of a library that is installed, the page says the major version."""
    rows = SECTIONS["Versions"]
    for library in ("transformers", "accelerate", "lightning", "tensorboard", "wandb"):
        (said,) = re.findall(rf"(?<![\w-]){library} (\d[\w.]*\d)", rows)
        try:
            here = version(library)
        except PackageNotFoundError:
            continue
        assert said.split(".")[0] == here.split(".")[0], f"{library}: run again, then say {here}"


def test_any_logger(capsys):
    r = run_block("Any logger")
    assert capsys.readouterr().out in SECTIONS["Any logger"]
    assert scalars(r.losses, r.buckets)["loss/bucket_few"] == 4


def test_tensorboard(torch):
    pytest.importorskip("tensorboard")
    run_block("TensorBoard")
    found = logged_in_tensorboard("events")
    assert found["val/loss/bucket_1"] == pytest.approx([(0.3 + 1 + 4) / 3, (0.3 + 1 + 2) / 3])
    assert set(found) == {f"val/loss/{a}" for a in ("overall", "macro", "bucket_0", "bucket_1")}


def test_weights_and_biases(monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run_block("Weights & Biases")
    (stored,) = Path("wandb").glob("offline-run-*/*.wandb")
    names = [f"val/loss/{a}".encode() for a in ("overall", "macro", "bucket_0", "bucket_1")]
    patience = time.monotonic() + 60  # another process writes the file, after finish() too
    while not all(name in stored.read_bytes() for name in names):
        assert time.monotonic() < patience, "these names were not logged"
        time.sleep(0.1)


def test_the_hugging_face_trainer(torch):
    pytest.importorskip("transformers")
    r = run_block("The Hugging Face Trainer")
    history = r.trainer.state.log_history
    logs = [log for log in history if "loss" in log]
    evaluations = [log for log in history if "eval_loss" in log]
    assert len(logs) == len(evaluations) == 3
    predicted = r.label[:128, 1:]
    np.testing.assert_array_equal(
        r.counts, class_counts(predicted[predicted != -100], r.VOCABULARY)
    )
    mass = r.buckets.num_examples / r.counts.sum()
    for log in logs:  # one window an epoch, of all labels
        means = buckets_of(log, "", 4)
        assert means @ mass == pytest.approx(log["loss/overall"], rel=1e-6)
        assert log["loss"] == pytest.approx(log["loss/overall"], rel=1e-5)  # all steps alike
    assert_rare_is_behind(means)
    best = min(log["eval_loss/bucket_3"] for log in evaluations)
    assert r.trainer.state.best_metric == best
    held_out = r.label[128:, 1:]
    np.testing.assert_array_equal(
        r.callback.latest["evaluation"].count,
        class_counts(held_out[held_out != -100], r.VOCABULARY),
    )


def test_a_classifier(torch):
    pytest.importorskip("transformers")
    r = run_block("A classifier")
    np.testing.assert_array_equal(
        r.callback.latest["evaluation"].count, class_counts(r.label[300:], r.C)
    )
    means = buckets_of(r.found, "eval_", 3)
    assert means[1:].min() > means[0] + 0.3  # the rarest bucket has a dozen examples here
    assert r.found["eval_accuracy/overall"] > 0.3
    assert r.callback.latest["evaluation"].worst(1).name[0].startswith("topic ")


def test_lightning(torch):
    pytest.importorskip("lightning")
    r = run_block("Lightning")
    np.testing.assert_array_equal(r.callback.latest["val"].count, class_counts(r.label[1500:], r.C))
    np.testing.assert_array_equal(
        r.callback.latest["train"].count, class_counts(r.label[:1500], r.C)
    )
    metrics = r.trainer.callback_metrics
    assert_rare_is_behind(buckets_of(metrics, "val/", 5))
    assert float(r.best.best_model_score) <= float(metrics["val/loss/bucket_4"])


def run_in_processes(title, ending):
    """The block in two processes, as torchrun starts them, with other lines before its last."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    head, last = BLOCKS[title].rstrip().rsplit("\n", 1)
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    shared |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    scripts = [
        subprocess.Popen(
            [sys.executable, "-c", "\n".join([head, ending, last])],
            env={**os.environ, **shared, "RANK": str(i), "LOCAL_RANK": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [script.communicate(timeout=300)[0] for script in scripts]
    assert not any(script.returncode for script in scripts), "\n".join(outputs)
    return outputs


@pytest.mark.slow
def test_pytorch_in_several_processes(torch):
    first, second = run_in_processes(
        "PyTorch in several processes",
        "import json; json.dump([own.state_dict(), losses.state_dict(), label.tolist()],"
        " open(f'{dist.get_rank()}.json', 'w'))",
    )
    assert len(first.splitlines()) == 3 and not second  # only one of them prints
    (own, merged, label), (other, again, _) = (
        json.loads(Path(f"{i}.json").read_text()) for i in range(2)
    )
    assert merged == again
    assert merged["count"] == class_counts(np.array(label), 50).tolist()
    losses = [LossByClass(50), LossByClass(50)]
    for one, state in zip(losses, (own, other), strict=True):
        one.load_state_dict(state)
    assert merged == losses[0].merge(losses[1]).state_dict()
    assert own != other and own["count"] == class_counts(np.array(label[::2]), 50).tolist()


def test_checkpoints_of_pytorch(torch):
    r = run_block("Checkpoints of PyTorch")
    assert r.again.state_dict() == r.whole.state_dict()  # as if it had not been interrupted
    np.testing.assert_array_equal(r.again.count, class_counts(r.label, r.C))


def test_haliax_and_levanter():
    hax = pytest.importorskip(
        "haliax", exc_type=ImportError
    )  # releases that are too old for this jax
    r = run_block("haliax and levanter")
    predicted = r.token[:, 1:].reshape(-1)
    np.testing.assert_array_equal(r.losses.count, 4 * class_counts(predicted, r.Vocab.size))
    assert r.losses.ignored == 4 * r.Batch.size
    assert_rare_is_behind(r.losses.by_bucket(r.buckets).mean)
    # The losses of the page, and their mean, are those of dense float64.
    loss, _ = r.token_losses(r.params, r.tokens)
    embedding, out = (np.asarray(r.params[name].array, np.float64) for name in ("embedding", "out"))
    logits = embedding[r.token[:, :-1]] @ out
    top = np.log(np.exp(logits).sum(-1))
    wanted = top - np.take_along_axis(logits, r.token[:, 1:, None], -1)[..., 0]
    found = loss.rearrange((r.Batch, r.Pos)).array[:, :-1]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    objective, _ = r.mean_loss(r.params, r.tokens, r.loss_weight)
    assert float(objective) == pytest.approx(wanted.mean(), rel=1e-5)
    weighted = hax.nn.loss.maybe_reduce_loss(loss, None, (), None, r.loss_weight)
    np.testing.assert_array_equal(weighted.array, (loss * r.loss_weight).array)  # as is said
