"""Choosing learning rates on hand-made runs."""

import numpy as np
import pytest
import xarray as xr

from imbalance.analysis.selection import (
    DIVERGED,
    NOT_RUN,
    at_best,
    at_fixed,
    at_only,
    best_learning_rate,
    highest_loss,
    oscillation,
    score,
)
from imbalance.storage.datasets import FINISHED

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
