"""What a sweep refuses, and what is written down about it."""

import json
import re
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import optax
import pytest

from imbalance.probes import loss_by_bucket, loss_by_class, validation_loss_by_bucket
from imbalance.storage.datasets import FINISHED, RUN_DIMS
from imbalance.storage.store import Store
from imbalance.training.optimizers import OPTIMIZERS, Optimizer
from imbalance.training.plan import plans, runs
from imbalance.training.running import run
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
        ({"measured_rows": 0}, "measured_rows is 0; give a whole number"),
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
    probe = replace(loss_by_class(problem.task, 7), name="late", stops=(5, 20))
    with pytest.raises(ValueError, match=r"stops \(5, 20\); give whole steps from 0 to 10"):
        Sweep(problem, GD, 10, probes=(probe,))


@pytest.mark.parametrize(("low", "high"), [(0.25, 1), (-1, 0.3), (1, 0)])
def test_bad_exponents(low, high):
    with pytest.raises(ValueError, match=f"{low}, {high}.*multiples of 1/2 with low <= high"):
        half_decades(low, high)


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
    probe = loss_by_class(problem.task, 7)
    late = replace(probe, name="late", stops=(7, 3, 3))
    sweep = Sweep(problem, GD, 10, stops=(10, 0, 5, 5), probes=(probe, late))
    (plan,) = plans(sweep)
    assert [m.probe.name for m in plan.measurements] == ["loss_by_bucket", "loss_by_class", "late"]
    assert [m.stops for m in plan.measurements] == [(0, 5, 10), (0, 5, 10), (3, 7)]
    (plan,) = plans(replace(sweep, stops=None))
    assert plan.measurements[0].stops == default_stops(10)


def test_a_probe_with_its_own_stops_has_its_own_step(problem):
    probe = loss_by_bucket(problem.task, problem.buckets)
    late = replace(
        probe,
        name="late",
        measure=lambda params, batch: {"late_loss": probe.measure(params, batch)["loss"]},
        dims={"late_loss": ()},
        stops=(3, 9),
    )
    sweep = Sweep(problem, {"gd": (0.1, 1.0, 2.0)}, 12, stops=(0, 3, 12), probes=(late,))
    found = run(sweep)
    assert found["late_loss"].dims[-1] == "late_step"
    assert found["late_step"].values.tolist() == [3, 9]
    at_three = found["late_loss"].sel(late_step=3)
    np.testing.assert_allclose(at_three, found["loss"].sel(step=3), rtol=1e-6)


# Settings ---------------------------------------------------------------------------------------


def test_settings_are_json_and_say_what_was_run(problem):
    probe = loss_by_class(problem.task, 7)
    sweep = Sweep(problem, GD, 10, seeds=(3, 4), l2=0.5, batch_size=6, probes=(probe,))
    settings = sweep.settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["problem"]["name"] == "heavy_tailed_linear"
    assert settings["problem"]["m"] == 3
    assert settings["problem"]["inputs"] == {"uniform": {"low": 0.0, "high": 1.0}}
    assert settings["learning_rates"] == {"gd": [0.1, 1.0]}
    assert (settings["seeds"], settings["steps"]) == ([3, 4], 10)
    assert (settings["l2"], settings["batch_size"], settings["weighting"]) == (0.5, 6, 0.0)
    assert settings["buckets"] == "levels"
    assert settings["probes"] == ["loss_by_class"]


def test_results_say_their_settings(tiny_sweep, tiny_dataset):
    assert json.loads(tiny_dataset.attrs["settings"]) == tiny_sweep.settings()


# Plans ------------------------------------------------------------------------------------------


def test_a_sweep_is_a_plan_for_each_optimizer_and_a_run_for_each_rate_and_seed(tiny_sweep):
    found = plans(tiny_sweep)
    assert [plan.name for plan in found] == ["gd", "adam"]
    assert [plan.optimizer.label for plan in found] == ["GD", "Adam"]
    expected = [
        (name, seed, rate)
        for name, rates in tiny_sweep.learning_rates.items()
        for seed in (0, 1)
        for rate in rates
    ]
    chosen = runs(found)
    assert [(one.plan.name, one.seed, one.learning_rate) for one in chosen] == expected
    assert len({one.key for one in chosen}) == len(chosen)
    assert all(re.fullmatch("[0-9a-f]{32}", one.key) for one in chosen)


def test_the_work_of_a_run_is_that_of_its_steps(tiny_sweep, problem):
    (plan, _) = plans(tiny_sweep)
    assert plan.flops == 12 * problem.flops_per_step
    (plan,) = plans(Sweep(problem, GD, 12, batch_size=6))
    assert plan.flops == 12 * problem.flops_per_step * 6 / 24


def test_about_as_many_bytes_are_planned_as_are_written(problem, tmp_path):
    """A thousand losses of each class, a few thousand steps."""
    probe = replace(loss_by_class(problem.task, 7), name="often", stops=tuple(range(2000)))
    sweep = Sweep(problem, {"gd": (0.1,)}, 2000, probes=(probe,), stops=(0, 2000))
    (one,) = runs(plans(sweep))
    run(sweep, tmp_path)
    written = (Store(tmp_path / "runs").path(one.key)).stat().st_size
    assert one.plan.bytes / 4 < written < one.plan.bytes  # compression may do much


# Running ----------------------------------------------------------------------------------------


def test_a_run_is_labelled_by_its_optimizer_rate_and_seed(tiny_dataset):
    assert tiny_dataset["bucket_loss"].dims == (*RUN_DIMS, "step", "bucket")
    missing = tiny_dataset["loss"].sel(step=12).isnull()
    np.testing.assert_array_equal(missing, tiny_dataset["status"] != FINISHED)
    assert tiny_dataset["label"].values.tolist() == ["GD", "Adam"]
    assert tiny_dataset["momentum"].values.tolist() == [False, True]
    assert tiny_dataset["colour"].values.tolist() == ["#000000", "#BB5566"]
    assert tiny_dataset["class_count"].values.tolist() == [8, 4, 4, 2, 2, 2, 2]
    assert tiny_dataset["bucket_classes"].values.tolist() == [1, 2, 4]
    assert tiny_dataset["bucket_mass"].values == pytest.approx([1 / 3] * 3)


def test_results_say_who_made_them(tiny_dataset):
    (made,) = json.loads(tiny_dataset.attrs["provenance"])
    assert " x " in made["device"] and tiny_dataset.attrs["wall_seconds"] > 0
    assert {"created_at", "command", "python", "git_commit", "git_dirty"} <= set(made)
    assert {"jax", "optax", "flax", "numpy"} <= set(made["versions"])


def test_ones_own_optimizer_runs_beside_the_named_ones(problem):
    rule = partial(optax.sgd, nesterov=False)
    mine = {**OPTIMIZERS, "mine": Optimizer(rule, "Mine", "red"), "bare": rule}
    rates = {"gd": (0.1, 1.0), "mine": (0.1, 1.0), "bare": (0.1, 1.0)}
    found = run(Sweep(problem, rates, 12, stops=(12,), optimizers=mine))
    for name in ("mine", "bare"):
        np.testing.assert_array_equal(
            found["loss"].sel(optimizer=name), found["loss"].sel(optimizer="gd")
        )
    assert found["label"].values.tolist() == ["GD", "Mine", "bare"]
    assert found["colour"].values.tolist() == ["#000000", "red", ""]


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
    found = run(sweep).isel(optimizer=0, learning_rate=0, seed=0)
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
        run(Sweep(problem, {"gd": (0.1,)}, 1, probes=(probe,)))
