"""One-layer associative memory under gradient descent, sign descent and Muon.

K facts map a key to a value. With embeddings of keys ``E [feature, key]`` and of values
``Ẽ [feature, value]`` the model is ``f_W(k) = softmax(Ẽᵀ W E_k)``. The loss is the mean of the
cross-entropies with weights p_k: a few facts are frequent, the others rare. After Wang et al. 2025
(arXiv 2509.26030), whose Theorem 5.3 describes the effect of one step from ``W = 0`` on the rarest
facts.
"""

import math
from typing import NamedTuple

import numpy as np


class Embeddings(NamedTuple):
    """Embeddings of keys and values, with columns of unit length."""

    keys: np.ndarray  # E, float64 [feature, fact]
    values: np.ndarray  # Ẽ, float64 [feature, fact]


def fact_probabilities(num_facts: int, mass: float = 0.8, share: float = 0.2) -> np.ndarray:
    """Weights of the facts, float64 ``[fact]``: the frequent ``share`` of them holds ``mass``.

    Raises:
      ValueError: Unless both numbers lie between 0 and 1 and leave facts of both kinds.
    """
    frequent = round(share * num_facts)
    if not (0 < mass < 1 and 0 < frequent < num_facts):
        raise ValueError(
            f"{num_facts} facts, mass {mass}, share {share}; give numbers between 0 and 1 that "
            "leave facts of both kinds."
        )
    rare = num_facts - frequent
    return np.repeat([mass / frequent, (1 - mass) / rare], [frequent, rare])


def decoupled_embeddings(num_facts: int) -> Embeddings:
    """``E = Ẽ = I``: every fact has its own coordinate."""
    return Embeddings(np.eye(num_facts), np.eye(num_facts))


def coupled_embeddings(num_facts: int) -> Embeddings:
    """Orthonormal embeddings on which sign descent fails: blocks of two rotations.

    ``Ẽ = I ⊗ R(3.638, 2.949, 5.218)`` and ``E = I ⊗ R(1.715, .876, 3.098)``, as in Wang et al.

    Raises:
      ValueError: If the number of facts is not a multiple of 3.
    """
    if num_facts < 3 or num_facts % 3:
        raise ValueError(f"{num_facts} facts; give a multiple of 3.")
    blocks = np.eye(num_facts // 3)
    keys, values = _rotation(1.715, 0.876, 3.098), _rotation(3.638, 2.949, 5.218)
    return Embeddings(np.kron(blocks, keys), np.kron(blocks, values))


def descent_direction(
    embeddings: Embeddings, probability: np.ndarray, weight: np.ndarray, rule: str
) -> np.ndarray:
    """Update of W by one step of size 1, float64 ``[feature, feature]``.

    The negative gradient is ``-∇L = Ẽ (diag(p) - P diag(p)) Eᵀ``, with P the model's probabilities
    ``[value, key]``. The update is ``-∇L`` for "gd", its signs for "sign", and ``U Vᵀ`` of its
    singular vectors for "muon".

    Raises:
      ValueError: For an unknown rule.
    """
    predicted = _softmax(embeddings.values.T @ weight @ embeddings.keys)
    errors = (np.eye(len(probability)) - predicted) * probability
    negative = embeddings.values @ errors @ embeddings.keys.T
    if rule == "gd":
        return negative
    if rule == "sign":
        # Entries that are zero up to rounding have no sign.
        return np.sign(np.where(np.abs(negative) > 1e-12 * np.abs(negative).max(), negative, 0))
    if rule == "muon":
        left, size, right = np.linalg.svd(negative)
        return (left * (size > 1e-12 * size[0])) @ right
    raise ValueError(f"unknown rule {rule!r}; give 'gd', 'sign' or 'muon'.")


def one_step(
    embeddings: Embeddings, probability: np.ndarray, rule: str, epsilon: float = 0.1
) -> np.ndarray:
    """Probability of every fact's own value after one step from ``W = 0``, float64 ``[fact]``.

    The step size brings the best fact to ``1 - ε``. By Theorem 5.3, Muon then has all facts at
    ``1 - ε (1 + O(log K / K))`` for any embeddings. Sign descent does so for decoupled embeddings,
    but not for `coupled_embeddings`. Gradient descent leaves the rarest fact at ``O(ε^-r K^(r-1))``
    with r below 1, so that max - min goes to ``1 - ε``.

    Raises:
      ValueError: For an unknown rule, or ε not between 0 and 1.
    """
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon is {epsilon}; give a number between 0 and 1.")
    zero = np.zeros((len(embeddings.values), len(embeddings.keys)))
    step = descent_direction(embeddings, probability, zero, rule)
    logits = embeddings.values.T @ step @ embeddings.keys

    def own(scale: float) -> np.ndarray:
        return np.diag(_softmax(scale * logits))

    low, high = 0.0, 1.0
    while own(high).max() < 1 - epsilon:
        low, high = high, 2 * high
        if not math.isfinite(high):
            raise ValueError(f"no step of {rule!r} brings a fact to {1 - epsilon}.")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if own(middle).max() < 1 - epsilon else (low, middle)
    return own(high)


def spectral_entropy(matrix: np.ndarray) -> float:
    """``-Σ q log q / log r`` of the r energies ``q_i = σ_i² / Σ σ²``; 1 if all are equal."""
    size = np.linalg.svd(matrix, compute_uv=False) ** 2
    energy = size / size.sum()
    seen = energy[energy > 0]
    return float(-(seen @ np.log(seen)) / math.log(len(size)))


def _rotation(a: float, b: float, c: float) -> np.ndarray:
    """Rotation by Euler angles about the axes z, y and z."""

    def about_z(angle: float) -> np.ndarray:
        cos, sin = math.cos(angle), math.sin(angle)
        return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])

    cos, sin = math.cos(b), math.sin(b)
    about_y = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return about_z(a) @ about_y @ about_z(c)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over values, the first axis."""
    scaled = np.exp(logits - logits.max(axis=0))
    return scaled / scaled.sum(axis=0)
