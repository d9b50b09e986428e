"""Sums over examples, and the means, errors and shares read from them."""

from dataclasses import dataclass

import numpy as np

# What is summed, in the order of LossSums.moments: weights w and losses ℓ.
MOMENTS = ("w", "w ℓ", "w²", "w² ℓ", "w² ℓ²")

# A loss beyond this has diverged, like NaN: the square of a larger one, summed over a long stream,
# would leave the range of float32, in which the twin of these sums on the device works.
LARGEST_LOSS = 2.0**40


@dataclass(eq=False)
class LossSums:
    """Sums over the examples of each group, where a group is a class or a bucket of classes.

    They add up: two parts of a stream are the sum of their sums, and so is a bucket of its classes,
    exactly but for the rounding of float64.

    Attributes:
      count: examples of each group with a weight above zero, int64 ``[group]``.
      diverged: those of them whose loss is NaN, infinite or beyond ``LARGEST_LOSS``, int64
        ``[group]``. They are counted here and are in no sum.
      moments: Σ w, Σ w ℓ, Σ w², Σ w² ℓ and Σ w² ℓ² over the others, float64 ``[5, group]``.
      ignored: examples that were masked, by weight 0 or by their label.
      out_of_range: examples whose label is no class.
      unbucketed: examples whose class is in no bucket.
    """

    count: np.ndarray
    diverged: np.ndarray
    moments: np.ndarray
    ignored: int = 0
    out_of_range: int = 0
    unbucketed: int = 0

    @property
    def weight(self) -> np.ndarray:
        """Total weight Σ w of each group, float64 ``[group]``."""
        return self.moments[0]

    @property
    def mean(self) -> np.ndarray:
        """Mean loss ``Σ w ℓ / Σ w`` of each group, float64 ``[group]``; NaN where nothing was seen.

        A group of which something was seen and whose loss is zero has mean 0, not NaN.
        """
        return _ratio(self.moments[1], self.moments[0])

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of `mean`, float64 ``[group]``; NaN where fewer than two were seen.

        ``√(n/(n-1) Σ w² (ℓ - mean)²) / Σ w``, the linearised error of a ratio of sums over n
        examples drawn independently; for equal weights it is the usual ``s / √n``. It tells how
        noisy the mean of a rare group is, not what another seed would give.
        """
        weight, _, square, square_loss, square_square = self.moments
        mean, n = self.mean, self.count - self.diverged
        with np.errstate(invalid="ignore"):  # empty groups
            spread = square_square - 2 * mean * square_loss + mean**2 * square
        correction = _ratio(n, np.maximum(n - 1, 0))
        return np.sqrt(correction * np.maximum(spread, 0)) * _ratio(np.ones(len(n)), weight)

    @property
    def share(self) -> np.ndarray:
        """Share of the overall loss, ``Σ w ℓ`` of the group over that of all, float64 ``[group]``.

        Zero for a group of which nothing was seen; NaN everywhere if the overall loss is zero.
        """
        total = self.moments[1].sum()
        return _ratio(self.moments[1], np.full(len(self.count), total))

    @property
    def overall(self) -> float:
        """Mean loss of all examples, ``Σ w ℓ / Σ w``; NaN if nothing was seen."""
        return float(_ratio(self.moments[1].sum()[None], self.moments[0].sum()[None])[0])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """``numerator / denominator``, NaN where the latter is 0."""
    nothing = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator != 0)
