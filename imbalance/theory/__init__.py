"""Closed forms and rates, each with its theorem, its conditions and corrections."""

from imbalance.theory.associative import (
    Embeddings,
    coupled_embeddings,
    decoupled_embeddings,
    descent_direction,
    fact_probabilities,
    one_step,
    spectral_entropy,
)
from imbalance.theory.bigram import (
    Bigrams,
    bigrams_of,
    gd_relative_loss,
    sign_relative_loss,
    steps_to,
    zipf_gd,
    zipf_gd_limit,
    zipf_gd_time,
    zipf_sign,
    zipf_sign_best,
    zipf_sign_limit,
    zipf_sign_time,
)
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
from imbalance.theory.unigram import (
    Bound,
    euclidean_bound,
    excess_after,
    excess_at_start,
    maximum_bound,
)
from imbalance.theory.zipf import frequent_ranks, zipf_probabilities

__all__ = [
    "Bigrams",
    "Bound",
    "Embeddings",
    "bigrams_of",
    "coupled_embeddings",
    "decoupled_embeddings",
    "descent_direction",
    "euclidean_bound",
    "excess_after",
    "excess_at_start",
    "fact_probabilities",
    "frequent_ranks",
    "gd_relative_loss",
    "gradient_flow_bounds",
    "gradient_flow_loss",
    "gradient_flow_margin",
    "loss_of_margin",
    "maximum_bound",
    "one_step",
    "quadratic_gd",
    "quadratic_sign",
    "quadratic_stability_limit",
    "sign_flow_loss",
    "sign_relative_loss",
    "spectral_entropy",
    "steps_to",
    "zipf_gd",
    "zipf_gd_limit",
    "zipf_gd_time",
    "zipf_probabilities",
    "zipf_sign",
    "zipf_sign_best",
    "zipf_sign_limit",
    "zipf_sign_time",
]
