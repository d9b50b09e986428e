"""The unigram softmax model under gradient, normalised gradient and sign descent.

The model has logits and no input: ``L(w) = -Σ π_k log softmax(w)_k``, ``π_k ∝ k^-α``, from
``w = 0``. The optimum is ``w_k = log π_k``, up to a constant. After Yadav, Xie, Wang and Li 2025
(arXiv 2512.00763): steepest descent in a norm has ``L(w_T) - L* = O(S D² / T)``, with smoothness S
and distance D to an optimum in that norm. Under a heavy tail the maximum norm has by far the
smaller product.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from imbalance.theory.zipf import zipf_probabilities

Rule = Literal["gd", "normalized_gd", "sign"]
RULES = ("gd", "normalized_gd", "sign")


class Bound(NamedTuple):
    """Constants in the convergence rate of steepest descent in a norm."""

    smoothness: float  # S: largest of vᵀ∇²L v / ‖v‖²
    distance: float  # D: from the start to the nearest optimum

    @property
    def product(self) -> float:
        """``S D²``: the bound on the excess loss after T steps is a constant times this over T."""
        return self.smoothness * self.distance**2


def excess_at_start(num_classes: int, exponent: float = 1.0) -> float:
    """``L(0) - L* = log d - H(π)``, nats.

    Raises:
      ValueError: As `zipf_probabilities`.
    """
    probability = zipf_probabilities(num_classes, exponent)
    return math.log(num_classes) + float(probability @ np.log(probability))


def euclidean_bound(num_classes: int, exponent: float = 1.0) -> Bound:
    """Constants of gradient descent, normalised or not: ``S ≤ 1/2``, D² the scatter of ``α log k``.

    D² grows like ``α² d``: every rare class contributes.

    Raises:
      ValueError: As `zipf_probabilities`.
    """
    optimum = np.log(zipf_probabilities(num_classes, exponent))
    return Bound(0.5, float(np.linalg.norm(optimum - optimum.mean())))


def maximum_bound(num_classes: int, exponent: float = 1.0) -> Bound:
    """Constants of sign descent: ``S ≤ 1`` and ``D = (α log d) / 2``, so ``S D² ≤ α² log² d / 4``.

    Raises:
      ValueError: As `zipf_probabilities`.
    """
    optimum = np.log(zipf_probabilities(num_classes, exponent))
    return Bound(1.0, float(np.ptp(optimum)) / 2)


def excess_after(
    rule: Rule,
    num_classes: int,
    learning_rates: Sequence[float],
    steps: int,
    *,
    exponent: float = 1.0,
    decay: bool = False,
) -> np.ndarray:
    """``L(w_T) - L*`` after T steps from zero at each learning rate, nats, float64 ``[rate]``.

    Args:
      rule: Update rule: "gd" adds ``-η ∇L``, "normalized_gd" ``-η ∇L / ‖∇L‖``, "sign"
        ``-η sign(∇L)``.
      num_classes: Number of classes d.
      learning_rates: Learning rates η, ``[rate]``.
      steps: Number of steps T.
      exponent: Exponent α.
      decay: Whether the rate decays linearly from η to zero.

    Raises:
      ValueError: For an unknown rule, no step, a rate that is not above 0, or as
        `zipf_probabilities`.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; give one of {', '.join(RULES)}.")
    rate = np.asarray(learning_rates, float)
    if steps < 1 or rate.ndim != 1 or not np.all(rate > 0):
        raise ValueError(f"{steps} steps at rates {learning_rates}; give 1 or more, above 0.")
    probability = zipf_probabilities(num_classes, exponent)
    logits = np.zeros((len(rate), num_classes))
    for step in range(steps):
        direction = probability - _softmax(logits)
        if rule == "sign":
            direction = np.sign(direction)
        elif rule == "normalized_gd":
            direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-300)
        share = 1 - step / steps if decay else 1.0
        logits += share * rate[:, None] * direction
    # The relative entropy of π to the model, which avoids the cancellation in L - L*.
    logits -= logits.max(axis=1, keepdims=True)
    log_model = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return np.maximum((np.log(probability) - log_model) @ probability, 0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)
