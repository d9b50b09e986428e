"""Losses of all runs of a dataset as plain data: what the page draws, and no more."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import to_hex

from imbalance.analysis.selection import DIVERGED, NOT_RUN
from imbalance.reporting import plots
from imbalance.reporting.report.labelled import KINDS, over_of, search_seeds

DIGITS = 4  # significant ones: more cannot be seen
MOST_STEPS = 500  # of each curve: more than there are pixels in a panel


def numbers(values: np.ndarray) -> list[Any]:
    """An array as nested lists of rounded numbers, None where it is not finite."""
    if values.ndim > 1:
        return [numbers(one) for one in values]
    return [rounded(value) for value in values.tolist()]


def rounded(value: float) -> float | None:
    """A number with `DIGITS` significant digits; None where it is not finite."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def shown_steps(steps: np.ndarray) -> np.ndarray:
    """Places of the steps that are shown: all, or `MOST_STEPS` of them with both ends."""
    if len(steps) <= MOST_STEPS:
        return np.arange(len(steps))
    return np.unique(np.linspace(0, len(steps) - 1, MOST_STEPS).round().astype(int))


def curves(dataset: xr.Dataset, keep: Sequence[int] = ()) -> dict[str, Any]:
    """Labels and losses of all runs that were made.

    Args:
      dataset: As `labelled.labelled` returns it.
      keep: Further steps that must be shown, such as those at which rates are chosen.

    Returns:
      ``over``: name and values of the dimension in which sweeps differ, or None; ``optimizers``,
      ``rates``, ``seeds``, ``fresh`` (whether a seed took no part in the search) and ``steps``:
      labels along the axes; ``runs``: for each run its places along over, optimizer, rate and seed,
      and whether it diverged; ``kinds``: for each kind of loss its name, and for each run the loss
      of all examples ``[step]`` and by bucket ``[bucket][step]``; ``buckets``: of each value of
      over, what is known of them.
    """
    over = over_of(dataset)
    if over is None:
        dataset = dataset.expand_dims("")
    steps = dataset["step"].values
    at = np.union1d(shown_steps(steps), np.flatnonzero(np.isin(steps, list(keep))))
    dataset = dataset.isel(step=at.astype(int))
    status = dataset["status"].values  # [over, optimizer, learning_rate, seed]
    places = np.argwhere(status != NOT_RUN)
    searched = search_seeds(dataset)
    seeds = dataset["seed"].values.tolist()
    return {
        "over": over and {"name": over, "values": [_word(v) for v in dataset[over].values]},
        "optimizers": optimizers(dataset),
        "rates": [rounded(rate) for rate in dataset["learning_rate"].values.astype(float).tolist()],
        "seeds": seeds,
        "fresh": [seed not in searched for seed in seeds],
        "steps": dataset["step"].values.tolist(),
        "runs": [[*place, int(status[tuple(place)] == DIVERGED)] for place in places.tolist()],
        "kinds": [
            _kind(dataset, kind, places) for kind, (_, name, _) in KINDS.items() if name in dataset
        ],
        "buckets": [_buckets(dataset.isel({over or "": i})) for i in range(len(status))],
    }


def optimizers(dataset: xr.Dataset) -> list[dict[str, Any]]:
    """Name, label, colour and line of each optimizer, as pictures have them."""
    names = [str(name) for name in dataset["optimizer"].values]
    known = all(look in dataset.coords for look in ("label", "colour", "momentum"))
    found = []
    for i, name in enumerate(names):
        source = dataset.isel(optimizer=[i]) if known else None
        looks = plots.looks(name, source)
        colour = _colour(looks.colour, plots.OTHER_COLOURS[i % len(plots.OTHER_COLOURS)])
        found.append(
            {"name": name, "label": looks.label, "colour": colour, "dashed": not looks.momentum}
        )
    return found


def _colour(colour: str | None, other: str) -> str:
    """A colour as six digits; what a file says may be anything."""
    try:
        return to_hex(colour or other)
    except ValueError:
        return other


def _kind(dataset: xr.Dataset, kind: str, places: np.ndarray) -> dict[str, Any]:
    whole, parts, _ = KINDS[kind]
    chosen = tuple(places.T)
    by_bucket = dataset[parts].values[chosen].swapaxes(1, 2)  # [run, bucket, step]
    known = whole in dataset
    return {
        "name": kind,
        "all": numbers(dataset[whole].values[chosen]) if known else [],
        "buckets": numbers(by_bucket),
    }


def _buckets(part: xr.Dataset) -> dict[str, list[Any]]:
    """Classes, share of the examples and unigram loss of each bucket, where they are known."""
    names = {"classes": "bucket_classes", "mass": "bucket_mass", "unigram": "bucket_unigram_loss"}
    found = {
        short: numbers(part[name].values.astype(float))
        for short, name in names.items()
        if name in part and part[name].dims == ("bucket",) and part[name].dtype.kind in "fiu"
    }
    if "bucket_name" in part and part["bucket_name"].dims == ("bucket",):
        found["names"] = [_word(name) for name in part["bucket_name"].values]
    return found


def _word(value: Any) -> str:
    """A label as the page shows it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
