"""The learning rates that each rule selects, for the page to mark."""

from typing import Any

import numpy as np
import xarray as xr

from imbalance.analysis.selection import RULES, best_learning_rate, score
from imbalance.reporting.report.labelled import attribute, over_of
from imbalance.storage.datasets import RUN_DIMS

USUAL = "steady"


def choices(dataset: xr.Dataset) -> list[list[dict[str, Any]]]:
    """What each rule selects at each horizon, the experiment's own rule and horizon first.

    Args:
      dataset: As `labelled.labelled` returns it.

    Returns:
      For each value of the dimension in which sweeps differ, a list of choices. Each has ``rule``,
      ``step``, and for every optimizer the place of the best rate in ``best`` (-1: none
      qualifies), what `best_learning_rate` says of the edge of the grid in ``edge``, and of every
      rate whether the rule admits it in ``admitted``. The list is empty where nothing can be
      selected, as without losses of step 0.
    """
    over = over_of(dataset)
    if over is None:
        return [_of_part(dataset)]
    return [_of_part(dataset.isel({over: i}, drop=True)) for i in range(dataset.sizes[over])]


def horizons(dataset: xr.Dataset) -> tuple[list[int], list[str]]:
    """Steps at which rates were selected when the runs were made, and by which rules."""
    steps, rules = [], []
    settings = attribute(dataset, "settings")
    for sweep in settings if isinstance(settings, list) else []:
        confirm = sweep.get("confirm") if isinstance(sweep, dict) else None
        if isinstance(confirm, dict):
            steps += [s for s in _list(confirm.get("steps")) if isinstance(s, int)]
            rules += [rule for rule in _list(confirm.get("rules")) if rule in list(RULES)]
    return list(dict.fromkeys(steps)), list(dict.fromkeys(rules))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _of_part(part: xr.Dataset) -> list[dict[str, Any]]:
    measured = part["step"].values[xr.ufuncs.isfinite(part["loss"]).any(RUN_DIMS).values]
    if len(measured) < 2 or measured[0] != 0:
        return []
    steps, rules = horizons(part)
    part = part.sel(step=measured)
    steps = [step for step in dict.fromkeys([*steps, int(measured[-1])]) if step in measured]
    rules = list(dict.fromkeys([*rules, USUAL, *RULES]))
    return [_choice(part, step, rule) for step in steps for rule in rules]


def _choice(part: xr.Dataset, step: int, rule: str) -> dict[str, Any]:
    best = best_learning_rate(part, step, rule)
    wins = np.isfinite(best["loss"].values)
    scores = score(part, step, rule).transpose("optimizer", "learning_rate").values
    return {
        "rule": rule,
        "step": step,
        "best": np.where(wins, best["position"].values, -1).tolist(),
        "edge": best["edge"].values.tolist(),
        "admitted": np.isfinite(scores).astype(int).tolist(),
    }
