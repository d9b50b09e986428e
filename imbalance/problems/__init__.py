"""Problems: a task with its data; of linear models, text and images.

`imbalance.problems.language` and `imbalance.problems.vision` load flax, so they are named in full.
"""

from imbalance.problems.linear import (
    balanced_linear,
    heavy_tailed_linear,
    power_law_linear,
    random_linear,
    simple_imbalanced,
    weighted_quadratic,
)
from imbalance.problems.problem import Problem

__all__ = [
    "Problem",
    "balanced_linear",
    "heavy_tailed_linear",
    "power_law_linear",
    "random_linear",
    "simple_imbalanced",
    "weighted_quadratic",
]
