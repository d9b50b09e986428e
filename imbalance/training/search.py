"""Search, then confirm: which runs a sweep wants, as far as its results so far can tell.

Learning rates are searched on the sweep's own seeds. While the best of an optimizer stands at an
edge of its grid, the grid grows there. The best are then run on fresh seeds, so that what is shown
is no maximum over noise. One that cannot win on a fresh seed, because it explodes or shakes there,
gives way to the next best.
"""

import math
from collections.abc import Callable, Sequence

import xarray as xr

from imbalance.analysis.selection import best_learning_rate
from imbalance.training.plan import Plan, Run

Known = Callable[[Sequence[Run]], xr.Dataset | None]
"""The dataset of some runs of one optimizer; None while one of them is missing."""


def wanted(found: Sequence[Plan], known: Known) -> tuple[list[Run], bool]:
    """The runs of one sweep that are wanted.

    Args:
      found: the plans of its optimizers.
      known: how to look up what is there.

    Returns:
      Runs in the order of declaration, whether or not they are there; and whether these are all:
      where searches are not finished, more follow.
    """
    chosen = [_of_optimizer(plan, known) for plan in found]
    return [run for runs, _ in chosen for run in runs], all(settled for _, settled in chosen)


def expected_flops(plan: Plan) -> float:
    """Operations of the runs that will follow the search of an optimizer, about."""
    confirm = plan.sweep.confirm
    return 0.0 if confirm is None else plan.flops * len(confirm.seeds)


def _of_optimizer(plan: Plan, known: Known) -> tuple[list[Run], bool]:
    confirm, grid = plan.sweep.confirm, list(plan.learning_rates)
    searched = _runs(plan, grid, plan.sweep.seeds)
    if confirm is None:
        return searched, True
    room = {"smallest tried": confirm.growth, "largest tried": confirm.growth}
    confirmed: list[Run] = []
    while True:
        dataset = known(searched + confirmed)
        if dataset is None:
            return searched + confirmed, False
        best = [
            best_learning_rate(dataset, step, rule).isel(optimizer=0)
            for step in confirm.steps or (plan.steps,)
            for rule in confirm.rules
        ]
        wider = _wider(grid, {one["edge"].item() for one in best}, room)
        grid += wider
        searched += _runs(plan, wider, plan.sweep.seeds)
        done = {run.learning_rate for run in confirmed}
        rates = {one["learning_rate"].item() for one in best} - done
        new = _runs(plan, [rate for rate in sorted(grid) if rate in rates], confirm.seeds)
        if not wider and not new:
            return searched + confirmed, True
        if not wider:
            confirmed += new


def _runs(plan: Plan, rates: Sequence[float], seeds: Sequence[int]) -> list[Run]:
    return [plan.run(rate, seed) for seed in seeds for rate in rates]


def _wider(grid: Sequence[float], edges: set[str], room: dict[str, int]) -> list[float]:
    """The next rates beyond the edges at which a best rate stands, while there is room."""
    if len(grid) < 2:
        return []
    if "no rate qualifies" in edges:  # smaller ones are steadier
        edges = edges | {"smallest tried"}
    ordered = sorted(grid)
    found = []
    for edge, last, neighbour in (
        ("smallest tried", ordered[0], ordered[1]),
        ("largest tried", ordered[-1], ordered[-2]),
    ):
        if edge in edges and room[edge]:
            room[edge] -= 1
            exponent = 2 * math.log10(last) - math.log10(neighbour)
            found.append(10 ** round(exponent, 9))  # as a grid by half decades is written
    return found
