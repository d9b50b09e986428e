"""Sums over examples, and the means, errors and shares derived from them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Terms of the sums, in the order of LossSums.moments: weights w and losses ℓ.
MOMENTS = ("w", "w ℓ", "w²", "w² ℓ", "w² ℓ²")

# A larger loss counts as diverged, like NaN: its square, summed over a long stream, would overflow
# the float32 sums on the device.
LARGEST_LOSS = 2.0**40

# Fields of LossSums that add up.
ARRAYS = ("count", "diverged", "moments")
LEFT_OUT = ("ignored", "out_of_range", "unbucketed")


@dataclass(eq=False)
class LossSums:
    """Sums over the examples of each group, where a group is a class or a bucket of classes.

    Sums of parts of a stream, or of the classes of a bucket, add up to those of the whole, exactly
    but for the rounding of float64. An update replaces the arrays: what was read before stays as it
    was.

    Attributes:
      count: Examples of each group with a weight above zero, int64 ``[group]``.
      diverged: Examples counted above whose loss is NaN, infinite or beyond ``LARGEST_LOSS``, int64
        ``[group]``. They are in no sum.
      moments: Σ w, Σ w ℓ, Σ w², Σ w² ℓ and Σ w² ℓ² over the others, float64 ``[5, group]``.
      ignored: Number of examples that are masked, by a mask, weight 0 or their label.
      out_of_range: Number of examples whose label is no class.
      unbucketed: Number of examples whose class is in no bucket.
      correct: Sums of 1 for a correct prediction and 0 for a wrong one, in place of losses, over
        the examples of which this is known; None if of none.
    """

    count: np.ndarray
    diverged: np.ndarray
    moments: np.ndarray
    ignored: int = 0
    out_of_range: int = 0
    unbucketed: int = 0
    correct: "LossSums | None" = None

    @property
    def weight(self) -> np.ndarray:
        """Total weight Σ w of each group, float64 ``[group]``."""
        return self.moments[0]

    @property
    def mean(self) -> np.ndarray:
        """Mean loss ``Σ w ℓ / Σ w`` of each group, float64 ``[group]``; NaN without examples."""
        return _ratio(self.moments[1], self.moments[0])

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of `mean`, float64 ``[group]``; NaN for fewer than two examples.

        ``√(n/(n-1) Σ w² (ℓ - mean)²) / Σ w``, the linearised error of a ratio of sums over n
        independent examples; for equal weights the usual ``s / √n``. It measures the noise of the
        mean, not the variation between seeds.
        """
        return _standard_error(self.moments, self.count - self.diverged)

    @property
    def share(self) -> np.ndarray:
        """Share of the overall loss, ``Σ w ℓ`` of the group over that of all, float64 ``[group]``.

        Zero for a group without examples; NaN everywhere if the overall loss is zero.
        """
        total = self.moments[1].sum()
        return _ratio(self.moments[1], np.full(len(self.count), total))

    @property
    def perplexity(self) -> np.ndarray:
        """``exp(mean)`` of each group, of losses in nats, float64 ``[group]``."""
        return _exp(self.mean)

    @property
    def accuracy(self) -> np.ndarray:
        """Share of correct predictions, ``Σ w [correct] / Σ w``, float64 ``[group]``.

        The accuracy of a class is its recall. It is over the examples given with ``correct``, those
        of diverged losses too; NaN without such examples.

        Raises:
          ValueError: If no update had ``correct``.
        """
        return self._known().mean

    @property
    def accuracy_standard_error(self) -> np.ndarray:
        """Standard error of `accuracy`, as `standard_error`, float64 ``[group]``.

        Raises:
          ValueError: If no update had ``correct``.
        """
        return self._known().standard_error

    @property
    def overall(self) -> float:
        """Mean loss of all examples, ``Σ w ℓ / Σ w``; NaN without examples."""
        return float(_ratio(self.moments[1].sum()[None], self.moments[0].sum()[None])[0])

    @property
    def overall_standard_error(self) -> float:
        """Standard error of `overall`, as `standard_error`; NaN for fewer than two examples."""
        n = np.sum(self.count - self.diverged)[None]
        return float(_standard_error(self.moments.sum(axis=1, keepdims=True), n)[0])

    @property
    def overall_perplexity(self) -> float:
        """``exp(overall)``: the perplexity of the data, for losses in nats."""
        return float(_exp(np.array(self.overall)))

    @property
    def overall_accuracy(self) -> float:
        """Share of correct predictions among all examples, ``Σ w [correct] / Σ w``.

        Raises:
          ValueError: If no update had ``correct``.
        """
        return self._known().overall

    def _known(self) -> "LossSums":
        if self.correct is None:
            raise ValueError(
                "no prediction is known: give update the keyword correct=prediction == label."
            )
        return self.correct


def sums_of(
    loss: np.ndarray, group: np.ndarray, weight: np.ndarray | None, num_groups: int
) -> LossSums:
    """Sums of one batch, of weights above 0; all arrays ``[example]``."""

    def by_group(values: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(group, values, num_groups)

    count = number = by_group()
    usable = np.abs(loss) <= LARGEST_LOSS  # not so for NaN
    diverged = np.zeros_like(count)
    if not usable.all():
        diverged = np.bincount(group[~usable], minlength=num_groups)
        number = count - diverged
        loss, group = loss[usable], group[usable]
        weight = None if weight is None else weight[usable]
    if weight is None:  # w = w² = 1
        total = by_group(loss)
        terms = [number, total, number, total, by_group(loss * loss)]
    else:
        weighted = weight * loss
        products = (weight, weighted, weight * weight, weight * weighted, weighted * weighted)
        terms = [by_group(values) for values in products]
    # bincount of nothing is of integers.
    return LossSums(count, diverged, np.stack(terms, dtype=np.float64))


def added(one: LossSums, other: LossSums, use_up: bool = False) -> dict[str, Any]:
    """Fields of the sums of both; the arrays cannot be written to.

    They are new ones, or those of ``other`` if that is to be used up: a small batch at many classes
    is as fast as memory.
    """
    total: dict[str, Any] = {}
    for name in ARRAYS:
        a, b = getattr(one, name), getattr(other, name)
        total[name] = frozen(np.add(a, b, out=b if use_up else None))
    total |= {name: getattr(one, name) + getattr(other, name) for name in LEFT_OUT}
    if one.correct is None or other.correct is None:
        total["correct"] = other.correct if one.correct is None else one.correct
    else:
        total["correct"] = LossSums(**added(one.correct, other.correct, use_up))
    return total


def regrouped(sums: LossSums, into: np.ndarray, num_groups: int) -> dict[str, Any]:
    """Fields of the sums of groups of groups; ``into`` has the new group of each, -1 for none."""
    inside = into >= 0

    def summed(values: np.ndarray) -> np.ndarray:
        total = np.zeros((*values.shape[:-1], num_groups), values.dtype)
        np.add.at(total.T, into[inside], values.T[inside])
        return frozen(total)

    total: dict[str, Any] = {name: summed(getattr(sums, name)) for name in ARRAYS}
    total |= {name: getattr(sums, name) for name in LEFT_OUT}
    total["unbucketed"] += int(sums.count[~inside].sum())
    if sums.correct is not None:
        total["correct"] = LossSums(**regrouped(sums.correct, into, num_groups))
    return total


def frozen(array: np.ndarray) -> np.ndarray:
    """The same array, which cannot be written to any more."""
    array.flags.writeable = False
    return array


def _standard_error(moments: np.ndarray, n: np.ndarray) -> np.ndarray:
    weight, total, square, square_loss, square_square = moments
    mean = _ratio(total, weight)
    with np.errstate(invalid="ignore"):  # empty groups
        spread = square_square - 2 * mean * square_loss + mean**2 * square
    correction = _ratio(n, np.maximum(n - 1, 0))
    return np.sqrt(correction * np.maximum(spread, 0)) * _ratio(np.ones(len(n)), weight)


def _exp(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # the perplexity of a loss of 1,000 is infinite in float64
        return np.exp(values)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """``numerator / denominator``; NaN where the denominator is 0."""
    nothing = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator != 0)
