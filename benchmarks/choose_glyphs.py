"""Which characters are classes of `imbalance.data.glyphs`: measured once, and written down.

Of the characters that every face draws, those are chosen of which no two look alike; a thousand of
them, in a random order, are `imbalance.data.glyph_characters`. Their order must not depend on the
alphabet, since the first classes become the frequent ones.

Run:     python benchmarks/choose_glyphs.py     (about two minutes on one core)
Prints:  how many characters are left at several limits of likeness, and the chosen ones
"""

import textwrap
import unicodedata
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from matplotlib import get_data_path

from imbalance.data.glyph_likeness import apart, likeness
from imbalance.data.glyph_shapes import FACES, shapes

LIMITS = (0.99, 0.95, 0.9, 0.895, 0.89, 0.885, 0.88)
CHOSEN = 0.89
NUM_CLASSES = 1000
SIDE = 64
SEED = 0
BLANK = "\N{OBJECT REPLACEMENT CHARACTER}"  # drawn without ink
BRAILLE = range(0x2800, 0x2900)  # dots that differ by their places alone


def drawn_by_all() -> str:
    """Characters that every face draws, but for marks, which stand on others, and the like."""
    folder = Path(get_data_path()) / "fonts" / "ttf"
    codes = [set(TTFont(folder / f"{face}.ttf", lazy=True).getBestCmap() or {}) for face in FACES]
    found = map(chr, sorted(set.intersection(*codes) - set(BRAILLE)))
    return "".join(c for c in found if unicodedata.category(c)[0] not in "MZC" and c != BLANK)


def main() -> None:
    candidates = drawn_by_all()
    alike = likeness(shapes(candidates, SIDE))
    print(f"{len(candidates)} characters in {len(FACES)} faces")
    for limit in LIMITS:
        print(f"{len(apart(alike, limit))} less alike than {limit}")
    kept = apart(alike, CHOSEN)
    order = np.random.default_rng(SEED).permutation(len(kept))[:NUM_CLASSES]
    print(textwrap.fill(" ".join(f"{ord(candidates[kept[i]]):X}" for i in order), 99))


if __name__ == "__main__":
    main()
