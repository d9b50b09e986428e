"""A record as a labelled dataset, with the names and dimensions of a sweep."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.dataset import bucket_variables, loss_variables
from imbalance.analysis.selection import DIVERGED
from imbalance.analysis.sums import LARGEST_LOSS
from imbalance.storage.datasets import FINISHED, RUN_DIMS, STATUS, described
from imbalance.storage.record_format import Stored, parse
from imbalance.storage.records import losses_of

LOST = 0.25  # of the losses of a step: where more are not finite, the run has diverged


def load_record(
    path: str | os.PathLike[str], buckets: FrequencyBuckets | None = None, num_buckets: int = 10
) -> xr.Dataset:
    """A record as a sweep of one run: to join, select and draw.

    Means are of the losses that are finite. The others are counted in ``bucket_loss_diverged``, and
    a warning says how many there are, from which step on and in which classes.

    Where more than a quarter of the losses of a step are not finite (NaN, infinite or beyond
    ``LARGEST_LOSS``), its means are NaN: a run that explodes loses its worst examples first, and
    must not look better for it. The run has diverged, by its ``status``, if the last step that has
    examples is such a step.

    ``wall_seconds`` is without the time from a kill to going on.

    Args:
      path: File to read.
      buckets: Classes that belong together; None: at most ``num_buckets`` of about equal mass,
        by the counts summed over steps, without empty ones. Records that `joining.join` joins need
        the same, such as the training data's.
      num_buckets: Number of buckets, where ``buckets`` is None.

    Returns:
      Dimensions ``optimizer, learning_rate, seed, step, bucket``, the first three of size 1.

    Warns:
      UserWarning: If losses are not finite, or the last step was cut short.

    Raises:
      ValueError: As `read_record` and `LossByClass.by_bucket`, or if there is no step.

    Example:
      >>> from imbalance import LossByClass, Record, load_record
      >>> with Record("adam.record", num_classes=2, optimizer="adam") as record:
      ...     for step in (0, 10):
      ...         losses = LossByClass(num_classes=2)
      ...         losses.update([2.0 / (1 + step), 2.0, 3.0], [0, 0, 1])
      ...         record.append(step, losses)
      >>> runs = load_record("adam.record", num_buckets=2)
      >>> runs["bucket_loss"].sel(step=0).values.reshape(-1)
      array([2., 3.])
    """
    found = parse(Path(path).read_bytes(), path)
    header, stored = found.header, found.steps
    if not stored:
        raise ValueError(f"{path} holds no step yet; append one first.")
    # One step at a time: with the classes that did not occur, all are larger than the file.
    if buckets is None:
        counts = sum(losses_of(header, one).count for one in stored.values())
        buckets = FrequencyBuckets.from_counts(counts, num_buckets).without_empty()
    steps = [loss_variables(None, losses_of(header, s).by_bucket(buckets)) for s in stored.values()]
    variables: dict[str, Any] = {
        name: (
            (*RUN_DIMS, "step", *first.dims),
            np.stack([step[name].values for step in steps])[None, None, None],
            first.attrs | ({"units": "nats"} if name in ("loss", "bucket_loss") else {}),
        )
        for name, first in steps[0].items()
    }
    number, lost = (
        np.array([table[name].sum() for _, table in stored.values()])
        for name in ("count", "diverged")
    )
    gone = lost > LOST * number
    for name in ("loss", "bucket_loss", "bucket_loss_standard_error", "bucket_loss_share"):
        variables[name][1][:, :, :, gone] = np.nan
    diverged = gone[number > 0][-1:].any()
    if lost.any():
        _warn_of_lost(path, stored, gone, bool(diverged))
    status = np.full((1, 1, 1), DIVERGED if diverged else FINISHED, np.int8)
    variables |= {"status": (RUN_DIMS, status, STATUS)}
    coords = {name: [header[name]] for name in RUN_DIMS} | {"step": list(stored)}
    coords |= {"bucket": range(buckets.num_buckets), "class": range(header["num_classes"])}
    seconds = float(sum(entry["seconds"] for entry, _ in stored.values()))
    variables |= bucket_variables(buckets.counts, buckets)
    return described(xr.Dataset(variables, coords, {"wall_seconds": seconds}))


def _warn_of_lost(
    path: Any, stored: Mapping[int, Stored], gone: np.ndarray, diverged: bool
) -> None:
    """Tell the caller's caller which losses are in no mean, and which steps have none."""
    lost = {step: table[table["diverged"] > 0] for step, (_, table) in stored.items()}
    classes = np.unique(np.concatenate([table["class"] for table in lost.values()]))
    more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
    shown = ", ".join(map(str, classes[:5])) + more
    total = sum(table["diverged"].sum() for table in lost.values())
    number = sum(table["count"].sum() for _, table in stored.values())
    first = next(step for step, table in lost.items() if len(table))
    words = (
        f"{path}: {total} of {number} losses are NaN, infinite or beyond {LARGEST_LOSS:.0e}, from "
        f"step {first} on, in class {shown}. They are in no mean, and are counted in "
        "bucket_loss_diverged."
    )
    if gone.any():
        words += (
            f" At {gone.sum()} of {len(gone)} steps, from step {list(stored)[np.argmax(gone)]} on, "
            "they are more than a quarter of all: the means of these steps are NaN."
        )
    warnings.warn(words + (" The run has diverged." if diverged else ""), stacklevel=3)
