"""Description of a class distribution: its Zipf exponent, its ranks, its rare classes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, log10
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from imbalance.analysis.counts import checked_masses, rank_order
from imbalance.analysis.power_law import RankRange, SortedTables

_PILOT_DRAWS = 8  # their mean is good to a third of a standard error; the last draws refine it
_SLOPE_DRAWS = 32
_BLOCK = 2**20  # numbers held at once by a step of the bootstrap
# A tenth of the samples of a law are rejected and get a wider error: together 68 % are covered.
_COVERED = 0.65


@dataclass(frozen=True)
class ZipfFit:
    """A power law ``p_r ∝ r^-exponent`` fitted by `zipf_fit`; prints as a sentence.

    Attributes:
      exponent: Exponent of maximum likelihood.
      standard_error: Distance from ``exponent`` within which the exponent of the law lies for 68 %
        of its samples, and within twice of it for at least 90 %; it includes the bias of sorting.
        Where the counts are not a power law, at least the distance to the farthest of
        ``local_exponents``.
      corrected: Exponent without the bias of sorting; NaN where the counts are not a power law.
      corrected_error: Standard error of ``corrected``; near 0, where the error is not symmetric,
        half of the distance to the farther end of a 95 % interval. NaN as ``corrected``.
      local_exponents: Exponents of maximum likelihood over parts of the range, about a decade of
        ranks each, from frequent to rare; NaN for a part without examples.
      local_ranks: Ranks at which the parts begin and end, one more than there are exponents.
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
    corrected: float
    corrected_error: float
    local_exponents: tuple[float, ...]
    local_ranks: tuple[int, ...]
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
        text = f"exponent {_with_error(self.exponent, self.standard_error)} over "
        text += f"{self.num_classes} classes"
        if self.first_rank > 1:
            text += f" from rank {self.first_rank}"
        if not self.is_power_law:
            low, high = np.nanmin(self.local_exponents), np.nanmax(self.local_exponents)
            return (
                f"{text}: not a power law (p = {self.p_value:.2g}); local exponents run from "
                f"{low:.2f} to {high:.2f}, and cumulative shares differ by {self.distance:.2g} at "
                f"rank {self.worst_rank}"
            )
        text += f": consistent with a power law (p = {self.p_value:.2g})"
        if abs(self.exponent - self.corrected) > self.corrected_error:
            text += f"; {_with_error(self.corrected, self.corrected_error)} without the bias of "
            text += "sorting"
        return text


def zipf_fit(
    counts: ArrayLike,
    *,
    ranks: tuple[int, int] | None = None,
    num_draws: int = 199,
    seed: int = 0,
) -> ZipfFit:
    """Fits Zipf's law ``p_r ∝ r^-a``, ``a >= 0``, and tests whether the counts follow it.

    The exponent is that of maximum likelihood over the ranks that are fitted, truncated to them
    where they are not all. With ``n_r`` the count of rank r and sums over these ranks,

        ``Σ n_r ln r / Σ n_r = E_a[ln r]``,    ``E_a[ln r] = Σ r^-a ln r / Σ r^-a``.

    The model: examples are independent draws from a power law over the classes, and the ranks are
    read off the counts. Sorting makes every law look steeper, equal classes most. Where n examples
    are many for each of c classes, the exponent is too large by about ``c / (2 a n V)``, V being
    the variance of ``ln r`` under the law; its sampling error is ``1 / √(n V)``, the larger of the
    two only where ``n > c² / (4 a² V)``. The standard error covers both. Samples of the law, sorted
    and fitted like the counts, tell how large they are. They also give ``corrected``, the exponent
    whose samples have the fit of the counts, and the p-value.

    None of this holds where the counts are not a power law, and sampling is then the least of the
    errors: the standard error becomes as wide as the exponents of parts of the range lie apart, and
    no correction is given.

    Counts that are exact shares are smoother than any sample. They pass.

    Args:
      counts: Examples of each class ``[class]``. A zero is a class that could have occurred. To fit
        only the classes that occur, leave zeros out and end ``ranks`` where classes are still
        frequent (20 examples, say), since rare classes that did not occur are missing.
      ranks: First and last rank fitted, 1 being the most frequent class; None: all. Text follows
        one power law over a range of ranks at best.
      num_draws: Number of samples; the p-value is a multiple of ``1 / (num_draws + 1)``. Those
        without an example in the range are left out.
      seed: Seed of the samples.

    Raises:
      TypeError: If counts are not integers.
      ValueError: If `checked_masses` rejects the counts, ``ranks`` are out of range, all examples
        fitted are of one class (no exponent is steep enough), or draws are fewer than 20.

    Example:
      >>> from imbalance import zipf_fit
      >>> fit = zipf_fit([1200, 600, 400, 300, 240, 200])
      >>> round(fit.exponent, 2), fit.is_power_law
      (1.0, True)
      >>> print(fit)
      exponent 1.00 ± 0.03 over 6 classes: consistent with a power law (p = 1)
    """
    counts = np.sort(checked_masses(counts))[::-1]
    if not np.issubdtype(counts.dtype, np.integer):
        raise TypeError(f"counts have dtype {counts.dtype}; give integers, numbers of examples.")
    first, last = (1, len(counts)) if ranks is None else ranks
    if not 1 <= first <= last <= len(counts):
        raise ValueError(f"ranks are {ranks}; give the first and the last of 1 .. {len(counts)}.")
    if num_draws < 20:
        raise ValueError(f"num_draws is {num_draws}; give 20 or more.")
    ranked = counts[first - 1 : last]
    if not ranked[1:].any():
        raise ValueError(
            f"ranks {first} .. {last} have {ranked.sum()} examples, all of one class; give counts, "
            "or ranks, of two or more classes that occur."
        )
    fitted = RankRange(first, last)
    raw = fitted.exponents(ranked[None])
    distance, worst = fitted.distances(ranked[None], raw)
    bootstrap = _Bootstrap(counts, fitted, seed)
    law = bootstrap.law_of(raw.item(), num_draws)
    local_ranks, local_exponents = _local(counts, first, last)
    fit = ZipfFit(
        exponent=raw.item(),
        standard_error=law.error_of_raw,
        corrected=law.exponent,
        corrected_error=law.error,
        local_exponents=local_exponents,
        local_ranks=local_ranks,
        first_rank=first,
        num_classes=last - first + 1,
        num_examples=int(ranked.sum()),
        distance=distance.item(),
        worst_rank=worst.item(),
        # The tolerance is the solver's: two classes fit some power law at distance 0.
        p_value=float(
            (1 + np.count_nonzero(law.distances >= distance - 1e-9)) / (1 + len(law.distances))
        ),
    )
    if fit.is_power_law:
        return fit
    apart = float(np.nanmax(np.abs(np.array(local_exponents) - fit.exponent)))
    error = max(fit.standard_error, apart)
    return replace(fit, standard_error=error, corrected=np.nan, corrected_error=np.nan)


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

    Example:
      >>> from imbalance import rank_frequency
      >>> ranks = rank_frequency([2, 5, 0, 3])
      >>> ranks.class_index, ranks.cumulative_share
      (array([1, 3, 0]), array([0.5, 0.8, 1. ]))
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

    Example:
      >>> from imbalance import tail_mass
      >>> tail_mass([60, 30, 8, 2], 0.5), tail_mass([60, 30, 8, 2], below=5)
      (0.1, 0.02)
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


def _with_error(value: float, error: float) -> str:
    digits = max(2, ceil(-log10(max(error, 1e-9))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


class _Law(NamedTuple):
    """The power law whose samples have the fit of the counts.

    Attributes:
      exponent: Exponent of the law.
      error: Its standard error.
      error_of_raw: Distance between the fit of a sample and the law in 68 % of the samples.
      distances: Kolmogorov-Smirnov distances of the samples from their fits ``[draw]``.
    """

    exponent: float
    error: float
    error_of_raw: float
    distances: np.ndarray


class _Bootstrap:
    """Samples of power laws over a range of ranks, sorted and fitted like ``counts``."""

    def __init__(self, counts: np.ndarray, fitted: RankRange, seed: int):
        self.counts, self.fitted = counts, fitted
        self.rng = np.random.default_rng(seed)

    def tables(self, exponent: float, num: int) -> Iterator[np.ndarray]:
        """Counts ``[table, rank]`` of ``num`` samples of a law, some at a time."""
        inside = slice(self.fitted.first - 1, self.fitted.last)
        law = np.exp(-exponent * self.fitted.log_rank)
        # Other classes are drawn by their observed shares (Clauset et al. 2009, Section 4.1), as
        # classes near the ends of the range change places with those inside.
        share = self.counts / self.counts.sum()
        share[inside] = share[inside].sum() * law / law.sum()
        tables = SortedTables(share, int(self.counts.sum()))
        for start in range(0, num, block := max(1, _BLOCK // len(share))):
            drawn = [tables.draw(self.rng)[inside] for _ in range(min(block, num - start))]
            yield np.stack(drawn)

    def exponents(self, exponent: float, num: int) -> np.ndarray:
        """Exponents ``[draw]`` that are fitted to samples of a law.

        Samples without examples in the range, of which nothing can be fitted, are left out.
        """
        tables = self.tables(exponent, num)
        found = np.concatenate([self.fitted.exponents(ranked, exponent) for ranked in tables])
        return found[~np.isnan(found)]

    def law_of(self, raw: float, num_draws: int) -> _Law:
        """The law whose samples have the fit ``raw``: indirect inference.

        It works on squares: sorting adds about the same to all small squares.
        """
        exponent = raw
        for _ in range(8):
            drawn = self.exponents(exponent, _PILOT_DRAWS)
            if not drawn.size:
                break
            before, exponent = exponent, _root(exponent**2 + raw**2 - np.mean(drawn**2))
            if abs(exponent - before) <= np.std(drawn):
                break
        fits = []
        for ranked in self.tables(exponent, num_draws):
            found = self.fitted.exponents(ranked, exponent)
            fits.append((found, self.fitted.distances(ranked, found)[0]))
        drawn, distances = map(np.concatenate, zip(*fits, strict=True))
        known = ~np.isnan(drawn)
        if not known.any():  # as at the last ranks of classes of one example each
            return _Law(raw, 1.0, 1.0, distances[known])
        drawn, distances = drawn[known], distances[known]
        square, spread = np.mean(drawn**2), np.std(drawn)
        if spread < 1e-12:  # all alike, as with two examples in many classes: nothing is known
            spread = 1.0
        # The part of a difference between squares that survives sorting: 1 where it does little.
        above = _root(exponent**2 + (_root(square) + 2 * spread) ** 2 - square)
        steeper = self.exponents(above, _SLOPE_DRAWS)
        slope = (np.mean(steeper**2) - square) / (above**2 - exponent**2) if steeper.size else 1.0
        slope = max(0.1, slope)
        like = max(raw, _root(square - slope * exponent**2))  # at least that of exponent 0
        low, middle, high = (
            _root(exponent**2 + (fit**2 - square) / slope)
            for fit in (max(0.0, like - 2 * spread), raw, like + 2 * spread)
        )
        error = max(middle - low, high - middle) / 2
        # Samples lie around their law as the counts around theirs: what each says of that law.
        laws = np.sqrt(np.maximum(0.0, exponent**2 + (like**2 - drawn**2) / slope))
        error_of_raw = float(np.quantile(np.abs(raw - laws), _COVERED))
        return _Law(middle, error, max(error_of_raw, float(spread) / 2), distances)


def _root(square: float | np.floating) -> float:
    return float(np.sqrt(max(0.0, square)))


def _local(counts: np.ndarray, first: int, last: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Ranks that part a range into decades, two at least, and the exponent of each part."""
    num_parts = max(2, round(log10(last / first)))
    ends = np.unique(np.rint(np.geomspace(first, last, num_parts + 1)).astype(int)).tolist()
    parts = [
        RankRange(low, high).exponents(counts[None, low - 1 : high]).item()
        for low, high in zip(ends, ends[1:], strict=False)
    ]
    return tuple(ends), tuple(parts)
