"""The file of a record: pairs of an entry and its payload, each with checksums.

The file is plain ``.npy`` blocks, which `np.load` gives one by one. The first payload is a header,
JSON as bytes; every other is a table of the classes that occurred in a step.

A file that was cut loses its last step at most. Checksums find any other damage.
"""

import json
import math
import warnings
import zlib
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

FORMAT = "imbalance record 1"
MAX_CLASSES = 2**24  # sums of one step then take 0.9 GiB
ENTRY = np.dtype(
    [("step", "<i8"), ("ignored", "<i8"), ("out_of_range", "<i8")]
    + [("seconds", "<f8")]  # since the entry before, or since the file was opened
    + [("rows", "<i8"), ("payload_crc", "<u4"), ("crc", "<u4")]
)
ROW = np.dtype([("class", "<i8"), ("count", "<i8"), ("diverged", "<i8"), ("moments", "<f8", (5,))])
Stored = tuple[np.ndarray, np.ndarray]  # an entry and its table


def header_of(num_classes, optimizer, learning_rate, seed, format=FORMAT) -> dict[str, Any]:
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


def pair_of(
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
class Contents:
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


def parse(data: bytes, path: Any) -> Contents:
    """All of a record, but for a last step that was cut short: of that a warning tells.

    Raises:
      ValueError: If it is damaged.
    """
    found = scan(data, path)
    if found.cut:
        warnings.warn(found.damage, stacklevel=3)
    elif found.damage:
        raise ValueError(found.damage)
    return found


def scan(data: bytes, path: Any) -> Contents:
    """What is whole of a record, and what is wrong with the rest.

    Raises:
      ValueError: If its header is not whole, so that nothing is.
    """
    found = Contents()
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


def _take_pair(data: bytes, found: Contents) -> None:
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
        found.header = header_of(**json.loads(payload.tobytes()))
    found.end, found.crc = end, int(entry["crc"])


def _check_step(entry: np.ndarray, table: np.ndarray, last: int, num_classes: int) -> None:
    """That a step follows the last one, and its classes ascend."""
    step, classes = int(entry["step"]), table["class"]
    if step <= last:
        raise ValueError(f"step {step} comes after step {last}")
    inside = not len(table) or (classes[0] >= 0 and classes[-1] < num_classes)
    if not inside or (classes[1:] <= classes[:-1]).any():
        raise ValueError(f"its classes do not ascend within 0 .. {num_classes - 1}")
