"""The classes of the largest loss."""

from typing import NamedTuple

import numpy as np

from imbalance.analysis.names import Names, names_of
from imbalance.analysis.printing import aligned, shown, with_error
from imbalance.analysis.sums import LossSums


class Worst(NamedTuple):
    """Classes of large mean loss, the largest first; each array is ``[rank]``. Prints as a table.

    Attributes:
      class_index: Classes, int64.
      name: Their names, or their numbers as text.
      count: Examples of each, int64.
      mean: Mean loss, float64.
      standard_error: Standard error of ``mean``, float64; NaN for fewer than two examples.
      accuracy: Share of correct predictions, float64; None where it is not known.
    """

    class_index: np.ndarray
    name: list[str]
    count: np.ndarray
    mean: np.ndarray
    standard_error: np.ndarray
    accuracy: np.ndarray | None

    def __str__(self) -> str:
        columns = {
            "class": list(map(str, self.class_index)),
            "name": list(map(shown, self.name)),
            "examples": list(map(str, self.count)),
            "loss": list(map(with_error, self.mean, self.standard_error)),
        }
        if self.name == columns["class"]:
            del columns["name"]
        if self.accuracy is not None:
            columns["accuracy"] = [with_error(value) for value in self.accuracy]
        return aligned(columns, left=("name",))


def worst_of(sums: LossSums, names: Names | None, k: int, least: int) -> Worst:
    """The ``k`` classes of the largest mean loss among those with ``least`` losses or more."""
    if k < 1 or least < 1:
        raise ValueError(f"k is {k} and least is {least}; give 1 or more.")
    mean = sums.mean
    known = np.flatnonzero((sums.count - sums.diverged >= least) & ~np.isnan(mean))
    classes = known[np.argsort(-mean[known], kind="stable")][:k]
    return Worst(
        classes,
        names_of(names, classes),
        sums.count[classes],
        mean[classes],
        sums.standard_error[classes],
        None if sums.correct is None else sums.accuracy[classes],
    )
