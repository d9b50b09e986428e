"""Datasets brought to the dimensions that the report shows, and what they are labelled with."""

import json
from typing import Any

import numpy as np
import xarray as xr

from imbalance.analysis.selection import DIVERGED, NOT_RUN
from imbalance.storage.datasets import FINISHED, RUN_DIMS

DEFAULTS = {"optimizer": "mine", "learning_rate": np.nan, "seed": 0}
KINDS = {  # which losses are shown: of all examples and by bucket, and the dimension of the latter
    "training": ("loss", "bucket_loss", "bucket"),
    "validation": ("validation_loss", "validation_bucket_loss", "validation_bucket"),
}
KNOWN = {*RUN_DIMS, "step"}
STATUSES = {NOT_RUN, FINISHED, DIVERGED}


def labelled(dataset: xr.Dataset) -> xr.Dataset:
    """A dataset of runs with all dimensions that the report needs.

    Args:
      dataset: Joined sweep, record, or selection of one; what it lacks of ``optimizer``,
        ``learning_rate`` and ``seed`` it gets, with one label each.

    Returns:
      ``loss [optimizer, learning_rate, seed, step]``, ``bucket_loss [..., bucket]`` and ``status
      [optimizer, learning_rate, seed]``; where sweeps differ in one more dimension, that comes
      first.

    Raises:
      ValueError: If it is no dataset of losses by bucket.
    """
    lacking = [name for name in ("loss", "bucket_loss") if name not in dataset.data_vars]
    if lacking:
        raise ValueError(
            f"it has no {' and no '.join(lacking)}, so it is no dataset of runs; give a joined "
            "dataset, as in results/NAME/SCALE.nc, or a record."
        )
    for dim in RUN_DIMS:
        if dim not in dataset["loss"].dims:
            dataset = _with_dim(dataset, dim)
    if "step" not in dataset["loss"].dims or "bucket" not in dataset["bucket_loss"].dims:
        raise ValueError("its losses have no dimension step, or those by bucket no bucket.")
    others = [str(dim) for dim in dataset["loss"].dims if dim not in KNOWN]
    if len(others) > 1:
        raise ValueError(
            f"its runs differ in {', '.join(others)}; the report shows one dimension beside "
            "optimizer, learning_rate and seed. Select from the others, as by "
            f".sel({others[0]}=...)."
        )
    empty = [str(dim) for dim, size in dataset["bucket_loss"].sizes.items() if not size]
    if empty:
        raise ValueError(f"its dimension {empty[0]} is empty.")
    dataset = dataset.assign_coords(
        {d: np.arange(n) for d, n in dataset.sizes.items() if d not in dataset.coords}
    )
    return _with_status(_in_order(dataset, others))


def over_of(dataset: xr.Dataset) -> str | None:
    """The dimension in which sweeps differ, beside those of a run."""
    others = [str(dim) for dim in dataset["loss"].dims if dim not in KNOWN]
    return others[0] if others else None


def attribute(dataset: xr.Dataset, name: str) -> Any:
    """An attribute that holds JSON, as built-in types; None where it is not there or is not JSON.

    Attributes of other people's files may hold anything: nothing is taken for granted.
    """
    try:
        return json.loads(dataset.attrs[name])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def search_seeds(dataset: xr.Dataset) -> set[int]:
    """Seeds on which learning rates were searched; all of them, where there was no search."""
    found = np.atleast_1d(dataset.attrs.get("search_seeds", dataset["seed"].values))
    return {int(seed) for seed in found if np.issubdtype(found.dtype, np.number)}


def _with_dim(dataset: xr.Dataset, dim: str) -> xr.Dataset:
    """With a dimension that was selected away or never there."""
    if dim in dataset.coords and dataset[dim].ndim:
        raise ValueError(
            f"its {dim} is a label along {', '.join(map(str, dataset[dim].dims))}, as after a "
            "selection; give the dataset as it was before at_best or at_fixed."
        )
    value = dataset[dim].item() if dim in dataset.coords else DEFAULTS[dim]
    names = [n for _, *pair in _pairs() for n in pair[:2] if n in dataset] + ["status"]
    grown = dataset.drop_vars(dim, errors="ignore")
    return grown.assign(
        {name: grown[name].expand_dims({dim: [value]}) for name in names if name in grown}
    )


def _pairs() -> list[tuple[str, str, str, str]]:
    return [(kind, *names) for kind, names in KINDS.items()]


def _in_order(dataset: xr.Dataset, others: list[str]) -> xr.Dataset:
    """With losses in the order of axes that `labelled` promises, as float64."""
    dims = (*others, *RUN_DIMS, "step")
    changed = {}
    for _, whole, parts, bucket in _pairs():
        for name, axes in ((whole, dims), (parts, (*dims, bucket))):
            if name not in dataset:
                continue
            if set(dataset[name].dims) != set(axes):
                found = ", ".join(map(str, dataset[name].dims))
                raise ValueError(f"its {name} has dimensions {found}, expected {', '.join(axes)}.")
            if dataset[name].dtype.kind not in "fiu":
                raise ValueError(f"its {name} holds {dataset[name].dtype}, expected numbers.")
            changed[name] = dataset[name].transpose(*axes)
    return dataset.assign(changed)


def _with_status(dataset: xr.Dataset) -> xr.Dataset:
    """With a status of every run; where none is given, a run without any loss was not made."""
    dims = [dim for dim in dataset["loss"].dims if dim != "step"]
    if "status" in dataset and set(dataset["status"].dims) == set(dims):
        status = dataset["status"].transpose(*dims)
        if status.dtype.kind in "iu" and set(np.unique(status).tolist()) <= STATUSES:
            return dataset.assign(status=status)
    made = xr.ufuncs.isfinite(dataset["loss"]).any("step")
    return dataset.assign(status=xr.where(made, FINISHED, NOT_RUN).astype(np.int8))
