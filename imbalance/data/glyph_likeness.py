"""How alike characters look: what `imbalance.data.glyph_characters` was chosen by."""

from collections.abc import Iterator

import numpy as np

from imbalance.data.glyph_shapes import FULL

_TURNS = (-0.125, 0.0, 0.125)  # tangents of half the angles, up to 14 degrees
_SLANTS = (-0.2, 0.0, 0.2)
_STRETCHES = (0.8, 1.0, 1.25)  # of the width, in relation to the height


def likeness(shape: np.ndarray) -> np.ndarray:
    """How alike any two characters look at best, over their faces and small affine changes.

    Two pictures a and b have likeness ``<a, b> / (|a| |b|)``, which is 1 if they are equal but for
    their contrast, and 0 if nothing overlaps. One of them is turned, slanted and stretched in 27
    ways.

    Args:
      shape: Shapes of the characters, `imbalance.data.glyph_shapes.shapes`.

    Returns:
      float32 ``[character, character]``, symmetric, 1 on the diagonal.
    """
    faces = [_flat(shape[:, face]) for face in range(shape.shape[1])]
    best = np.eye(len(shape), dtype=np.float32)
    for index in range(len(faces)):
        for changed in _changed(shape[:, index]):
            other = _flat(changed)
            for flat in faces[: index + 1]:
                found = flat @ other.T
                np.fill_diagonal(found, 1)
                np.maximum(best, np.maximum(found, found.T), out=best)
    return best


def apart(alike: np.ndarray, limit: float) -> list[int]:
    """Characters of which no two are as alike as ``limit``, in order; as many as a greedy finds.

    It keeps the character that is like the fewest others, drops those, and so on.
    """
    conflict = alike >= limit
    left = np.ones(len(alike), bool)
    number = conflict.sum(axis=1)
    kept = []
    while left.any():
        chosen = int(np.argmin(np.where(left, number, len(alike) + 1)))
        gone = left & conflict[chosen]
        kept.append(chosen)
        left &= ~gone
        number = number - conflict[:, gone].sum(axis=1)
    return sorted(kept)


def _flat(shape: np.ndarray) -> np.ndarray:
    """Pictures of half the side and of norm 1, float32 ``[character, pixel]``."""
    ink = shape.astype(np.float32) / FULL
    small = ink[:, ::2, ::2] + ink[:, 1::2, ::2] + ink[:, ::2, 1::2] + ink[:, 1::2, 1::2]
    flat = small.reshape(len(shape), -1)
    return flat / np.sqrt(np.einsum("ij,ij->i", flat, flat))[:, None]


def _changed(shape: np.ndarray) -> Iterator[np.ndarray]:
    """One face of the characters, turned, slanted and stretched."""
    side = shape.shape[-1]
    place = (np.arange(side) + 0.5) / side - 0.5
    for turn in _TURNS:
        cos, sin = (1 - turn**2) / (1 + turn**2), 2 * turn / (1 + turn**2)
        x = cos * place[None, :] + sin * place[:, None]
        y = cos * place[:, None] - sin * place[None, :]
        for slant in _SLANTS:
            for stretch in _STRETCHES:
                column = (x + slant * y) / stretch**0.5
                row = y * stretch**0.5
                at = [np.clip((p + 0.5) * side, 0, side - 1).astype(int) for p in (row, column)]
                yield shape[:, at[0], at[1]]
