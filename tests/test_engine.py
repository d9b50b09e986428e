"""Runs of one optimizer in one program: closed forms, and what must not change a run."""

import contextlib
import logging
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from imbalance.analysis import loss_by_bucket as loss_by_bucket_numpy
from imbalance.analysis.selection import DIVERGED
from imbalance.probes import correct_class_probability, loss_by_bucket
from imbalance.problems import weighted_quadratic
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Batch, quadratic
from imbalance.storage.datasets import FINISHED
from imbalance.training import engine as engine_module
from imbalance.training import making
from imbalance.training.engine import Engine, microbatched
from imbalance.training.optimizers import OPTIMIZERS
from imbalance.training.plan import plans
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

start = jax.jit(engine_module.start, static_argnums=0)
advance = jax.jit(engine_module.advance, static_argnums=0, donate_argnums=1)
measure = jax.jit(engine_module.measure, static_argnums=(0, 1))

ONE_STEP = 1e-6  # absolute, float32: a gradient of a few dozen terms of size one
REORDERED = 1e-5  # relative, float32: some dozens of steps with sums in another order
RATES = (0.1, 1.0, 3.0)  # all tests on the linear problem have three, to share programs


def gd(problem, microbatches=1, name="gd"):
    """An engine, and the data of seed 0."""
    engine = Engine(problem.task, OPTIMIZERS[name].rule)
    return engine, microbatched(problem.batch(0), microbatches)


def travel(engine, data, rates, steps, objective=None, seed=0, stride=64):
    """Final state, and the training losses ``[step, run]``."""
    state = start(engine, jax.random.key(seed), jnp.array(rates))
    losses, step = [], 0
    while step < steps:
        taken = min(stride, steps - step)
        state, (loss, weight) = advance(engine, state, data, objective or Objective(), taken)
        losses.append(np.asarray(loss)[:taken] / np.asarray(weight)[:taken])
        step += taken
    return state, np.concatenate(losses)


def moved(engine, data, rate, objective):
    """The gradient as one step of gradient descent shows it, and the parameters it was taken at."""
    state = start(engine, jax.random.key(0), jnp.array(RATES))
    before = jax.tree.map(lambda p: np.float64(p)[0], state.params)
    state, (loss, weight) = advance(engine, state, data, objective, 1)
    which = RATES.index(rate)
    gradient = jax.tree.map(lambda a, b: (a - np.float64(b)[which]) / rate, before, state.params)
    return gradient, before, float(loss[0, which] / weight[0, which])


def softmax_gradient(params, batch, weight):
    """``Σ ω (p - y) x / Σ ω``, and the unweighted mean loss, in float64."""
    x = np.float64(batch.input)
    logits = x @ params["weight"].T + params["bias"]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (p - np.eye(p.shape[1])[batch.label]) * (weight / weight.sum())[:, None]
    loss = -np.log(p[np.arange(len(p)), batch.label]).mean()
    return {"weight": error.T @ x, "bias": error.sum(0)}, loss


@contextlib.contextmanager
def compilations():
    """Names of the programs JAX compiles meanwhile."""
    names = []

    class Listener(logging.Handler):
        def emit(self, record):
            words = record.getMessage().split()
            if words[0] == "Compiling":
                names.append(words[1])

    listener, logger = Listener(), logging.getLogger("jax")
    logger.addHandler(listener)
    try:
        with jax.log_compiles(True):
            yield names
    finally:
        logger.removeHandler(listener)


# Closed forms -----------------------------------------------------------------------------------


def test_gradient_descent_on_the_quadratic_decays_geometrically():
    problem = weighted_quadratic(5)
    rates, steps = np.array([0.5, 2.0, 4.0]), 30
    state, losses = travel(*gd(problem), rates, steps)
    factor = 1 - rates[:, None] * problem.counts  # [run, class]
    np.testing.assert_allclose(state.params["weight"], factor**steps, atol=REORDERED)
    expected = np.stack([problem.counts @ (factor ** (2 * t)).T / 2 for t in range(steps)])
    np.testing.assert_allclose(losses, expected, rtol=REORDERED, atol=1e-12)


def test_sign_descent_walks_at_constant_speed_until_it_turns_around():
    problem = weighted_quadratic(5)
    state, losses = travel(*gd(problem, name="sign"), [0.3, 0.01, 0.02], 20)
    walked = 1 - np.asarray(state.params["weight"])
    np.testing.assert_allclose(walked[1:], np.outer([0.2, 0.4], np.ones(5)), rtol=REORDERED)
    two_cycle = np.array([0.4, 0.1, -0.2] + [0.1, -0.2] * 8 + [0.1])  # from step 2 on
    np.testing.assert_allclose(losses[2:, 0], two_cycle[:18] ** 2 / 2, rtol=1e-4)


# What must not change a run ----------------------------------------------------------------------


def test_strides_do_not_change_a_bit(problem):
    engine, data = gd(problem)
    state, losses = travel(engine, data, RATES, 70, stride=64)
    for stride in (1, 7):
        other, other_losses = travel(engine, data, RATES, 70, stride=stride)
        np.testing.assert_array_equal(losses, other_losses)
        jax.tree.map(np.testing.assert_array_equal, state.params, other.params)


def assert_same_bits(found, among):
    """Every array of ``found`` is in ``among``, to the bit."""
    same = among.sel({dim: found[dim].values for dim in ("optimizer", "learning_rate", "seed")})
    for name in ("train_loss", "loss", "bucket_loss", "status"):
        np.testing.assert_array_equal(found[name], same[name])


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_the_runs_beside_it_do_not_change_a_bit_of_a_run(tiny_sweep, tiny_dataset, optimizer):
    """One rate, one seed and one optimizer of the sweep, and another that is new."""
    rate = tiny_sweep.learning_rates[optimizer][1]
    alone = replace(tiny_sweep, learning_rates={optimizer: (rate,)}, seeds=(1,))
    assert_same_bits(run(alone), tiny_dataset)
    beside = {"sign": (0.02,), optimizer: (0.05, rate)}
    others = run(replace(tiny_sweep, learning_rates=beside, seeds=(7, 1)))
    assert_same_bits(
        others.sel(optimizer=[optimizer], learning_rate=[rate], seed=[1]), tiny_dataset
    )


def test_where_a_sweep_stops_does_not_change_a_bit(tiny_sweep, tiny_dataset, monkeypatch):
    monkeypatch.setattr(making, "SECONDS_A_CALL", 0.0)  # strides of one step
    rates = {"gd": tiny_sweep.learning_rates["gd"]}
    other = run(replace(tiny_sweep, learning_rates=rates, stops=(0, 3, 11)))
    same = tiny_dataset.sel(optimizer=["gd"], learning_rate=list(rates["gd"]))
    np.testing.assert_array_equal(other["train_loss"], same["train_loss"])
    np.testing.assert_array_equal(other["bucket_loss"].sel(step=0), same["bucket_loss"].sel(step=0))


def test_measured_and_training_losses_are_the_same_numbers(tiny_dataset):
    run = tiny_dataset.sel(optimizer="adam", learning_rate=0.1, seed=0)
    measured, trained = run["loss"].sel(step=[0, 4]), run["train_loss"].sel(train_step=[0, 4])
    np.testing.assert_allclose(measured, trained, rtol=ONE_STEP)


# Five microbatches of 24 rows leave one row of padding.
@pytest.mark.parametrize("microbatches", [5, pytest.param(2, marks=pytest.mark.slow)])
def test_microbatches_do_not_change_a_run(problem, microbatches):
    objective = Objective(jnp.float32(problem.counts) ** -0.5, 0.1)
    whole, losses = travel(*gd(problem), RATES[:1] * 3, 10, objective)
    parts, other = travel(*gd(problem, microbatches), RATES[:1] * 3, 10, objective)
    np.testing.assert_allclose(other, losses, rtol=REORDERED)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=REORDERED, atol=ONE_STEP),
        parts.params,
        whole.params,
    )


SIMULATED = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
jax.config.update("jax_platforms", "cpu")
from dataclasses import replace
from conftest import make_problem, make_tiny_sweep
from imbalance.training.running import run
sweep = make_tiny_sweep(make_problem())
one = {sys.argv[2]: sweep.learning_rates[sys.argv[2]]}
dataset = run(replace(sweep, learning_rates=one))
dataset.attrs = {"devices": len(jax.devices())}
dataset.to_netcdf(sys.argv[3], engine="h5netcdf")
"""


@pytest.mark.parametrize(
    ("devices", "optimizer"),  # GD's three rates do not divide by two, nor Adam's two by three
    [(2, "gd"), pytest.param(3, "adam", marks=pytest.mark.slow)],
)
def test_more_devices_do_not_change_a_run(tiny_dataset, tmp_path, devices, optimizer):
    path = tmp_path / "found.nc"
    command = [sys.executable, "-W", "error", "-c", SIMULATED, str(devices), optimizer, str(path)]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = xr.load_dataset(path, engine="h5netcdf")
    assert found.attrs["devices"] == devices
    same = tiny_dataset.sel(optimizer=found["optimizer"], learning_rate=found["learning_rate"])
    for name in ("train_loss", "loss", "bucket_loss", "status"):
        np.testing.assert_allclose(found[name], same[name], rtol=REORDERED)


# Divergence -------------------------------------------------------------------------------------


def test_a_diverging_run_is_frozen_and_leaves_its_neighbours_alone(problem):
    engine, data = gd(problem)
    state, losses = travel(engine, data, [0.1, 3e38, 1.0], 12)
    tame, tame_losses = travel(engine, data, [0.1, 0.5, 1.0], 12)
    assert state.alive.tolist() == [True, False, True]
    neighbours = np.array([0, 2])
    np.testing.assert_array_equal(losses[:, neighbours], tame_losses[:, neighbours])
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(tame.params), strict=True):
        np.testing.assert_array_equal(a[neighbours], b[neighbours])
    assert np.isnan(losses[2:, 1]).all() and np.isfinite(losses[0, 1])

    frozen = jax.tree.map(np.asarray, state.params)
    state, _ = advance(engine, state, data, Objective(), 5)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), frozen, state.params)
    probe = loss_by_bucket(problem.task, problem.buckets).measure
    found = measure(engine, probe, state.params, state.alive, data)
    assert np.isnan(found["loss"][1]) and np.isnan(found["bucket_loss"][1]).all()
    assert np.isfinite(found["loss"][neighbours]).all()


def test_a_diverged_run_says_so_in_its_results(tiny_dataset):
    gd_runs = tiny_dataset.sel(optimizer="gd", learning_rate=[0.1, 1.0, 3e38])
    np.testing.assert_array_equal(gd_runs["status"].T, [[FINISHED, FINISHED, DIVERGED]] * 2)
    assert gd_runs["loss"].sel(learning_rate=3e38, step=12).isnull().all()
    assert gd_runs["loss"].sel(learning_rate=[0.1, 1.0]).notnull().all()


# Compilation ------------------------------------------------------------------------------------


def test_new_rates_keys_and_numbers_of_steps_compile_nothing(problem):
    engine, data = gd(problem)
    travel(engine, data, RATES, 3)
    with compilations() as names:
        travel(engine, data, (0.01, 0.02, 5.0), 9, seed=7, stride=4)
    assert not {"jit(start)", "jit(advance)"} & set(names)
    with compilations() as names:  # that this can fail
        travel(engine, data, (0.01, 0.02), 1)
    assert {"jit(start)", "jit(advance)"} <= set(names)


def test_new_class_weights_and_penalties_compile_nothing(problem):
    engine, data = gd(problem)
    ones = jnp.ones(len(problem.counts))
    travel(engine, data, RATES, 1, Objective(ones, 0.1))
    with compilations() as names:
        travel(engine, data, RATES, 1, Objective(2 * ones, 0.5))
    assert "jit(advance)" not in names


def test_another_sweep_of_the_same_shape_compiles_nothing(problem, tiny_sweep, tiny_dataset):
    """Its programs are traced anew, recognised, and not compiled again."""
    rates = {"gd": (0.2, 0.3, 0.4)}
    other = replace(tiny_sweep, learning_rates=rates, seeds=(5,), steps=9, stops=(0, 2, 9))
    with compilations() as names:
        run(other)
    assert "jit(anew)" not in names
    with compilations() as names:  # that this can fail
        run(replace(other, problem=replace(problem, bucketing=2), seeds=(0,)))
    assert names.count("jit(anew)") == 1  # the losses of two buckets, for all three rates


# The objective ----------------------------------------------------------------------------------


def test_class_weights_change_the_gradient_and_not_the_reported_loss(problem):
    engine, data = gd(problem)
    class_weight = problem.counts**-0.5
    found, params, loss = moved(engine, data, 0.1, Objective(jnp.float32(class_weight), 0.0))
    batch = problem.batch(0)
    expected, unweighted = softmax_gradient(params, batch, class_weight[batch.label])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=ONE_STEP / 0.1), found, expected
    )
    assert loss == pytest.approx(unweighted, rel=ONE_STEP)


def test_the_penalty_pulls_on_matrices_and_not_on_biases(problem):
    engine, data = gd(problem)
    ones = jnp.ones(len(problem.counts))
    with_penalty, params, loss = moved(engine, data, 0.1, Objective(ones, 3.0))
    without, _, plain_loss = moved(engine, data, 0.1, Objective(ones, 0.0))
    pull = jax.tree.map(lambda a, b: a - b, with_penalty, without)
    np.testing.assert_allclose(pull["weight"], 3.0 * params["weight"], atol=ONE_STEP / 0.1)
    np.testing.assert_allclose(pull["bias"], 0, atol=ONE_STEP / 0.1)
    assert loss == plain_loss


def test_a_sweep_weighs_classes_by_a_power_of_their_counts(problem):
    (plan,) = plans(Sweep(problem, {"gd": (1.0,)}, 1, weighting=0.5, l2=0.25))
    np.testing.assert_allclose(plan.objective.class_weight, problem.counts**-0.5, rtol=ONE_STEP)
    assert plan.objective.l2 == 0.25
    (plan,) = plans(Sweep(problem, {"gd": (1.0,)}, 1))
    assert plan.objective == Objective(None, None)


def test_classes_without_examples_weigh_nothing():
    objective = Objective.reweighted(np.array([4, 0, 16]), 0.5, 0.0)
    np.testing.assert_allclose(objective.class_weight, [0.5, 0, 0.25], rtol=ONE_STEP)
    assert objective.l2 is None and objective.penalty({"w": jnp.ones((2, 2))}) == 0


# Batches drawn at random --------------------------------------------------------------------------

CLASSES, DRAWN = 5, 4
EVENLY = Batch(None, np.arange(CLASSES, dtype=np.int32), np.ones(CLASSES, np.float32))


def drawn_rows(examples):
    """How often each row was drawn: in this problem every row has a label of its own."""
    none = jnp.zeros(CLASSES)
    return none.at[examples.label].add(1.0), none.at[examples.label].add(examples.weight)


@pytest.fixture(scope="module")
def draws():
    """Rows drawn ``[seed, step, run, row]``, their weights, and the parameters arrived at."""
    engine = Engine(quadratic(CLASSES), OPTIMIZERS["gd"].rule, DRAWN, track=drawn_rows)
    data = jax.device_put(microbatched(EVENLY, 3, each=2))  # with one row of padding

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def of(seed, steps):
        state = engine_module.start(engine, jax.random.key(seed), jnp.array([0.5, 1.0]))
        state, (count, weight) = engine_module.advance(engine, state, data, Objective(), steps)
        return count, weight, state.params["weight"]

    def found(seeds, steps):
        count, weight, params = map(np.asarray, of(jnp.array(seeds), steps))
        return count[:, :steps], weight[:, :steps], params

    return found


def test_drawn_batches_follow_the_seed_and_the_step(draws):
    count, *_ = draws(range(500), 6)
    again, *_ = draws(range(250, 750), 6)
    np.testing.assert_array_equal(count[250:], again[:250])
    np.testing.assert_array_equal(count[:, :, 0], count[:, :, 1])  # all rates see the same
    assert len(np.unique(count[0, :, 0], axis=0)) > 1
    assert len(np.unique(count[:, 0, 0], axis=0)) > 1


def test_rows_are_drawn_evenly_with_replacement_and_padding_never(draws):
    count, weight, _ = draws(range(500), 6)
    np.testing.assert_array_equal(count.sum(-1), DRAWN)
    np.testing.assert_array_equal(weight, count)  # padding weighs nothing
    number = 500 * 6 * DRAWN
    deviation = np.sqrt(number * (1 / CLASSES) * (1 - 1 / CLASSES))
    found = count[:, :, 0].sum((0, 1))
    np.testing.assert_allclose(found, number / CLASSES, atol=4 * deviation)
    assert count.max() > 1


def test_drawn_gradients_average_to_the_full_gradient(draws):
    *_, weight = draws(range(500), 1)
    gradient = 1 - weight[:, 1]  # [seed, class], from one step of rate 1 at w = 1
    deviation = gradient.std(0) / np.sqrt(len(gradient))
    full = np.full(CLASSES, 1 / CLASSES)
    assert (np.abs(gradient.mean(0) - full) < 4 * deviation).all()


def test_batches_in_order_pass_over_the_data_again_and_again():
    """Three passes of a batch of four rows and a short one of the fifth, whatever the seed."""
    engine = Engine(
        quadratic(CLASSES), OPTIMIZERS["gd"].rule, DRAWN, in_order=True, track=drawn_rows
    )
    data = microbatched(EVENLY, 3, each=2)
    expected = np.array([[1, 1, 1, 1, 0], [0, 0, 0, 0, 1]] * 3)
    for seed in (0, 1):
        state = start(engine, jax.random.key(seed), jnp.array([0.5]))
        _, (count, weight) = advance(engine, state, data, Objective(), 6)
        np.testing.assert_array_equal(weight[:6, 0], expected)
        np.testing.assert_array_equal(count[:6].sum(-1), DRAWN)  # filled up, at no weight


def test_a_batch_that_does_not_divide_into_microbatches_is_refused(problem):
    with pytest.raises(ValueError, match="batch_size 5.* 2 microbatches"):
        Sweep(problem, {"gd": (0.1,)}, 1, batch_size=5, microbatches=2)
    engine = Engine(problem.task, OPTIMIZERS["gd"].rule, 5)
    state = start(engine, jax.random.key(0), jnp.array([0.5]))
    with pytest.raises(ValueError, match="batch_size 5 .* 2 rows of a microbatch"):
        advance(engine, state, microbatched(problem.batch(0), 12), Objective(), 1)


# Probes -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_start(problem):
    engine, data = gd(problem, microbatches=5)
    state = start(engine, jax.random.key(0), jnp.array(RATES))
    params = jax.tree.map(lambda p: p[0], state.params)
    return params, data.batch, problem.task.per_example(params, problem.batch(0), None)


def test_the_probe_and_the_analyzer_agree_on_bucket_losses(problem, at_start):
    params, batch, examples = at_start
    found = jax.jit(loss_by_bucket(problem.task, problem.buckets).measure)(params, batch)
    loss, label = np.asarray(examples.loss), np.asarray(examples.label)
    expected = loss_by_bucket_numpy(loss, label, problem.buckets)
    np.testing.assert_allclose(found["bucket_loss"], expected, rtol=ONE_STEP)


def test_quantiles_of_the_probability_of_the_true_class(problem, at_start):
    params, batch, examples = at_start
    probe = correct_class_probability(problem.task, problem.buckets, (0.0, 0.25, 1.0))
    found = jax.jit(probe.measure)(params, batch)["probability"]
    level = problem.buckets.bucket_of_class[np.asarray(examples.label)]
    p = np.exp(-np.asarray(examples.loss))
    expected = [np.quantile(p[level == i], (0.0, 0.25, 1.0)) for i in range(3)]
    np.testing.assert_allclose(found, expected, rtol=REORDERED)


# Data -------------------------------------------------------------------------------------------


def test_rows_must_fit_their_microbatches(problem):
    with pytest.raises(ValueError, match="24 rows are more than 3 microbatches of 7"):
        microbatched(problem.batch(0), 3, each=7)


@pytest.mark.parametrize("microbatches", [0, 25])
def test_rows_cannot_be_cut_into_more_parts_than_there_are(problem, microbatches):
    with pytest.raises(ValueError, match=f"24 rows into {microbatches} .* 1 to 24"):
        microbatched(problem.batch(0), microbatches)


def test_padding_stands_at_the_end_with_weight_zero(problem):
    data = microbatched(problem.batch(0), 5)
    assert data.num_rows == 24
    weight = data.batch.weight.reshape(-1)
    np.testing.assert_array_equal(weight, [1.0] * 24 + [0.0])
