"""Optimizers by name: each is a function from a learning rate to an optax transformation.

The update rules are those of section C.1 of the specification. A trailing ``+m`` means momentum
0.9 (for the Adam family, ``b1 = 0.9``); without it there is none. Sign and normalisation come
*before* momentum, as in the paper; where they come after, the name says so.

Anything of the same form can be used beside these: ``optax.adam`` as it stands, or your own.

Adam's bias correction is optax's, ``1 - b2**t`` in float32. That is off by up to 5e-5 relative in
the first steps against the same formula in float64, which PyTorch uses for it.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import optax

Optimizer = Callable[..., optax.GradientTransformation]
"""Learning rate, a number or traced array, to transformation."""


def _after(
    direction: Callable[[], optax.GradientTransformation], momentum: float | None = None
) -> Optimizer:
    """Momentum and learning rate applied after a change of direction (C.1: order matters)."""
    return lambda rate: optax.chain(direction(), optax.sgd(rate, momentum))


def _normalize() -> optax.GradientTransformation:
    # eps only keeps an exactly zero gradient at zero instead of 0/0.
    return optax.normalize_by_update_norm(eps=1e-30)


def _scale_by_l1_sign() -> optax.GradientTransformation:
    """``sign(g) ‖g‖₁`` over all parameters: steepest descent in the maximum norm."""

    def update(updates, _):
        norm = optax.tree.norm(updates, ord=1)
        return jax.tree.map(lambda g: jnp.sign(g) * norm, updates)

    return optax.stateless(update)


def _normalize_blocks() -> optax.GradientTransformation:
    """Each parameter tensor divided by its own ``‖·‖₁``."""

    def update(updates, _):
        return jax.tree.map(lambda g: g / (jnp.abs(g).sum() + 1e-30), updates)

    return optax.stateless(update)


def _scale_by_adagrad(eps: float = 1e-10) -> optax.GradientTransformation:
    """``g / (√Σ g² + ε)``: optax has ε under the root, where 1e-10 is not small."""

    def init(params):
        return optax.tree.zeros_like(params)

    def update(updates, state, params=None):
        del params
        sums = jax.tree.map(lambda s, g: s + g**2, state, updates)
        return jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + eps), updates, sums), sums

    return optax.GradientTransformation(init, update)


def _armijo(learning_rate: jax.typing.ArrayLike) -> optax.GradientTransformation:
    """Gradient descent with Armijo backtracking; ``learning_rate`` is the first trial step.

    Accepts ``L(w - ηg) ≤ L(w) - ½ η ‖g‖²``, shrinks by 0.9, restarts at 1.5 times the last step.
    """
    search = optax.scale_by_backtracking_linesearch(
        max_backtracking_steps=200,
        slope_rtol=0.5,
        decrease_factor=0.9,
        increase_factor=1.5,
        max_learning_rate=jnp.inf,
    )
    # optax starts its first search, too, at 1.5 times its initial step of 1.
    return optax.chain(optax.sgd(jnp.asarray(learning_rate) / 1.5), search)


def _matrices(params):
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


OPTIMIZERS: dict[str, Optimizer] = {
    "gd": optax.sgd,
    "gd+m": partial(optax.sgd, momentum=0.9),
    "normalized_gd": _after(_normalize),
    "normalized_gd+m": _after(_normalize, 0.9),
    "block_normalized_gd": _after(_normalize_blocks),
    "block_normalized_gd+m": _after(_normalize_blocks, 0.9),
    "sign": _after(optax.scale_by_sign),
    "sign+m": _after(optax.scale_by_sign, 0.9),
    "scaled_sign": _after(_scale_by_l1_sign),
    "scaled_sign+m": _after(_scale_by_l1_sign, 0.9),
    "adam": partial(optax.adam, b1=0.0),
    "adam+m": optax.adam,
    "adamw+m": partial(optax.adamw, b2=0.95, weight_decay=0.01, mask=_matrices),
    "adagrad": _after(_scale_by_adagrad),
    "rmsprop": optax.rmsprop,
    "armijo": _armijo,
    # Newer ones, as optax has them.
    "sign_of_momentum": optax.signum,  # sign after momentum: not the paper's sign+m
    "lion": optax.lion,
    "muon": optax.contrib.muon,
    "adopt": optax.contrib.adopt,
    "ademamix": optax.contrib.ademamix,
}


def optimizer_named(name: str, optimizers: Mapping[str, Optimizer] = OPTIMIZERS) -> Optimizer:
    """The optimizer called ``name``.

    Raises:
      ValueError: if there is none of that name.
    """
    try:
        return optimizers[name]
    except KeyError:
        raise ValueError(
            f"unknown optimizer {name!r}; known are {', '.join(sorted(optimizers))}. "
            "To use your own, add it: Sweep(..., optimizers={**OPTIMIZERS, 'mine': mine})."
        ) from None
