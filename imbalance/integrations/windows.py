"""What callbacks of all libraries share: a window of sums for training, and one for evaluations."""

from collections.abc import Callable
from typing import Any

from imbalance.analysis.buckets import FrequencyBuckets, checked_buckets
from imbalance.analysis.names import Names
from imbalance.analysis.streaming import LossByClass
from imbalance.integrations.logs import scalars


class Windows:
    """Sums since the last report, of each kind of data, such as training and evaluation.

    A report starts a new window. So the window of training is a mean over the steps since the last
    report, in which parameters changed, and that of an evaluation is at fixed parameters.

    Attributes:
      buckets: Grouping of the classes, by their counts in training.
      latest: Sums of the last report of each kind, `imbalance.LossByClass`.

    Args:
      buckets: Grouping of the classes, by their counts in training.
      names: Names of the classes, as those of `imbalance.LossByClass`.
      ignore_index: Label that masks its example.
      gathered: What merges the sums of all processes; None: there is one.

    Raises:
      TypeError: If ``buckets`` are not `FrequencyBuckets`, or names are of no use.
      ValueError: If there is another number of names than of classes.
    """

    def __init__(
        self,
        buckets: FrequencyBuckets,
        names: Names | None = None,
        ignore_index: int | None = -100,
        gathered: Callable[[LossByClass], LossByClass] | None = None,
    ):
        self.buckets = checked_buckets(buckets)
        self.latest: dict[str, LossByClass] = {}
        self._names, self._ignore_index, self._gathered = names, ignore_index, gathered
        self._open: dict[str, LossByClass] = {}
        self._new()  # a mistake in the names shows here, not at the first batch

    def update(
        self, kind: str, loss: Any, label: Any, weight: Any = None, correct: Any = None
    ) -> None:
        """Add a batch to the window of ``kind``; the rest is as in `imbalance.LossByClass`."""
        self._open.setdefault(kind, self._new()).update(loss, label, weight, correct)

    def clear(self, kind: str) -> None:
        """Forget the window of ``kind``, without a report."""
        self._open.pop(kind, None)

    def report(self, kind: str, prefix: str = "") -> dict[str, float]:
        """`scalars` of the window of ``kind``, which ends here; every process must call it."""
        losses = self._open.pop(kind, None) or self._new()
        self.latest[kind] = losses if self._gathered is None else self._gathered(losses)
        return scalars(self.latest[kind], self.buckets, prefix)

    def _new(self) -> LossByClass:
        return LossByClass(len(self.buckets.counts), self._ignore_index, self._names)
