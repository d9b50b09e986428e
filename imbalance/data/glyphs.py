"""A thousand classes of images that need no file and no download: characters, drawn at random.

A class is a character (`imbalance.data.glyph_characters`). Each image draws it in one of several
faces, moved, scaled, turned, slanted, stretched and bent, thinner or thicker with rough edges, dark
on light or light on dark at some contrast, on an uneven and noisy ground.

The same arguments give the same bytes on every machine and with every version of Python and NumPy.
Random bits are those of Philox, whose stream NumPy guarantees, and become numbers here. All else is
sums, products, quotients and roundings of single numbers, which IEEE 754 fixes: no sine, no sum
over an axis in floating point, no font renderer.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from imbalance.data.glyph_characters import CHARACTERS
from imbalance.data.glyph_shapes import FULL, shapes
from imbalance.data.images import Images
from imbalance.data.zipf import labels_from_counts

NUM_CLASSES = len(CHARACTERS)

_NUMBERS = 20  # random numbers of an image, besides those of its pixels; a multiple of 4
_CHUNK = 256  # images drawn at once: their arrays stay in the processor's cache
_SIZES = (8, 64)
_SEEDS = 2**64

Uniform = Callable[[float, float], np.ndarray]
"""Draws one number for each image between two bounds, float32 ``[example, 1, 1]``."""


def glyphs(counts: ArrayLike, seed: int = 0, size: int = 32) -> Images:
    """Images of characters, so many of each class.

    Image j of class k depends on the seed, j, k and the size alone. Sets of different counts
    therefore share images, as subsets of one data set do; another seed gives fresh ones, to
    validate on.

    Args:
      counts: Number of images of each class, integers ``[class]``, at most `NUM_CLASSES` of them.
      seed: Random seed, 0 or more and less than 2^64.
      size: Pixels along a side, 8 to 64.

    Returns:
      Images ``[example, size, size]`` in the order of their labels.

    Raises:
      TypeError: If counts are not integers.
      ValueError: If there are too many classes, a count is negative or all are 0, or the seed or
        size is out of range.
      ImportError: If matplotlib or fontTools is not installed.
    """
    label = labels_from_counts(counts)
    num_classes = len(np.asarray(counts))
    if num_classes > NUM_CLASSES:
        raise ValueError(f"counts are of {num_classes} classes; give at most {NUM_CLASSES}.")
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"seed is {seed}; give 0 to 2^64 - 1.")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise ValueError(f"size is {size}; give {_SIZES[0]} to {_SIZES[1]} pixels.")
    shape = shapes(CHARACTERS[:num_classes], 2 * size)
    image = np.empty((len(label), size, size), np.uint8)
    done = 0
    for part, bits in _draws(label, seed, size):
        image[done : done + len(part)] = _drawn(shape, part, bits, size)
        done += len(part)
    return Images(image, label)


def _draws(label: np.ndarray, seed: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels and random bits of images, chunk by chunk: int32 ``[example]``, ``[example, word]``.

    Every class has a stream of its own, in which an image has a fixed place.
    """
    words = _NUMBERS + -(-size * size // 16) * 4  # two bytes for each pixel, in fours of words
    first = np.searchsorted(label, label)  # the first example of the same class
    for start in range(0, len(label), _CHUNK):
        part = label[start : start + _CHUNK]
        bits = np.empty((len(part), words), np.uint64)
        for k in np.unique(part):
            (at,) = np.nonzero(part == k)
            blocks = (start + int(at[0]) - int(first[start + at[0]])) * words // 4
            stream = np.random.Philox(key=np.array([seed, k], np.uint64), counter=blocks)
            bits[at] = stream.random_raw(len(at) * words).reshape(-1, words)
        yield part, bits


def _drawn(shape: np.ndarray, label: np.ndarray, bits: np.ndarray, size: int) -> np.ndarray:
    """Images of the labels, uint8 ``[example, size, size]``."""
    numbers = iter((bits[:, :_NUMBERS] >> np.uint64(40)).astype(np.float32).T / np.float32(2**24))

    def uniform(low: float, high: float) -> np.ndarray:
        return (low + (high - low) * next(numbers))[:, None, None].astype(np.float32)

    pixel = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    x, y = pixel[None, None, :], pixel[None, :, None]
    ink = _ink(shape, label, *_places(x, y, uniform), uniform)
    rough = bits[:, _NUMBERS:].astype("<u8").view(np.uint8)[:, : 2 * size * size]
    rough = rough.reshape(-1, 2, size, size)
    # Strokes are where ink exceeds a level, which shakes from pixel to pixel.
    level = uniform(0.2, 0.45) + (rough[:, 0] - np.float32(127.5)) * uniform(0, 0.001)
    stroke = np.clip((ink - level) * np.float32(3) + np.float32(0.5), 0, 1)
    contrast = uniform(90, 200)
    ground = uniform(0, 1) * (np.float32(255) - contrast)
    ground = ground + uniform(-60, 60) * x + uniform(-60, 60) * y
    ground += (rough[:, 1] - np.float32(127.5)) * uniform(0.05, 0.25)
    image = ground + contrast * stroke
    image = np.where(uniform(0, 1) < 0.5, image, np.float32(255) - image)
    return np.clip(image, 0, 255).astype(np.uint8)


def _places(x: np.ndarray, y: np.ndarray, uniform: Uniform) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel lies in the shape, right and down from its middle, in sides."""
    x, y = x - uniform(-0.09, 0.09), y - uniform(-0.09, 0.09)
    # A turn by twice the angle whose tangent is t, at most 14 degrees, without a sine.
    t = uniform(-0.125, 0.125)
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    x, y = cos * x + sin * y, cos * y - sin * x
    x = x + uniform(-0.2, 0.2) * y
    x, y = x / uniform(0.85, 1.2), y / uniform(0.85, 1.2)
    # Parabolas bend the strokes, which no affine map can undo.
    x, y = x + uniform(-0.35, 0.35) * y * y, y + uniform(-0.35, 0.35) * x * x
    return x, y


def _ink(
    shape: np.ndarray, label: np.ndarray, x: np.ndarray, y: np.ndarray, uniform: Uniform
) -> np.ndarray:
    """Ink at places of the labels' shapes, each in a random face, float32 between 0 and 1."""
    side = shape.shape[-1]
    column = np.clip((x + np.float32(0.5)) * side, 0, side - 1).astype(np.int32)
    row = np.clip((y + np.float32(0.5)) * side, 0, side - 1).astype(np.int32)
    face = uniform(0, shape.shape[1]).astype(np.int32)
    which = label[:, None, None] * np.int32(shape.shape[1]) + face
    found = shape.reshape(-1).take((which * side + row) * side + column)
    return found.astype(np.float32) / np.float32(FULL)
