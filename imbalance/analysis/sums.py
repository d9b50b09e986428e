"""Sums over examples, and the means, errors and shares derived from them."""

from dataclasses import dataclass

import numpy as np

# Terms of the sums, in the order of LossSums.moments: weights w and losses ℓ.
MOMENTS = ("w", "w ℓ", "w²", "w² ℓ", "w² ℓ²")

# A larger loss counts as diverged, like NaN: its square, summed over a long stream, would overflow
# the float32 sums on the device.
LARGEST_LOSS = 2.0**40


@dataclass(eq=False)
class LossSums:
    """Sums over the examples of each group, where a group is a class or a bucket of classes.

    Sums of parts of a stream, or of the classes of a bucket, add up to those of the whole, exactly
    but for the rounding of float64.

    Attributes:
      count: Examples of each group with a weight above zero, int64 ``[group]``.
      diverged: Examples counted above whose loss is NaN, infinite or beyond ``LARGEST_LOSS``, int64
        ``[group]``. They are in no sum.
      moments: Σ w, Σ w ℓ, Σ w², Σ w² ℓ and Σ w² ℓ² over the others, float64 ``[5, group]``.
      ignored: Number of examples masked by weight 0 or by their label.
      out_of_range: Number of examples whose label is no class.
      unbucketed: Number of examples whose class is in no bucket.
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
        """Mean loss ``Σ w ℓ / Σ w`` of each group, float64 ``[group]``; NaN without examples."""
        return _ratio(self.moments[1], self.moments[0])

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of `mean`, float64 ``[group]``; NaN for fewer than two examples.

        ``√(n/(n-1) Σ w² (ℓ - mean)²) / Σ w``, the linearised error of a ratio of sums over n
        independent examples; for equal weights the usual ``s / √n``. It measures the noise of the
        mean, not the variation between seeds.
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

        Zero for a group without examples; NaN everywhere if the overall loss is zero.
        """
        total = self.moments[1].sum()
        return _ratio(self.moments[1], np.full(len(self.count), total))

    @property
    def overall(self) -> float:
        """Mean loss of all examples, ``Σ w ℓ / Σ w``; NaN without examples."""
        return float(_ratio(self.moments[1].sum()[None], self.moments[0].sum()[None])[0])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """``numerator / denominator``; NaN where the denominator is 0."""
    nothing = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator != 0)
