"""Classes grouped by frequency."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from imbalance.analysis.counts import checked_masses, rank_order
from imbalance.analysis.printing import aligned

# Of each convention: the names of its buckets, and the least counts of all but the last.
SHOTS = {
    "oltr": (("many", "medium", "few"), (100, 21)),  # at least 100, at most 20
    "classifier-balancing": (("many", "medium", "few"), (101, 20)),  # more than 100, fewer than 20
    "lvis": (("frequent", "common", "rare"), (101, 11)),  # rare: 1 to 10, common: 11 to 100
}


@dataclass(frozen=True, eq=False)
class FrequencyBuckets:
    """A partition of the classes that occur; bucket 0 holds the most frequent classes.

    Make one with `from_counts` or `from_masses` (equal mass), `quantile` (equal numbers of
    classes), `log2` (octaves), `shots` (many-, medium- and few-shot), `thresholds` or `levels`
    (equal counts), or pass your own grouping. It prints as `bucket_table`. The arrays are copies
    and read-only.

    How rare a class is, its count in the *training* set says, also where other data are evaluated.

    Attributes:
      counts: Examples of each class, int64 ``[class]``; real masses, float64, from `from_masses`.
      bucket_of_class: Bucket of each class, int32 ``[class]``; -1 where the count is zero.
      num_buckets: Number of buckets, including empty ones.
      names: Names of the buckets, or None. ``dataclasses.replace(buckets, names=("head", "tail"))``
        gives names.

    Raises:
      TypeError: If counts are not real numbers, or buckets not integers.
      ValueError: If `checked_masses` rejects the counts, or the buckets or names do not fit them.

    Example:
      >>> from imbalance import FrequencyBuckets
      >>> buckets = FrequencyBuckets.from_counts([60, 20, 12, 8], num_buckets=2)
      >>> print(buckets)
      bucket  classes  examples  share  counts  unigram loss
           0        1        60  60.0%  60..60          0.51
           1        3        40  40.0%   8..20          1.95
    """

    counts: np.ndarray
    bucket_of_class: np.ndarray
    num_buckets: int
    names: Sequence[str] | None = None

    def __post_init__(self):
        counts = checked_masses(self.counts)
        bucket = np.asarray(self.bucket_of_class)
        if self.num_buckets < 1:
            raise ValueError(f"num_buckets is {self.num_buckets}; give 1 or more.")
        if not np.issubdtype(bucket.dtype, np.integer):
            raise TypeError(f"bucket_of_class has dtype {bucket.dtype}; give integers.")
        if bucket.shape != counts.shape:
            raise ValueError(
                f"bucket_of_class has shape {bucket.shape}; give one per count, {counts.shape}."
            )
        wrong = np.where(counts > 0, (bucket < 0) | (bucket >= self.num_buckets), bucket != -1)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise ValueError(
                f"class {first} with count {counts[first]} is in bucket {bucket[first]}; give -1 "
                f"to classes that do not occur, 0 .. {self.num_buckets - 1} to the others."
            )
        if self.names is not None and (
            isinstance(self.names, str) or len(self.names) != self.num_buckets
        ):
            raise ValueError(
                f"names are {self.names!r}; give {self.num_buckets}, one for each bucket."
            )
        bucket = bucket.astype(np.int32)
        for array in (counts, bucket):
            array.flags.writeable = False
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "bucket_of_class", bucket)
        if self.names is not None:
            object.__setattr__(self, "names", tuple(map(str, self.names)))

    def __str__(self) -> str:
        return bucket_table(self)

    @classmethod
    def from_counts(cls, counts: ArrayLike, num_buckets: int = 10) -> Self:
        """Buckets of about equal mass, in exact integer arithmetic.

        Classes are taken from the most to the least frequent (ties: lower index first). Bucket
        ``q = 1 .. num_buckets - 1`` ends with the first class at which the share ``q /
        num_buckets`` of the examples is reached: a class that crosses the share goes to the more
        frequent side. A class that crosses several shares leaves empty buckets behind it. See
        "Buckets of equal mass" in docs/method.md.

        Args:
          counts: Examples of each class, integers ``[class]``; zero if it does not occur.
          num_buckets: Number of buckets.

        Raises:
          TypeError: If counts are not integers.
          ValueError: If `checked_masses` rejects the counts, or ``num_buckets`` is less than 1.

        Example:
          >>> from imbalance import FrequencyBuckets
          >>> FrequencyBuckets.from_counts([40, 30, 20, 10], num_buckets=2).bucket_of_class
          array([0, 0, 1, 1], dtype=int32)
        """
        counts = _checked_counts(counts)
        total = int(counts.sum())
        # The least integer cum with cum * g >= q * n. Float shares miss it, as at m = 7, g = 10.
        least = [-(-q * total // num_buckets) for q in range(1, num_buckets)]
        return cls(counts, _split_by_mass(counts, np.array(least, np.int64)), num_buckets)

    @classmethod
    def from_masses(cls, mass: ArrayLike, num_buckets: int) -> Self:
        """Buckets of about equal mass for real masses such as probabilities (Figure 6).

        Sums are float64, so a class that reaches a share exactly may fall on either side of it. For
        counts, use `from_counts`.

        Args:
          mass: Mass of each class, real numbers ``[class]``; zero if it does not occur.
          num_buckets: Number of buckets.

        Raises:
          TypeError: If masses are not real numbers.
          ValueError: If `checked_masses` rejects the masses, or ``num_buckets`` is less than 1.

        Example:
          >>> from imbalance import FrequencyBuckets
          >>> FrequencyBuckets.from_masses([0.6, 0.3, 0.1], num_buckets=2).bucket_of_class
          array([0, 1, 1], dtype=int32)
        """
        mass = checked_masses(mass).astype(np.float64)
        total = np.cumsum(mass[rank_order(mass)])[-1]  # summed in the order of the partial sums
        least = np.arange(1, num_buckets) / num_buckets * total
        return cls(mass, _split_by_mass(mass, least), num_buckets)

    @classmethod
    def levels(cls, counts: ArrayLike) -> Self:
        """One bucket for each distinct count, the largest first, such as the groups of Figure 4.

        Args:
          counts: Examples of each class, integers ``[class]``; zero if it does not occur.

        Raises:
          TypeError: If counts are not integers.
          ValueError: If `checked_masses` rejects the counts.

        Example:
          >>> from imbalance import FrequencyBuckets
          >>> FrequencyBuckets.levels([8, 4, 4, 0]).bucket_of_class
          array([ 0,  1,  1, -1], dtype=int32)
        """
        counts = _checked_counts(counts)
        occurring = np.unique(counts[counts > 0])  # ascending
        level = len(occurring) - 1 - np.searchsorted(occurring, counts)
        return cls(counts, np.where(counts > 0, level, -1), len(occurring))

    @classmethod
    def quantile(cls, counts: ArrayLike, num_buckets: int) -> Self:
        """Buckets of about equal numbers of the classes that occur, by rank.

        The numbers of classes differ by at most one.

        Args:
          counts: Examples of each class, integers ``[class]``; zero if it does not occur.
          num_buckets: Number of buckets.

        Raises:
          TypeError: If counts are not integers.
          ValueError: If `checked_masses` rejects the counts, or ``num_buckets`` is less than 1.

        Example:
          >>> from imbalance import FrequencyBuckets
          >>> FrequencyBuckets.quantile([90, 5, 4, 1], num_buckets=2).bucket_of_class
          array([0, 0, 1, 1], dtype=int32)
        """
        counts = _checked_counts(counts)
        order = rank_order(counts)[: np.count_nonzero(counts)]
        bucket_of_class = np.full(len(counts), -1)
        bucket_of_class[order] = np.arange(len(order)) * num_buckets // len(order)
        return cls(counts, bucket_of_class, num_buckets)

    @classmethod
    def log2(cls, counts: ArrayLike) -> Self:
        """One bucket for each octave ``2^k .. 2^(k+1) - 1`` of counts, the largest counts first.

        The octaves run from that of the most frequent class down to that of the rarest; an octave
        without a class is an empty bucket.

        Args:
          counts: Examples of each class, integers ``[class]``; zero if it does not occur.

        Raises:
          TypeError: If counts are not integers.
          ValueError: If `checked_masses` rejects the counts.

        Example:
          >>> from imbalance import FrequencyBuckets
          >>> FrequencyBuckets.log2([9, 8, 5, 1]).bucket_of_class
          array([0, 0, 1, 3], dtype=int32)
        """
        counts = _checked_counts(counts)
        bottom, top = int(counts[counts > 0].min()), int(counts.max())
        least = [2**k for k in range(bottom.bit_length(), top.bit_length())]
        return cls(counts, _split_by_count(counts, least), len(least) + 1)

    @classmethod
    def thresholds(cls, counts: ArrayLike, least: ArrayLike) -> Self:
        """Buckets by count: a class is in the first bucket q with ``least[q] <= count``.

        The last bucket holds the rest: ``[100, 20]`` makes three, of 100 examples or more, of 20 to
        99, and of 1 to 19. `shots` has the thresholds of the literature, which differ by one.

        Args:
          counts: Examples of each class, integers ``[class]``; zero if it does not occur.
          least: Smallest counts of all buckets but the last, integers ``[bucket - 1]``, 1 or more
            and strictly decreasing.

        Raises:
          TypeError: If counts or ``least`` are not integers.
          ValueError: If `checked_masses` rejects the counts, or ``least`` is empty, does not
            decrease, or goes below 1.

        Example:
          >>> from imbalance import FrequencyBuckets
          >>> FrequencyBuckets.thresholds([500, 100, 20, 3], [100, 20]).bucket_of_class
          array([0, 0, 1, 2], dtype=int32)
        """
        counts = _checked_counts(counts)
        least = np.asarray(least)
        if least.ndim != 1 or least.size == 0:
            raise ValueError(
                f"least has shape {least.shape}; give one count or more, as [100, 20]."
            )
        if not np.issubdtype(least.dtype, np.integer):
            raise TypeError(f"least has dtype {least.dtype}; give integers.")
        if least[-1] < 1 or (least[1:] >= least[:-1]).any():
            raise ValueError(f"least is {least.tolist()}; give falling counts, the last 1 or more.")
        return cls(counts, _split_by_count(counts, least[::-1]), len(least) + 1)

    @classmethod
    def shots(cls, counts: ArrayLike, convention: str = "oltr") -> Self:
        """The three groups by which long-tailed recognition reports, with their names.

        By convention, with the examples that their classes have in the training set:

        - ``"oltr"``: many, at least 100; medium, 21 to 99; few, at most 20.
        - ``"classifier-balancing"``: many, more than 100; medium, 20 to 100; few, fewer than 20.
        - ``"lvis"``: frequent, more than 100; common, 11 to 100; rare, 1 to 10 *images*.

        They are the rules of the evaluation code of OLTR (arXiv 1904.05160) and of
        classifier-balancing (arXiv 1910.09217), which differ for classes of exactly 20 and 100
        examples, and of the LVIS data set (arXiv 1908.03195). The accuracy that these papers report
        of a group is the mean over its classes: `LossByBucket.balanced_accuracy`.

        Args:
          counts: Training examples of each class, integers ``[class]``; for LVIS the number of
            training images with the class, not of objects. Zero if it does not occur.
          convention: Name of the convention.

        Raises:
          TypeError: If counts are not integers.
          ValueError: If `checked_masses` rejects the counts, or the convention is another.

        Example:
          >>> from imbalance import FrequencyBuckets
          >>> shots = FrequencyBuckets.shots([500, 100, 20, 3])
          >>> [shots.names[bucket] for bucket in shots.bucket_of_class]
          ['many', 'many', 'few', 'few']
        """
        if convention not in SHOTS:
            raise ValueError(f"convention is {convention!r}; give one of {', '.join(SHOTS)}.")
        names, least = SHOTS[convention]
        counts = _checked_counts(counts)
        return cls(counts, _split_by_count(counts, least[::-1]), len(names), names)

    def without_empty(self) -> Self:
        """The same buckets, renumbered, without those that hold no class."""
        full = np.flatnonzero(self.num_classes)
        number = np.full(self.num_buckets + 1, -1)  # the last for classes in no bucket
        number[full] = np.arange(len(full))
        names = None if self.names is None else [self.names[int(b)] for b in full]
        return type(self)(self.counts, number[self.bucket_of_class], len(full), names)

    @cached_property
    def num_classes(self) -> np.ndarray:
        """Number of classes in each bucket, int64 ``[bucket]``."""
        occurs = self.counts > 0
        return np.bincount(self.bucket_of_class[occurs], minlength=self.num_buckets)

    @cached_property
    def num_examples(self) -> np.ndarray:
        """Number of examples in each bucket, ``[bucket]``, of the dtype of ``counts``."""
        return self._sum(self.counts)

    @cached_property
    def count_range(self) -> np.ndarray:
        """Smallest and largest count of a class, ``[2, bucket]``; zeros for an empty bucket."""
        occurs = self.counts > 0
        bucket, counts = self.bucket_of_class[occurs], self.counts[occurs]
        span = np.zeros((2, self.num_buckets), counts.dtype)
        np.maximum.at(span[1], bucket, counts)
        span[0] = span[1]
        np.minimum.at(span[0], bucket, counts)
        return span

    @cached_property
    def unigram_loss(self) -> np.ndarray:
        """Loss in nats of a model that outputs the class frequencies, float64 ``[bucket]``.

        ``B_g = Σ n_k ln(n / n_k) / Σ n_k`` over the classes k of the bucket; NaN for an empty
        bucket.
        """
        occurs = self.counts > 0
        surprise = np.zeros(len(self.counts))
        surprise[occurs] = np.log(self.counts.sum() / self.counts[occurs])
        total = self._sum(self.counts * surprise)
        nothing = np.full(self.num_buckets, np.nan)
        return np.divide(total, self.num_examples, out=nothing, where=self.num_classes > 0)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Sum of ``values [class]`` in each bucket."""
        occurs = self.counts > 0
        total = np.zeros(self.num_buckets, values.dtype)
        np.add.at(total, self.bucket_of_class[occurs], values[occurs])
        return total


def bucket_table(buckets: FrequencyBuckets) -> str:
    """Printable table of each bucket's classes, examples, counts and unigram loss.

    Raises:
      TypeError: If ``buckets`` are not `FrequencyBuckets`.

    Example:
      >>> from imbalance import FrequencyBuckets, bucket_table
      >>> print(bucket_table(FrequencyBuckets.shots([500, 40, 3])))
      bucket  name    classes  examples  share    counts  unigram loss
           0  many          1       500  92.1%  500..500          0.08
           1  medium        1        40   7.4%    40..40          2.61
           2  few           1         3   0.6%      3..3          5.20
    """
    buckets = checked_buckets(buckets)
    columns: dict[str, list[str]] = bucket_columns(buckets)
    number, total = _format_of(buckets), buckets.counts.sum()
    columns["examples"] = [format(n, number) for n in buckets.num_examples]
    columns["share"] = [f"{n / total:.1%}" for n in buckets.num_examples]
    columns["counts"] = columns.pop("counts")  # after the examples
    columns["unigram loss"] = [
        f"{loss:.2f}" if n else "-"
        for loss, n in zip(buckets.unigram_loss, buckets.num_classes, strict=True)
    ]
    return aligned(columns, left=("name",))


def bucket_columns(buckets: FrequencyBuckets) -> dict[str, list[str]]:
    """Printable number, name, classes and range of counts of each bucket."""
    number = _format_of(buckets)
    columns = {"bucket": list(map(str, range(buckets.num_buckets)))}
    if buckets.names is not None:
        columns["name"] = list(buckets.names)
    columns["classes"] = list(map(str, buckets.num_classes))
    columns["counts"] = [
        f"{low:{number}}..{high:{number}}" if n else "-"
        for low, high, n in zip(*buckets.count_range, buckets.num_classes, strict=True)
    ]
    return columns


def checked_buckets(buckets: Any) -> FrequencyBuckets:
    """``buckets``, if they are `FrequencyBuckets`.

    Raises:
      TypeError: If not.
    """
    if isinstance(buckets, FrequencyBuckets):
        return buckets
    what = repr(buckets) if isinstance(buckets, int) else f"of type {type(buckets).__name__}"
    raise TypeError(
        f"buckets is {what}; give FrequencyBuckets, as FrequencyBuckets.from_counts(counts, "
        "num_buckets=10) of the class counts of the training set."
    )


def _format_of(buckets: FrequencyBuckets) -> str:
    return "d" if buckets.counts.dtype.kind == "i" else ".4g"


def _checked_counts(counts: ArrayLike) -> np.ndarray:
    counts = checked_masses(counts)
    if not np.issubdtype(counts.dtype, np.integer):
        raise TypeError(
            f"counts have dtype {counts.dtype}; give integers, or use FrequencyBuckets.from_masses "
            "for real masses."
        )
    return counts


def _split_by_mass(mass: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Bucket of each class, split after the first class at which each of ``least`` is reached."""
    order = rank_order(mass)
    order = order[: np.count_nonzero(mass)]
    # A repeated end makes an empty bucket, as in np.split(order, end).
    end = np.searchsorted(np.cumsum(mass[order]), least, side="left") + 1
    bucket_of_class = np.full(len(mass), -1, np.int32)
    bucket_of_class[order] = np.searchsorted(end, np.arange(len(order)), side="right")
    return bucket_of_class


def _split_by_count(counts: np.ndarray, least: ArrayLike) -> np.ndarray:
    """Bucket of each class; ``least``, ascending: the smallest counts of all but the last."""
    reached = np.searchsorted(np.asarray(least, np.int64), counts, side="right")
    return np.where(counts > 0, np.size(least) - reached, -1)
