"""Tables of classes as plain data: how many examples, which bucket, and the last loss."""

from typing import Any

import numpy as np
import xarray as xr

from imbalance.analysis.selection import NOT_RUN
from imbalance.reporting.report.curves import numbers
from imbalance.reporting.report.labelled import over_of

LARGEST = 50_000  # classes of a table; beyond, those with most examples


def classes(dataset: xr.Dataset) -> list[dict[str, Any] | None]:
    """A table of classes for each value of the dimension in which sweeps differ.

    Args:
      dataset: As `labelled.labelled` returns it.

    Returns:
      ``names``, ``counts`` and ``buckets`` (-1: in none) of the classes that occur, most frequent
      first; ``total``, the number of those that do; where losses of classes are stored, ``losses``,
      of every run in the order of `curves.curves` and for every class, at the step ``step``. None
      where the dataset says nothing of classes.
    """
    over = over_of(dataset)
    if over is None:
        return [_table(dataset, dataset)]
    parts = [dataset.isel({over: i}) for i in range(dataset.sizes[over])]
    return [_table(part, dataset.isel({over: [i]})) for i, part in enumerate(parts)]


def _table(part: xr.Dataset, whole: xr.Dataset) -> dict[str, Any] | None:
    if not all(_along_class(part, name) for name in ("class_count", "bucket_of_class")):
        return None
    counts = part["class_count"].values.astype(float)
    occurring = np.flatnonzero(np.isfinite(counts) & (counts > 0))
    order = occurring[np.argsort(-counts[occurring], kind="stable")][:LARGEST]
    bucket = part["bucket_of_class"].values.astype(float)[order]
    found = {
        "names": [str(name) for name in part["class"].values[order].tolist()],
        "counts": numbers(counts[order]),
        "buckets": np.where(np.isfinite(bucket), bucket, -1).astype(int).tolist(),
        "total": len(occurring),
    }
    return found | _losses(whole, order)


def _along_class(part: xr.Dataset, name: str) -> bool:
    return name in part and part[name].dims == ("class",) and part[name].dtype.kind in "fiu"


def _losses(part: xr.Dataset, order: np.ndarray) -> dict[str, Any]:
    """Losses of classes at the last step, of every run of this part."""
    run = [dim for dim in part["loss"].dims if dim != "step"]
    if "class_loss" not in part or set(part["class_loss"].dims) != {*run, "step", "class"}:
        return {}
    losses = part["class_loss"].transpose("step", *run, "class")
    made = (part["status"] != NOT_RUN).values
    return {
        "losses": numbers(losses.values[-1][made][:, order]),
        "step": losses["step"].values[-1].item(),
    }
