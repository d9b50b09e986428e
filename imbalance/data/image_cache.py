"""Images decoded and resized once, into a file that is mapped into memory.

The folder of a cache holds the pixels as ``images.npy``; beside them, each with a checksum,
``files.npy`` (label, size, time and checksum of every source), ``names.json``, and ``cache.json``,
which is written last. Sources that are no images keep their row of pixels, which is never read.
"""

import contextlib
import hashlib
import io
import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from imbalance.data.corpus import default_folder
from imbalance.data.image_decoding import (
    CHECKSUM,
    SOURCE,
    Shard,
    decode_all,
    shards_of,
    time_of,
)
from imbalance.data.image_files import ImageFiles, Unreadable, checksum, content
from imbalance.data.images import Images
from imbalance.storage import files

# Incremented when the same files give other pixels or another cache than before.
_VERSION = 1
_PIXELS, _SOURCES, _NAMES, _CACHE = "images.npy", "files.npy", "names.json", "cache.json"


@dataclass(frozen=True, eq=False)
class CachedImages:
    """Labelled images of one size in a memory-mapped file.

    Attributes:
      place: Folder of the cache.
      label: Labels, int32 ``[example]``.
      classes: Names of the classes, ``[class]``.
      pixels: Images as they lie in the file, uint8 ``[row, size, size, channel]``.
      row: Row of every example, int64 ``[example]``.
      skipped: Reason by the name of each file that is no image.
      sha256: Checksum of the names and contents of all sources.
    """

    place: Path
    label: np.ndarray
    classes: tuple[str, ...]
    pixels: np.ndarray
    row: np.ndarray
    skipped: Mapping[str, str]
    sha256: str

    def take(self, index: np.ndarray) -> Images:
        """Copies of the examples at the indices: images ``[example, size, size, channel]``."""
        return Images(self.pixels[self.row[index]], self.label[index])

    def everything(self) -> Images:
        """Copies of all examples, for data sets that fit into memory."""
        return self.take(np.arange(len(self.label)))

    def verify(self) -> None:
        """Read all pixels and compare their checksums.

        Raises:
          ValueError: If they are not as they were written.
        """
        for shard in _told(self.place)["shards"]:
            first, last, crc = shard["first"], shard["last"], shard["crc"]
            if zlib.crc32(np.ascontiguousarray(self.pixels[first:last]).data) != crc:
                raise files.Damaged(
                    f"{self.place}: rows {first} to {last} of {_PIXELS} are damaged; delete the "
                    "folder, and it is made again."
                )


def cached(
    images: ImageFiles,
    size: int = 224,
    folder: str | PathLike | None = None,
    processes: int | None = None,
) -> CachedImages:
    """Images of files, decoded now or before, as `imbalance.data.image_files.read_image` does.

    The cache is a folder under a name derived from the names, sizes and labels of the files and
    from the size of the images, so that other files are another cache. If it was interrupted, it
    goes on where it was. A file that is no image is skipped, and told on standard error.

    Args:
      images: Files to read.
      size: Pixels along a side.
      folder: Folder of all caches; None: ``images`` in the folder of cached tokens.
      processes: Number of processes that decode; None: as many as there are processors.

    Raises:
      ValueError: If the size is not 8 to 1024, there is no file, a file was changed since it was
        cached, or a class is left without an image.
      Damaged: If the cache is damaged.
      OSError: If a file cannot be opened, or the folder not be written to.
      ImportError: If Pillow, tqdm or filelock is not installed.
    """
    if not 8 <= size <= 1024:
        raise ValueError(f"size is {size}; give 8 to 1024 pixels.")
    if not images.names:
        raise ValueError(f"{images.folder}: no image to cache; give one or more.")
    folder = default_folder() / "images" if folder is None else Path(folder)
    sizes = np.array([_size(images.folder / name) for name in images.names], np.int64)
    place = folder / f"{size}-{_key(images, sizes, size)}"
    if not (place / _CACHE).exists():  # a finished one needs no lock, nor a folder to write to
        with files.locked(place, wait=True):
            if not (place / _CACHE).exists():
                _make(place, images, size, processes)
    found = open_cache(place)
    _refuse_changed(found, images)
    _tell_skipped(found)
    return found


def open_cache(place: str | PathLike) -> CachedImages:
    """The cache in a folder, such as one copied from elsewhere without its sources.

    Raises:
      FileNotFoundError: If there is none, or it is not finished.
      Damaged: If it is damaged.
      ValueError: If another version of this package made it.
    """
    place = Path(place)
    if not (place / _CACHE).is_file():
        raise FileNotFoundError(f"{place}: no cache of images, or an unfinished one.")
    told = _told(place)
    pixels = np.load(place / _PIXELS, mmap_mode="r")
    if list(pixels.shape) != told["shape"] or pixels.dtype != np.uint8:
        raise files.Damaged(
            f"{place}: {_PIXELS} holds {pixels.dtype} {pixels.shape} and should hold uint8 "
            f"{tuple(told['shape'])}; delete the folder, and it is made again."
        )
    source = _sources(place)
    names = json.loads(files.read(place / _NAMES))
    skipped = told["skipped"]
    used = np.fromiter((name not in skipped for name in names), bool, len(names))
    row = np.flatnonzero(used)
    label = source["label"][row]
    return CachedImages(place, label, tuple(told["classes"]), pixels, row, skipped, told["sha256"])


def _told(place: Path) -> dict[str, Any]:
    told = json.loads(files.read(place / _CACHE))
    if told["version"] != _VERSION:
        raise ValueError(
            f"{place} was made by another version of this package; delete it, and it is made again."
        )
    return told


def _sources(place: Path) -> np.ndarray:
    return np.load(io.BytesIO(files.read(place / _SOURCES)))


def _saved(source: np.ndarray) -> bytes:
    payload = io.BytesIO()
    np.save(payload, source)
    return payload.getvalue()


# Making -----------------------------------------------------------------------------------------


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a link to nothing, which is skipped with its reason
        return -1


def _key(images: ImageFiles, sizes: np.ndarray, size: int) -> str:
    digest = hashlib.sha256(f"{_VERSION} {size}".encode())
    digest.update(json.dumps([images.names, images.classes]).encode())
    digest.update(images.label.astype("<i4").tobytes() + sizes.astype("<i8").tobytes())
    return digest.hexdigest()[:24]


def _make(place: Path, images: ImageFiles, size: int, processes: int | None) -> None:
    """Decode into a folder of another name, where a kill leaves what is done; then rename it."""
    if place.exists():
        raise files.Damaged(f"{place} lacks {_CACHE}; delete the folder, and it is made again.")
    work = place.with_name(f"{place.name}.unfinished")
    work.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(work)
    shape = (len(images.names), size, size, 3)
    shards = shards_of(images, size)
    done = [shard.stored(work) for shard in shards]
    missing = [shard for shard, one in zip(shards, done, strict=True) if one is None]
    if missing:
        files.check_room(work, sum(shard.num_bytes for shard in missing))
    offset = _reserve(work / _PIXELS, shape)
    decode_all(missing, work, offset, processes, len(images.names))
    told = [shard.stored(work) for shard in shards]
    _finish(work, images, shape, shards, [one for one in told if one is not None])
    work.rename(place)


def _reserve(path: Path, shape: tuple[int, ...]) -> int:
    """Make the file of pixels with its header, if it is not there; where the pixels begin."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("r+b" if path.exists() else "w+b") as file:
        np.lib.format.write_array_header_1_0(file, header)
        begin = file.tell()
        file.truncate(begin + int(np.prod(shape)))
    return begin


def _finish(
    work: Path,
    images: ImageFiles,
    shape: tuple[int, ...],
    shards: list[Shard],
    done: list[Mapping[str, Any]],
) -> None:
    source = np.zeros(len(images.names), SOURCE)
    source["label"] = images.label
    skipped = {}
    for shard, one in zip(shards, done, strict=True):
        part = source[shard.first : shard.last]
        part["time"] = one["time"]
        part["checksum"] = np.frombuffer(bytes.fromhex("".join(one["checksum"])), CHECKSUM)
        skipped |= one["skipped"]
    names = json.dumps(images.names).encode()
    files.write(work / _SOURCES, _saved(source))
    files.write(work / _NAMES, names)
    told = {
        "version": _VERSION,
        "shape": shape,
        "classes": images.classes,
        "sha256": hashlib.sha256(names + source["checksum"].tobytes()).hexdigest(),
        "skipped": skipped,
        "folder": str(images.folder),
        "shards": [
            {"first": shard.first, "last": shard.last, "crc": one["crc"]}
            for shard, one in zip(shards, done, strict=True)
        ],
    }
    files.write(work / _CACHE, json.dumps(told, indent=1).encode())
    for shard in shards:
        shard.path(work).unlink()


# Checking ---------------------------------------------------------------------------------------


def _refuse_changed(found: CachedImages, images: ImageFiles) -> None:
    """Files of another time than when they were cached are read again."""
    source = _sources(found.place)
    now = np.fromiter((time_of(images.folder / name) for name in images.names), np.int64)
    touched = np.flatnonzero(source["time"] != now)
    known = source["checksum"]
    changed = [
        images.names[i]
        for i in touched
        if _checksum(images.folder / images.names[i]) != known[i].tobytes()
    ]
    if changed:
        raise ValueError(
            f"{images.folder}: {len(changed)} of {len(images.names)} images were changed since "
            f"they were cached, {changed[0]} for one; delete {found.place}, and they are read anew."
        )
    if len(touched):  # copied, for one: the next call need not read them
        source["time"] = now
        with contextlib.suppress(OSError):
            files.write(found.place / _SOURCES, _saved(source))
    if len(empty := np.setdiff1d(images.label, found.label)):
        name = images.classes[empty[0]]
        raise ValueError(
            f"{images.folder}: {len(empty)} classes are left without an image, {name} for one: "
            f"{_reasons(found)}. Mend the files, or leave the class out."
        )


def _checksum(path: Path) -> bytes:
    try:
        return checksum(content(path))
    except Unreadable:  # as when it was skipped
        return bytes(CHECKSUM.itemsize)


def _tell_skipped(found: CachedImages) -> None:
    if found.skipped:
        number = len(found.skipped)
        print(f"{number} of {len(found.pixels)} images skipped: {_reasons(found)}", file=sys.stderr)


def _reasons(found: CachedImages) -> str:
    told = [f"{name} ({reason})" for name, reason in found.skipped.items()]
    rest = f", and {len(told) - 5} more in {found.place / _CACHE}" if len(told) > 5 else ""
    return f"{', '.join(told[:5])}{rest}"
