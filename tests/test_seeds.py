"""Means and errors over seeds, against NumPy and SciPy on hand-made runs."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from imbalance.analysis.seeds import over_seeds, paired_over_seeds
from imbalance.analysis.selection import DIVERGED, NOT_RUN, at_best
from imbalance.storage.datasets import FINISHED

SEEDS, STEPS, BUCKETS = 5, 3, 4


def runs(optimizers=("gd", "adam"), seeds=range(SEEDS), common=1.0):
    """Losses ``[optimizer, seed, step, bucket]`` in float32; what a seed does is common to all."""
    rng = np.random.default_rng(3)
    shape = (len(optimizers), len(seeds), STEPS, BUCKETS)
    losses = rng.normal(5, 0.1, shape) + common * rng.normal(0, 1, shape[1:])
    return xr.Dataset(
        {
            "bucket_loss": (
                ("optimizer", "seed", "step", "bucket"),
                losses.astype(np.float32),
                {"units": "nats"},
            ),
            "loss": (("optimizer", "seed", "step"), losses.mean(-1).astype(np.float32)),
            "status": (("optimizer", "seed"), np.full(shape[:2], FINISHED, np.int8)),
            "bucket_of_class": ("class", [0, 1, 2, 3, 3]),
        },
        {
            "optimizer": list(optimizers),
            "learning_rate": ("optimizer", np.geomspace(0.1, 1, len(optimizers))),
            "seed": list(seeds),
            "step": range(STEPS),
            "bucket": range(BUCKETS),
        },
    )


def test_the_summary_is_that_of_numpy():
    dataset = runs()
    found, values = over_seeds(dataset), dataset["bucket_loss"].values.astype(float)
    assert found["mean"].dims == ("optimizer", "step", "bucket")
    np.testing.assert_allclose(found["mean"], values.mean(1), rtol=1e-14)
    np.testing.assert_allclose(found["standard_deviation"], values.std(1, ddof=1), rtol=1e-13)
    np.testing.assert_allclose(found["standard_error"], stats.sem(values, 1), rtol=1e-13)
    np.testing.assert_array_equal(found["lowest"], values.min(1))
    np.testing.assert_array_equal(found["highest"], values.max(1))
    np.testing.assert_array_equal(found["num_seeds"], SEEDS)
    assert found["mean"].attrs["units"] == "nats" and found.attrs["variable"] == "bucket_loss"
    assert over_seeds(dataset, "loss")["mean"].dims == ("optimizer", "step")


def test_one_seed_has_no_spread_and_none_has_no_mean():
    dataset = runs()
    dataset["status"][0, 1:] = NOT_RUN
    dataset["status"][1, :] = NOT_RUN
    found = over_seeds(dataset).isel(step=0, bucket=0)
    assert found["num_seeds"].values.tolist() == [1, 0]
    np.testing.assert_array_equal(found["mean"], [dataset["bucket_loss"][0, 0, 0, 0], np.nan])
    np.testing.assert_array_equal(found["lowest"].isnull(), [False, True])
    assert found["standard_error"].isnull().all() and found["standard_deviation"].isnull().all()


def test_seeds_that_were_not_run_are_left_out_whatever_stands_there():
    dataset = runs()
    dataset["status"][0, 2] = NOT_RUN
    for filler in (np.nan, 1e9):
        dataset["bucket_loss"][0, 2] = filler
        found = over_seeds(dataset).sel(optimizer="gd")
        expected = over_seeds(dataset.sel(optimizer="gd", seed=[0, 1, 3, 4]))
        xr.testing.assert_allclose(found, expected, rtol=1e-14)


def test_a_seed_that_diverged_makes_the_mean_nan():
    dataset = runs()
    dataset["status"][0, 2] = DIVERGED
    dataset["bucket_loss"][0, 2, -1] = np.nan
    found = over_seeds(dataset).sel(optimizer="gd").drop_vars("num_seeds")
    for name in found:
        assert found[name].isel(step=-1).isnull().all() and found[name].isel(step=0).notnull().all()


def test_it_works_on_what_at_best_selects_and_without_a_status():
    one = runs(("gd",)).drop_vars(("learning_rate", "bucket_of_class"))
    worse = one.assign(loss=one["loss"] + 1)
    swept = xr.concat(
        [worse, one], xr.Variable("learning_rate", [0.1, 1.0]), data_vars="all", coords="minimal"
    )
    best = at_best(swept, 2, "final")
    found = over_seeds(best)
    assert found["learning_rate"].values.tolist() == [1.0]
    xr.testing.assert_equal(
        found["mean"].drop_vars(("learning_rate", "edge")), over_seeds(one)["mean"]
    )
    without = over_seeds(best.drop_vars("status"))
    xr.testing.assert_equal(found.drop_vars("num_seeds"), without.drop_vars("num_seeds"))
    assert without["num_seeds"] == SEEDS


def test_pairs_on_the_same_seeds_are_those_of_a_paired_test():
    dataset = runs()
    one, other = dataset.sel(optimizer="gd"), dataset.sel(optimizer="adam")
    found = paired_over_seeds(one, other)
    values = [run["bucket_loss"].values.astype(float) for run in (one, other)]
    expected = stats.ttest_rel(*values, axis=0)
    np.testing.assert_allclose(found["mean"] / found["standard_error"], expected.statistic)
    np.testing.assert_allclose(found["mean"], (values[0] - values[1]).mean(0))
    assert (found.attrs["one"], found.attrs["other"]) == ("gd", "adam")
    assert found.attrs["seeds"] == list(range(SEEDS))
    independent = np.hypot(*(over_seeds(run)["standard_error"] for run in (one, other)))
    assert (found["standard_error"] < 0.5 * independent).all()  # what is common cancels


def test_seeds_are_paired_by_label_and_those_of_one_run_left_out():
    dataset = runs()
    one = dataset.sel(optimizer="gd")
    other = dataset.sel(optimizer="adam").isel(seed=[4, 2, 0, 1])
    found, expected = paired_over_seeds(one, other), dataset.sel(seed=[0, 1, 2, 4])
    expected = paired_over_seeds(expected.sel(optimizer="gd"), expected.sel(optimizer="adam"))
    xr.testing.assert_allclose(found, expected, rtol=1e-14)
    assert found.attrs["seeds"] == [0, 1, 2, 4]
    not_run = dataset.copy(deep=True)
    not_run["status"][1, 3] = NOT_RUN
    again = paired_over_seeds(*(not_run.sel(optimizer=name) for name in ("gd", "adam")))
    xr.testing.assert_allclose(again, expected, rtol=1e-14)
    assert again.attrs["seeds"] == [0, 1, 2, 4]


def test_runs_that_were_joined_are_paired_at_the_steps_of_both():
    one, other = runs(("gd",)), runs(("adam",)).isel(step=[0, 2])
    found = paired_over_seeds(one, other)
    assert found["step"].values.tolist() == [0, 2] and found["mean"].dims == ("step", "bucket")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a, b: over_seeds(a, "los"), "there is no 'los'; by seed there are bucket_loss, "),
        (lambda a, b: over_seeds(a, "bucket_of_class"), "has dimensions class; give runs of sev"),
        (lambda a, b: over_seeds(a.isel(seed=0)), "dimensions step, bucket; give runs of several"),
        (lambda a, b: paired_over_seeds(a, b.assign_coords(seed=range(7, 12))), r"seeds \[0, 1, 2"),
        (lambda a, b: paired_over_seeds(a, b.assign_coords(step=[3, 4, 5])), r"steps \[0, 1, 2"),
        (
            lambda a, b: paired_over_seeds(a, b.isel(bucket=[0])),
            "4 buckets and other has 1. Give both",
        ),
    ],
)
def test_what_cannot_be_summed_is_answered_with_what_can(ask, message):
    dataset = runs()
    with pytest.raises(ValueError, match=message):
        ask(dataset.sel(optimizer="gd"), dataset.sel(optimizer="adam"))
