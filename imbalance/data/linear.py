"""Random inputs for linear models, independent of the labels."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Uniform:
    """Uniform distribution between low and high; on [0, 1] that of Figure 4.

    Raises:
      ValueError: Unless ``low < high``, both finite.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self}: give finite numbers with low < high.")

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Independent entries, float32 ``shape``."""
        values = rng.random(shape, dtype=np.float32)
        # In place: at m = 11 the array takes 2.2 GB.
        values *= np.float32(self.high - self.low)
        values += np.float32(self.low)
        return values


@dataclass(frozen=True)
class Normal:
    """Normal distribution; the paper's appendix uses N(1, 1) and N(0, 1).

    Raises:
      ValueError: Unless both are finite and the scale, a standard deviation, is positive.
    """

    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.mean) and math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"{self}: give finite numbers with scale > 0.")

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Independent entries, float32 ``shape``."""
        values = rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(self.scale)
        values += np.float32(self.mean)
        return values


Distribution = Uniform | Normal


def random_inputs(
    distribution: Distribution,
    num_examples: int,
    dimension: int,
    seed: int,
    bias_column: bool = False,
) -> np.ndarray:
    """Independent random inputs; equal seeds give equal inputs.

    Args:
      distribution: Distribution of every entry.
      num_examples: Number of rows.
      dimension: Number of columns.
      seed: Random seed, 0 or more.
      bias_column: Whether to append a column of ones; the other columns do not change.

    Returns:
      float32 ``[example, input]``.

    Raises:
      ValueError: If a size is less than 1 or the seed is negative.
    """
    if num_examples < 1 or dimension < 1:
        raise ValueError(f"inputs of shape ({num_examples}, {dimension}); give sizes of 1 or more.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; give an integer, 0 or more.")
    values = distribution.draw(np.random.default_rng(seed), (num_examples, dimension))
    if not bias_column:
        return values
    return np.concatenate([values, np.ones((num_examples, 1), np.float32)], axis=1)
