"""Every block of docs/analyzers.md is run, alone, and what it ends with is checked."""

import ast
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from imbalance import FrequencyBuckets, LossByClass, class_counts
from imbalance.storage.records import read_record

PAGE = Path(__file__).resolve().parents[1] / "docs" / "analyzers.md"
TEXT = PAGE.read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCKS = {
    title: re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    for title, section in SECTIONS.items()
    if "```python" in section
}
OPTIONAL = ("torch",)
QUICK = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def optional_imports(code):
    nodes = list(ast.walk(ast.parse(code)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return [name for name in OPTIONAL if any(n.split(".")[0] == name for n in names)]


def run_block(title):
    """What the block ends with; skipped where it imports what is not installed."""
    code = BLOCKS[title]
    for name in optional_imports(code):
        pytest.importorskip(name)
    namespace = {"__name__": "recipe"}
    exec(compile(code, f"{PAGE.name}: {title}", "exec"), namespace)
    return SimpleNamespace(**namespace)


def run_in_processes(title, beginnings, ending, **environment):
    """The block in processes of its own, between other lines."""
    scripts = [
        subprocess.Popen(
            [sys.executable, "-c", "\n".join([beginning, BLOCKS[title], ending])],
            env={**os.environ, **QUICK, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for beginning in beginnings
    ]
    outputs = [script.communicate(timeout=300)[0] for script in scripts]
    assert not any(script.returncode for script in scripts), "\n".join(outputs)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Nearly all the time goes into compiling; what is compiled runs for milliseconds."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def assert_fed(losses, label):
    """Every example was counted once, in its class."""
    np.testing.assert_array_equal(losses.count, class_counts(label, losses.num_classes))
    assert losses.out_of_range == 0 and not losses.diverged.any()
    assert np.isfinite(losses.mean[losses.count > 0]).all()


def assert_rare_is_behind(means):
    assert np.isfinite(means).all()
    assert np.argmax(means) == len(means) - 1 and means[-1] > 2 * means[0]


def test_every_block_has_a_test():
    assert TEXT.count("```python") == len(BLOCKS)
    tested = set(
        re.findall(r"run_(?:block|in_processes)\(\s*\"(.+?)\"", Path(__file__).read_text())
    )
    assert tested == set(BLOCKS)


def test_every_link_leads_to_a_section():
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    titles = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in SECTIONS}
    assert links == titles


def test_a_first_picture(monkeypatch, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    code = BLOCKS["A first picture"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    r = run_block("A first picture")
    r.plt.close("all")
    assert_fed(r.losses, r.label)
    assert capsys.readouterr().out.startswith("bucket  classes  ")
    assert (np.diff(r.read.mean) > 0).all() and (r.read.buckets.num_classes > 0).all()
    assert Path("buckets.png").stat().st_size > 5000


def test_what_there_is_to_read(capsys):
    r = run_block("What there is to read")
    printed = capsys.readouterr().out
    for words in ("zebra", "few", "balanced", "overall difference"):
        assert words in printed
    assert r.one.overall > r.other.overall and r.one.balanced_accuracy < 1
    assert r.frame["name"].tolist() == r.WORDS
    assert r.by_bucket["name"].tolist() == ["many", "medium", "few"]


def test_a_plain_jax_loop():
    r = run_block("A plain JAX loop")
    assert_fed(r.losses, r.label)
    assert_rare_is_behind(r.losses.by_bucket(r.buckets).mean)


def test_flax():
    r = run_block("flax")
    assert_fed(r.losses, r.label)
    assert 0 < r.losses.overall < np.log(r.C)  # it has learnt
    assert_rare_is_behind(r.losses.by_bucket(num_buckets=5).mean)


def test_optax_with_padding_and_weights():
    r = run_block("optax, with padding and weights")
    assert_fed(r.losses, r.label)
    assert r.losses.ignored == -r.N % r.BATCH > 0
    np.testing.assert_allclose(r.losses.weight, r.losses.count * r.class_weight, rtol=1e-6)
    assert 0 < r.losses.overall < 0.1 * np.log(r.C)
    # In the sums is the weighted objective of the page: the last step again, by hand.
    *_, (x, label, weight) = r.batches()
    objective, loss = jax.jit(r.objective)(r.params, x, label, weight)
    last = LossByClass(r.C)
    last.update(loss, label, weight)
    assert last.overall == pytest.approx(float(objective), rel=1e-5)


def test_a_language_model():
    r = run_block("A language model")
    predicted = r.token[:, 1:][r.mask[:, 1:]]
    assert_fed(r.losses, predicted.astype(np.int64))
    assert r.losses.ignored == r.token.size - predicted.size
    assert_rare_is_behind_of_unigrams(r)
    # Losses from hidden states are those of dense logits in float64.
    objective, (loss, label) = jax.jit(r.mean_loss)(r.params, r.token, r.mask)
    embedding, out = (np.asarray(r.params[name], np.float64) for name in ("embedding", "out"))
    logits = np.tanh(embedding[r.token]) @ out.T
    dense = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(
        logits, np.maximum(label, 0)[..., None], -1
    ).squeeze(-1)
    valid = np.asarray(label) != -100
    np.testing.assert_allclose(loss, np.where(valid, dense, 0), rtol=1e-5, atol=1e-6)
    assert float(objective) == pytest.approx(dense[valid].mean(), rel=1e-5)


def assert_rare_is_behind_of_unigrams(r):
    """Tokens are drawn independently, so only their frequencies can be learnt."""
    means = r.losses.by_bucket(num_buckets=5).mean
    assert (np.diff(means) > 0).all() and means[0] < np.log(r.VOCABULARY) - 1


def test_several_devices():
    ending = (
        "np.savez('found.npz', devices=jax.device_count(), loss=loss, label=label,\n"
        "    laid=len(batch[0].sharding.device_set), count=losses.count,\n"
        "    sums=losses.moments, mapped=mapped.moments)"
    )
    flags = "--xla_force_host_platform_device_count=2"
    run_in_processes("Several devices", [""], ending, XLA_FLAGS=flags)
    with np.load("found.npz") as found:
        assert found["devices"] == found["laid"] == 2
        host = LossByClass(len(found["count"]))
        host.update(found["loss"], found["label"])
        np.testing.assert_array_equal(found["count"], host.count)
        np.testing.assert_allclose(found["sums"], host.moments, rtol=1e-10)
        np.testing.assert_array_equal(found["mapped"], found["sums"])


def test_several_hosts():
    r = run_block("Several hosts")
    assert_fed(r.losses, r.label)
    assert r.losses is not r.own
    np.testing.assert_array_equal(r.losses.moments, r.own.moments)


@pytest.mark.slow
def test_several_hosts_are_two_processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    run_in_processes(
        "Several hosts",
        [f"import jax; jax.distributed.initialize('{address}', 2, {i})" for i in range(2)],
        "np.savez(f'{jax.process_index()}.npz', label=label, own=own.count, count=losses.count)",
    )
    for i in range(2):
        with np.load(f"{i}.npz") as found:
            np.testing.assert_array_equal(found["count"], class_counts(found["label"], 50))
            assert found["own"].sum() == 2048


def test_pytorch(torch, monkeypatch):
    r = run_block("PyTorch")
    assert_fed(r.losses, r.label.numpy())
    assert_rare_is_behind(r.losses.by_bucket(num_buckets=5).mean)

    def gather(parts, losses):
        parts[:] = [losses, losses]

    monkeypatch.setattr(r.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(r.dist, "all_gather_object", gather)
    both = r.over_processes(r.losses)
    np.testing.assert_array_equal(both.count, 2 * r.losses.count)
    np.testing.assert_allclose(both.mean, r.losses.mean, rtol=1e-14)


@pytest.mark.slow
def test_pytorch_in_two_processes():
    pytest.importorskip("torch")
    store = f"file://{Path('store').resolve()}"
    run_in_processes(
        "PyTorch",
        [
            "import torch.distributed as dist\n"
            f"dist.init_process_group('gloo', init_method='{store}', rank={i}, world_size=2)"
            for i in range(2)
        ],
        "import numpy as np; np.savez(f'{dist.get_rank()}.npz', label=label, count=losses.count)\n"
        "dist.destroy_process_group()",
    )
    for i in range(2):
        with np.load(f"{i}.npz") as found:  # both processes train on all examples
            np.testing.assert_array_equal(found["count"], 2 * class_counts(found["label"], 50))


def test_gradient_norms_by_class(torch):
    r = run_block("Gradient norms by class")
    loss = torch.nn.functional.cross_entropy(r.head(r.body(r.x)), r.label)
    (wanted,) = torch.autograd.grad(loss, r.head.weight)
    np.testing.assert_allclose(r.gradient.gradient, wanted.numpy(), atol=1e-6)
    norms = r.gradient.by_bucket(r.buckets)
    assert norms[0] > norms[-1]


def test_checkpoints():
    r = run_block("Checkpoints")
    np.testing.assert_array_equal(r.again.moments, r.losses.moments)
    assert_fed(r.again, np.array([0, 3]))


def test_recording_drawing_and_comparing_runs():
    r = run_block("Recording, drawing and comparing runs")
    for dataset, optimizer in ((r.gd, "gd"), (r.sign, "sign")):
        _, steps = read_record(f"{optimizer}.record")
        assert list(steps) == dataset["step"].values.tolist() == list(range(0, 101, 10))
        for losses in steps.values():
            assert_fed(losses, r.label)
        assert dataset["loss"].values.flat[0] == pytest.approx(np.log(r.C), rel=1e-5)
        np.testing.assert_allclose(
            dataset["bucket_loss"].isel(step=-1).squeeze(), losses.by_bucket(r.buckets).mean
        )
    stored = Path("gd.record").read_bytes()
    r.train("gd.record", "gd", 0.1, lambda gradient: gradient)  # again: all its steps are there
    assert Path("gd.record").read_bytes() == stored
    assert_rare_is_behind(r.gd["bucket_loss"].isel(step=-1).values.reshape(-1))
    difference = r.table["final_difference"].values
    assert difference.shape == (5,) and (difference > 0).all() and np.argmax(difference) == 4
    assert (r.table.attrs["one"], r.table.attrs["other"]) == ("gd", "sign")
    assert len(r.figure.axes) == 5 and Path("training.png").stat().st_size > 10_000


def test_other_data_and_other_buckets():
    r = run_block("Other data and other buckets")
    assert_fed(r.losses, r.test_label)
    unseen = int(np.isin(r.test_label, np.flatnonzero(r.counts == 0)).sum())
    assert unseen > 0
    for read, least in (
        (r.by_mass, None),
        (r.by_shot, [(20, np.inf), (5, 20), (1, 5)]),
        (r.by_octave, None),
        (r.by_kind, None),
    ):
        assert read.unbucketed == unseen and read.count.sum() == r.test_label.size - unseen
        for b, (low, high) in enumerate(least or []):
            inside = (r.counts >= low) & (r.counts < high)
            assert read.mean[b] == pytest.approx(r.test_loss[inside[r.test_label]].mean())
    even = (r.counts[r.test_label] > 0) & (r.test_label % 2 == 0)
    assert r.by_kind.mean[0] == pytest.approx(r.test_loss[even].mean())
    assert r.dataset["bucket_loss"].shape == (4,) and r.dataset["class_loss"].shape == (r.C,)


def test_the_table_of_conventions_is_that_of_the_code():
    """The page's groups at their edges."""
    r = run_block("Other data and other buckets")
    assert r.many_medium_few.buckets.names == ("many", "medium", "few")
    np.testing.assert_array_equal(r.counts, class_counts(r.training_label, r.C))
    lvis = FrequencyBuckets.shots([100, 101, 10, 11], "lvis")
    by_thresholds = FrequencyBuckets.thresholds([100, 101, 10, 11], [101, 11])
    np.testing.assert_array_equal(lvis.bucket_of_class, by_thresholds.bucket_of_class)


def test_class_frequencies(capsys):
    r = run_block("Class frequencies")
    printed = capsys.readouterr().out
    (said,) = re.findall(r"print\(fit\)  # (.+)", BLOCKS["Class frequencies"])
    assert printed.splitlines()[0] == said
    assert abs(r.fit.exponent - 1) < 3 * r.fit.standard_error and r.fit.is_power_law
    descending = np.sort(r.counts)[::-1]
    assert descending[: r.head].sum() >= r.N / 2 > descending[: r.head - 1].sum()
    assert r.rarer_half == pytest.approx(descending[r.C // 2 :].sum() / r.N)
    assert r.few_shot == pytest.approx(r.counts[r.counts < 50].sum() / r.N)
    buckets = FrequencyBuckets.from_counts(r.counts, 5)
    assert [
        int(row.split()[2]) for row in r.table.splitlines()[1:]
    ] == buckets.num_examples.tolist()


ON_DATA = re.findall(r"```python\n(.*?)```", PAGE.with_name("data.md").read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("code", ON_DATA, ids=["text", "tokens", "digits", "glyphs", "folders"])
def test_blocks_of_the_page_on_data_run_and_print_finite_numbers(
    code, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    namespace = {"__name__": "recipe"}
    exec(compile(code, "data.md", "exec"), namespace)
    assert re.search(r"\d", capsys.readouterr().out)
    if "runs" in namespace:
        loss = namespace["runs"]["loss"].isel(optimizer=0, learning_rate=0, seed=0).values
        assert loss[-1] < loss[0]
