"""A record of one run: sums by class, step after step, in one file that survives a kill.

The file is plain ``.npy`` blocks, which `np.load` gives one by one: pairs of an entry and its
payload. The first payload is a header, JSON as bytes; every other is a table of the classes that
occurred in a step.

A file that was cut loses its last step at most. Checksums find any other damage: nobody reads or
extends such a file until `salvage` has cut it back to the whole steps before the damage.
"""

import contextlib
import json
import math
import os
import time
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.dataset import bucket_variables, loss_variables
from imbalance.analysis.labelled import DIVERGED
from imbalance.analysis.streaming import LossByClass
from imbalance.storage import files
from imbalance.storage.datasets import FINISHED, RUN_DIMS, STATUS, described

FORMAT = "imbalance record 1"
MAX_CLASSES = 2**24  # sums of one step then take 0.9 GiB
BYTES_A_CLASS = 56  # of LossByClass: two int64 and five float64
MAX_BYTES = 2**32  # what `read_record` takes of memory, unless it is told otherwise
DAMAGED = ".damaged"  # the ending of the original of a record that was salvaged
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

    A record has one writer at a time, from opening it to closing it. Readers need not wait.

    Args:
      path: File to write; made, with its folder, if it is not there.
      num_classes: Number of classes of the losses to come, at most 2^24.
      optimizer: Label of the run, as are ``learning_rate`` and ``seed``.

    Raises:
      FileExistsError: If the file is a record of another run; it is left alone.
      Held: If it is open for writing already, here or in another process; the message says where.
      TypeError: If a label is of a wrong type.
      ValueError: If there is not one class, or the file is no record or is damaged; see `salvage`.
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
        with contextlib.ExitStack() as held:
            held.enter_context(_only_writer(self.path))
            self._end, self._crc = self._begin()
            self._file = held.enter_context(open(self.path, "ab", buffering=0))
            self._file.truncate(self._end)
            self._held = held.pop_all()
        self._clock = time.monotonic()

    def _begin(self) -> tuple[int, int]:
        """Make the file, or find where to go on: the last whole pair's end and checksum."""
        text = np.frombuffer(json.dumps(self.header).encode(), np.uint8)
        beginning, crc = _pair(text, 0, step=-1)
        stored = self.path.read_bytes() if self.path.exists() else b""
        if stored != beginning and beginning.startswith(stored):  # new, or killed when it was new
            files.write_as_it_is(self.path, beginning)
            return len(beginning), crc
        found = _parse(stored, self.path)
        _check_same_run(self.path, found.header, self.header)
        self.last_step = found.last
        return found.end, found.crc

    def append(self, step: int, losses: LossByClass) -> None:
        """Store the sums of ``losses`` as those of ``step``; on the disk when this returns.

        Raises:
          OSError: If it cannot be written. As with the others, nothing was.
          TypeError: If ``step`` is not an integer, or ``losses`` not an `imbalance.LossByClass`.
          ValueError: If the step is not after the last one, or the number of classes is another.
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
                "something else writes to it. Give every run a record of its own."
            )
        try:
            rest = memoryview(pair)
            while rest:  # one call need not write all
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except BaseException as error:  # a full disk, Ctrl-C
            self._file.truncate(self._end)
            if isinstance(error, OSError):
                raise OSError(
                    error.errno,
                    f"cannot append to {self.path}: {error.strerror}. The steps before are as they "
                    "were. Make room there, then append this step again",
                ) from error
            raise
        self._end += len(pair)

    def close(self) -> None:
        """Close the file, for another writer to open; all is written already."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_record(
    path: str | os.PathLike[str], max_bytes: int = MAX_BYTES
) -> tuple[dict[str, Any], dict[int, LossByClass]]:
    """The labels of a record, and its sums by class at every step.

    Sums are as they were appended but for ``ignore_index``, which is not stored. A record may be
    read while it is written; a last step that is not all there is left out, and a warning says so.

    Args:
      path: File to read.
      max_bytes: Memory that the sums may take, 56 bytes a class and step: a file stores only the
        classes that occurred, so a small one may ask for much.

    Raises:
      ValueError: If the file is no record or is damaged: what is wrong, and at which byte; or if
        the sums take more than ``max_bytes``.
    """
    found = _parse(Path(path).read_bytes(), path)
    header, needed = found.header, found.num_bytes
    if needed > max_bytes:
        raise ValueError(
            f"{path}: sums of {header['num_classes']} classes at {len(found.steps)} steps take "
            f"{needed} bytes; max_bytes is {max_bytes}. Give {needed} if this machine has them, or "
            "use load_record, which takes one step at a time."
        )
    return header, {step: _losses(header, stored) for step, stored in found.steps.items()}


def salvage(path: str | os.PathLike[str]) -> int:
    """Cut a damaged record back to the whole steps before the damage.

    The original is kept beside it, as ``<name>.damaged``. A record that is whole is left alone.

    Args:
      path: File to mend. Nobody may be writing to it.

    Returns:
      The number of steps kept.

    Raises:
      FileExistsError: If there is another ``<name>.damaged`` already; nothing is changed.
      Held: If it is open for writing; the message says where.
      OSError: If there is no file, or no room; the record is then as it was.
      ValueError: If its header is damaged, so that nothing can be kept, or it is no record.
    """
    path = Path(path)
    with _only_writer(path):
        data = path.read_bytes()
        found = _scan(data, path)
        if found.end < len(data):
            _keep_original(path.with_name(path.name + DAMAGED), data)
            files.write_as_it_is(path, memoryview(data)[: found.end])
    return len(found.steps)


def load_record(
    path: str | os.PathLike[str], buckets: FrequencyBuckets | None = None, num_buckets: int = 10
) -> xr.Dataset:
    """A record as a sweep of one run: to join, select and draw.

    Means are of the losses that are finite, and ``bucket_loss_diverged`` counts the others. A run
    has diverged if its last step has others: its ``status`` says so, and losses are NaN from where
    every step has, as in a sweep. ``wall_seconds`` is without the time from a kill to going on.

    Args:
      path: File to read.
      buckets: Classes that belong together; None: ``num_buckets`` of about equal mass, by the
        counts summed over steps. Records that `datasets.join` joins need the same, such as the
        training data's.
      num_buckets: Number of buckets, where ``buckets`` is None.

    Returns:
      Dimensions ``optimizer, learning_rate, seed, step, bucket``, the first three of size 1.

    Raises:
      ValueError: As `read_record` and `LossByClass.by_bucket`, or if there is no step.
    """
    found = _parse(Path(path).read_bytes(), path)
    header, stored = found.header, found.steps
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
    variables |= bucket_variables(buckets.counts, buckets)
    return described(xr.Dataset(variables, coords, {"wall_seconds": seconds}))


@contextlib.contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of a record."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.locked(path))
        except files.Held as error:
            raise files.Held(
                f"{error}. A record has one writer: close it there first, or give every run a "
                "record of its own."
            ) from None
        yield


def _keep_original(place: Path, data: bytes) -> None:
    if not place.exists():
        files.write_as_it_is(place, data)
    elif place.read_bytes() != data:  # equal where a kill came between the two files
        raise FileExistsError(
            f"{place} is the original of an earlier damage. Move it away, then salvage again."
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
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f"num_classes is {num_classes}; give 1 to 2^24 = {MAX_CLASSES}.")
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
      EOFError: If ``data`` ends inside, and is right up to there.
    """
    prefix = _prefix(np.dtype(dtype), shape)
    if not prefix.startswith(data[at : at + len(prefix)]):
        raise ValueError(f"there is no block {prefix[10:].decode().strip()} at byte {at}")
    start = at + len(prefix)
    end = start + np.dtype(dtype).itemsize * math.prod(shape)
    if end > len(data):
        raise EOFError
    return np.frombuffer(data[start:end], dtype).reshape(shape), end


@dataclass
class _Contents:
    """What is whole of a file, from its beginning on.

    Attributes:
      header: Labels of the run; empty until they are read.
      steps: Entry and table of each step.
      end: Where the last whole pair ends.
      crc: Checksum of its entry.
      damage: What is wrong with the bytes after it, and what to do; empty if nothing is.
      cut: Whether these bytes are right as far as they go.
    """

    header: dict[str, Any] = field(default_factory=dict)
    steps: dict[int, Stored] = field(default_factory=dict)
    end: int = 0
    crc: int = 0
    damage: str = ""
    cut: bool = False

    @property
    def last(self) -> int:
        """The last whole step."""
        return next(reversed(self.steps), -1)

    @property
    def num_bytes(self) -> int:
        """Memory that the sums of all steps take."""
        return BYTES_A_CLASS * self.header["num_classes"] * len(self.steps)


def _parse(data: bytes, path: Any) -> _Contents:
    """All of a record, but for a last step that was cut short: of that a warning tells.

    Raises:
      ValueError: If it is damaged.
    """
    found = _scan(data, path)
    if found.cut:
        warnings.warn(found.damage, stacklevel=3)
    elif found.damage:
        raise ValueError(found.damage)
    return found


def _scan(data: bytes, path: Any) -> _Contents:
    """What is whole of a record, and what is wrong with the rest.

    Raises:
      ValueError: If its header is not whole, so that nothing is.
    """
    found = _Contents()
    while not found.header or found.end < len(data):
        name = f"record {len(found.steps) + 1}" if found.header else "header"
        place = f"{path}, {name} at byte {found.end}"
        left = f"{len(data) - found.end} bytes"
        try:
            _take_pair(data, found)
        except EOFError:
            if not found.header:
                raise ValueError(f"{place}: the file ends inside, so it holds nothing.") from None
            last = f"the last whole step is {found.last}" if found.steps else "no step is whole"
            found.damage = (
                f"{place} was cut short, or is being written. Its {left} are left out; {last}."
            )
            found.cut = True
            break
        except (TypeError, ValueError, RecursionError) as error:
            if not found.header:
                raise ValueError(f"{place}: {error}. It is no record, or is damaged.") from None
            found.damage = (
                f"{place}: {error}. Its last {left} are damaged; salvage(path) keeps the "
                f"{len(found.steps)} whole steps before."
            )
            break
    return found


def _take_pair(data: bytes, found: _Contents) -> None:
    """Read one pair more.

    Raises:
      EOFError: If the file ends inside, and is right up to there.
      Exception: Of several kinds, if it is damaged.
    """
    entry, end = _block(data, found.end, ENTRY, ())
    if entry["crc"] != _checksum(entry, found.crc):
        raise ValueError("the checksum of its entry does not fit")
    rows, most = int(entry["rows"]), found.header.get("num_classes", len(data))
    if not 0 <= rows <= most:
        raise ValueError(f"it promises {rows} rows; 0 .. {most} are possible")
    payload, end = _block(data, end, ROW if found.header else np.uint8, (rows,))
    if entry["payload_crc"] != zlib.crc32(payload.tobytes()):
        raise ValueError("the checksum of its payload does not fit")
    if found.header:
        _check_step(entry, payload, found.last, most)
        found.steps[int(entry["step"])] = (entry, payload)
    else:
        found.header = _header(**json.loads(payload.tobytes()))
    found.end, found.crc = end, int(entry["crc"])


def _check_step(entry: np.ndarray, table: np.ndarray, last: int, num_classes: int) -> None:
    """That a step follows the last one, and its classes ascend."""
    step, classes = int(entry["step"]), table["class"]
    if step <= last:
        raise ValueError(f"step {step} comes after step {last}")
    inside = not len(table) or (classes[0] >= 0 and classes[-1] < num_classes)
    if not inside or (classes[1:] <= classes[:-1]).any():
        raise ValueError(f"its classes do not ascend within 0 .. {num_classes - 1}")


def _losses(header: dict[str, Any], stored: Stored) -> LossByClass:
    entry, table = stored
    losses = LossByClass(header["num_classes"])
    losses.count[table["class"]] = table["count"]
    losses.diverged[table["class"]] = table["diverged"]
    losses.moments[:, table["class"]] = table["moments"].T
    losses.ignored, losses.out_of_range = int(entry["ignored"]), int(entry["out_of_range"])
    return losses
