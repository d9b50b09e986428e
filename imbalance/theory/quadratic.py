"""Closed forms: the weighted quadratic of section 3.1 (Figure 6).

``f(w) = ½ Σ_k π_k w_k²`` from ``w_k(0) = 1``. Figure 6 draws ``Σ_k π_k w_k²``, twice that.
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike


def quadratic_gd(probability: ArrayLike, learning_rate: float, step: ArrayLike) -> np.ndarray:
    """Weights of gradient descent, ``w_k(t) = (1 - η π_k)^t``.

    Args:
      probability: π, ``[class]``; need not sum to one.
      learning_rate: η; beyond `quadratic_stability_limit` the weights grow.
      step: the t asked for, integers ``[step]``, 0 or more.

    Returns:
      float64 ``[step, class]``.

    Raises:
      TypeError: if steps are not integers.
      ValueError: if an array is not one-dimensional, a probability or step is negative, or the
        learning rate is not positive and finite.
    """
    _check_rate(learning_rate)
    return (1 - learning_rate * _checked_probability(probability)) ** _checked_step(step)[:, None]


def quadratic_sign(learning_rate: float, step: ArrayLike) -> np.ndarray:
    """Weights of sign descent, equal for all classes whatever their frequency.

    ``w(t) = 1 - η t`` until the first step on or past zero; past it, a cycle of two: r and r - η
    for ``0 < r < η``. Sign descent with a constant rate does not converge, except to zero itself
    where 1/η is an integer.

    Steps are counted in exact arithmetic on the float given, so no error grows along the way. 0.1
    is a little more than one tenth, and the tenth step goes to -6e-17; a loop in floating point may
    round that step to the other side of zero, and is then one step out of phase.

    Args:
      learning_rate: η.
      step: the t asked for, integers ``[step]``, 0 or more.

    Returns:
      float64 ``[step]``.

    Raises:
      TypeError: if steps are not integers.
      ValueError: if steps are not one-dimensional or one is negative, or the learning rate is not
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
    """Largest learning rate of gradient descent: weights stay bounded iff ``η <= 2 / max_k π_k``.

    Erratum E7: the paper's text gives ``1 / π_1`` (section F.5).

    Args:
      probability: π, ``[class]``; need not sum to one.

    Raises:
      ValueError: if probabilities are not one-dimensional, one is negative or not finite, or none
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
