"""Scaling laws of the linear bigram model under Zipf's law (Kunstner and Bach, arXiv 2505.19227).

With tokens and next tokens as one-hot rows X and Y, the loss is ``L(W) = ‖X W - Y‖² / 2n``, from
``W = 0``. Entries do not interact: entry (i, j) has curvature π_i and starts at distance
``π_{j|i}`` from its optimum. Zipf's law is ``π_k ∝ k^-α`` over d tokens; the sorted conditional
frequencies of each context follow the same law. All losses are relative,
``r = (L_t - L*) / (L_0 - L*)``.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, zeta


class Bigrams(NamedTuple):
    """The entries of a bigram model that occur; all others start and stay at their optimum."""

    context: np.ndarray  # frequency π_i of each entry's context, float64 [entry]
    start: np.ndarray  # distance π_{j|i} from the optimum at W = 0, float64 [entry]


def zipf_gd(dimension: int, exponent: float, step: ArrayLike) -> np.ndarray:
    """Loss of gradient descent with ``η = 1 / π_1``, exactly ``Σ k^-α (1 - k^-α)^2t / Σ k^-α``.

    The conditional frequencies drop out, as they follow the same law in every context.

    Args:
      dimension: Number of tokens d.
      exponent: Exponent α, above 0.
      step: Steps t, ``[step]``.

    Raises:
      ValueError: For no token, an exponent not above 0 or a negative step.
    """
    share = _powers(dimension, exponent)
    with np.errstate(divide="ignore"):  # the first token is fitted in one step: log 0
        decay = np.log1p(-share)
    decay[0] = -np.inf
    total = share.sum()
    return np.array(
        [1.0 if t == 0 else share @ np.exp(2 * t * decay) / total for t in _checked_steps(step)]
    )


def zipf_gd_time(dimension: int, exponent: float, step: ArrayLike) -> np.ndarray:
    """The rescaled time τ at which `zipf_gd` has a limit as d grows.

    ``2t / d^α`` for α < 1, ``log 2t / log d`` for α = 1, and t itself for α > 1. The steps to a
    fixed loss ε therefore grow as ``d^α``, as ``d^(1-ε)``, and not at all: α = 1, the law of text,
    is the worst.
    """
    step = np.asarray(step, np.float64)
    if exponent < 1:
        return 2 * step / dimension**exponent
    return np.log(2 * step) / np.log(dimension) if exponent == 1 else step


def zipf_gd_limit(exponent: float, time: ArrayLike) -> np.ndarray:
    """Limit of `zipf_gd` for many tokens at time τ of `zipf_gd_time` (their Theorem 3.1).

    - α < 1: ``((1-α)/α) E_{1/α}(τ)`` with E the exponential integral, computed as the integral of
      ``exp(-τ v^(-α/(1-α)))`` over v from 0 to 1.
    - α = 1: ``1 - τ`` for τ from 0 to 1, with corrections of order ``1 / log d``.
    - α > 1: ``B(1 - 1/α, 1 + 2t) / (α ζ(α))``, which falls as ``t^-(1-1/α)``. An integral replaces
      the sum over ranks, so this is the limit only as t grows too.
    """
    time = np.asarray(time, np.float64)
    if exponent == 1:
        return np.clip(1 - time, 0, 1)
    if exponent > 1:
        a, b = 1 - 1 / exponent, 1 + 2 * time
        beta = np.exp(gammaln(a) + gammaln(b) - gammaln(a + b))
        return beta / (exponent * zeta(exponent))
    node, weight = np.polynomial.legendre.leggauss(100)
    v = (node + 1) / 2
    return np.exp(-time[..., None] * v ** (-exponent / (1 - exponent))) @ weight / 2


def zipf_sign(dimension: int, exponent: float, steps: int, phi: ArrayLike) -> np.ndarray:
    """Loss of sign descent after T steps of size ``η = π_1 φ^-α / T``, in simplified dynamics.

    The ``⌊φ⌋`` most frequent conditionals have not reached their optimum yet; all others are taken
    to be η/2 away. In the exact dynamics an entry returns to its small start after an even number
    of steps and is near η after an odd one (`sign_relative_loss`).

    Args:
      dimension: Number of tokens d.
      exponent: Exponent α.
      steps: Number of steps T, 1 or more.
      phi: Values of φ, 1 to d, ``[phi]``.

    Raises:
      ValueError: If an argument is out of its range.
    """
    if steps < 1:
        raise ValueError(f"{steps} steps; give 1 or more.")
    share = _powers(dimension, exponent)
    phi = np.atleast_1d(np.asarray(phi, np.float64))
    if phi.min() < 1 or phi.max() > dimension:
        raise ValueError(f"phi is {phi.min()} to {phi.max()}; give numbers from 1 to {dimension}.")
    one, two = np.cumsum(share), np.cumsum(share**2)
    whole = np.floor(phi).astype(int)
    reach = phi**-exponent  # T η, in units of the first conditional
    far = two[whole - 1] - 2 * reach * one[whole - 1] + whole * reach**2
    near = (dimension - whole) * reach**2 / (4 * steps**2)
    return (far + near) / two[-1]


def zipf_sign_best(dimension: int, exponent: float, steps: int) -> tuple[float, float]:
    """Smallest `zipf_sign` over ``φ = d^x``, x in steps of 1/32, and its φ: the best η for T."""
    phi = np.minimum(dimension ** (np.arange(33) / 32), dimension)
    loss = zipf_sign(dimension, exponent, steps, phi)
    best = int(np.argmin(loss))
    return float(loss[best]), float(phi[best])


def zipf_sign_time(dimension: int, exponent: float, steps: ArrayLike) -> np.ndarray:
    """The rescaled time τ at which `zipf_sign_best` has a limit as d grows.

    T for α < 1/2, ``log 4T² / log d`` for α = 1/2, and ``2T / √d`` for α > 1/2. The steps to a
    fixed loss do not grow with d in the first case and grow as about √d in the others.
    """
    steps = np.asarray(steps, np.float64)
    if exponent < 0.5:
        return steps
    if exponent == 0.5:
        return np.log(4 * steps**2) / np.log(dimension)
    return 2 * steps / np.sqrt(dimension)


def zipf_sign_limit(exponent: float, time: ArrayLike) -> np.ndarray:
    """Limit of `zipf_sign_best` for many tokens at time τ of `zipf_sign_time`.

    - α < 1/2: the minimum over x in (0, 1], with ``φ = x d``, of
      ``2α²/(1-α) x^(1-2α) + (1-2α)(1-x) x^-2α / 4τ²``, which falls as ``τ^(4α-2)``.
    - α = 1/2: ``1 - τ`` for τ from 0 to 1.
    - α > 1/2: ``1 / (ζ(2α) (1 + τ²))`` for ``τ² >= 1 / (2α - 1)``; NaN before.
    """
    time = np.asarray(time, np.float64)
    if exponent == 0.5:
        return np.clip(1 - time, 0, 1)
    if exponent > 0.5:
        late = 1 / (zeta(2 * exponent) * (1 + time**2))
        return np.where(time**2 * (2 * exponent - 1) >= 1 - 1e-12, late, np.nan)
    x = np.geomspace(1e-12, 1, 20001)
    slow = 2 * exponent**2 / (1 - exponent) * x ** (1 - 2 * exponent)
    fast = (1 - 2 * exponent) * (1 - x) * x ** (-2 * exponent) / 4
    return np.array([np.min(slow + fast / t**2) for t in time.reshape(-1)]).reshape(time.shape)


def steps_to(loss: Callable[[int], float], target: float, most: int = 10**9) -> int:
    """First step at which a falling loss is at most ``target``, by bisection.

    Args:
      loss: Loss as a function of the step; it must not rise.
      target: Loss to reach.
      most: Last step to try.

    Raises:
      ValueError: If the loss is above the target even at ``most``.
    """
    if loss(0) <= target:
        return 0
    low, high = 0, 1
    while loss(high) > target:
        if high >= most:
            raise ValueError(f"the loss at step {high} is still above {target}; give more steps.")
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if loss(middle) > target else (low, middle)
    return high


def bigrams_of(tokens: ArrayLike) -> Bigrams:
    """Frequencies of a text's pairs of adjacent tokens, for the two functions below.

    Args:
      tokens: Integers ``[position]``, 0 or more.

    Raises:
      ValueError: For fewer than two tokens or a negative one.
    """
    tokens = np.asarray(tokens, np.int64)
    if tokens.ndim != 1 or tokens.size < 2 or tokens.min() < 0:
        raise ValueError(f"tokens have shape {tokens.shape}; give two or more, each 0 or more.")
    size = int(tokens.max()) + 1
    pair, count = np.unique(tokens[:-1] * size + tokens[1:], return_counts=True)
    context = np.bincount(tokens[:-1], minlength=size)
    first = context[pair // size]
    return Bigrams(first / (len(tokens) - 1), count / first)


def gd_relative_loss(bigrams: Bigrams, step: ArrayLike) -> np.ndarray:
    """Relative loss ``[step]`` of gradient descent at ``η = 1 / max π_i``, exact for any text."""
    weight = bigrams.context * bigrams.start**2
    rest = np.maximum(1 - bigrams.context / bigrams.context.max(), 0)
    return np.array([weight @ rest ** (2 * t) for t in _checked_steps(step)]) / weight.sum()


def sign_relative_loss(bigrams: Bigrams, learning_rate: float, steps: int) -> float:
    """Relative loss of sign descent after T steps of size η, exact for any text.

    With ``δ_0 = k_0 η + ρ``, an entry is at ``δ_0 - t η`` up to step k_0, then alternates between ρ
    and η - ρ. Most entries start below η, so they are back at their start after an even number of
    steps, which lowers the loss: compare even T only with even T.
    """
    reach = np.floor(bigrams.start / learning_rate)
    rest = bigrams.start - reach * learning_rate
    odd = (steps - reach) % 2 == 1
    cycle = np.where(odd & (rest > 0), learning_rate - rest, rest)
    delta = np.where(steps <= reach, bigrams.start - steps * learning_rate, cycle)
    return float(bigrams.context @ delta**2 / (bigrams.context @ bigrams.start**2))


def _powers(dimension: int, exponent: float) -> np.ndarray:
    if dimension < 1 or not exponent > 0:
        raise ValueError(
            f"{dimension} tokens with exponent {exponent}; give 1 or more, and an exponent above 0."
        )
    return np.arange(1, dimension + 1) ** -float(exponent)


def _checked_steps(step: ArrayLike) -> np.ndarray:
    step = np.atleast_1d(np.asarray(step))
    if step.size and step.min() < 0:
        raise ValueError(f"the smallest step is {step.min()}; give 0 or more.")
    return step
