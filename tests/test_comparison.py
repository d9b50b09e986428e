"""Two runs side by side, on hand-made runs."""

import numpy as np
import pytest
import xarray as xr

from imbalance.analysis.comparison import INTERPOLATION, compare, time_to_fraction
from imbalance.analysis.selection import DIVERGED
from imbalance.storage.datasets import FINISHED
from imbalance.storage.joining import join

NAN, INF = np.nan, np.inf
STEPS = np.arange(0, 41)
RATE = np.array([0.4, 0.1, 0.01])  # of each bucket: the last never halves


def record(losses, steps=STEPS, status=FINISHED, optimizer="gd", learning_rate=0.1, seed=0):
    """A record of one run, with losses ``[step, bucket]``."""
    dims = ("optimizer", "learning_rate", "seed")
    return xr.Dataset(
        {
            "bucket_loss": ((*dims, "step", "bucket"), losses[None, None, None]),
            "loss": ((*dims, "step"), losses.mean(1)[None, None, None]),
            "status": (dims, np.full((1, 1, 1), status, np.int8)),
            "bucket_of_class": ("class", [0, 1, 1, 2]),
            "bucket_classes": ("bucket", [1, 2, 1]),
        },
        {
            "optimizer": [optimizer],
            "learning_rate": [learning_rate],
            "seed": [seed],
            "step": steps,
            "bucket": range(3),
        },
        {"wall_seconds": 1.0},
    )


def decay(rate, steps=STEPS):
    return 5 * np.exp(-np.multiply.outer(steps, rate))


@pytest.mark.parametrize("fraction", [0.5, 0.25, 0.9])
def test_exponential_decay_takes_log_over_rate(fraction):
    """Late by r/8 e^r at most: a chord of e^-rt is above it by r²/8, and falls by 1 - e^-r."""
    found = time_to_fraction(record(decay(RATE)), fraction).squeeze()
    expected = np.log(1 / fraction) / RATE
    expected[expected > STEPS[-1]] = np.nan
    np.testing.assert_array_equal(found.isnull(), np.isnan(expected))
    late = (found - expected).values
    assert np.nanmin(late) >= 0 and not (late > RATE / 8 * np.exp(RATE)).any()
    assert found.dims == ("bucket",) and found.attrs["units"] == "step"


def test_it_is_exact_where_the_loss_is_linear_and_at_measured_steps():
    steps = np.array([10, 12, 20, 50])
    losses = np.stack([[8, 6, 2, 1], [8, 8, 4, 0], [8, 9, 7, 3]], 1)
    found = time_to_fraction(record(losses, steps)).squeeze()
    np.testing.assert_allclose(found, [16.0, 20.0, 42.5], rtol=1e-15)
    overall = time_to_fraction(record(losses, steps), variable="loss")
    assert overall.item() == pytest.approx(20 + 30 * (13 / 3 - 4) / 3)


def test_the_first_time_counts_even_if_the_loss_rises_again():
    losses = np.array([[8, 8, 8], [2, 9, 0], [9, 2, 8], [1, 9, 8]])
    found = time_to_fraction(record(losses, np.arange(4))).squeeze()
    np.testing.assert_allclose(found, [4 / 6, 1 + 5 / 7, 0.5])


def test_steps_that_were_not_measured_are_passed_over():
    """Joined records have NaN at each other's steps; a bucket may first be seen later."""
    losses = np.array([[NAN, 8, NAN], [8, INF, NAN], [NAN, 6, NAN], [2, 4, NAN]])
    found = time_to_fraction(record(losses, np.array([0, 1, 2, 5]))).squeeze()
    np.testing.assert_allclose(found, [1 + 4 * 4 / 6, 5, NAN])


def test_a_loss_that_is_zero_from_the_start_is_there_at_once():
    found = time_to_fraction(record(np.zeros((4, 3)), np.array([3, 4, 5, 6])))
    np.testing.assert_array_equal(found.squeeze(), 3)


def test_a_diverged_run_never_gets_there():
    losses = decay(RATE)
    found = time_to_fraction(record(losses, status=DIVERGED))
    assert found.isnull().all() and found.dims == ("optimizer", "learning_rate", "seed", "bucket")


def test_other_dimensions_are_kept_and_runs_stay_apart():
    both = join(
        [
            record(decay(RATE), optimizer="gd", learning_rate=0.1),
            record(decay(2 * RATE, STEPS[::2]), STEPS[::2], optimizer="adam", learning_rate=0.01),
        ]
    )
    found = time_to_fraction(both)
    assert found.dims == ("optimizer", "learning_rate", "seed", "bucket")
    gd = found.sel(optimizer="gd", learning_rate=0.1).squeeze()
    np.testing.assert_allclose(gd[:2], np.log(2) / RATE[:2], rtol=0.1)
    assert found.sel(optimizer="gd", learning_rate=0.01).isnull().all()  # not run


def test_it_works_without_runs_and_status():
    dataset = record(decay(RATE)).squeeze(drop=True).drop_vars("status")
    assert time_to_fraction(dataset).dims == ("bucket",)
    assert float(time_to_fraction(dataset, variable="loss")) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 1.0}, "fraction is 1.0; give a number between 0 and 1"),
        ({"fraction": 0}, "fraction is 0;"),
        ({"fraction": NAN}, "fraction is nan;"),
        ({"variable": "bucket_classes"}, "bucket_classes has dimensions bucket; give a loss by"),
    ],
)
def test_wrong_fractions_and_variables_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        time_to_fraction(record(decay(RATE)), **arguments)


def test_two_records_are_compared_bucket_by_bucket():
    steps = np.arange(0, 40.005, 0.01)
    gd = record(decay(RATE, steps), steps)
    adam = record(decay(4 * RATE, steps), steps, optimizer="adam", learning_rate=0.01, seed=1)
    found = compare(gd, adam, 0.5)
    assert set(found.dims) == {"bucket"}
    np.testing.assert_array_equal(found["time_one"], time_to_fraction(gd).squeeze())
    np.testing.assert_array_equal(found["time_other"], time_to_fraction(adam).squeeze())
    # The times are late by h²r/8 of log(2)/r at most, 5e-5 at 4r = 1.6.
    np.testing.assert_allclose(found["time_ratio"], [4, 4, NAN], rtol=1e-4)
    expected = 5 * (np.exp(-40 * RATE) - np.exp(-160 * RATE))
    np.testing.assert_allclose(found["final_difference"], expected, rtol=1e-12)
    np.testing.assert_array_equal(found["bucket_classes"], [1, 2, 1])
    assert found.attrs == {
        "one": "gd",
        "other": "adam",
        "fraction": 0.5,
        "final_step": steps[-1],
        "interpolation": INTERPOLATION,
    }


def test_the_final_difference_is_at_the_last_step_of_both():
    short = record(decay(RATE)[:21], STEPS[:21], optimizer="adam")
    found = compare(record(decay(RATE)), short)
    np.testing.assert_array_equal(found["final_difference"], 0)
    assert found.attrs["final_step"] == 20
    joined = join([record(decay(RATE)), short])
    again = compare(joined.sel(optimizer="gd"), joined.sel(optimizer="adam"))
    xr.testing.assert_equal(again, found)
    assert again.attrs == found.attrs


def test_runs_joined_with_others_are_compared_at_their_own_rates():
    one, other = record(decay(RATE)), record(decay(2 * RATE), optimizer="adam", learning_rate=1.0)
    joined = join([one, other])
    found = compare(joined.sel(optimizer="gd"), joined.sel(optimizer="adam"))
    expected = compare(one, other)
    xr.testing.assert_equal(found, expected)
    assert found.attrs == expected.attrs


def test_comparing_keeps_other_dimensions():
    gd = join([record(decay(RATE * k), seed=k) for k in (1, 2)])
    adam = join([record(decay(RATE * k), seed=k, optimizer="adam") for k in (1, 2)])
    found = compare(gd, adam)
    assert found["time_ratio"].sizes == {"seed": 2, "bucket": 3}
    assert found["seed"].values.tolist() == [1, 2]
    np.testing.assert_array_equal(found["final_difference"], 0)
    with pytest.raises(ValueError, match=r"seed is \[1, 2\] in one and \[2, 1\] in other; select"):
        compare(gd, adam.isel(seed=[1, 0]))


def test_runs_of_one_optimizer_are_told_apart_by_what_differs():
    one, other = record(decay(RATE)), record(decay(RATE), learning_rate=0.3)
    assert compare(one, other).attrs["one"] == "gd, learning_rate 0.1"
    assert compare(one, other).attrs["other"] == "gd, learning_rate 0.3"
    assert compare(one, one).attrs["one"] == "gd"
    bare = one.squeeze(drop=True).drop_vars("status")
    assert (compare(bare, bare).attrs["one"], compare(bare, bare).attrs["other"]) == (
        "one",
        "other",
    )


def test_a_diverged_run_has_no_times_and_no_final_loss():
    found = compare(record(decay(RATE)), record(decay(RATE), status=DIVERGED, optimizer="adam"))
    assert found["time_one"].notnull().any()
    for name in ("time_other", "time_ratio", "final_difference"):
        assert found[name].isnull().all()


def test_runs_with_other_buckets_are_not_compared():
    one, other = record(decay(RATE)), record(decay(RATE))
    moved = other.assign(bucket_of_class=("class", [0, 1, 2, 2]))
    for wrong, what in (
        (moved, "the buckets differ: class 2 is in bucket 1 of one and in bucket 2 of other. Give"),
        (other.isel(bucket=[0, 1]), "one has 3 buckets and other has 2. Give"),
        (other.isel({"class": [0, 1]}), "one has 4 classes and other has 2. Give"),
    ):
        with pytest.raises(ValueError, match=what + r".*load_record\(path, buckets\)"):
            compare(one, wrong)


# Runs measured at different steps ---------------------------------------------------------------


def of_straight_lines(steps, start=8.0, **labels):
    """A record whose losses are linear in the step: interpolation is exact."""
    slopes = np.array([0.5, 0.25, 0.125])
    return record(start - np.multiply.outer(steps, slopes), np.array(steps), **labels)


def test_different_steps_are_compared_at_the_same_one():
    """Equal curves measured at 0, 2, 4 and at 0, 3, 6: step 4 against 4 and not against 3."""
    for ours, theirs, last in (((0, 2, 4), (0, 3, 6), 4), ((0, 4), (0, 1, 3), 3)):
        found = compare(of_straight_lines(ours), of_straight_lines(theirs, optimizer="adam"))
        np.testing.assert_allclose(found["final_difference"], 0, atol=1e-15)
        np.testing.assert_array_equal(found["final_step"], last)
        assert found.attrs["final_step"] == last
        assert found.attrs["interpolation"] == "linear between measured steps"


def test_interpolation_is_linear_between_the_steps_around():
    one = record(np.array([[8, 8, 8], [4, 6, 8]]), np.array([0, 10]))
    other = record(np.array([[8, 8, 8], [1, 2, 3]]), np.array([0, 4]), optimizer="adam")
    found = compare(one, other)
    np.testing.assert_allclose(found["final_difference"], [6.4 - 1, 7.2 - 2, 8 - 3], rtol=1e-14)


def test_a_bucket_without_examples_at_the_end_is_compared_where_both_had_some():
    """One saw bucket 1 last at step 2, the other at step 3; bucket 2 was never seen by one."""
    losses = np.array([[8, 8, NAN], [7, 7, NAN], [6, 6, NAN], [5, NAN, NAN], [4, NAN, NAN]])
    other = np.array([[8, 8, 8], [6, NAN, 6], [4, NAN, 4], [2, 2, 2], [0, NAN, 0.0]])
    found = compare(record(losses, STEPS[:5]), record(other, STEPS[:5], optimizer="adam"))
    np.testing.assert_array_equal(found["final_step"], [4, 2, NAN])
    np.testing.assert_allclose(found["final_difference"], [4, 6 - 4, NAN], rtol=1e-14)
    assert found.attrs["final_step"] == 4


def test_times_are_of_the_loss_at_the_first_common_step():
    """Both follow 8 - t/2 in bucket 0; half of 6, the loss at step 4, is reached at step 10."""
    early, late = of_straight_lines(range(0, 13, 2)), of_straight_lines([4, 7, 12], optimizer="x")
    found = compare(early, late)
    for name in ("time_one", "time_other"):
        np.testing.assert_allclose(found[name], [10, NAN, NAN])
    np.testing.assert_allclose(time_to_fraction(early).squeeze(), [8, NAN, NAN])


def test_a_time_may_be_after_the_end_of_the_other_run():
    found = compare(of_straight_lines(range(20)), of_straight_lines([0, 5], optimizer="adam"))
    np.testing.assert_allclose(found["time_one"], [8, 16, NAN])
    assert found["time_other"].isnull().all() and found["time_ratio"].isnull().all()


def test_runs_without_a_common_step_are_not_compared():
    one, other = of_straight_lines([0, 5]), of_straight_lines([6, 9])
    with pytest.raises(ValueError, match="at steps 0 to 5 and other at 6 to 9, so there is no"):
        compare(one, other)
    assert compare(one, of_straight_lines([5, 9])).attrs["final_step"] == 5  # one is enough


def test_what_has_no_losses_by_bucket_is_not_compared():
    one = of_straight_lines([0, 5])
    with pytest.raises(ValueError, match="there is no bucket_loss among loss, .*load_record"):
        compare(one, one.drop_vars("bucket_loss"))


# The error of a difference ----------------------------------------------------------------------


def with_errors(dataset, *errors):
    """The same error in all buckets at each step."""
    values = xr.DataArray(list(errors), dims="step") * xr.ones_like(dataset["bucket_loss"])
    return dataset.assign(bucket_loss_standard_error=values)


def test_errors_of_a_difference_add_in_quadrature_at_the_final_step():
    one = with_errors(of_straight_lines([0, 4]), 9, 3)
    other = with_errors(of_straight_lines([0, 4, 6], optimizer="adam"), 9, 4, 9)
    found = compare(one, other)["final_difference_error"]
    np.testing.assert_allclose(found, 5, rtol=1e-15)
    assert found.attrs["units"] == "nats"
    between = with_errors(of_straight_lines([0, 3, 5]), 9, 2, 4)
    np.testing.assert_allclose(compare(between, other)["final_difference_error"], np.hypot(4, 6.5))
    np.testing.assert_allclose(compare(one, between)["final_difference_error"], np.hypot(3, 3))


def test_it_is_the_spread_of_differences_of_independent_examples():
    """In 800 buckets of the same kind; the spread is known to 1/√1600 = 2.5 %, 4 of these."""
    rng, runs = np.random.default_rng(0), []
    for scale, number in ((1.0, 50), (2.0, 80)):
        losses = rng.normal(5, scale, (number, 800))
        error = losses.std(0, ddof=1) / np.sqrt(number)
        variables = {"bucket_loss": losses.mean(0), "bucket_loss_standard_error": error}
        by_bucket = {name: (("step", "bucket"), values[None]) for name, values in variables.items()}
        runs.append(xr.Dataset(by_bucket, {"step": [0]}))
    found = compare(*runs)
    error = np.sqrt((found["final_difference_error"] ** 2).mean())
    assert found["final_difference"].std(ddof=1).item() == pytest.approx(error.item(), rel=0.1)


def test_without_the_errors_of_both_there_is_none_of_the_difference():
    one, other = of_straight_lines([0, 4]), of_straight_lines([0, 4], optimizer="adam")
    assert "final_difference_error" not in compare(one, with_errors(other, 1, 1))
    single = with_errors(one, 1, NAN)  # a bucket of one example
    assert compare(single, with_errors(other, 1, 1))["final_difference_error"].isnull().all()
