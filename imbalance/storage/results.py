"""Results: one labelled dataset a piece, in one file, joined on reading.

A piece is one optimizer and one seed, at all learning rates. Its file is written under a temporary
name and renamed, so that a file of the right name is a finished piece. Dimensions are
``optimizer, learning_rate, seed, step, bucket``; experiments that compare several sweeps have one
more, named after what differs. ``status`` tells which runs exist: NaN means diverged only where it
says so.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr

from imbalance.analysis.labelled import DIVERGED, NOT_RUN

FINISHED = 1
STATUS = {
    "flag_values": [NOT_RUN, FINISHED, DIVERGED],
    "flag_meanings": "not_run finished diverged",
}
FORMAT = "imbalance piece 1"
RUN_DIMS = ("optimizer", "learning_rate", "seed")


def provenance() -> dict[str, Any]:
    """Who made a result and with what: versions, command, commit and time."""
    packages = ("imbalance", "jax", "jaxlib", "optax", "flax", "numpy", "xarray")
    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": json.dumps({name: _version(name) for name in packages}),
        "python": platform.python_version(),
        **_git(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git() -> dict[str, Any]:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return {
            "git_commit": git("rev-parse", "HEAD"),
            "git_dirty": str(bool(git("status", "--porcelain", "--untracked-files=no"))),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown", "git_dirty": "unknown"}


def save(piece: xr.Dataset, path: Path, settings: Mapping[str, Any]) -> None:
    """Write a finished piece so that it is either there in whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings_text = json.dumps(settings, sort_keys=True)
    _write(piece.assign_attrs(format=FORMAT, settings=settings_text, **provenance()), path)


def _write(dataset: xr.Dataset, path: Path) -> None:
    compressed = {
        name: {"zlib": True} for name, variable in dataset.data_vars.items() if variable.size > 1000
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        dataset.to_netcdf(temporary, engine="h5netcdf", encoding=compressed)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> xr.Dataset:
    """One piece, in memory.

    Raises:
      ValueError: if the file is truncated, not netCDF, or not one of ours.
    """
    try:
        with xr.open_dataset(path, engine="h5netcdf") as piece:
            piece.load()
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a netCDF file ({type(error).__name__}: {error}). It may be "
            "truncated: delete it, or run again with --overwrite to replace it."
        ) from error
    if piece.attrs.get("format") != FORMAT:
        raise ValueError(
            f"{path} is a netCDF file but not a result of this package: its attribute 'format' is "
            f"{piece.attrs.get('format')!r}, expected {FORMAT!r}. Move it away, or give another "
            "folder with --results."
        )
    return piece


def is_finished(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether ``path`` holds the piece with exactly these settings; False if there is no file.

    Raises:
      FileExistsError: if it holds a piece of another sweep; nothing is overwritten.
      ValueError: if it cannot be read, as `read`.
    """
    if not path.exists():
        return False
    try:
        with h5netcdf.File(path) as file:
            stored = json.loads(str(file.attrs["settings"]))
            ours = file.attrs.get("format") == FORMAT
    except Exception:
        ours = False
    if not ours:
        stored = json.loads(read(path).attrs["settings"])  # raises, saying what is wrong
    asked = json.loads(json.dumps(settings))
    if stored != asked:
        keys = sorted(k for k in stored.keys() | asked.keys() if stored.get(k) != asked.get(k))
        differences = "; ".join(f"{k}: stored {stored.get(k)}, asked {asked.get(k)}" for k in keys)
        raise FileExistsError(
            f"{path} was made by another sweep ({differences}). Run with --overwrite to replace "
            "it, or give another folder with --results."
        )
    return True


def join(pieces: Iterable[xr.Dataset], over: str | None = None) -> xr.Dataset:
    """Lay pieces along seed and optimizer, and along ``over`` where sweeps differ.

    Where optimizers have different learning rates, ``status`` is not_run and values are NaN.
    """
    pieces = list(pieces)

    def lay(pieces: list[xr.Dataset], dims: list[str]) -> xr.Dataset:
        if not dims:
            return pieces[0]
        *rest, dim = dims
        groups: dict[Any, list[xr.Dataset]] = {}
        for piece in pieces:
            groups.setdefault(piece[dim].item(), []).append(piece)
        return xr.concat(
            [lay(group, rest) for group in groups.values()],
            dim=dim,
            data_vars="minimal",
            coords="minimal",
            compat="equals",
            join="outer",
            combine_attrs="drop_conflicts",
            fill_value={"status": np.int8(NOT_RUN)},
        )

    joined = lay(pieces, ["seed", "optimizer", *([over] if over else [])])
    wall = float(sum(piece.attrs["wall_seconds"] for piece in pieces))
    return joined.assign_attrs(wall_seconds=wall)


def load(
    name: str, scale: str = "laptop", directory: str | os.PathLike[str] = "results"
) -> xr.Dataset:
    """All stored pieces of experiment ``name`` at ``scale``, joined.

    Raises:
      FileNotFoundError: if there are none.
      ValueError: if one of them cannot be read.
    """
    folder = Path(directory) / name / scale
    paths = sorted(folder.glob("**/*.nc"))
    if not paths:
        stored = sorted(str(p.relative_to(directory)) for p in Path(directory).glob("*/*"))
        raise FileNotFoundError(
            f"no results of {name!r} at scale {scale!r} in {directory}; "
            f"there are: {', '.join(stored) or 'none'}. "
            f"Make them with: python experiments/{name}.py --scale {scale}"
        )
    # Opening a file takes far longer than reading it, so the joined dataset is kept beside the
    # pieces, for as long as they are the same.
    kept = folder.with_name(f".{scale}.joined")
    stamp = json.dumps([(str(p.relative_to(folder)), p.stat().st_mtime_ns) for p in paths])
    with contextlib.suppress(ValueError):  # none there, or cut short: it is made again
        joined = read(kept)
        if joined.attrs.pop("pieces", None) == stamp:
            return joined
    pieces = [read(path) for path in paths]
    pieces.sort(key=lambda piece: piece.attrs.get("order", ""))
    joined = join(pieces, pieces[0].attrs.get("over") or None)
    joined = joined.assign_attrs(experiment=name, scale=scale)
    with contextlib.suppress(OSError):  # a folder one may only read
        # How the pieces were encoded (lengths of names, whole numbers) does not fit what is joined.
        _write(joined.drop_encoding().assign_attrs(pieces=stamp), kept)
    return joined
