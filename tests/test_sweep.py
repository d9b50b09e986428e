"""What a sweep refuses, and what is written down about it."""

import json
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import optax
import pytest

from imbalance.training.optimizers import OPTIMIZERS
from imbalance.probes import loss_by_bucket, validation_loss_by_bucket
from imbalance.problems import Problem, heavy_tailed_linear, weighted_quadratic
from imbalance.training.running import run, run_to_dataset
from imbalance.training.sweep import Sweep, default_stops, half_decades, linear_stops, log_stops

GD = {"gd": (0.1, 1.0)}


# Bad input: the message names what was given and what is allowed ----------------------------------


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({}, r"no optimizers; give \{name: learning rates\}"),
        ({"gdd": (0.1,)}, "'gdd'; known are .*adam"),
        ({"gd": ()}, "'gd': .* is empty; give at least one"),
        ({"gd": ("0.1",)}, "'gd': learning rate '0.1'; give finite numbers above 0"),
        ({"gd": (None,)}, "'gd': learning rate None; give finite"),
        ({"gd": (True,)}, "'gd': learning rate True; give finite"),
        ({"gd": (0.1, -0.1)}, "'gd': learning rate -0.1; give finite"),
        ({"gd": (0.0,)}, "'gd': learning rate 0.0; give finite"),
        ({"adam": (np.nan,)}, "'adam': learning rate nan; give finite"),
        ({"adam": (np.inf,)}, "'adam': learning rate inf; give finite"),
        ({"adam": (0.1, 0.2, 0.1)}, r"'adam': .*\[0.1, 0.2, 0.1\] repeat; give each once"),
    ],
)
def test_bad_learning_rates(problem, rates, message):
    with pytest.raises(ValueError, match=message):
        Sweep(problem, rates, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, r"seeds \(\); give one or more, each once"),
        ({"seeds": (1, 2, 1)}, r"seeds \(1, 2, 1\); give"),
        ({"seeds": (-1,)}, r"seeds \(-1,\); give"),
        ({"seeds": (0.5,)}, r"seeds \(0.5,\); give"),
        ({"steps": 0}, "steps is 0; give a whole number of at least 1"),
        ({"steps": 1.5}, "steps is 1.5; give a whole number"),
        ({"steps": True}, "steps is True; give a whole number"),
        ({"microbatches": 0}, "microbatches is 0; give a whole number"),
        ({"batch_size": -1}, "batch_size is -1; give a whole number"),
        ({"chunk": 0}, "chunk is 0; give a whole number"),
        ({"weighting": -0.5}, "weighting -0.5; give a finite number >= 0"),
        ({"l2": np.nan}, "l2 nan; give a finite number >= 0"),
        ({"stops": ()}, r"stops \(\); give whole steps from 0 to 10"),
        ({"stops": (0, 11)}, r"stops \(0, 11\); give whole steps from 0 to 10"),
        ({"stops": (-1, 10)}, r"stops \(-1, 10\); give whole steps from 0 to 10"),
    ],
)
def test_bad_settings(problem, changes, message):
    with pytest.raises(ValueError, match=message):
        Sweep(problem, GD, **{"steps": 10, **changes})


def test_bad_stops_of_a_probe(problem):
    probe = loss_by_bucket(problem.task, problem.buckets)._replace(name="late", stops=(5, 20))
    with pytest.raises(ValueError, match=r"stops \(5, 20\); give whole steps from 0 to 10"):
        Sweep(problem, GD, 10, probes=(probe,))


@pytest.mark.parametrize(("low", "high"), [(0.25, 1), (-1, 0.3), (1, 0)])
def test_bad_exponents(low, high):
    with pytest.raises(ValueError, match=f"{low}, {high}.*multiples of 1/2 with low <= high"):
        half_decades(low, high)


def with_batch(problem, **changes) -> Problem:
    """The same problem, its data changed after the fact."""
    return replace(problem, make_batch=lambda seed: problem.make_batch(seed)._replace(**changes))


def bad(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


INPUT, LABEL, WEIGHT = heavy_tailed_linear(3).make_batch(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": bad(INPUT, (3, 4), np.nan)}, "1 of 768 values of 'input' .* must be finite"),
        ({"input": bad(INPUT, 0, np.inf)}, "32 of 768 values of 'input' .* must be finite"),
        ({"weight": bad(WEIGHT, 2, np.nan)}, "1 of 24 values of 'weight' .* must be finite"),
        ({"weight": bad(WEIGHT, 2, -1)}, "negative weights; give 0 or more"),
        ({"label": bad(LABEL, 5, 7)}, "first is 7 at position 5; labels must be in 0 .. 6"),
        ({"label": bad(LABEL, 5, -1)}, "first is -1 at position 5; labels must be in 0 .. 6"),
        ({"label": bad(LABEL, 0, 1)}, "class 0 has 7 labels, but counts say 8"),
        ({"label": LABEL.astype(np.int64)}, "int64.*promised.*int32"),
        ({"input": INPUT[:, 1:]}, r"\(24, 31\).*promised.*\(24, 32\)"),
    ],
)
def test_bad_data(problem, changes, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        with_batch(problem, **changes).batch(0)


def test_a_sweep_checks_its_data(problem):
    wrong = with_batch(problem, input=np.full_like(INPUT, np.nan))
    with pytest.raises(ValueError, match="768 of 768 values of 'input'"):
        run_to_dataset(Sweep(wrong, {"gd": (0.1, 1.0, 2.0)}, 12))


# Grids and stops --------------------------------------------------------------------------------


def test_equal_exponents_give_equal_bits():
    wide, narrow = half_decades(-6, 1), half_decades(-2.5, -0.5)
    assert set(narrow) <= set(wide)
    assert set(half_decades(-3, -3)) <= set(wide)
    assert narrow == pytest.approx([10**-2.5, 0.01, 10**-1.5, 0.1, 10**-0.5], rel=1e-15)
    assert len(wide) == 15


@pytest.mark.parametrize("steps", [1, 7, 8, 100, 399, 400, 10_000])
def test_default_stops_span_the_run_and_are_few(steps):
    stops = default_stops(steps)
    assert stops[0] == 0 and stops[-1] == steps
    assert len(stops) == len(set(stops)) <= 51
    assert all(isinstance(stop, int) for stop in stops)
    if steps >= 16:
        assert np.diff(stops).min() >= 8
        assert np.ptp(np.diff(stops)) <= 1


@pytest.mark.parametrize("steps", [1, 2, 150])
def test_stops_of_both_kinds_begin_and_end_the_run(steps):
    assert linear_stops(steps, 31)[0] == log_stops(steps)[0] == 0
    assert linear_stops(steps, 31)[-1] == log_stops(steps)[-1] == steps
    assert list(log_stops(steps)) == sorted(set(log_stops(steps)))


def test_a_probe_stops_where_it_says_and_otherwise_with_the_sweep(problem):
    sweep = Sweep(problem, GD, 10, stops=(10, 0, 5, 5))
    (own,) = sweep.all_probes
    assert sweep.stops_of(own) == (0, 5, 10)
    assert sweep.stops_of(own._replace(stops=(3,))) == (3,)
    assert replace(sweep, stops=None).stops_of(own) == default_stops(10)


def test_a_probe_with_its_own_stops_has_its_own_step(problem):
    probe = loss_by_bucket(problem.task, problem.buckets)
    late = probe._replace(
        name="late",
        measure=lambda params, batch: {"late_loss": probe.measure(params, batch)["loss"]},
        dims={"late_loss": ()},
        stops=(3, 9),
    )
    sweep = Sweep(problem, {"gd": (0.1, 1.0, 2.0)}, 12, stops=(0, 3, 12), probes=(late,))
    found = run_to_dataset(sweep)
    assert found["late_loss"].dims[-1] == "late_step"
    assert found["late_step"].values.tolist() == [3, 9]
    at_three = found["late_loss"].sel(late_step=3)
    np.testing.assert_allclose(at_three, found["loss"].sel(step=3), rtol=1e-6)


# Settings ---------------------------------------------------------------------------------------


def test_settings_are_json_and_say_what_was_run(problem):
    settings = Sweep(problem, GD, 10, seeds=(3, 4), l2=0.5, batch_size=6).settings("gd", 4)
    assert json.loads(json.dumps(settings)) == settings
    assert settings["problem"]["name"] == "heavy_tailed_linear"
    assert settings["problem"]["m"] == 3
    assert settings["problem"]["inputs"] == {"uniform": {"low": 0.0, "high": 1.0}}
    assert settings["learning_rates"] == [0.1, 1.0]
    assert (settings["optimizer"], settings["seed"], settings["steps"]) == ("gd", 4, 10)
    assert (settings["l2"], settings["batch_size"], settings["weighting"]) == (0.5, 6, 0.0)
    assert settings["buckets"] == "levels"
    assert settings["probes"] == {"loss_by_bucket": {"stops": [0, 10]}}


CHANGES = {
    "problem": lambda sweep: replace(sweep, problem=weighted_quadratic(7)),
    "bias column": lambda sweep: replace(sweep, problem=heavy_tailed_linear(3, bias_column=True)),
    "rates": lambda sweep: replace(sweep, learning_rates={"gd": (0.1,)}),
    "steps": lambda sweep: replace(sweep, steps=11, stops=(0, 10)),
    "stops": lambda sweep: replace(sweep, stops=(0, 9)),
    "weighting": lambda sweep: replace(sweep, weighting=0.5),
    "l2": lambda sweep: replace(sweep, l2=1e-4),
    "batch_size": lambda sweep: replace(sweep, batch_size=4),
    "precision": lambda sweep: replace(sweep, precision="tensorfloat32"),
    "optimizer": lambda sweep: replace(sweep, optimizers={"gd": optax.adam}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_changes_a_number_changes_the_settings(problem, change):
    sweep = Sweep(problem, GD, 10, stops=(0, 10))
    assert change(sweep).settings("gd", 0) != sweep.settings("gd", 0)


@pytest.mark.parametrize("changes", [{"chunk": 1}, {"seeds": (0, 1, 2)}])
def test_what_leaves_the_numbers_alone_leaves_the_settings_alone(problem, changes):
    sweep = Sweep(problem, GD, 10)
    assert replace(sweep, **changes).settings("gd", 0) == sweep.settings("gd", 0)


def test_the_same_function_with_other_options_is_another_optimizer(problem):
    def settings(b2):
        optimizers = {**OPTIMIZERS, "mine": partial(optax.adam, b2=b2)}
        return Sweep(problem, {"mine": (0.1,)}, 1, optimizers=optimizers).settings("mine", 0)

    assert settings(0.99) != settings(0.9)
    assert settings(0.9) == settings(0.9)


# Running ----------------------------------------------------------------------------------------


def test_one_can_run_some_pieces_only(tiny_sweep, tiny_dataset):
    ((optimizer, seed, piece),) = run(tiny_sweep, {"adam": [1]})
    assert (optimizer, seed) == ("adam", 1)
    assert piece.sizes["optimizer"] == piece.sizes["seed"] == 1
    same = tiny_dataset.sel(optimizer=["adam"], seed=[1], learning_rate=[0.01, 0.1])
    np.testing.assert_array_equal(piece["bucket_loss"], same["bucket_loss"])


def test_progress_adds_up_to_the_work(tiny_sweep):
    reported = []
    list(run(tiny_sweep, {"adam": [0, 1]}, reported.append))
    assert sum(reported) == pytest.approx(2 * tiny_sweep.flops("adam"), rel=1e-12)


def test_ones_own_optimizer_runs_beside_the_named_ones(problem):
    mine = {**OPTIMIZERS, "mine": partial(optax.sgd, nesterov=False)}
    rates = {"gd": (0.1, 1.0, 2.0), "mine": (0.1, 1.0, 2.0)}
    found = run_to_dataset(Sweep(problem, rates, 12, stops=(12,), optimizers=mine))
    np.testing.assert_array_equal(
        found["loss"].sel(optimizer="mine"), found["loss"].sel(optimizer="gd")
    )


# What is measured on ------------------------------------------------------------------------------


def test_losses_are_measured_on_some_rows_and_on_a_validation_set(problem):
    """Batches of ten rows, measured on every other row and on the first six."""

    def first_six(seed):
        return jax.tree.map(lambda leaf: leaf[:6], problem.batch(seed))

    validated = replace(problem, make_validation=first_six)
    probe = validation_loss_by_bucket(problem.task, problem.buckets)
    rates = {"gd": (0.1,)}
    sweep = Sweep(
        validated, rates, 2, stops=(0, 2), probes=(probe,), batch_size=10, microbatches=2,
        in_order=True, measured_rows=12,
    )  # fmt: skip
    found = run_to_dataset(sweep).isel(optimizer=0, learning_rate=0, seed=0)
    params = problem.task.init(jax.random.fold_in(jax.random.key(0), 0))
    loss = np.asarray(problem.task.per_example(params, problem.batch(0), None).loss)
    measured = np.linspace(0, 23, 12).round().astype(int)
    np.testing.assert_allclose(found["loss"].sel(step=0), loss[measured].mean(), rtol=1e-6)
    np.testing.assert_allclose(found["validation_loss"].sel(step=0), loss[:6].mean(), rtol=1e-6)
    np.testing.assert_allclose(found["train_loss"].sel(train_step=0), loss[:10].mean(), rtol=1e-6)
    assert found["validation_bucket_loss"].dims == ("step", "validation_bucket")
    by_bucket = found["validation_bucket_loss"].sel(step=0).values  # six rows of the first level
    np.testing.assert_array_equal(np.isnan(by_bucket), [False, True, True])


def test_a_validation_set_that_is_not_there_is_missed(problem):
    probe = validation_loss_by_bucket(problem.task, problem.buckets)
    with pytest.raises(ValueError, match="heavy_tailed_linear' has no validation set"):
        run_to_dataset(Sweep(problem, {"gd": (0.1,)}, 1, probes=(probe,)))
