"""Closed forms for the weighted quadratic of Section 3.1 (Figure 6).

``f(w) = ½ Σ_k π_k w_k²`` from ``w_k(0) = 1``. Figure 6 draws ``Σ_k π_k w_k²``, twice that.
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike


def quadratic_gd(probability: ArrayLike, learning_rate: float, step: ArrayLike) -> np.ndarray:
    """Weights of gradient descent, ``w_k(t) = (1 - η π_k)^t``.

    Args:
      probability: Probabilities π, ``[class]``; need not sum to one.
      learning_rate: Learning rate η; weights grow beyond `quadratic_stability_limit`.
      step: Steps t, integers ``[step]``, 0 or more.

    Returns:
      float64 ``[step, class]``.

    Raises:
      TypeError: If steps are not integers.
      ValueError: If an array is not one-dimensional, a probability or step is negative, or the
        learning rate is not positive and finite.
    """
    _check_rate(learning_rate)
    return (1 - learning_rate * _checked_probability(probability)) ** _checked_step(step)[:, None]


def quadratic_sign(learning_rate: float, step: ArrayLike) -> np.ndarray:
    """Weights of sign descent, which are the same for all classes.

    ``w(t) = 1 - η t`` until the first step at or past zero; then a cycle of two, r and r - η with
    ``0 < r < η``. At a constant rate sign descent does not converge, except to zero itself where
    1/η is an integer.

    Arithmetic on the given float is exact, so no error accumulates. The float 0.1 is slightly more
    than one tenth, and its tenth step goes to -6e-17; a floating-point loop may round that step to
    the other side of zero, and is then one step out of phase.

    Args:
      learning_rate: Learning rate η.
      step: Steps t, integers ``[step]``, 0 or more.

    Returns:
      float64 ``[step]``.

    Raises:
      TypeError: If steps are not integers.
      ValueError: If steps are not one-dimensional or one is negative, or the learning rate is not
        positive and finite.
    """
    _check_rate(learning_rate)
    step = _checked_step(step)
    rate = Fraction(learning_rate)
    reach = math.ceil(1 / rate)  # first step with w <= 0
    below = 1 - reach * rate
    above = below + rate if below else below  # sign(0) = 0
    cycle = np.where(step % 2 == reach % 2, float(below), float(above))
    return np.where(step < reach, 1 - learning_rate * step, cycle)


def quadratic_stability_limit(probability: ArrayLike) -> float:
    """Largest stable learning rate of gradient descent: bounded iff ``η <= 2 / max_k π_k``.

    The paper's text gives ``1 / π_1``: see "The stability limit of the weighted quadratic" in
    docs/method.md.

    Args:
      probability: Probabilities π, ``[class]``; need not sum to one.

    Raises:
      ValueError: If probabilities are not one-dimensional, one is negative or not finite, or none
        is positive.
    """
    largest = _checked_probability(probability).max(initial=0.0)
    if not largest:
        raise ValueError("no probability is positive, so every rate is stable; give one that is.")
    return float(2 / largest)


def _check_rate(learning_rate: float) -> None:
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning rate is {learning_rate}; give a finite number above 0.")


def _checked_probability(probability: ArrayLike) -> np.ndarray:
    probability = np.asarray(probability, np.float64)
    if probability.ndim != 1:
        raise ValueError(f"probabilities have shape {probability.shape}; give one per class.")
    wrong = ~(np.isfinite(probability) & (probability >= 0))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"class {first} has probability {probability[first]}; give finite numbers, 0 or more."
        )
    return probability


def _checked_step(step: ArrayLike) -> np.ndarray:
    step = np.asarray(step)
    if not np.issubdtype(step.dtype, np.integer):
        raise TypeError(f"steps have dtype {step.dtype}; give integers.")
    if step.ndim != 1:
        raise ValueError(f"steps have shape {step.shape}; give one axis.")
    if step.size and step.min() < 0:
        raise ValueError(f"the smallest step is {step.min()}; give 0 or more.")
    return step.astype(np.int64)
