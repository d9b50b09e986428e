"""A record of one run: sums by class, step after step, in one file that survives a kill.

The file is plain ``.npy`` blocks, which `np.load` gives one by one: pairs of an entry and its
payload. The first payload is a header, JSON as bytes; every other is a table of the classes that
occurred in a step. A file cut anywhere loses its last step at most; any other damage is found by
checksums.
"""

import json
import math
import os
import time
import warnings
import zlib
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.dataset import bucket_variables, loss_variables
from imbalance.analysis.streaming import LossByClass
from imbalance.storage.results import DIVERGED, FINISHED, RUN_DIMS, STATUS

FORMAT = "imbalance record 1"
ENTRY = np.dtype(
    [("step", "<i8"), ("ignored", "<i8"), ("out_of_range", "<i8")]
    + [("seconds", "<f8")]  # since the entry before, or since the file was opened
    + [("rows", "<i8"), ("payload_crc", "<u4"), ("crc", "<u4")]
)
ROW = np.dtype([("class", "<i8"), ("count", "<i8"), ("diverged", "<i8"), ("moments", "<f8", (5,))])
Stored = tuple[np.ndarray, np.ndarray]  # an entry and its table


class Record:
    """Writes a record: a context manager to `append` to at every step that is measured.

    Opening a file that exists goes on after its ``last_step``, -1 if there is none, so a loop that
    begins again appends ``if step > record.last_step``. A step that a kill cut short is removed,
    and a warning says so.

    Args:
      path: of the file; made, with its folder, if it is not there.
      num_classes: of the losses to come.
      optimizer: label of the run, as are ``learning_rate`` and ``seed``.

    Raises:
      FileExistsError: if the file is a record of another run; it is left alone.
      TypeError: if a label is of a wrong type.
      ValueError: if there is not one class, or the file is no record or is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        num_classes: int,
        optimizer: str = "mine",
        learning_rate: float = math.nan,
        seed: int = 0,
    ):
        self.path, self.last_step = Path(path), -1
        self.header = _header(num_classes, optimizer, learning_rate, seed)
        text = np.frombuffer(json.dumps(self.header).encode(), np.uint8)
        beginning, self._crc = _pair(text, 0, step=-1)
        self._end, self._clock = 0, time.monotonic()
        stored = self.path.read_bytes() if self.path.exists() else b""
        if len(stored) >= len(beginning) or not beginning.startswith(stored):
            header, steps, self._end, self._crc = _parse(stored, self.path)
            _check_same_run(self.path, header, self.header)
            self.last_step = max(steps, default=-1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "ab", buffering=0)
        self._file.truncate(self._end)
        if not self._end:  # a new file, or one that was killed when it was new
            self._write(beginning)

    def append(self, step: int, losses: LossByClass) -> None:
        """Store the sums of ``losses`` as those of ``step``; on the disk when this returns.

        Raises:
          OSError: if it cannot be written. As with the others, nothing was.
          TypeError: if ``step`` is not an integer, or ``losses`` not an `imbalance.LossByClass`.
          ValueError: if the step is not after the last one, or the number of classes is another.
        """
        if not isinstance(step, Integral):
            raise TypeError(f"step is {step!r}; give an integer.")
        if not isinstance(losses, LossByClass):
            raise TypeError(
                f"losses are {type(losses).__module__}.{type(losses).__name__}; give an "
                "imbalance.LossByClass, which to_host() makes of one on the device."
            )
        if losses.num_classes != self.header["num_classes"]:
            raise ValueError(
                f"losses are of {losses.num_classes} classes; {self.path} was opened for "
                f"{self.header['num_classes']}."
            )
        if step <= self.last_step:
            raise ValueError(f"step is {step}; steps increase: give {self.last_step + 1} or more.")
        occurred = np.flatnonzero(losses.count)
        table = np.zeros(len(occurred), ROW)
        table["class"], table["moments"] = occurred, losses.moments[:, occurred].T
        table["count"], table["diverged"] = losses.count[occurred], losses.diverged[occurred]
        now, left_out = time.monotonic(), (losses.ignored, losses.out_of_range)
        pair, crc = _pair(table, self._crc, step, *left_out, now - self._clock)
        self._write(pair)
        self._crc, self._clock, self.last_step = crc, now, int(step)

    def _write(self, pair: bytes) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size != self._end:
            raise OSError(
                f"{self.path} has {size} bytes, and had {self._end} when this was last written: "
                "another process writes to it. Give every run a record of its own."
            )
        try:
            rest = memoryview(pair)
            while rest:  # one call need not write all
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except BaseException:  # a full disk, Ctrl-C
            self._file.truncate(self._end)
            raise
        self._end += len(pair)

    def close(self) -> None:
        """Close the file; all is written already."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_record(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[int, LossByClass]]:
    """The labels of a record, and its sums by class at every step.

    Sums are as they were appended but for ``ignore_index``, which is not stored. A record may be
    read while it is written; a last step that is not all there is left out, and a warning says so.

    Raises:
      ValueError: if the file is no record or is damaged: what is wrong, and at which byte.
    """
    header, steps, *_ = _parse(Path(path).read_bytes(), path)
    return header, {step: _losses(header, stored) for step, stored in steps.items()}


def load_record(
    path: str | os.PathLike[str], buckets: FrequencyBuckets | None = None, num_buckets: int = 10
) -> xr.Dataset:
    """A record as a sweep of one run: to join, select and draw.

    Means are of the losses that are finite, and ``bucket_loss_diverged`` counts the others. A run
    has diverged if its last step has others: its ``status`` says so, and losses are NaN from where
    every step has, as in a sweep. ``wall_seconds`` is without the time from a kill to going on.

    Args:
      path: of the record.
      buckets: which classes belong together; None: ``num_buckets`` of about equal mass, by the
        counts summed over steps. Records that `results.join` joins need the same, such as the
        training data's.
      num_buckets: how many, where ``buckets`` is None.

    Returns:
      Dimensions ``optimizer, learning_rate, seed, step, bucket``, the first three of size 1.

    Raises:
      ValueError: as `read_record` and `LossByClass.by_bucket`, or if there is no step.
    """
    header, stored, *_ = _parse(Path(path).read_bytes(), path)
    if not stored:
        raise ValueError(f"{path} holds no step yet; append one first.")
    # One step at a time: with the classes that did not occur, all are larger than the file.
    if buckets is None:
        counts = sum(_losses(header, one).count for one in stored.values())
        buckets = FrequencyBuckets.from_counts(counts, num_buckets)
    steps = [loss_variables(None, _losses(header, s).by_bucket(buckets)) for s in stored.values()]
    variables: dict[str, Any] = {
        name: (
            (*RUN_DIMS, "step", *first.dims),
            np.stack([step[name].values for step in steps])[None, None, None],
            first.attrs | ({"units": "nats"} if name in ("loss", "bucket_loss") else {}),
        )
        for name, first in steps[0].items()
    }
    diverged = np.array([table["diverged"].any() for _, table in stored.values()])
    gone = np.logical_and.accumulate(diverged[::-1])[::-1]  # what is left of the losses is no mean
    for name in ("loss", "bucket_loss", "bucket_loss_standard_error", "bucket_loss_share"):
        variables[name][1][:, :, :, gone] = np.nan
    status = np.full((1, 1, 1), DIVERGED if gone[-1] else FINISHED, np.int8)
    variables |= {"status": (RUN_DIMS, status, STATUS)}
    coords = {name: [header[name]] for name in RUN_DIMS} | {"step": list(stored)}
    coords |= {"bucket": range(buckets.num_buckets), "class": range(header["num_classes"])}
    seconds = float(sum(entry["seconds"] for entry, _ in stored.values()))
    return xr.Dataset(
        variables | bucket_variables(buckets.counts, buckets), coords, {"wall_seconds": seconds}
    )


def _header(num_classes, optimizer, learning_rate, seed, format=FORMAT) -> dict[str, Any]:
    """The labels of a run, checked, whether they were given or read."""
    if format != FORMAT:
        raise ValueError(f"its format is {format!r}, expected {FORMAT!r}")
    for name, value, kind, words in (
        ("num_classes", num_classes, Integral, "an integer"),
        ("optimizer", optimizer, str, "its name"),
        ("learning_rate", learning_rate, Real, "a number, or NaN"),
        ("seed", seed, Integral, "an integer"),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r}; give {words}.")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; give 1 or more.")
    labels = {"learning_rate": float(learning_rate), "seed": int(seed)}
    return {"format": format, "num_classes": int(num_classes), "optimizer": optimizer} | labels


def _check_same_run(path: Path, stored: dict[str, Any], asked: dict[str, Any]) -> None:
    different = "; ".join(
        f"{name}: stored {stored[name]!r}, asked {asked[name]!r}"
        for name in asked
        if repr(stored[name]) != repr(asked[name])  # NaN is the same as NaN
    )
    if different:
        raise FileExistsError(
            f"{path} is the record of another run ({different}). Give another path, or delete it."
        )


def _pair(
    payload: np.ndarray, previous_crc: int, step: int, ignored=0, out_of_range=0, seconds=0.0
) -> tuple[bytes, int]:
    """An entry and its payload as bytes, and the checksum of the entry."""
    fields = step, ignored, out_of_range, seconds, len(payload), zlib.crc32(payload.tobytes()), 0
    entry = np.array(fields, ENTRY)
    entry["crc"] = _checksum(entry, previous_crc)
    blocks = (_prefix(array.dtype, array.shape) + array.tobytes() for array in (entry, payload))
    return b"".join(blocks), int(entry["crc"])


def _checksum(entry: np.ndarray, previous_crc: int) -> int:
    """Of all fields but the last, going on from the entry before: none is lost or moved."""
    return zlib.crc32(entry.tobytes()[:-4], previous_crc)


def _prefix(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What stands before the numbers of a block, as `np.save` writes it but for some padding.

    It is known beforehand, so a reader compares it: nothing that a file says of itself is
    interpreted, or memory taken on its word.
    """
    form = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    text = repr(form)[:-1].encode() + b", }"
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text


def _block(data: bytes, at: int, dtype: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The block at byte ``at``, and where it ends.

    Raises:
      EOFError: if ``data`` ends inside, and is right up to there.
    """
    prefix = _prefix(np.dtype(dtype), shape)
    if not prefix.startswith(data[at : at + len(prefix)]):
        raise ValueError(f"there is no block {prefix[10:].decode().strip()} at byte {at}")
    start = at + len(prefix)
    end = start + np.dtype(dtype).itemsize * math.prod(shape)
    if end > len(data):
        raise EOFError
    return np.frombuffer(data[start:end], dtype).reshape(shape), end


def _parse(data: bytes, path: Any) -> tuple[dict[str, Any], dict[int, Stored], int, int]:
    """Header and steps, all checked; where the last whole pair ends, and its checksum."""
    header: dict[str, Any] = {}
    steps: dict[int, Stored] = {}
    last, at, crc = -1, 0, 0
    while not header or at < len(data):
        place = f"{path}, {f'record {len(steps) + 1}' if header else 'header'} at byte {at}"
        try:
            entry, end = _block(data, at, ENTRY, ())
            if entry["crc"] != _checksum(entry, crc):
                raise ValueError("the checksum of its entry does not fit")
            rows, most = int(entry["rows"]), header.get("num_classes", len(data))
            if not 0 <= rows <= most:
                raise ValueError(f"it promises {rows} rows; 0 .. {most} are possible")
            payload, end = _block(data, end, ROW if header else np.uint8, (rows,))
            if entry["payload_crc"] != zlib.crc32(payload.tobytes()):
                raise ValueError("the checksum of its payload does not fit")
            if not header:
                header = _header(**json.loads(payload.tobytes()))
            else:
                step, classes = int(entry["step"]), payload["class"]
                if step <= last:
                    raise ValueError(f"step {step} comes after step {last}")
                inside = not rows or (classes[0] >= 0 and classes[-1] < most)
                if not inside or (classes[1:] <= classes[:-1]).any():
                    raise ValueError(f"its classes do not ascend within 0 .. {most - 1}")
                steps[step], last = (entry, payload), step
        except EOFError:
            if not header:
                raise ValueError(f"{place}: the file ends inside, so it holds nothing.") from None
            warnings.warn(
                f"{place} was cut short, or is being written. Its {len(data) - at} bytes are left "
                f"out; {f'the last whole step is {last}' if steps else 'no step is whole'}.",
                stacklevel=3,
            )
            break
        except (TypeError, ValueError) as error:
            raise ValueError(f"{place}: {error}. It is no record, or is damaged.") from None
        at, crc = end, int(entry["crc"])
    return header, steps, at, crc


def _losses(header: dict[str, Any], stored: Stored) -> LossByClass:
    entry, table = stored
    losses = LossByClass(header["num_classes"])
    losses.count[table["class"]] = table["count"]
    losses.diverged[table["class"]] = table["diverged"]
    losses.moments[:, table["class"]] = table["moments"].T
    losses.ignored, losses.out_of_range = int(entry["ignored"]), int(entry["out_of_range"])
    return losses
