"""What is proved: closed forms and rates, each with its theorem, conditions and errata."""

from imbalance.theory.flows import (
    gradient_flow_bounds,
    gradient_flow_loss,
    gradient_flow_margin,
    loss_of_margin,
    sign_flow_loss,
)
from imbalance.theory.quadratic import (
    quadratic_gd,
    quadratic_sign,
    quadratic_stability_limit,
)
from imbalance.theory.zipf import frequent_ranks, zipf_probabilities

__all__ = [
    "frequent_ranks",
    "gradient_flow_bounds",
    "gradient_flow_loss",
    "gradient_flow_margin",
    "loss_of_margin",
    "quadratic_gd",
    "quadratic_sign",
    "quadratic_stability_limit",
    "sign_flow_loss",
    "zipf_probabilities",
]
