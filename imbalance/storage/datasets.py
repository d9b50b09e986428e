"""Labelled datasets, kept in one file an experiment and scale.

Dimensions are ``optimizer, learning_rate, seed, step, bucket``; experiments that compare several
sweeps have one more, named after what differs. ``status`` tells which runs exist: NaN means
diverged only where it says so.
"""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from imbalance.analysis.selection import DIVERGED, NOT_RUN
from imbalance.storage import files

FINISHED = 1
STATUS = {
    "long_name": "what became of the run",
    "flag_values": [NOT_RUN, FINISHED, DIVERGED],
    "flag_meanings": "not_run finished diverged",
}
FORMAT = "imbalance dataset 2"
RUN_DIMS = ("optimizer", "learning_rate", "seed")
LOOKS = ("label", "colour", "momentum")
COORDINATES = {
    "optimizer": {"long_name": "optimizer, by its name in the sweep"},
    "label": {"long_name": "optimizer, as figures name it"},
    "colour": {"long_name": "colour of the optimizer's curves"},
    "momentum": {"long_name": "whether the optimizer has momentum"},
    "learning_rate": {"long_name": "learning rate"},
    "seed": {"long_name": "seed of the start, and of the data where they depend on it"},
    "step": {"long_name": "step at which losses were measured", "units": "steps"},
    "train_step": {
        "long_name": "step whose forward pass gave the training loss",
        "units": "steps",
    },
    "bucket": {"long_name": "bucket of classes; 0 holds the most frequent"},
    "class": {"long_name": "class, by its label"},
}
"""What coordinates are, for whoever opens a file."""


def described(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with attributes that say what its coordinates are."""
    for name, attrs in COORDINATES.items():
        if name in dataset.coords:
            dataset[name].attrs.update(attrs)
    return dataset


def to_bytes(dataset: xr.Dataset) -> memoryview:
    """The netCDF file of a dataset, made in memory: HDF5 crashes where a disk is full."""
    compressed = {
        name: {"zlib": True} for name, variable in dataset.data_vars.items() if variable.size > 1000
    }
    return dataset.to_netcdf(engine="h5netcdf", encoding=compressed)  # pyright: ignore


def from_bytes(data: bytes) -> xr.Dataset:
    """The dataset of a netCDF file in memory."""
    return xr.load_dataset(io.BytesIO(data), engine="h5netcdf")


def save(dataset: xr.Dataset, path: Path, attrs: Mapping[str, Any]) -> None:
    """Write a dataset with further attributes: on the disk when this returns, or not at all.

    Raises:
      OSError: if it cannot be written.
    """
    # How parts were encoded (lengths of names, whole numbers) does not fit what is joined.
    whole = dataset.drop_encoding().assign_attrs(format=FORMAT, **attrs)
    files.write(path, to_bytes(whole))


def read(path: str | os.PathLike[str]) -> xr.Dataset:
    """A stored dataset, its checksum verified.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if the file is damaged, or not a dataset of this package.
    """
    path = Path(path)
    data = files.read(path)
    try:
        dataset = from_bytes(data)
    except Exception as error:  # bytes that somebody else wrote with a fitting checksum
        raise ValueError(
            f"{path} cannot be read as netCDF ({type(error).__name__}: {error}). Delete it, and it "
            "is made again."
        ) from error
    if dataset.attrs.get("format") != FORMAT:
        raise ValueError(
            f"{path} has the format {dataset.attrs.get('format')!r}, expected {FORMAT!r}. Delete "
            "it, and it is made again."
        )
    return dataset


def dataset_path(name: str, scale: str, directory: str | os.PathLike[str] = "results") -> Path:
    """Where the joined dataset of experiment ``name`` lies."""
    return Path(directory) / name / f"{scale}.nc"


def load(
    name: str, scale: str = "laptop", directory: str | os.PathLike[str] = "results"
) -> xr.Dataset:
    """The results of experiment ``name`` at ``scale``, with who made them in ``attrs``.

    Raises:
      FileNotFoundError: if there are none.
      ValueError: if the file is damaged.

    Example:
      >>> import xarray as xr
      >>> from imbalance import load
      >>> from imbalance.storage.datasets import dataset_path, save
      >>> runs = xr.Dataset({"loss": ("step", [2.3, 0.7])})
      >>> save(runs, dataset_path("mine", "laptop"), {})  # as an experiment does at its end
      >>> load("mine")["loss"].values
      array([2.3, 0.7])
    """
    path = dataset_path(name, scale, directory)
    if not path.exists():
        stored = sorted(
            f"{path.parent.name} at {path.stem}" for path in Path(directory).glob("*/*.nc")
        )
        raise FileNotFoundError(
            f"no results of {name!r} at scale {scale!r} in {directory}; "
            f"there are: {', '.join(stored) or 'none'}. "
            f"Make them with: python experiments/{name}.py --scale {scale}"
        )
    return read(path)


def stored_runs(path: Path) -> list[str] | None:
    """Keys of the runs that a stored dataset was joined from; None if it cannot be used."""
    try:
        keys = json.loads(read(path).attrs["runs"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    right = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return keys if right else None
