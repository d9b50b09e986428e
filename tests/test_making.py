"""Making runs: a run that is stopped and gone on with is the same to the bit."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imbalance.probes import loss_by_class
from imbalance.problems import Problem, heavy_tailed_linear, weighted_quadratic
from imbalance.problems.tasks import Examples, Task
from imbalance.storage import files
from imbalance.storage.store import Store
from imbalance.training import making, running
from imbalance.training.engine import MAX_STRIDE
from imbalance.training.making import Maker, Stopped, Watch
from imbalance.training.plan import plans, runs
from imbalance.training.sweep import Sweep

STEPS = 9


def noisy_task(num_classes, dimension):
    """Logistic regression with dropout of its inputs wherever a key is given."""

    def init(key):
        return {"w": jax.random.normal(key, (dimension, num_classes))}

    def per_example(params, batch, key):
        inputs = batch.input
        if key is not None:
            inputs = jnp.where(jax.random.bernoulli(key, 0.5, inputs.shape), inputs, 0)
        logits = inputs @ params["w"]
        true = jnp.take_along_axis(logits, batch.label[:, None], 1)[:, 0]
        return Examples(jax.nn.logsumexp(logits, axis=1) - true, batch.label, batch.weight)

    return Task(init, per_example)


@pytest.fixture(scope="module")
def sweeps():
    """By name: of gd, Adam and Armijo; with dropout; with batches drawn, and in order."""
    quadratic = weighted_quadratic(5)
    batch = heavy_tailed_linear(3).batch(0)
    noisy = Problem.from_arrays("noisy", noisy_task(7, 32), batch.input, batch.label)
    make = partial(Sweep, steps=STEPS, stops=(0, 2, 5, STEPS))
    late = replace(loss_by_class(noisy.task, 7), name="late", stops=(3, 5))
    one = {"adam": (0.01,)}
    return {
        "gd": make(quadratic, {"gd": (0.5,)}),
        "adam": make(quadratic, {"adam": (0.1,)}),
        "armijo": make(quadratic, {"armijo": (1.0,)}),
        "dropout": make(noisy, one, probes=(late,)),
        "drawn": make(noisy, one, batch_size=4, microbatches=2),
        "in order": make(noisy, one, batch_size=4, in_order=True),
        "diverges": make(noisy, {"gd": (3e38,)}),
    }


@pytest.fixture(autouse=True)
def steps_of_one(monkeypatch):
    """One step a call, so that it can be stopped after each."""
    monkeypatch.setattr(making, "SECONDS_A_CALL", 0.0)


class Stopping(Watch):
    """Asks to stop after so many looks; adds up what is reported."""

    def __init__(self, after):
        self.left, self.reported = after, []
        super().__init__(self.reported.append, self.asked)

    def asked(self):
        self.left -= 1
        return self.left < 0


def of(sweep):
    (one,) = runs(plans(sweep))
    return one


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


NAMES = ("gd", "adam", "armijo", "dropout", "drawn", "in order", "diverges")


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(sweeps, name, tmp_path):
    """Stopped again and again: between stops, at one, and before the end."""
    one, place = of(sweeps[name]), tmp_path / "checkpoint"
    (whole,) = Maker().make([one])
    if name == "diverges":
        assert np.isnan(whole["loss"][-1])
    else:
        assert np.isfinite(whole["train_loss"]).all() and len(set(whole["train_loss"])) > 1
    stopped, reported = 0, []
    for after in (0, 3, 2, 4):
        watch = Stopping(after)
        with pytest.raises(Stopped):
            Maker(watch).make([one], place)
        stopped += 1
        assert files.is_whole(place)
        reported = watch.reported
    watch = Stopping(100)
    (found,) = Maker(watch).make([one], place)
    assert_same_bits(found, whole)
    assert stopped == 4
    # What was done before is reported at once, and all of it is the work of a run.
    flops = one.plan.sweep.flops_per_step
    assert watch.reported[0] == pytest.approx(sum(reported)) and watch.reported[0] >= 4 * flops
    assert sum(watch.reported) == pytest.approx(one.plan.flops, rel=1e-12)


def test_strides_do_not_change_a_bit(sweeps, monkeypatch):
    one = of(sweeps["adam"])
    (by_ones,) = Maker().make([one])
    monkeypatch.setattr(making, "SECONDS_A_CALL", 1e9)
    (by_many,) = Maker().make([one])
    assert_same_bits(by_many, by_ones)


def test_a_long_run_is_carried_in_strides_of_all_sizes(monkeypatch):
    """On ``½ Σ π w²`` the loss is known at every step."""
    problem = weighted_quadratic(5)
    steps = 2 * MAX_STRIDE + 10
    one = of(Sweep(problem, {"gd": (0.5,)}, steps, stops=(0, steps)))
    monkeypatch.setattr(making, "SECONDS_A_CALL", 1e9)
    watch = Stopping(10**6)
    (found,) = Maker(watch).make([one])
    factor = 1 - 0.5 * problem.counts
    expected = [problem.counts @ factor ** (2 * t) / 2 for t in range(steps)]
    np.testing.assert_allclose(found["train_loss"], expected, rtol=1e-4, atol=1e-12)
    taken = np.array(watch.reported) / one.plan.sweep.flops_per_step
    assert taken.sum() == steps and taken[0] == 1 and taken.max() == MAX_STRIDE


def test_a_checkpoint_is_kept_every_so_often(sweeps, tmp_path, monkeypatch):
    one, place = of(sweeps["gd"]), tmp_path / "checkpoint"
    Maker().make([one], place)
    assert not place.exists()  # it was over sooner
    monkeypatch.setattr(making, "CHECKPOINT_SECONDS", 0.0)
    written = []
    write = files.write
    monkeypatch.setattr(files, "write", lambda *a: (written.append(a[0]), write(*a)))
    Maker().make([one], place)
    assert len(written) >= STEPS and set(written) == {place}


def test_without_a_place_for_it_there_is_no_checkpoint(sweeps, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Stopped):
        Maker(Stopping(3)).make([of(sweeps["gd"])])
    assert list(tmp_path.iterdir()) == []


# Checkpoints that are of no use -------------------------------------------------------------------


@pytest.fixture
def stopped(sweeps, tmp_path):
    """A run, all of it, and a checkpoint of its middle."""
    one, place = of(sweeps["adam"]), tmp_path / "checkpoint"
    (whole,) = Maker().make([one])
    with pytest.raises(Stopped):
        Maker(Stopping(5)).make([one], place)
    return one, whole, place


def flipped(path, _):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path, _):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path, _):
    path.write_bytes(b"")


def nonsense(path, _):
    files.write(path, b"no arrays")


def of_another_problem(path, sweeps):
    path.unlink()
    with pytest.raises(Stopped):
        Maker(Stopping(5)).make([of(sweeps["dropout"])], path)


def of_fewer_parts(path, sweeps):
    """Gradient descent, of the same parameters, has no moments."""
    path.unlink()
    with pytest.raises(Stopped):
        Maker(Stopping(5)).make([of(sweeps["gd"])], path)


def of_other_steps(path, sweeps):
    """The same state, of a run twice as long."""
    path.unlink()
    longer = replace(sweeps["adam"], steps=2 * STEPS)
    with pytest.raises(Stopped):
        Maker(Stopping(STEPS + 6)).make([of(longer)], path)


def of_another_rate(path, sweeps):
    """A state of the same shapes, whose learning rate is another."""
    path.unlink()
    other = replace(sweeps["adam"], learning_rates={"adam": (0.2,)})
    with pytest.raises(Stopped):
        Maker(Stopping(5)).make([of(other)], path)


FOREIGN = (of_another_problem, of_fewer_parts, of_other_steps, of_another_rate)


@pytest.mark.parametrize("spoil", [flipped, cut, empty, nonsense, *FOREIGN])
def test_a_damaged_or_foreign_checkpoint_is_ignored(stopped, sweeps, spoil):
    one, whole, place = stopped
    spoil(place, sweeps)
    (found,) = Maker().make([one], place)
    assert_same_bits(found, whole)


def test_a_failing_checkpoint_says_so(stopped, monkeypatch):
    one, _, place = stopped
    place.unlink()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="cannot write .*checkpoint: No space left"):
        Maker(Stopping(2)).make([one], place)


# Many runs ----------------------------------------------------------------------------------------


def test_progress_adds_up_to_the_work(tiny_sweep, tiny_dataset):
    reported = []
    chosen = runs(plans(tiny_sweep))
    maker = Maker(Watch(reported.append))
    for group in running.grouped(chosen):
        maker.make(group)
    assert sum(reported) == pytest.approx(sum(one.plan.flops for one in chosen), rel=1e-12)


def test_runs_of_a_folder_are_yielded_as_they_are_stored(sweeps, tmp_path):
    sweep = replace(sweeps["gd"], learning_rates={"gd": (0.25, 0.5)}, seeds=(0, 1))
    chosen, store = runs(plans(sweep)), Store(tmp_path)
    seen = []
    for group, made in running.make_in(store, chosen, Watch()):
        assert all(store.has(one.key) for one in group)
        seen += [(one.key, made) for one in group]
    assert seen == [(one.key, True) for one in chosen]
    again = [made for _, made in running.make_in(store, chosen, Watch())]
    assert again == [False] * 4


def test_a_command_that_is_stopped_leaves_what_it_did(sweeps, tmp_path):
    sweep = replace(sweeps["gd"], learning_rates={"gd": (0.25, 0.5)})
    chosen, store = runs(plans(sweep)), Store(tmp_path)
    looks = 1 + STEPS + 4 + 1 + 3  # before the first run, in it, before the second, in it
    with pytest.raises(Stopped):
        list(running.make_in(store, chosen, Stopping(looks)))
    assert store.has(chosen[0].key) and not store.has(chosen[1].key)
    assert store.checkpoint(chosen[1].key).exists()
    assert not list(tmp_path.glob("**/*.lock"))
    watch = Stopping(1000)
    list(running.make_in(store, chosen, watch))
    assert store.has(chosen[1].key) and not store.checkpoint(chosen[1].key).exists()
    flops = sweep.flops_per_step
    assert watch.reported[0] >= 2 * flops  # from the checkpoint on
    assert sum(watch.reported) == pytest.approx(STEPS * flops)


def test_data_are_made_once_for_the_runs_of_a_seed(tiny_sweep, monkeypatch):
    asked, to_device = [], making._to_device
    monkeypatch.setattr(
        making,
        "_to_device",
        lambda plan, seed, laid: asked.append(seed) or to_device(plan, seed, laid),
    )
    sweep = replace(tiny_sweep, learning_rates={"gd": (0.1, 1.0)}, steps=2, stops=(0,))
    maker = Maker()
    for group in running.grouped(runs(plans(sweep))):
        maker.make(group)
    assert asked == [0, 1]
