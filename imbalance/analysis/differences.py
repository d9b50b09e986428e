"""The difference of two evaluations, with its error."""

from dataclasses import dataclass

import numpy as np

from imbalance.analysis.buckets import bucket_columns
from imbalance.analysis.by_bucket import LossByBucket
from imbalance.analysis.printing import aligned, with_error
from imbalance.analysis.streaming import LossByClass
from imbalance.analysis.sums import LossSums

_MOST_ROWS = 30  # of a table that is printed


@dataclass(frozen=True, eq=False, repr=False)
class Difference:
    """Mean losses of one evaluation less those of another; prints as a table.

    Attributes:
      mean: Difference of the mean losses of each group, float64 ``[group]``; NaN where one has no
        examples.
      standard_error: Standard error of ``mean`` for independent examples, float64 ``[group]``.
      overall: Difference of the overall losses.
      overall_standard_error: Standard error of ``overall``.
      columns: Text that tells the groups apart, a heading with ``[group]`` cells each.
    """

    mean: np.ndarray
    standard_error: np.ndarray
    overall: float
    overall_standard_error: float
    columns: dict[str, list[str]]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        overall = with_error(self.overall, self.overall_standard_error)
        overall = f"overall difference {overall}"
        if len(self.mean) > _MOST_ROWS:
            return f"{overall}; of {len(self.mean)} groups, see mean and standard_error"
        cells = list(map(with_error, self.mean, self.standard_error))
        return f"{aligned({**self.columns, 'difference': cells}, left=('name',))}\n{overall}"


def difference(one: LossSums, other: LossSums) -> Difference:
    """Mean losses of ``one`` less those of ``other``, by class or by bucket, with standard errors.

    ``√(s₁² + s₂²)`` of the errors of the two means: that of two *independent* evaluations, as of
    two samples of data. Losses of single examples are not kept, so two models that were evaluated
    on the *same* examples cannot be compared pair by pair. Their losses mostly rise and fall
    together, so that the error of their difference is then smaller than what is told here: it is on
    the safe side. For it, update an object with the differences, ``losses.update(loss_one -
    loss_other, label)``, and read its `standard_error`. Neither tells the variation between seeds.

    Accuracies are compared as ``difference(one.correct, other.correct)``.

    Args:
      one: Losses by class or by bucket.
      other: Losses in the same groups.

    Raises:
      TypeError: If one is by class and the other by bucket, or they are neither.
      ValueError: If they have other classes, or other buckets.

    Example:
      >>> from imbalance import LossByClass, difference
      >>> one, other = LossByClass(num_classes=2), LossByClass(num_classes=2)
      >>> one.update([0.5, 0.7, 2.0, 2.4], [0, 0, 1, 1])
      >>> other.update([0.4, 0.6, 1.0, 1.2], [0, 0, 1, 1])
      >>> print(difference(one, other))
      class  difference
          0  0.1 ± 0.14
          1  1.1 ± 0.22
      overall difference 0.6 ± 0.5
    """
    for sums in (one, other):
        if not isinstance(sums, LossSums):
            raise TypeError(
                f"one of the two is of type {type(sums).__name__}; give LossByClass objects, or "
                "what by_bucket(buckets) returns."
            )
    classes = range(len(one.count))
    columns = {"class" if isinstance(one, LossByClass) else "group": list(map(str, classes))}
    if isinstance(one, LossByBucket) and isinstance(other, LossByBucket):
        same = np.array_equal(one.buckets.bucket_of_class, other.buckets.bucket_of_class)
        if not same or len(one.count) != len(other.count):
            raise ValueError(
                "the two are by different buckets; give both the same, those of the training data, "
                "as one.by_bucket(buckets) and other.by_bucket(buckets)."
            )
        columns = bucket_columns(one.buckets)
    elif isinstance(one, LossByBucket) or isinstance(other, LossByBucket):
        raise TypeError("one is by class and the other by bucket; give two of a kind.")
    elif len(one.count) != len(other.count):
        raise ValueError(f"one is of {len(one.count)} classes, the other of {len(other.count)}.")
    return Difference(
        mean=one.mean - other.mean,
        standard_error=np.hypot(one.standard_error, other.standard_error),
        overall=one.overall - other.overall,
        overall_standard_error=float(
            np.hypot(one.overall_standard_error, other.overall_standard_error)
        ),
        columns=columns,
    )
