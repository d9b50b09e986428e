"""Runs and sweeps joined into one labelled dataset, each at its labels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from imbalance.analysis.comparison import check_same_buckets
from imbalance.analysis.selection import NOT_RUN
from imbalance.storage.datasets import LOOKS, described


def join(
    pieces: Iterable[xr.Dataset] | Mapping[str, xr.Dataset], over: str | None = None
) -> xr.Dataset:
    """Lay runs along optimizer, learning rate and seed, and along ``over`` where sweeps differ.

    Where pieces have different learning rates, ``status`` is not_run and values are NaN; they are
    NaN too at steps that other pieces have.

    Args:
      pieces: Runs of one optimizer and seed each, such as records. As a mapping, its keys take the
        place of their labels along ``optimizer``: ``join({"narrow": one, "wide": other})``.
      over: Further dimension, of which each piece has one value.

    Raises:
      ValueError: If there are no pieces, if two have the same labels or one has several, or if
        their buckets or class counts differ.

    Example:
      >>> from imbalance import LossByClass, Record, join, load_record
      >>> for name, loss in (("gd", 2.0), ("adam", 1.0)):
      ...     losses = LossByClass(num_classes=2)
      ...     losses.update([loss, 3 * loss], [0, 1])
      ...     with Record(f"{name}.record", num_classes=2, optimizer=name) as record:
      ...         record.append(0, losses)
      >>> runs = join([load_record("gd.record"), load_record("adam.record")])
      >>> runs["loss"].sel(optimizer="adam").item()
      2.0
    """
    pieces = _listed(pieces)
    dims = list(dict.fromkeys(["learning_rate", "seed", "optimizer", over or "optimizer"]))
    _check_labels(pieces, dims[1:])
    _check_classes(pieces, over)

    def lay(pieces: list[xr.Dataset], dims: list[str]) -> xr.Dataset:
        if not dims:
            return pieces[0]
        *rest, dim = dims
        groups: dict[Any, list[xr.Dataset]] = {}
        for piece in pieces:
            labels = piece[dim].values.tolist() if dim in piece.dims else []
            groups.setdefault(repr(labels), []).append(piece)  # NaN is the same as NaN
        parts = [lay(group, rest) for group in groups.values()]
        if dim != "learning_rate":
            return concat(parts, dim)
        return concat(parts, dim).sortby(dim) if len(parts) > 1 else parts[0]

    joined = lay(pieces, dims)
    if all("wall_seconds" in piece.attrs for piece in pieces):
        wall = float(sum(piece.attrs["wall_seconds"] for piece in pieces))
        joined = joined.assign_attrs(wall_seconds=wall)
    return described(joined)


def _listed(pieces: Iterable[xr.Dataset] | Mapping[str, xr.Dataset]) -> list[xr.Dataset]:
    """Pieces with their labels along ``optimizer``, which the keys of a mapping replace."""
    if isinstance(pieces, xr.Dataset):  # which is a mapping itself
        raise ValueError("pieces are a single dataset; give several in a list.")
    if isinstance(pieces, Mapping):
        named: Mapping[Any, xr.Dataset] = pieces
        pieces = [_renamed(piece, name) for name, piece in named.items()]
    found = list(pieces)
    if not found:
        raise ValueError("there are no pieces to join; give one or more, such as records.")
    return found


def _renamed(piece: xr.Dataset, name: str) -> xr.Dataset:
    """A piece with another label along ``optimizer``, and the looks that go with it."""
    _check_one(piece, "optimizer", repr(name))
    return piece.drop_vars(LOOKS, errors="ignore").assign_coords(optimizer=[name])


def _check_one(piece: xr.Dataset, dim: str, name: str) -> None:
    """That a piece has one label of a dimension.

    Raises:
      ValueError: If it has several, or no such dimension.
    """
    if dim not in piece.dims or dim not in piece.coords:
        raise ValueError(
            f"{name} has no dimension {dim}; give records, by load_record(path), or runs of a "
            f"sweep that keep it, as by .sel({dim}=[...])."
        )
    if piece.sizes[dim] != 1:
        labels = ", ".join(map(str, piece[dim].values))
        raise ValueError(
            f"{name} has {dim} {labels}; give a piece for each, as by .sel({dim}=[...])."
        )


def _check_labels(pieces: Sequence[xr.Dataset], dims: Sequence[str]) -> None:
    """That every piece has one label of each dimension, and no two have the same.

    Raises:
      ValueError: If not.
    """
    found: dict[str, int] = {}
    for i, piece in enumerate(pieces):
        for dim in dims:
            _check_one(piece, dim, f"piece {i}")
        for rate in _rates_run(piece):
            labels = [(dim, piece[dim].item()) for dim in dims] + [("learning_rate", rate)]
            same = ", ".join(f"{dim} {label!r}" for dim, label in labels)
            if found.setdefault(same, i) != i:
                raise ValueError(
                    f"pieces {found[same]} and {i} have the same labels: {same}. Name them, "
                    'join({"first": one, "second": other}), or label runs as they are recorded, '
                    'Record(path, num_classes, optimizer="first"); or make what differs a '
                    'dimension, join([one.expand_dims(width=[64]), ...], over="width").'
                )


def _rates_run(piece: xr.Dataset) -> list[float]:
    """Learning rates of which a piece has a run; NaN where they are no dimension."""
    if "learning_rate" not in piece.dims:
        return [np.nan]
    if "status" not in piece:
        return piece["learning_rate"].values.tolist()
    run = piece["status"] != NOT_RUN
    run = run.any([dim for dim in run.dims if dim != "learning_rate"])
    return piece["learning_rate"].values[run.values].tolist()


def _check_classes(pieces: Sequence[xr.Dataset], over: str | None) -> None:
    """That pieces have the same buckets and class counts, but for those that differ by ``over``.

    Raises:
      ValueError: If not.
    """
    known = [
        (i, piece)
        for i, piece in enumerate(pieces)
        if not {"bucket_of_class", "class_count"} - set(piece.variables)
        and over not in (*piece["bucket_of_class"].dims, *piece["class_count"].dims)
    ]
    for i, piece in known[1:]:
        first, one = known[0]
        names = f"piece {first}", f"piece {i}"
        check_same_buckets(one, piece, names)
        counts = one["class_count"].values, piece["class_count"].values
        differ = np.flatnonzero(counts[0] != counts[1])
        if differ.size:
            k = differ[0]
            raise ValueError(
                f"class counts differ: class {k} has {counts[0][k]} examples in {names[0]} and "
                f"{counts[1][k]} in {names[1]}. Give both the same buckets, as by "
                "load_record(path, buckets); without them each record counts its own classes."
            )


def concat(parts: Sequence[xr.Dataset], dim: str) -> xr.Dataset:
    """Datasets along a dimension; what one of them does not have was not run."""
    looks = {
        name: values
        for part in parts
        if "label" in part.coords
        for name, *values in zip(
            part["optimizer"].values, *(part[look].values for look in LOOKS), strict=True
        )
    }
    joined = xr.concat(
        [part.drop_vars(LOOKS, errors="ignore") for part in parts],
        dim=dim,
        data_vars="minimal",
        coords="minimal",
        compat="equals",
        join="outer",
        combine_attrs="drop_conflicts",
        fill_value={"status": np.int8(NOT_RUN)},
    )
    if not looks:
        return joined
    # Known of each optimizer, wherever it was run; outer joins would leave gaps.
    columns = zip(
        *(looks.get(name, (name, "", True)) for name in joined["optimizer"].values), strict=True
    )
    return joined.assign_coords(
        {look: ("optimizer", list(column)) for look, column in zip(LOOKS, columns, strict=True)}
    )
