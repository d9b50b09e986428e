"""Decoding of many images by several processes, so that a kill loses some seconds.

Images are decoded in shards. A shard's pixels are on the disk before a small file says that it is
done, with the checksums of its sources; shards that have such a file are not decoded again.
"""

import json
import multiprocessing
import os
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imbalance.data.image_files import ImageFiles, Unreadable, checksum, content, decoded
from imbalance.storage import files

CHECKSUM = np.dtype("V16")
SOURCE = np.dtype([("label", "<i4"), ("time", "<i8"), ("checksum", CHECKSUM)])
"""What is kept of a file: its label, its time in nanoseconds, its checksum."""

_BYTES = 2**25  # pixels of a shard, at most
_IMAGES = 512  # of a shard, at most
_MINUTE = 60.0


@dataclass(frozen=True)
class Shard:
    """Images that are decoded one after another.

    Attributes:
      folder: Folder of the files.
      names: Names of the files.
      first: Row of the first image.
      size: Pixels along a side.
    """

    folder: Path
    names: tuple[str, ...]
    first: int
    size: int

    @property
    def last(self) -> int:
        """Row after the last image."""
        return self.first + len(self.names)

    @property
    def num_bytes(self) -> int:
        """Size of the pixels."""
        return len(self.names) * self.size**2 * 3

    def path(self, work: Path) -> Path:
        """File that says what was decoded."""
        return work / f"shard-{self.first:08d}.json"

    def stored(self, work: Path) -> Mapping[str, Any] | None:
        """What was decoded, None if it is not done; a damaged file counts as none."""
        try:
            return json.loads(files.read(self.path(work)))
        except (FileNotFoundError, files.Damaged):
            return None


def shards_of(images: ImageFiles, size: int) -> list[Shard]:
    """All files, in shards of bounded size."""
    each = max(1, min(_IMAGES, _BYTES // (size**2 * 3)))
    return [
        Shard(images.folder, images.names[start : start + each], start, size)
        for start in range(0, len(images.names), each)
    ]


def decode_all(
    shards: Sequence[Shard], work: Path, offset: int, processes: int | None, total: int
) -> None:
    """Decode shards, with a bar that says how long it takes.

    Args:
      shards: Shards to decode.
      work: Folder with the file ``images.npy``.
      offset: Where pixels begin in it.
      processes: Number of processes; None: as many as there are processors.
      total: Number of all images, also those decoded before.

    Raises:
      OSError: If a file cannot be opened or written, or a process dies.
    """
    from tqdm import tqdm

    number = min(processes or _processors(), len(shards))
    terminal = sys.stderr.isatty()
    with tqdm(
        desc="decoding images",
        total=total,
        initial=total - sum(len(shard.names) for shard in shards),
        unit="image",
        delay=1,
        mininterval=0.5 if terminal else _MINUTE,
    ) as bar:
        for shard in _decoded(shards, work, offset, number):
            bar.update(len(shard.names))


def decode(shard: Shard, work: Path, offset: int) -> Shard:
    """Decode one shard and store it; the shard again."""
    pixels = np.zeros((len(shard.names), shard.size, shard.size, 3), np.uint8)
    checksums, times, skipped = [], [], {}
    for one, name in zip(pixels, shard.names, strict=True):
        path, digest = shard.folder / name, bytes(CHECKSUM.itemsize)
        times.append(time_of(path))  # before it is read: what is changed meanwhile is seen
        try:
            data = content(path)
            digest = checksum(data)
            one[...] = decoded(data, shard.size)
        except Unreadable as error:
            skipped[name] = str(error)
        checksums.append(digest.hex())
    with (work / "images.npy").open("r+b") as file:
        # Not through a map: where a disk is full, that ends in a crash and not in an error.
        file.seek(offset + shard.first * shard.size**2 * 3)
        file.write(pixels.data)
        file.flush()
        os.fsync(file.fileno())
    crc = zlib.crc32(pixels.data)
    told = {"time": times, "checksum": checksums, "skipped": skipped, "crc": crc}
    files.write(shard.path(work), json.dumps(told).encode())
    return shard


def time_of(path: Path) -> int:
    """When a file was changed, in nanoseconds; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _decoded(shards: Sequence[Shard], work: Path, offset: int, number: int) -> Iterator[Shard]:
    """Shards as they are done."""
    if number <= 1:
        yield from (decode(shard, work, offset) for shard in shards)
        return
    # Not by fork: it would copy the threads' locks of JAX in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, context, initializer=_end_with_parent)
    try:
        futures = [pool.submit(decode, shard, work, offset) for shard in shards]
        yield from (future.result() for future in as_completed(futures))
    except BrokenProcessPool as error:
        raise OSError(
            "a process that decodes images was ended: out of memory, or by a file that crashes the "
            "decoder. The same call goes on from here; processes=1 shows which."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Processes whose parent was killed would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
