"""Search, then confirm: grids grow until the best stands inside, winners run on fresh seeds."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from imbalance.analysis.selection import NOT_RUN, at_best, best_learning_rate
from imbalance.storage.datasets import FINISHED
from imbalance.storage.store import Store
from imbalance.training.plan import plans
from imbalance.training.running import known_in, run
from imbalance.training.search import wanted
from imbalance.training.sweep import Confirm, Sweep, half_decades

STEPS = 20
CONFIRM = Confirm(seeds=(1, 2), growth=4)


@pytest.fixture
def sweep(problem):
    return Sweep(problem, {"gd": half_decades(-2, -1)}, STEPS, stops=(0, STEPS), confirm=CONFIRM)


def best_at(best):
    """What is known of runs whose loss is lowest at one rate, and of all runs asked for."""

    def known(chosen):
        rates = sorted({one.learning_rate for one in chosen})
        distance = abs(np.log10(rates) - np.log10(best))
        loss = np.stack([np.full(len(rates), 2.0), 0.1 * distance], -1)
        shape = (1, len(rates), 1)
        return xr.Dataset(
            {
                "loss": (("optimizer", "learning_rate", "seed", "step"), loss.reshape(*shape, 2)),
                "train_loss": (
                    ("optimizer", "learning_rate", "seed", "train_step"),
                    np.ones((*shape, STEPS)),
                ),
                "status": (("optimizer", "learning_rate", "seed"), np.full(shape, FINISHED)),
            },
            {
                "optimizer": ["gd"],
                "learning_rate": rates,
                "seed": [0],
                "step": [0, STEPS],
                "train_step": range(STEPS),
            },
        )

    return known


def exponents(chosen, seed):
    return sorted(float(np.log10(one.learning_rate)) for one in chosen if one.seed == seed)


def test_a_best_rate_inside_is_confirmed_at_once(sweep):
    chosen, settled = wanted(plans(sweep), best_at(10**-1.5))
    assert settled
    assert exponents(chosen, 0) == [-2, -1.5, -1]
    assert exponents(chosen, 1) == exponents(chosen, 2) == [-1.5]


@pytest.mark.parametrize(
    ("best", "grid"),
    [(10**-0.5, [-2, -1.5, -1, -0.5, 0]), (10**-2.5, [-3, -2.5, -2, -1.5, -1])],
)
def test_a_grid_grows_until_the_best_stands_inside(sweep, best, grid):
    chosen, settled = wanted(plans(sweep), best_at(best))
    assert settled and exponents(chosen, 0) == grid
    assert exponents(chosen, 1) == [pytest.approx(np.log10(best))]
    # Rates are those that a longer grid would have had, to the last bit.
    longer = half_decades(-3, 0)
    assert all(one.learning_rate in longer for one in chosen)


def test_a_grid_grows_only_so_far(sweep):
    chosen, settled = wanted(plans(sweep), best_at(1e6))
    assert settled and exponents(chosen, 0) == [-2, -1.5, -1, -0.5, 0, 0.5, 1]
    fixed = replace(sweep, confirm=replace(CONFIRM, growth=0))
    assert exponents(wanted(plans(fixed), best_at(1e6))[0], 0) == [-2, -1.5, -1]


def test_a_single_rate_does_not_grow(sweep):
    one = replace(sweep, learning_rates={"gd": (1e-2,)})
    chosen, settled = wanted(plans(one), best_at(1e-2))
    assert settled and exponents(chosen, 0) == exponents(chosen, 1) == [-2]


def test_where_no_rate_qualifies_smaller_ones_are_tried_and_nothing_is_confirmed(sweep):
    inside = best_at(1e-3)

    def known(chosen):
        found = inside(chosen)
        return found.assign(train_loss=found["train_loss"] * np.inf)

    chosen, settled = wanted(plans(sweep), known)
    assert settled and exponents(chosen, 0) == [-4, -3.5, -3, -2.5, -2, -1.5, -1]
    assert exponents(chosen, 1) == []


def test_each_rule_has_its_winner_confirmed(sweep):
    falling = best_at(10**-1.5)

    def known(chosen):
        found = falling(chosen)
        best = abs(np.log10(found["learning_rate"]) + 1.5) < 0.1
        shaking = 1 + 0.4 * (found["train_step"] % 2)
        return found.assign(train_loss=found["train_loss"].where(~best, shaking))

    both = replace(sweep, confirm=replace(CONFIRM, rules=("steady", "stable")))
    chosen, settled = wanted(plans(both), known)
    assert settled and len(exponents(chosen, 1)) == 2


def test_a_winner_that_explodes_on_a_fresh_seed_gives_way_to_the_next(sweep):
    tame = best_at(10**-1.5)

    def known(chosen):
        seeds = sorted({one.seed for one in chosen})
        found = xr.concat([tame(chosen).assign_coords(seed=[seed]) for seed in seeds], "seed")
        explodes = (found["learning_rate"] > 0.03) & (found["learning_rate"] < 0.04)
        explodes = explodes & (found["seed"] == 2)
        ran = [
            [any((o.learning_rate, o.seed) == (r, s) for o in chosen) for s in seeds]
            for r in found["learning_rate"].values
        ]
        status = xr.where(np.array(ran)[None], found["status"], NOT_RUN)
        found = found.assign(
            train_loss=found["train_loss"].where(~explodes, 99),
            status=(found["status"].dims, status.data),
        )
        return found.assign_attrs(search_seeds=[0])

    chosen, settled = wanted(plans(sweep), known)
    assert settled and len(exponents(chosen, 2)) == 2
    assert -1.5 in exponents(chosen, 1)


def test_nothing_is_confirmed_while_the_search_goes_on(sweep):
    chosen, settled = wanted(plans(sweep), lambda chosen: None)
    assert not settled and exponents(chosen, 0) == [-2, -1.5, -1] and not exponents(chosen, 1)


def test_a_sweep_without_confirmation_wants_its_grid_and_no_more(sweep):
    plain = replace(sweep, confirm=None)
    chosen, settled = wanted(plans(plain), lambda chosen: None)
    assert settled and len(chosen) == 3


def test_a_search_that_is_run(sweep, tmp_path):
    sweep = replace(sweep, learning_rates={"gd": half_decades(-1, 0), "adam": half_decades(-3, -2)})
    found = run(sweep)
    best = best_learning_rate(found, STEPS)
    assert (best["edge"] == "").all()
    chosen = at_best(found, STEPS)
    assert chosen["seed"].values.tolist() == [1, 2]
    assert np.isfinite(chosen["loss"]).all()
    # Fresh seeds have run at the chosen rates only.
    fresh = (found["status"] != NOT_RUN).sel(seed=[1, 2]).sum("learning_rate")
    assert (fresh == 1).all()
    # The store gives the same, and wants nothing more.
    again = run(sweep, tmp_path)
    for name in found.data_vars:
        np.testing.assert_array_equal(found[name], again[name])
    chosen, settled = wanted(plans(sweep), known_in(Store(tmp_path / "runs")))
    assert settled and all(Store(tmp_path / "runs").has(one.key) for one in chosen)


@pytest.mark.parametrize(
    ("confirm", "message"),
    [
        (Confirm(seeds=()), r"seeds \(\); give one or more"),
        (Confirm(seeds=(0, 1)), r"searched on \[0\] already; give fresh seeds"),
        (Confirm(rules=("best",)), r"rules \('best',\); known are final, stable, steady"),
        (Confirm(rules=()), r"rules \(\); known are"),
        (Confirm(steps=(3,)), r"steps \(0, 3\), and nothing is measured at \[3\]; stops are"),
        (Confirm(growth=-1), "growth -1; give a whole number of 0 or more"),
    ],
)
def test_bad_confirmations(sweep, confirm, message):
    with pytest.raises(ValueError, match=message):
        replace(sweep, confirm=confirm)


@pytest.mark.parametrize("stops", [(0, 10), (5, STEPS)])
def test_a_search_whose_losses_are_not_measured_is_refused_before_it_runs(sweep, stops):
    with pytest.raises(ValueError, match="nothing is measured at"):
        replace(sweep, stops=stops)
