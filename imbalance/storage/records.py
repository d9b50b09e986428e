"""A record of one run: sums by class, step after step, in one file that survives a kill.

Its bytes are those of `imbalance.storage.record_format`. Nobody reads or extends a damaged file
until `salvage` has cut it back to the whole steps before the damage.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np

from imbalance.analysis.streaming import LossByClass
from imbalance.storage import files
from imbalance.storage.record_format import ROW, Contents, Stored, header_of, pair_of, parse, scan

BYTES_A_CLASS = 56  # of LossByClass: two int64 and five float64
MAX_BYTES = 2**32  # what `read_record` takes of memory, unless it is told otherwise
DAMAGED = ".damaged"  # the ending of the original of a record that was salvaged


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

    Example:
      >>> from imbalance import LossByClass, Record
      >>> with Record("adam.record", num_classes=2, optimizer="adam", learning_rate=0.1) as record:
      ...     for step in range(record.last_step + 1, 3):
      ...         losses = LossByClass(num_classes=2)
      ...         losses.update([1.0 / (1 + step), 3.0], [0, 1])
      ...         record.append(step, losses)
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
        self.header = header_of(num_classes, optimizer, learning_rate, seed)
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
        beginning, crc = pair_of(text, 0, step=-1)
        stored = self.path.read_bytes() if self.path.exists() else b""
        if stored != beginning and beginning.startswith(stored):  # new, or killed when it was new
            files.write_as_it_is(self.path, beginning)
            return len(beginning), crc
        found = parse(stored, self.path)
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
        pair, crc = pair_of(table, self._crc, step, *left_out, now - self._clock)
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

    Sums are as they were appended but for accuracies, ``names`` and ``ignore_index``, which are not
    stored. A record may be read while it is written; a last step that is not all there is left out,
    and a warning says so.

    Args:
      path: File to read.
      max_bytes: Memory that the sums may take, 56 bytes a class and step: a file stores only the
        classes that occurred, so a small one may ask for much.

    Raises:
      ValueError: If the file is no record or is damaged: what is wrong, and at which byte; or if
        the sums take more than ``max_bytes``.
    """
    found = parse(Path(path).read_bytes(), path)
    header, needed = found.header, _num_bytes(found)
    if needed > max_bytes:
        raise ValueError(
            f"{path}: sums of {header['num_classes']} classes at {len(found.steps)} steps take "
            f"{needed} bytes; max_bytes is {max_bytes}. Give {needed} if this machine has them, or "
            "use load_record, which takes one step at a time."
        )
    return header, {step: losses_of(header, stored) for step, stored in found.steps.items()}


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

    Example:
      >>> from pathlib import Path
      >>> from imbalance import LossByClass, Record, salvage
      >>> losses = LossByClass(num_classes=2)
      >>> losses.update([1.0, 3.0], [0, 1])
      >>> with Record("adam.record", num_classes=2) as record:
      ...     record.append(0, losses)
      ...     record.append(10, losses)
      >>> path = Path("adam.record")
      >>> damaged = bytearray(path.read_bytes())
      >>> damaged[-1] ^= 1
      >>> path.write_bytes(damaged) == len(damaged)
      True
      >>> salvage(path)
      1
    """
    path = Path(path)
    with _only_writer(path):
        data = path.read_bytes()
        found = scan(data, path)
        if found.end < len(data):
            _keep_original(path.with_name(path.name + DAMAGED), data)
            files.write_as_it_is(path, memoryview(data)[: found.end])
    return len(found.steps)


def _num_bytes(found: Contents) -> int:
    """Memory that the sums of all steps take."""
    return BYTES_A_CLASS * found.header["num_classes"] * len(found.steps)


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


def losses_of(header: dict[str, Any], stored: Stored) -> LossByClass:
    """The sums by class of one step of a record."""
    entry, table = stored
    losses, classes = LossByClass(header["num_classes"]), table["class"]
    count, diverged = (np.zeros(losses.num_classes, np.int64) for _ in range(2))
    moments = np.zeros((5, losses.num_classes))
    count[classes], diverged[classes] = table["count"], table["diverged"]
    moments[:, classes] = table["moments"].T
    losses.count, losses.diverged, losses.moments = count, diverged, moments
    losses.ignored, losses.out_of_range = int(entry["ignored"]), int(entry["out_of_range"])
    return losses
