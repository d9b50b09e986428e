"""Words on the examples that are left out of means."""

import warnings

import numpy as np

from imbalance.analysis.names import Names, names_of
from imbalance.analysis.printing import shown
from imbalance.analysis.sums import LARGEST_LOSS, LossSums


def warn_of_left_out(sums: LossSums, ignore_index: int | None, names: Names | None) -> None:
    """Warns of examples left out without a mask, on behalf of the caller's caller.

    Args:
      sums: Sums by class.
      ignore_index: Label that masks its example, or None.
      names: Names of the classes, or None.
    """
    if sums.out_of_range:
        warnings.warn(
            f"{sums.out_of_range} labels are out of range: classes are 0 .. "
            f"{len(sums.count) - 1} and ignore_index is {ignore_index}. They are in no mean, and "
            "are counted in out_of_range.",
            stacklevel=3,
        )
    if sums.diverged.any():
        number = int(sums.count.sum())
        warnings.warn(about_diverged(sums.diverged, number, names), stacklevel=3)


def about_diverged(diverged: np.ndarray, number: int, names: Names | None) -> str:
    """The warning of diverged losses, of ``diverged [class]`` among ``number`` losses."""
    return (
        f"{diverged.sum()} of {number} losses are NaN, infinite or beyond {LARGEST_LOSS:.0e}, in "
        f"class {listed(diverged, names)}. They are in no mean, and are counted in diverged."
    )


def listed(diverged: np.ndarray, names: Names | None) -> str:
    """The first few classes that have diverged losses, as text."""
    classes = np.flatnonzero(diverged)
    texts = [str(k) for k in classes[:5]]
    if names is not None:
        called = names_of(names, classes[:5])
        texts = [f"{k} ({shown(name)})" for k, name in zip(texts, called, strict=True)]
    return ", ".join(texts) + (", ..." if len(classes) > 5 else "")
