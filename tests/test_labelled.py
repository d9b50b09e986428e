"""Choosing learning rates (section C.4) on hand-made runs."""

import numpy as np
import pytest
import xarray as xr

from imbalance.analysis.labelled import at_best, at_fixed, best_learning_rate, highest_loss, score
from imbalance.results import DIVERGED, FINISHED, NOT_RUN

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


@pytest.mark.parametrize("rule", ["final", "stable"])
def test_the_worst_seed_decides(rule):
    lucky = (2, 1, 0.5, 0.2, 0.1)
    both = runs({"gd": [[SLOW, SLOW], [GOOD, GOOD], [lucky, EXPLODES]]})
    assert rate(both, rule) == [0.1]
    assert best_learning_rate(both, 4, rule)["loss"].values == pytest.approx([1.0])


@pytest.mark.parametrize("rule", ["final", "stable"])
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
    assert "step 4, rule S" in chosen.attrs["selection"]
    assert "rule F" in at_best(both, 4, "final").attrs["selection"]


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
