"""Digit images drawn from strokes: a data set that needs no file and no download.

Every digit has three forms. Each form is a field of distances to its strokes. An image looks up the
field at pixels that were shifted, rotated, scaled, sheared and bent; the cost does not depend on
the number of strokes.
"""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from imbalance.data.images import NUM_DIGITS, Images
from imbalance.data.zipf import labels_from_counts

SIDE = 28
# A digit is one unit high and at most one wide; its field extends half a unit further.
_MARGIN = 0.5
_FIELD = 112
_CHUNK = 1024


def rendered_digits(per_class: ArrayLike, seed: int = 0) -> Images:
    """Digits 0 to 9 drawn with random form, place, slant, bend, thickness, ink and rough edges.

    As in MNIST the border is empty: row 0, which holds barcodes, is zero in every image.

    Args:
      per_class: Number of images of each digit, one number for all or ten numbers.
      seed: Random seed, 0 or more; the same seed gives the same images.

    Returns:
      28 x 28 images in the order of their labels.

    Raises:
      TypeError: If per_class is not an integer.
      ValueError: If it is not one number or ten, one is negative, or all are 0.
    """
    counts = np.asarray(per_class)
    if counts.shape not in ((), (NUM_DIGITS,)):
        raise ValueError(f"per_class has shape {counts.shape}; give one number or {NUM_DIGITS}.")
    label = labels_from_counts(np.broadcast_to(counts, NUM_DIGITS))
    if not len(label):
        raise ValueError("per_class is 0 for every digit; give one image or more.")
    rng = np.random.default_rng(seed)
    image = np.empty((len(label), SIDE, SIDE), np.uint8)
    for start in range(0, len(label), _CHUNK):
        part = slice(start, start + _CHUNK)
        image[part] = _render(label[part], rng)
    return Images(image, label)


def _render(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images of the labels, uint8 ``[example, row, column]``."""
    n = len(label)

    def uniform(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    x, y, size = _digit_coordinates(uniform)
    fields = _distance_fields()
    form = rng.integers(fields.shape[1], size=n)
    per_unit = (_FIELD - 1) / (1 + 2 * _MARGIN)
    column = np.clip((x + _MARGIN) * per_unit + 0.5, 0, _FIELD - 1).astype(np.int32)
    row = np.clip((y + _MARGIN) * per_unit + 0.5, 0, _FIELD - 1).astype(np.int32)
    which = (label * fields.shape[1] + form).astype(np.int32)[:, None, None]
    # Distances are in pixels from here on.
    distance = fields.ravel().take((which * _FIELD + row) * _FIELD + column) * size
    distance += uniform(0.1, 0.35) * rng.standard_normal(distance.shape, dtype=np.float32)
    ink = np.clip(uniform(0.7, 1.9) - distance + 0.5, 0, 1) * uniform(150, 255)
    image = ink.astype(np.uint8)
    image[:, [0, -1]] = 0
    image[:, :, [0, -1]] = 0
    return image


def _digit_coordinates(uniform) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position of each pixel in the digit's box, 0 to 1 from its top left, and the box's height.

    Args:
      uniform: Function that draws one number per image between two bounds.
    """
    pixel = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    size = uniform(14.5, 18.5)
    right = (pixel[None, None, :] - uniform(-2.5, 2.5)) / size
    down = (pixel[None, :, None] - uniform(-2.0, 2.0)) / size
    angle = uniform(-0.3, 0.3)
    x = np.cos(angle) * right + np.sin(angle) * down
    y = np.cos(angle) * down - np.sin(angle) * right
    x = (x + uniform(-0.3, 0.3) * y) / uniform(0.75, 1.15)
    # A slow wave bends the strokes, which no affine map can undo.
    bent_x = x + uniform(-0.07, 0.07) * np.sin(uniform(3, 7) * y + uniform(0, 2 * np.pi))
    bent_y = y + uniform(-0.07, 0.07) * np.sin(uniform(3, 7) * x + uniform(0, 2 * np.pi))
    return bent_x + np.float32(0.5), bent_y + np.float32(0.5), size


@cache
def _distance_fields() -> np.ndarray:
    """Distance to the strokes of each form, in digit heights: ``[digit, form, row, column]``."""
    at = np.linspace(-_MARGIN, 1 + _MARGIN, _FIELD)
    point = np.stack(np.meshgrid(at, at, indexing="xy"), axis=-1)
    fields = [[_distance(point, strokes) for strokes in forms] for forms in _forms()]
    return np.array(fields, np.float32)


def _distance(point: np.ndarray, strokes: list[np.ndarray]) -> np.ndarray:
    """Distance of points ``[..., 2]`` to the nearest of the polylines ``[corner, 2]``."""
    nearest = np.full(point.shape[:-1], np.inf)
    for stroke in strokes:
        for start, end in zip(stroke[:-1], stroke[1:], strict=True):
            along = end - start
            part = np.clip((point - start) @ along / (along @ along), 0, 1)
            gap = point - start - part[..., None] * along
            nearest = np.minimum(nearest, np.hypot(gap[..., 0], gap[..., 1]))
    return nearest


def _line(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners)


def _arc(x: float, y: float, width: float, height: float, start: float, end: float) -> np.ndarray:
    """Arc of an ellipse, in degrees from the right, clockwise; width and height are half-axes."""
    angle = np.radians(np.linspace(start, end, 16))
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=-1)


def _forms() -> list[list[list[np.ndarray]]]:
    """Strokes ``[digit][form][stroke]``; x to the right and y down, both 0 to 1.

    The forms are a round one, a square one as on a pocket calculator, and one more.
    """
    turn = np.linspace(0, 2 * np.pi, 28)
    knot = np.stack([0.5 + 0.27 * np.sin(2 * turn), 0.5 - 0.5 * np.cos(turn)], axis=-1)
    box = _line((0.22, 0), (0.78, 0), (0.78, 1), (0.22, 1), (0.22, 0))
    six = [
        [_arc(0.75, 0.65, 0.5, 0.65, 270, 180), _arc(0.5, 0.7, 0.25, 0.3, 0, 360)],
        [_line((0.75, 0), (0.25, 0), (0.25, 1), (0.75, 1), (0.75, 0.5), (0.25, 0.5))],
        [_line((0.65, 0), (0.27, 0.62)), _arc(0.5, 0.72, 0.26, 0.28, 0, 360)],
    ]
    bow = _arc(0.5, 0.28, 0.28, 0.28, 190, 400)
    return [
        [
            [_arc(0.5, 0.5, 0.32, 0.5, 0, 360)],
            [box],
            [_arc(0.5, 0.5, 0.28, 0.5, 0, 360), _line((0.66, 0.22), (0.34, 0.78))],
        ],
        [
            [_line((0.5, 0), (0.5, 1))],
            [_line((0.3, 0.25), (0.5, 0), (0.5, 1))],
            [_line((0.3, 0.22), (0.5, 0), (0.5, 1)), _line((0.28, 1), (0.72, 1))],
        ],
        [
            [np.concatenate([bow, _line((0.22, 1), (0.8, 1))])],
            [_line((0.22, 0), (0.78, 0), (0.78, 0.5), (0.22, 0.5), (0.22, 1), (0.78, 1))],
            [np.concatenate([bow, _arc(0.32, 0.86, 0.1, 0.11, 90, 330), _line((0.85, 0.95))])],
        ],
        [
            [_arc(0.48, 0.26, 0.27, 0.26, 200, 450), _arc(0.48, 0.76, 0.3, 0.24, 270, 520)],
            [_line((0.22, 0), (0.78, 0), (0.78, 1), (0.22, 1)), _line((0.35, 0.5), (0.78, 0.5))],
            [_line((0.22, 0), (0.78, 0), (0.45, 0.42)), _arc(0.45, 0.71, 0.32, 0.29, 270, 520)],
        ],
        [
            [_line((0.3, 0), (0.22, 0.6), (0.8, 0.6)), _line((0.62, 0.2), (0.62, 1))],
            [_line((0.22, 0), (0.22, 0.5), (0.78, 0.5)), _line((0.78, 0), (0.78, 1))],
            [_line((0.62, 1), (0.62, 0), (0.18, 0.68), (0.82, 0.68))],
        ],
        [
            [_line((0.76, 0), (0.3, 0), (0.28, 0.42)), _arc(0.47, 0.68, 0.31, 0.32, 235, 515)],
            [_line((0.78, 0), (0.22, 0), (0.22, 0.5), (0.78, 0.5), (0.78, 1), (0.22, 1))],
            [_line((0.8, 0.02), (0.36, 0.05), (0.2, 0.52), (0.75, 0.66), (0.6, 0.95), (0.2, 1))],
        ],
        six,
        [
            [_line((0.2, 0), (0.8, 0), (0.4, 1))],
            [_line((0.22, 0.18), (0.22, 0), (0.78, 0), (0.78, 1))],
            [_line((0.2, 0), (0.8, 0), (0.4, 1)), _line((0.36, 0.5), (0.76, 0.5))],
        ],
        [
            [_arc(0.5, 0.25, 0.23, 0.25, 0, 360), _arc(0.5, 0.75, 0.29, 0.25, 0, 360)],
            [box, _line((0.22, 0.5), (0.78, 0.5))],
            [knot],
        ],
        # A nine is a six rotated by half a turn.
        [[1 - stroke for stroke in form] for form in six],
    ]
