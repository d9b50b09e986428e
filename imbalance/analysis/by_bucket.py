"""Losses by bucket: what `LossByClass.by_bucket` returns."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imbalance.analysis.buckets import FrequencyBuckets, bucket_columns
from imbalance.analysis.checks import needed
from imbalance.analysis.macro import geometric_mean, harmonic_mean, mean_over_classes
from imbalance.analysis.names import Names, names_of
from imbalance.analysis.printing import aligned, shown, with_error
from imbalance.analysis.sums import LossSums

if TYPE_CHECKING:
    import pandas as pd

_WIDE = 10  # a last bucket whose counts differ by more is said to hide a tail
_SUCH_AS = 3  # classes named for each bucket


@dataclass(eq=False, repr=False, kw_only=True)
class LossByBucket(LossSums):
    """Sums of losses by bucket; `mean` and its like are ``[bucket]``. It prints as a table.

    A mean over examples, such as `mean`, counts frequent classes more than rare ones, within a
    bucket too. A mean over classes, such as `macro`, counts all the same.

    Attributes:
      buckets: Grouping of the classes.
      mean_of_class: Mean loss of each class, float64 ``[class]``.
      accuracy_of_class: Accuracy of each class, float64 ``[class]``; None where it is not known.
      class_names: Names of the classes, or None.

    Example:
      >>> from imbalance import FrequencyBuckets, LossByClass
      >>> losses = LossByClass(num_classes=3)
      >>> losses.update([0.1, 0.3, 1.0, 3.0], [0, 0, 1, 2])
      >>> read = losses.by_bucket(FrequencyBuckets.thresholds([90, 6, 4], [10]))
      >>> read.count, read.mean, read.worst_class
      (array([2, 2]), array([0.2, 2. ]), array([0, 2]))
    """

    buckets: FrequencyBuckets
    mean_of_class: np.ndarray
    accuracy_of_class: np.ndarray | None = None
    class_names: Names | None = None

    @property
    def macro(self) -> np.ndarray:
        """Mean over the classes of each bucket of their mean losses, float64 ``[bucket]``.

        Classes without a loss are left out; NaN for a bucket without any.
        """
        return mean_over_classes(self.mean_of_class, *self._grouping)

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """Mean over the classes of each bucket of their accuracies, float64 ``[bucket]``.

        Of the buckets of `FrequencyBuckets.shots`: many-, medium- and few-shot accuracy.

        Raises:
          ValueError: If no update had ``correct``.
        """
        return mean_over_classes(self._recall, *self._grouping)

    @property
    def harmonic_recall(self) -> np.ndarray:
        """Harmonic mean of the accuracies of each bucket's classes, float64 ``[bucket]``.

        Raises:
          ValueError: If no update had ``correct``.
        """
        return harmonic_mean(self._recall, *self._grouping)

    @property
    def geometric_recall(self) -> np.ndarray:
        """Geometric mean of the accuracies of each bucket's classes, float64 ``[bucket]``.

        Raises:
          ValueError: If no update had ``correct``.
        """
        return geometric_mean(self._recall, *self._grouping)

    @property
    def worst_class(self) -> np.ndarray:
        """Class of the largest mean loss in each bucket, int64 ``[bucket]``; -1 without a loss."""
        order = np.argsort(-self.mean_of_class, kind="stable")  # NaN last
        order = order[~np.isnan(self.mean_of_class[order])]
        bucket = self.buckets.bucket_of_class[order]
        found = np.full(self.buckets.num_buckets, -1)
        first, at = np.unique(bucket, return_index=True)
        found[first[first >= 0]] = order[at[first >= 0]]
        return found

    @property
    def _grouping(self) -> tuple[np.ndarray, int]:
        return self.buckets.bucket_of_class, self.buckets.num_buckets

    @property
    def _recall(self) -> np.ndarray:
        self._known()
        assert self.accuracy_of_class is not None
        return self.accuracy_of_class

    def table(self) -> "pd.DataFrame":
        """A tidy frame, a row for each bucket.

        Columns: ``bucket``, ``name`` (where buckets have names), ``classes``, ``smallest_count``,
        ``largest_count`` and ``class_examples`` (of the counts that made the buckets), and of these
        losses ``examples``, ``weight``, ``loss``, ``standard_error``, ``macro``, ``share``,
        ``diverged`` and, where it is known, ``accuracy``, ``accuracy_standard_error`` and
        ``balanced_accuracy``.

        Raises:
          ImportError: If pandas is not installed.
        """
        buckets = self.buckets
        smallest, largest = buckets.count_range
        columns = {"bucket": np.arange(buckets.num_buckets)}
        columns |= {} if buckets.names is None else {"name": np.array(buckets.names, object)}
        columns |= {
            "classes": buckets.num_classes,
            "smallest_count": smallest,
            "largest_count": largest,
            "class_examples": buckets.num_examples,
        }
        columns |= frame_columns(self) | {"macro": self.macro}
        if self.correct is not None:
            columns["balanced_accuracy"] = self.balanced_accuracy
        return needed("pandas", "table").DataFrame(columns)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        columns = bucket_columns(self.buckets)
        columns["examples"] = list(map(str, self.count))
        columns["loss"] = list(map(with_error, self.mean, self.standard_error))
        columns["macro"] = [with_error(value) for value in self.macro]
        if self.correct is not None:
            both = self.accuracy, self.accuracy_standard_error
            columns["accuracy"] = list(map(with_error, *both))
            columns["balanced"] = [with_error(value) for value in self.balanced_accuracy]
        if self.diverged.any():
            columns["diverged"] = list(map(str, self.diverged))
        if self.class_names is not None:
            columns["such as"] = [", ".join(names) for names in self._most_frequent()]
        lines = [aligned(columns, left=("name", "such as"))]
        lines += [f"overall loss {with_error(self.overall, self.overall_standard_error)}"]
        lines += [
            f"{number} examples {what}"
            for number, what in (
                (self.ignored, "ignored"),
                (self.out_of_range, "out of range"),
                (self.unbucketed, "of classes in no bucket"),
            )
            if number
        ]
        return "\n".join(lines + self._notes())

    def _most_frequent(self) -> list[list[str]]:
        """Names of the first classes of each bucket."""
        order = np.argsort(-self.buckets.counts, kind="stable")
        bucket = self.buckets.bucket_of_class[order]
        classes = (order[bucket == b][:_SUCH_AS] for b in range(self.buckets.num_buckets))
        return [list(map(shown, names_of(self.class_names, some))) for some in classes]

    def _notes(self) -> list[str]:
        """What the table does not show at a glance."""
        full = np.flatnonzero(self.buckets.num_classes)
        empty = np.flatnonzero(self.buckets.num_classes == 0)
        notes = []
        if empty.size:
            notes.append(f"no class is in bucket {', '.join(map(str, empty))}")
        smallest, largest = self.buckets.count_range[:, full[-1]]
        if largest > _WIDE * smallest and self.buckets.names is None:
            notes.append(
                f"bucket {full[-1]} mixes classes of {smallest:g} to {largest:g} examples; "
                "FrequencyBuckets.shots, thresholds and log2 tell them apart"
            )
        return notes


def frame_columns(sums: LossSums) -> dict[str, np.ndarray]:
    """Columns of a frame that are told of classes and buckets alike, ``[group]``."""
    columns = {
        "examples": sums.count,
        "weight": sums.weight,
        "loss": sums.mean,
        "standard_error": sums.standard_error,
        "share": sums.share,
        "diverged": sums.diverged,
    }
    if sums.correct is not None:
        columns["accuracy"] = sums.accuracy
        columns["accuracy_standard_error"] = sums.accuracy_standard_error
    return columns
