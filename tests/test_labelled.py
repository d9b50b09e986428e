"""Choosing learning rates on hand-made runs."""

import numpy as np
import pytest
import xarray as xr

from imbalance.analysis.labelled import (
    DIVERGED,
    NOT_RUN,
    at_best,
    at_fixed,
    at_only,
    best_learning_rate,
    compare,
    highest_loss,
    oscillation,
    score,
    time_to_fraction,
)
from imbalance.storage.datasets import FINISHED, join

RATES = (0.01, 0.1, 1.0)
NAN, INF = np.nan, np.inf
ABSENT = (NAN,) * 5  # a run that was never made


def runs(losses):
    """Losses of steps 0 to 4, by optimizer ``[rate][seed][step]``, as a joined sweep.

    The training losses are those before each step, so one fewer than the measured ones.
    """
    loss = np.array(list(losses.values()), np.float32)
    status = np.where(np.isnan(loss[..., -1]), DIVERGED, FINISHED)
    status[np.isnan(loss[..., 0])] = NOT_RUN
    dims = ("optimizer", "learning_rate", "seed")
    return xr.Dataset(
        {
            "loss": ((*dims, "step"), loss),
            "train_loss": ((*dims, "train_step"), loss[..., :-1]),
            "status": (dims, status.astype(np.int8)),
        },
        {
            "optimizer": list(losses),
            "learning_rate": list(RATES),
            "seed": range(loss.shape[2]),
            "step": range(5),
            "train_step": range(4),
        },
    )


SLOW, GOOD = (2, 1.9, 1.8, 1.7, 1.6), (2, 1.5, 1.2, 1.1, 1.0)
EXPLODES_THEN_WINS = (2, 9, 5, 1, 0.5)
EXPLODES = (2, 9, 99, INF, NAN)
RISES = (2, 2.9, 2.5, 2, 1.2)  # by less than half

ONE_SEED = runs({"gd": [[SLOW], [GOOD], [EXPLODES_THEN_WINS]]})


def rate(dataset, rule, step=4):
    return best_learning_rate(dataset, step, rule)["learning_rate"].values.tolist()


def test_a_run_that_explodes_and_then_wins_wins_by_its_final_loss_only():
    assert rate(ONE_SEED, "final") == [1.0]
    assert rate(ONE_SEED, "stable") == [0.1]


def test_stability_counts_up_to_the_horizon_only():
    late = runs({"gd": [[SLOW], [GOOD], [(2, 1, 1.1, 9, 9)]]})
    assert rate(late, "stable", step=2) == [1.0]
    assert rate(late, "stable", step=4) == [0.1]


def test_rising_by_half_is_stable_and_by_more_is_not():
    assert rate(runs({"gd": [[SLOW], [RISES], [EXPLODES]]}), "stable") == [0.1]
    more = (2, 3.1, 2.5, 2, 1.2)
    assert rate(runs({"gd": [[SLOW], [more], [EXPLODES]]}), "stable") == [0.01]


def test_an_explosion_between_two_measurements_is_seen():
    hidden = runs({"gd": [[SLOW], [GOOD], [EXPLODES_THEN_WINS]]}).sel(step=[0, 4])
    assert hidden["loss"].max() == 2
    assert rate(hidden, "stable") == [0.1]
    assert highest_loss(hidden, 4).values.ravel() == pytest.approx([2, 2, 9])


@pytest.mark.parametrize("end", [(99, NAN), (9, 3.1), (9, INF)])
def test_a_diverged_run_counts_as_its_initial_loss(end):
    found = score(runs({"gd": [[SLOW], [GOOD], [(2, 9, 9, *end)]]}), 4, "final")
    assert found.values[0].tolist() == pytest.approx([1.6, 1.0, 2.0])


def test_a_diverged_run_is_never_stable():
    found = score(runs({"gd": [[SLOW], [GOOD], [EXPLODES]]}), 4, "stable")
    assert found.values[0].tolist() == pytest.approx([1.6, 1.0, INF])


@pytest.mark.parametrize("rule", ["final", "stable", "steady"])
def test_the_worst_seed_decides(rule):
    lucky = (2, 1, 0.5, 0.2, 0.1)
    both = runs({"gd": [[SLOW, SLOW], [GOOD, GOOD], [lucky, EXPLODES]]})
    assert rate(both, rule) == [0.1]
    assert best_learning_rate(both, 4, rule)["loss"].values == pytest.approx([1.0])


@pytest.mark.parametrize("rule", ["final", "stable", "steady"])
def test_a_rate_that_was_never_run_cannot_win(rule):
    some = runs({"gd": [[ABSENT], [SLOW], [GOOD]], "adam": [[SLOW], [GOOD], [ABSENT]]})
    assert rate(some, rule) == [1.0, 0.1]
    found = score(some, 4, rule).values
    np.testing.assert_array_equal(np.isinf(found), [[True, False, False], [False, False, True]])


def test_a_best_rate_at_the_edge_of_its_own_grid_says_so():
    edges = best_learning_rate(
        runs(
            {
                "inside": [[SLOW], [GOOD], [EXPLODES]],
                "smallest": [[GOOD], [SLOW], [EXPLODES]],
                "largest": [[SLOW], [SLOW], [GOOD]],
                "largest of its two": [[SLOW], [GOOD], [ABSENT]],
                "smallest of its two": [[ABSENT], [GOOD], [SLOW]],
            }
        ),
        4,
    )["edge"]
    found = dict(zip(edges["optimizer"].values.tolist(), edges.values.tolist(), strict=True))
    assert found == {
        "inside": "",
        "smallest": "smallest tried",
        "largest": "largest tried",
        "largest of its two": "largest tried",
        "smallest of its two": "smallest tried",
    }


def test_where_all_diverge_no_rate_is_stable():
    hopeless = runs({"gd": [[EXPLODES]] * 3, "adam": [[SLOW], [GOOD], [EXPLODES]]})
    best = best_learning_rate(hopeless, 4, "stable")
    np.testing.assert_array_equal(best["learning_rate"], [NAN, 0.1])
    assert best["edge"].values.tolist() == ["no rate qualifies", ""]
    assert best["loss"].values.tolist() == [INF, 1.0]
    assert best_learning_rate(hopeless, 4, "final")["loss"].values.tolist() == [2.0, 1.0]


def test_the_runs_at_the_best_rates():
    both = runs({"gd": [[SLOW], [GOOD], [EXPLODES]], "adam": [[SLOW], [SLOW], [GOOD]]})
    chosen = at_best(both, 4)
    np.testing.assert_allclose(chosen["loss"].squeeze("seed"), [GOOD, GOOD])
    assert chosen["learning_rate"].values.tolist() == [0.1, 1.0]
    assert chosen["edge"].values.tolist() == ["", "largest tried"]
    assert "step 4, rule steady" in chosen.attrs["selection"]
    assert "rule final" in at_best(both, 4, "final").attrs["selection"]


def test_a_single_rate_has_no_edge():
    one = runs({"gd": [[ABSENT], [GOOD], [ABSENT]]})
    assert best_learning_rate(one, 4)["edge"].values.tolist() == [""]


# The rule steady, and fresh seeds -----------------------------------------------------------------


def curves(*losses, every=1, **attrs):
    """Runs of one optimizer and seed, a learning rate for each curve of losses by step."""
    loss = np.array(losses)[None, :, None].astype(np.float32)
    steps = np.arange(loss.shape[-1])
    dims = ("optimizer", "learning_rate", "seed")
    return xr.Dataset(
        {
            "loss": ((*dims, "step"), loss[..., ::every]),
            "train_loss": ((*dims, "train_step"), loss[..., :-1], attrs),
            "status": (dims, np.ones(loss.shape[:3], int)),
        },
        {
            "optimizer": ["gd"],
            "learning_rate": 10.0 ** np.arange(len(losses)),
            "seed": [0],
            "step": steps[::every],
            "train_step": steps[:-1],
        },
    )


FALLS = np.linspace(2, 1, 101)
SHAKES = np.where(np.arange(101) % 2, 0.85, 0.75) + 0 * FALLS
SHAKES[0] = 2


def test_oscillation_is_the_largest_rise_relative_to_the_mean():
    found = oscillation(curves(FALLS, SHAKES), 100).values.ravel()
    assert found == pytest.approx([0.0, 0.1 / 0.8], rel=1e-4, abs=1e-6)


def test_a_loss_that_falls_fast_does_not_oscillate_and_one_that_comes_back_does():
    exponential = 2 * np.exp(-np.arange(101) / 10)
    assert oscillation(curves(exponential), 100).item() == 0
    returns = np.where(np.arange(101) < 90, FALLS, FALLS + 0.3)
    assert oscillation(curves(returns), 100).item() == pytest.approx(0.29 / 1.24, rel=0.02)
    assert oscillation(curves(returns), 80).item() == pytest.approx(0, abs=1e-6)


def test_the_rule_steady_refuses_what_shakes_and_the_rule_stable_does_not():
    both = curves(FALLS, SHAKES)
    assert best_learning_rate(both, 100, "stable")["learning_rate"].item() == 10.0
    assert best_learning_rate(both, 100)["learning_rate"].item() == 1.0


def test_shaking_between_measurements_is_seen_where_a_step_takes_all_rows():
    seldom = curves(FALLS, SHAKES, every=2)
    assert best_learning_rate(seldom, 100)["learning_rate"].item() == 1.0
    of_batches = curves(FALLS, SHAKES, every=2, rows=32)  # whose loss is noise between batches
    assert best_learning_rate(of_batches, 100)["learning_rate"].item() == 10.0


def test_a_run_that_solved_the_problem_does_not_oscillate():
    solved = np.where(np.arange(101) % 2, 1e-4, 3e-4)
    solved[0] = 2
    assert oscillation(curves(solved), 100).item() == pytest.approx(2e-4 / 0.02, rel=0.2)


def test_a_run_beside_a_longer_one_is_judged_by_its_own_steps():
    both = xr.concat(
        [curves(FALLS).assign_coords(optimizer=["short"]), curves(np.linspace(2, 1, 201))],
        "optimizer",
        join="outer",
        fill_value={"status": NOT_RUN},
    )
    short, _ = oscillation(both, 100).values.ravel()
    assert short < 1e-5


def test_a_run_that_was_not_finite_is_never_steady():
    diverged = np.where(np.arange(101) > 90, np.nan, FALLS)
    assert oscillation(curves(diverged), 100).item() == np.inf


def test_rates_are_chosen_on_the_seeds_of_the_search_and_shown_on_fresh_ones():
    lucky = (2, 1, 0.5, 0.2, 0.1)
    both = runs({"gd": [[SLOW, ABSENT, ABSENT], [GOOD, GOOD, SLOW], [SLOW, lucky, lucky]]})
    both.attrs["search_seeds"] = [0]
    chosen = at_best(both, 4)
    assert chosen["learning_rate"].values.tolist() == [0.1]
    assert chosen["seed"].values.tolist() == [1, 2]
    np.testing.assert_allclose(chosen["loss"].values, [[GOOD, SLOW]])
    assert at_fixed(both, {"gd": 1.0})["seed"].values.tolist() == [1, 2]
    assert at_fixed(both, {"gd": 0.01})["seed"].values.tolist() == [0]  # run on no other


def test_a_rate_that_explodes_on_a_fresh_seed_gives_way_to_the_next():
    both = runs(
        {"gd": [[SLOW, ABSENT, ABSENT], [GOOD, SLOW, SLOW], [(2, 1, 0, 0, 0), SLOW, EXPLODES]]}
    )
    both.attrs["search_seeds"] = [0]
    chosen = at_best(both, 4)
    assert chosen["learning_rate"].values.tolist() == [0.1]
    assert chosen["seed"].values.tolist() == [1, 2]
    assert at_best(both, 4, "final")["learning_rate"].values.tolist() == [1.0]


def test_a_choice_that_was_not_confirmed_is_shown_on_the_seed_of_the_search():
    some = runs({"gd": [[SLOW, ABSENT], [GOOD, ABSENT], [SLOW, SLOW]]})
    some.attrs["search_seeds"] = [0]
    assert at_best(some, 4)["seed"].values.tolist() == [0]


def test_the_runs_at_fixed_rates():
    both = runs({"gd": [[SLOW], [GOOD], [EXPLODES]], "adam": [[SLOW], [SLOW], [GOOD]]})
    chosen = at_fixed(both, {"adam": 10**0, "gd": 10**-2.0})
    assert chosen["optimizer"].values.tolist() == ["adam", "gd"]
    assert chosen["learning_rate"].values.tolist() == [1.0, 0.01]
    np.testing.assert_allclose(chosen["loss"].squeeze("seed"), [GOOD, SLOW])


def test_another_dimension_is_chosen_along():
    labels = ["random", "balanced"]
    parts = [
        runs({"gd": [[SLOW], [GOOD], [EXPLODES]]}),
        runs({"gd": [[SLOW], [SLOW], [GOOD]]}),
    ]
    both = xr.concat(parts, xr.Variable("labels", labels))
    chosen = at_best(both, 4)
    assert chosen["learning_rate"].sel(optimizer="gd").values.tolist() == [0.1, 1.0]
    np.testing.assert_allclose(chosen["loss"].sel(labels="balanced").squeeze(), GOOD)
    fixed = at_fixed(both, {"gd": 0.1})
    np.testing.assert_allclose(fixed["loss"].sel(labels="balanced").squeeze(), SLOW)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: at_best(ONE_SEED, 4, "best"), "unknown rule 'best'; known are final, stable"),
        (lambda: at_best(ONE_SEED, 3000), r"at step 3000; measured are \[0, 1, 2, 3, 4\]"),
        (lambda: at_fixed(ONE_SEED, {"sgd": 0.1}), "optimizer 'sgd'; there are gd"),
        (lambda: at_fixed(ONE_SEED, {"gd": 0.2}), "'gd' at learning rate 0.2; tried are 0.01, 0.1"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()


def test_a_rate_of_another_optimizer_is_not_there():
    some = runs({"gd": [[ABSENT], [SLOW], [GOOD]], "adam": [[SLOW], [GOOD], [ABSENT]]})
    with pytest.raises(ValueError, match="'gd' at learning rate 0.01; tried are 0.1, 1"):
        at_fixed(some, {"gd": 0.01})


# Runs with one learning rate each ----------------------------------------------------------------


def test_the_only_rate_of_every_optimizer_is_found():
    both = runs({"gd": [[ABSENT], [ABSENT], [GOOD]], "adam": [[SLOW], [ABSENT], [ABSENT]]})
    only = at_only(both)
    assert only["learning_rate"].dims == ("optimizer",)
    assert only["learning_rate"].values.tolist() == [1.0, 0.01]
    np.testing.assert_allclose(only["loss"].squeeze("seed"), [GOOD, SLOW])
    assert at_only(only) is only  # it has no rates to choose from


@pytest.mark.parametrize("gd", [[[SLOW], [GOOD], [ABSENT]], [[ABSENT], [ABSENT], [ABSENT]]])
def test_several_rates_or_none_are_refused(gd):
    some = runs({"gd": gd, "adam": [[SLOW], [ABSENT], [ABSENT]]})
    with pytest.raises(ValueError, match=r"have \[[02], 1\] learning rates; choose one .* at_best"):
        at_only(some)
    with pytest.raises(ValueError, match=r"have \[[02]\] learning rates"):
        at_only(some.sel(optimizer="gd"))


# How fast, and how far --------------------------------------------------------------------------

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
    assert found.attrs == {"one": "gd", "other": "adam", "fraction": 0.5, "final_step": steps[-1]}


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
    for wrong in (moved, other.isel(bucket=[0, 1])):
        with pytest.raises(ValueError, match="buckets.*load_record\\(path, buckets\\)"):
            compare(one, wrong)
