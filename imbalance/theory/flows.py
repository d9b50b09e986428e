"""Gradient flow and sign flow in the simple imbalanced setting of Theorem 3.

Each of c classes has one input ``x_k = e_k`` of weight π_k; the linear softmax model has no bias
and starts at ``W = 0``. Columns of W do not interact, and in column k all rows but the k-th stay
equal. One number per class describes the model: the margin u of the correct class's logit over any
other. The loss of class k is ``ℓ_k = log(1 + (c - 1) e^-u)``.

With diagonal entry a and the others b, ``a = -(c - 1) b``, so ``a = (1 - 1/c) u`` and
``b = -u / c``. The paper omits the minus sign: see "The relation of the entries in Theorem 3" in
docs/method.md.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import wrightomega


def loss_of_margin(margin: ArrayLike, num_classes: int) -> np.ndarray:
    """``ℓ = log(1 + (c - 1) e^-u)`` in nats, of any shape; ``log c`` at margin 0.

    Raises:
      ValueError: For fewer than two classes.
    """
    _check_classes(num_classes)
    return np.logaddexp(0, math.log(num_classes - 1) - np.asarray(margin, np.float64))


def gradient_flow_margin(scaled_time: ArrayLike, num_classes: int) -> np.ndarray:
    """Margin u under ``dW/dt = -∇L``, a function of ``τ = π_k t`` alone.

    It grows as ``u' = c π_k / (e^u + c - 1)`` from 0, so that ``e^u + (c - 1) u = 1 + c τ``. With
    ``z = c - 1`` and ``f = (1 + c τ) / z`` the solution is ``u = f - 𝒲(e^f / z)``, 𝒲 the Lambert W
    function; ``𝒲(e^y)`` is Wright's omega of y, which does not overflow. Two Newton steps restore
    the digits that cancel where u is small.

    Args:
      scaled_time: Scaled time τ, 0 or more, of any shape.
      num_classes: Number of classes c.

    Raises:
      ValueError: For fewer than two classes, or a time that is negative or not finite.
    """
    _check_classes(num_classes)
    tau = _checked_time(scaled_time)
    others = num_classes - 1
    f = (1 + num_classes * tau) / others
    # u = log(z 𝒲), as the difference f - 𝒲 loses all digits where both are huge.
    margin = np.log(others * wrightomega(f - math.log(others)))
    margin = np.maximum(margin, 0)
    for _ in range(2):
        residual = np.expm1(margin) + others * margin - num_classes * tau
        margin = margin - residual / (np.exp(margin) + others)
    return np.maximum(margin, 0)


def gradient_flow_loss(probability: ArrayLike, time: ArrayLike, num_classes: int) -> np.ndarray:
    """Losses of classes under gradient flow, which all lie on one curve ``φ_c(π_k t)``.

    For ``π_k t >= 1`` they are within `gradient_flow_bounds`, so ``Θ(1 / (π_k t))`` with constants
    that depend on c, and ``ℓ_k π_k t`` goes to ``1 - 1/c``: the time to fit a class is inversely
    proportional to its frequency.

    Args:
      probability: Probabilities π, ``[class]``.
      time: Times t, ``[time]``.
      num_classes: Number of classes c; some may be left out of ``probability``.

    Returns:
      float64 ``[time, class]``.

    Raises:
      ValueError: As `gradient_flow_margin`.
    """
    tau = np.outer(_checked_time(time), _checked_time(probability))
    return loss_of_margin(gradient_flow_margin(tau, num_classes), num_classes)


def gradient_flow_bounds(scaled_time: ArrayLike, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """``(c - 1) / (2 c τ) <= ℓ <= (c - 1) / τ`` for ``τ = π_k t >= 1`` (Theorem 3).

    Raises:
      ValueError: For fewer than two classes, or a scaled time below 1.
    """
    _check_classes(num_classes)
    tau = _checked_time(scaled_time)
    if np.any(tau < 1):
        raise ValueError(f"the smallest scaled time is {tau.min()}; the bounds are for 1 or more.")
    return (num_classes - 1) / (2 * num_classes * tau), (num_classes - 1) / tau


def sign_flow_loss(time: ArrayLike, num_classes: int) -> np.ndarray:
    """Loss of every class under ``dW/dt = -sign(∇L)``: ``log(1 + (c - 1) e^-2t)``, whatever its π.

    Diagonal entries grow at rate 1 and the others fall at rate 1, so the margin is 2t and the loss
    ``Θ(e^-2t)``. After s discrete steps of size η the loss is on the same curve, at ``t = η s``.
    The paper prints the rate ``e^-ct``: see "The rate of sign flow" in docs/method.md.

    Raises:
      ValueError: For fewer than two classes, or a time that is negative or not finite.
    """
    return loss_of_margin(2 * _checked_time(time), num_classes)


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(f"{num_classes} classes; give 2 or more.")


def _checked_time(time: ArrayLike) -> np.ndarray:
    time = np.asarray(time, np.float64)
    if not np.all(np.isfinite(time) & (time >= 0)):
        raise ValueError("a time or probability is negative or not finite; give 0 or more.")
    return time
