"""Description of a class distribution: its Zipf exponent, its ranks, its rare classes."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, log10
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.counts import checked_masses, rank_order

_PILOT_DRAWS = 32  # the error of their mean is a sixth of a standard error
_BLOCK = 2**20  # numbers held at once by a step of the bootstrap


@dataclass(frozen=True)
class ZipfFit:
    """A power law ``p_r ∝ r^-exponent`` fitted by `zipf_fit`; prints as a sentence.

    Attributes:
      exponent: Exponent, corrected for the sorting of the classes.
      standard_error: Standard error of ``exponent``; near 0, where the error is not symmetric, half
        of the distance to the farther end of a 95 % interval.
      first_rank: First rank fitted.
      num_classes: Number of classes fitted.
      num_examples: Number of examples of these classes.
      distance: Kolmogorov-Smirnov distance: the largest difference of the cumulative shares from
        those of the maximum likelihood law.
      worst_rank: Rank of that difference.
      p_value: Share of samples of a power law that are at least as far from their own fits.
    """

    exponent: float
    standard_error: float
    first_rank: int
    num_classes: int
    num_examples: int
    distance: float
    worst_rank: int
    p_value: float

    @property
    def is_power_law(self) -> bool:
        """Whether the counts are consistent with a sample of a power law, ``p >= 0.1``.

        The threshold of Clauset, Shalizi and Newman 2009 (arXiv 0706.1062), Section 4.1. Millions
        of examples reject even a law that is off by less than a per cent; see ``distance``.
        """
        return self.p_value >= 0.1

    def __str__(self):
        digits = max(2, ceil(-log10(max(self.standard_error, 1e-9))))
        text = f"exponent {self.exponent:.{digits}f} ± {self.standard_error:.{digits}f} over "
        text += f"{self.num_classes} classes"
        if self.first_rank > 1:
            text += f" from rank {self.first_rank}"
        if self.is_power_law:
            return f"{text}: consistent with a power law (p = {self.p_value:.2g})"
        return (
            f"{text}: not a power law (p = {self.p_value:.2g}; cumulative shares differ by "
            f"{self.distance:.2g} at rank {self.worst_rank})"
        )


def zipf_fit(
    counts: ArrayLike,
    *,
    ranks: tuple[int, int] | None = None,
    num_draws: int = 199,
    seed: int = 0,
) -> ZipfFit:
    """Fits Zipf's law ``p_r ∝ r^-a``, ``a >= 0``, and tests whether the counts follow it.

    The model: examples are independent draws from a power law over the classes, and the ranks are
    read off the counts. Sorting makes every law look steeper, equal classes most. The maximum
    likelihood exponent is therefore corrected by samples of the law that are sorted and fitted like
    the counts. The samples also give the standard error and the p-value.

    Counts that are exact shares are smoother than any sample. They pass, with an exponent too low
    by the correction, which is small where there are many examples per class.

    Args:
      counts: Examples of each class ``[class]``. A zero is a class that could have occurred. To fit
        only the classes that occur, leave zeros out and end ``ranks`` where classes are still
        frequent (20 examples, say), since rare classes that did not occur are missing.
      ranks: First and last rank fitted, 1 being the most frequent class; None: all. Text follows
        one power law over a range of ranks at best.
      num_draws: Number of samples; the p-value is a multiple of ``1 / (num_draws + 1)``.
      seed: Seed of the samples.

    Raises:
      TypeError: If counts are not integers.
      ValueError: If `checked_masses` rejects the counts, ``ranks`` are out of range, all examples
        fitted are of one class (no exponent is steep enough), or draws are fewer than 20.
    """
    counts = np.sort(checked_masses(counts))[::-1]
    if not np.issubdtype(counts.dtype, np.integer):
        raise TypeError(f"counts have dtype {counts.dtype}; give integers, numbers of examples.")
    first, last = (1, len(counts)) if ranks is None else ranks
    if not 1 <= first <= last <= len(counts):
        raise ValueError(f"ranks are {ranks}; give the first and the last of 1 .. {len(counts)}.")
    if num_draws < 20:
        raise ValueError(f"num_draws is {num_draws}; give 20 or more.")
    fitted = slice(first - 1, last)
    if not counts[fitted][1:].any():
        raise ValueError(
            f"ranks {first} .. {last} have {counts[fitted].sum()} examples, all of one class; give "
            "counts, or ranks, of two or more classes that occur."
        )
    log_rank = np.log(np.arange(first, last + 1) / first)
    raw, distance, worst = (value.item() for value in _fit(counts[None, fitted], log_rank, 1.0))
    rng = np.random.default_rng(seed)

    def samples(exponent: float, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Exponents and distances ``[draw]`` of samples that are sorted and fitted like counts."""
        law = np.exp(-exponent * log_rank)
        # Other classes are drawn by their observed shares (Clauset et al. 2009, Section 4.1), as
        # classes near the ends of the range change places with those inside.
        p = counts / counts.sum()
        p[fitted] = p[fitted].sum() * law / law.sum()
        fits = []
        for start in range(0, num, block := max(1, _BLOCK // len(counts))):
            # Rarest first: multinomial subtracts each p from 1, where tiny ones lose all digits.
            drawn = rng.multinomial(counts.sum(), p[::-1], size=min(block, num - start))
            fits.append(_fit(np.sort(drawn)[:, ::-1][:, fitted], log_rank, exponent))
        exponents, distances, _ = map(np.concatenate, zip(*fits, strict=True))
        return exponents, distances

    # Indirect inference: find the exponent whose samples have the fit of the counts. It works on
    # squares: sorting adds about the same to all small squares.
    exponent = raw
    for _ in range(8):
        drawn, _ = samples(exponent, _PILOT_DRAWS)
        before, exponent = exponent, _root(exponent**2 + raw**2 - np.mean(drawn**2))
        if abs(exponent - before) <= np.std(drawn):
            break
    drawn, distances = samples(exponent, num_draws)
    square, spread = np.mean(drawn**2), np.std(drawn)
    if spread < 1e-12:  # all samples alike, as with two examples in many classes: nothing is known
        spread = 1.0
    # The part of a difference between squares that survives sorting: 1 where sorting does little.
    above = _root(exponent**2 + (_root(square) + 2 * spread) ** 2 - square)
    slope = (np.mean(samples(above, _PILOT_DRAWS)[0] ** 2) - square) / (above**2 - exponent**2)
    slope = max(0.1, slope)
    like = max(raw, _root(square - slope * exponent**2))  # at least that of samples of exponent 0
    low, middle, high = (
        _root(exponent**2 + (fit**2 - square) / slope)
        for fit in (max(0.0, like - 2 * spread), raw, like + 2 * spread)
    )
    return ZipfFit(
        exponent=middle,
        standard_error=max(middle - low, high - middle) / 2,
        first_rank=first,
        num_classes=last - first + 1,
        num_examples=int(counts[fitted].sum()),
        distance=distance,
        worst_rank=first + worst,
        # The tolerance is the solver's: two classes fit some power law at distance 0.
        p_value=float((1 + np.count_nonzero(distances >= distance - 1e-9)) / (1 + num_draws)),
    )


class RankFrequency(NamedTuple):
    """The classes that occur, the most frequent first; each array is ``[rank]``."""

    rank: np.ndarray
    class_index: np.ndarray
    count: np.ndarray
    share: np.ndarray
    cumulative_share: np.ndarray


def rank_frequency(counts: ArrayLike) -> RankFrequency:
    """Ranks from 1, in `rank_order`, with their classes, counts and shares.

    Args:
      counts: Examples of each class ``[class]``, or real masses.

    Raises:
      TypeError, ValueError: As `checked_masses`.
    """
    mass = checked_masses(counts)
    order = rank_order(mass)[: np.count_nonzero(mass)]
    count, total = mass[order], np.cumsum(mass[order])
    rank = np.arange(1, len(order) + 1)
    return RankFrequency(rank, order, count, count / total[-1], total / total[-1])


def tail_mass(
    counts: ArrayLike, classes: float | None = None, *, below: float | None = None
) -> float:
    """Share of the examples that belong to rare classes.

    ``tail_mass(counts, 0.5)`` is that of the rarer half of the classes that occur,
    ``tail_mass(counts, below=20)`` that of classes with fewer than 20 examples.

    Args:
      counts: Examples of each class ``[class]``, or real masses.
      classes: Share of the classes that occur, 0 to 1; their number is rounded down.
      below: Upper bound of the counts, exclusive; give this or ``classes``.

    Raises:
      TypeError: As `checked_masses`, or unless exactly one of ``classes`` and ``below`` is given.
      ValueError: As `checked_masses`, or if ``classes`` is not in 0 .. 1.
    """
    mass = np.sort(checked_masses(counts))
    if (classes is None) == (below is None):
        raise TypeError(f"classes is {classes} and below is {below}; give one of them.")
    if classes is None:
        tail = mass[mass < below]
    elif 0 <= classes <= 1:
        mass = mass[mass > 0]
        tail = mass[: int(Fraction(str(classes)) * len(mass))]  # in floats 0.29 * 100 < 29
    else:
        raise ValueError(f"classes is {classes}; give a share of the classes, 0 to 1.")
    return tail.sum().item() / mass.sum().item()


def bucket_table(buckets: FrequencyBuckets) -> str:
    """Printable table of each bucket's classes, examples, counts and unigram loss."""
    rows = [("bucket", "classes", "examples", "share", "counts", "unigram loss")]
    total = buckets.counts.sum()
    number = "d" if buckets.counts.dtype.kind == "i" else ".4g"
    for b, (examples, loss) in enumerate(
        zip(buckets.num_examples, buckets.unigram_loss, strict=True)
    ):
        inside = buckets.counts[buckets.bucket_of_class == b]
        span, surprise = "-", "-"
        if inside.size:
            span, surprise = f"{inside.min():{number}}..{inside.max():{number}}", f"{loss:.2f}"
        share = f"{examples / total:.1%}"
        rows.append((str(b), str(len(inside)), f"{examples:{number}}", share, span, surprise))
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, width)) for row in rows)


def _root(square: float | np.floating) -> float:
    return float(np.sqrt(max(0.0, square)))


def _fit(
    ranked: np.ndarray, log_rank: np.ndarray, start: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maximum likelihood power laws of ``ranked [draw, rank]``, non-increasing counts.

    Returns:
      Exponents, distances of the cumulative shares and the places of those, each ``[draw]``.
    """
    total = np.maximum(ranked.sum(axis=1), 1)
    # A sample all of one class has an infinite exponent: add half an example at the next rank.
    mean = np.maximum(ranked @ log_rank, log_rank[1] / 2) / total
    # Solves E_a[ln r] = mean; E falls as a grows, and a >= 0 as counts are sorted. Newton's method
    # in ln E, nearly straight at large a. A step at most doubles a; one that would leave the
    # bracket becomes a bisection.
    a = np.full(len(mean), start)
    low, high = np.zeros(len(mean)), np.full(len(mean), np.inf)
    law, moved = np.empty(0), np.full(1, np.inf)
    while (moved > 1e-9 * (1 + a)).any():
        law = np.exp(-a[:, None] * log_rank)
        law /= law.sum(axis=1, keepdims=True)
        expected = law @ log_rank
        low, high = np.where(expected > mean, a, low), np.where(expected > mean, high, a)
        slope = (law @ log_rank**2) / expected - expected
        after = np.minimum(a + np.log(expected / mean) / slope, 2 * a + 1)
        after = np.where((after >= low) & (after <= high), after, (low + high) / 2)
        moved, a = np.abs(after - a), after
    gap = np.abs(np.cumsum(ranked, axis=1) / total[:, None] - np.cumsum(law, axis=1))
    return a, gap.max(axis=1), gap.argmax(axis=1)
