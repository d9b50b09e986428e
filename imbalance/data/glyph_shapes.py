"""Shapes of characters from the fonts that matplotlib ships, as small gray pictures.

Outlines are read as the whole numbers that the font files hold, and filled by the nonzero rule in
NumPy: additions, products and comparisons of single numbers, in a fixed order. No font renderer
takes part, whose versions differ, so shapes are the same bytes everywhere.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif")
"""The faces each character is drawn in, by the names of their files."""

FULL = 64
"""Value of a point of a shape whose neighbourhood is all ink."""

BOX = 0.625
"""Share of a shape's side that its character takes, centred: the longer of width and height."""

_STEPS = 6  # pieces of a curve


@lru_cache(maxsize=4)
def shapes(characters: str, side: int) -> np.ndarray:
    """Shapes of characters in every face, centred and scaled to one size.

    Args:
      characters: Characters that every face has.
      side: Points along a side of a shape.

    Returns:
      Ink around every point, 0 to `FULL`, uint8 ``[character, face, row, column]``; not writeable.

    Raises:
      ImportError: If matplotlib or fontTools is not installed.
      ValueError: If a face lacks a character, or it is blank there.
    """
    found = np.empty((len(characters), len(FACES), side, side), np.uint8)
    for index, face in enumerate(FACES):
        outlines = _outlines(face, characters)
        for start in range(0, len(outlines), 256):  # bounds the memory
            part = outlines[start : start + 256]
            found[start : start + 256, index] = _softened(_filled(part, 2 * side))
    found.flags.writeable = False
    return found


def _outlines(face: str, characters: str) -> list[np.ndarray]:
    """Straight pieces of each character's outline, float64 ``[piece, start or end, x or y]``.

    Coordinates are 0 to 1 from the top left, with the character in the middle.
    """
    try:
        from fontTools.pens.recordingPen import DecomposingRecordingPen
        from fontTools.ttLib import TTFont
        from matplotlib import get_data_path
    except ImportError as error:
        raise ImportError(
            "glyphs need the fonts of matplotlib, and fontTools: pip install 'imbalance[lab]'."
        ) from error
    found = []
    with TTFont(Path(get_data_path()) / "fonts" / "ttf" / f"{face}.ttf", lazy=True) as font:
        names, glyphs = font.getBestCmap() or {}, font.getGlyphSet()
        for character in characters:
            pen = DecomposingRecordingPen(glyphs)
            if (name := names.get(ord(character))) is not None:
                glyphs[name].draw(pen)
            if not pen.value:
                raise ValueError(
                    f"{face} does not draw {character!r} (U+{ord(character):04X}); give characters "
                    f"that {', '.join(FACES)} have."
                )
            found.append(_centred(_pieces(pen.value)))
    return found


def _pieces(drawn: Sequence[tuple[str, tuple]]) -> np.ndarray:
    """Straight pieces of what a pen of fontTools has recorded; curves are quadratic."""
    from fontTools.pens.basePen import decomposeQuadraticSegment

    found, first, here = [], (0, 0), (0, 0)
    for what, points in drawn:
        if what == "moveTo":
            first = here = points[0]
            continue
        if what == "qCurveTo" and points[-1] is None:  # a contour without a point on its curve
            ends = [(a + b) / 2 for a, b in zip(points[-2], points[0], strict=True)]
            points = (*points[:-1], tuple(ends))
            first = here = points[-1]
        if what == "qCurveTo":
            for control, end in decomposeQuadraticSegment(points):
                found += _curve(here, control, end)
                here = end
        else:
            end = points[0] if what == "lineTo" else first
            found.append((here, end))
            here = end
    return np.array(found, float)


def _curve(start: tuple, control: tuple, end: tuple) -> list[tuple[tuple, tuple]]:
    at = [
        tuple(
            (a * (_STEPS - i) * (_STEPS - i) + 2 * b * i * (_STEPS - i) + c * i * i)
            / (_STEPS * _STEPS)
            for a, b, c in zip(start, control, end, strict=True)
        )
        for i in range(_STEPS + 1)
    ]
    return list(zip(at[:-1], at[1:], strict=True))


def _centred(pieces: np.ndarray) -> np.ndarray:
    low, high = pieces.min(axis=(0, 1)), pieces.max(axis=(0, 1))
    unit = (pieces - (low + high) / 2) / (high - low).max() * BOX
    return unit * (1, -1) + 0.5


def _filled(outlines: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Whether points lie inside outlines by the nonzero rule, bool ``[outline, row, column]``."""
    piece = np.concatenate(outlines) * side - 0.5  # now the points have whole coordinates
    which = np.repeat(np.arange(len(outlines)), [len(one) for one in outlines])
    (x0, y0), (x1, y1) = piece[:, 0].T, piece[:, 1].T
    # A piece crosses the rows from the first at or below its upper end to before its lower end.
    top = np.ceil(np.minimum(y0, y1)).astype(np.int64)
    rows = np.ceil(np.maximum(y0, y1)).astype(np.int64) - top
    at = np.repeat(np.arange(len(piece)), rows)
    row = np.arange(len(at)) - np.repeat(np.cumsum(rows) - rows, rows) + top[at]
    cross = (row - y0[at]) / (y1[at] - y0[at]) * (x1[at] - x0[at]) + x0[at]
    column = np.ceil(cross).astype(np.int64)
    turns = np.zeros((len(outlines), side, side), np.int16)
    np.add.at(turns, (which[at], row, column), np.where(y0 < y1, 1, -1).astype(np.int16)[at])
    return np.cumsum(turns, axis=2, dtype=np.int16) != 0


def _softened(inside: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 points, then the weights 1, 2, 1 along both axes, in whole numbers."""
    each = inside.astype(np.uint8)
    each = each[:, ::2, ::2] + each[:, 1::2, ::2] + each[:, ::2, 1::2] + each[:, 1::2, 1::2]
    wide = np.pad(each, ((0, 0), (1, 1), (1, 1)))
    tall = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    return tall[:, :, :-2] + 2 * tall[:, :, 1:-1] + tall[:, :, 2:]
