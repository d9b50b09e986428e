"""How fast images are decoded into a cache, read from it, and drawn where there is none.

JPEG files of the usual size of ImageNet's (500 x 375 pixels) are made first, each of smooth colour,
lines and noise, compressed to some 110 kB as those are. Numbers are medians of images a second with
[smallest, largest]; where the work is done in one process, also of a second of processor time,
which others that use the machine change less.

- *decode alone*: one file after another in this process: read, hashed, decoded, resized, cut.
- *cache*: the whole making of a cache, with its processes started, checksums and fsync.
- *mapped reader*: random batches copied out of the cache, which the system holds in memory.
- *glyphs*: images of characters at 32 pixels, ten of each of 1,000 classes; the first call in a
  process also reads the fonts.

Run:     python benchmarks/speed_images.py     (about two minutes on two cores)
Writes:  a section of benchmarks/RESULTS.md, with --write
"""

import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import tyro
from PIL import Image
from report import by_turns, neighbours, spread, table, write_section

from imbalance.data.glyph_shapes import shapes
from imbalance.data.glyphs import glyphs
from imbalance.data.image_cache import CachedImages, cached
from imbalance.data.image_decoding import _processors
from imbalance.data.image_files import ImageFiles, content, decoded, image_files

WIDTH, HEIGHT, QUALITY = 500, 375, 90


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    images: int = 600
    sizes: tuple[int, ...] = (64, 224)
    batch: int = 256
    repeats: int = 5
    write: bool = False
    """Write the section of RESULTS.md."""


def make(folder: Path, number: int) -> ImageFiles:
    """So many files in ten classes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for i in range(number):
        phase = rng.uniform(0, 6, 3)
        wave = 110 + 60 * np.sin(x[..., None] / 70 + phase) + 40 * np.sin(y[..., None] / 40 * phase)
        noise = rng.normal(0, 12, wave.shape)
        path = folder / f"n{i % 10}" / f"{i}.JPEG"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.clip(wave + noise, 0, 255).astype(np.uint8)).save(path, quality=QUALITY)
    return image_files(folder)


def decode_alone(files: ImageFiles, size: int) -> None:
    for name in files.names:
        decoded(content(files.folder / name), size)


def make_cache(files: ImageFiles, size: int, folder: Path, processes: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    cached(files, size, folder, processes)


def read(images: CachedImages, batch: int) -> None:
    order = np.random.default_rng(0).permutation(len(images.label))
    for start in range(0, len(order), batch):
        images.take(order[start : start + batch])


def first_glyphs(counts: np.ndarray) -> None:
    """A call that reads the fonts."""
    shapes.cache_clear()
    glyphs(counts)


def turns(side: Callable[[], object], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds, and seconds of processor time, of several calls after one to warm up."""
    spent: list[float] = []

    def call() -> None:
        began = time.process_time()
        side()
        spent.append(time.process_time() - began)

    (took,) = by_turns([call], repeats)
    return took, spent[1:]


def measured(settings: Settings, folder: Path) -> list[list[str]]:
    files = make(folder / "train", settings.images)
    some = files.take(np.arange(0, len(files.names), 4))
    several = _processors()
    rows = []

    def add(what: str, number: int, side: Callable[[], object], alone: bool = True) -> None:
        with neighbours() as others:
            took, spent = turns(side, settings.repeats)
        speeds = [spread([number / s for s in times], 0) for times in (took, spent)]
        rows.append([what, speeds[0], speeds[1] if alone else "", f"{others[0]:.0%}"])

    for size in settings.sizes:
        add(f"decode alone, {size} pixels", len(some.names), partial(decode_alone, some, size))
        for processes in sorted({1, several}):
            build = partial(make_cache, files, size, folder / "cache", processes)
            what = f"cache, {size} pixels, processes: {processes}"
            add(what, len(files.names), build, alone=processes == 1)
        images = cached(files, size, folder / "cache")
        what = f"mapped reader, {size} pixels, batches of {settings.batch}"
        add(what, settings.images, partial(read, images, settings.batch))
    counts = np.full(1000, 10)
    add("glyphs, first call", counts.sum(), partial(first_glyphs, counts))
    add("glyphs, later calls", counts.sum(), partial(glyphs, counts))
    return rows


def main(settings: Settings) -> None:
    command = shlex.join(["python", "benchmarks/speed_images.py", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train").mkdir()
        rows = measured(settings, Path(folder))
    head = ["what", "images / s", "images / s of processor time", "others' share"]
    text = (
        f"`{command}` on {os.cpu_count()} cores; Pillow {PIL.__version__}.\n\n{table(head, rows)}"
    )
    print(text)
    if settings.write:
        write_section("Images: decoding, reading, drawing", text)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
