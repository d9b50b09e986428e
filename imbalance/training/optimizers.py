"""Optimizers by name: a rule, and beside it how it is called and drawn.

A rule is a function from a learning rate to an optax transformation: ``optax.adam`` as it stands,
or a user's own. Sign and normalisation come *before* momentum, as in the paper; where they come
after, the name says so. Momentum is 0.9 wherever there is any.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Rule = Callable[..., optax.GradientTransformation]
"""Learning rate, a number or traced array, to transformation."""


@dataclass(frozen=True)
class Optimizer:
    """A rule with its looks.

    Attributes:
      rule: learning rate -> optax transformation; it is built on a traced rate, so Python's ``if``
        cannot ask how large that is.
      label: in legends and titles; empty: the name under which the optimizer is run.
      colour: of its curves, as matplotlib names colours; None: one that is not taken.
      momentum: whether it has momentum: curves without are dashed.

    Example:
      >>> import optax
      >>> from imbalance import OPTIMIZERS, Optimizer
      >>> mine = Optimizer(optax.adamax, label="AdaMax", colour="tab:green")
      >>> optimizers = {**OPTIMIZERS, "mine": mine}  # for Sweep(optimizers=)
      >>> optimizers["mine"].momentum
      True
    """

    rule: Rule
    label: str = ""
    colour: str | None = None
    momentum: bool = True


class AdamState(NamedTuple):
    """Moments of the gradient, and how many gradients were seen."""

    count: jax.Array  # int32 []
    first: Any  # as the parameters; None without momentum
    second: Any  # as the parameters


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8):
    """Adam's direction, its bias correction right to float32.

    `optax.scale_by_adam` takes ``1 - b2^t`` in float32, which loses digits at small t; without
    momentum at a large rate a run is 3e-3 off after some dozen steps. Here it is ``-expm1(t log
    b2)`` with the logarithm taken in float64, so that trajectories are PyTorch's, where the
    correction is a float64 number. For ``b1 = 0`` the first moment is the gradient.
    """

    def init(params: optax.Params) -> AdamState:
        zeros = optax.tree.zeros_like(params)
        return AdamState(jnp.zeros([], jnp.int32), zeros if b1 else None, zeros)

    def update(updates: Any, state: Any, params: Any = None):
        del params
        count = state.count + 1
        first = optax.tree.update_moment(updates, state.first, b1, 1) if b1 else updates
        second = optax.tree.update_moment(updates, state.second, b2, 2)
        scale, scale_second = _bias_correction(b1, count), _bias_correction(b2, count)
        direction = jax.tree.map(
            lambda m, v: m / scale / (jnp.sqrt(v / scale_second) + eps), first, second
        )
        return direction, AdamState(count, first if b1 else None, second)

    return optax.GradientTransformation(init, update)


def _bias_correction(decay: float, count: jax.Array) -> jax.Array | float:
    """``1 - decay^count``."""
    return -jnp.expm1(count * math.log(decay)) if decay else 1.0


def adam(learning_rate, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8):
    """`optax.adam` with an exact bias correction, see `scale_by_adam`."""
    return optax.chain(scale_by_adam(b1, b2, eps), optax.scale_by_learning_rate(learning_rate))


def adamw(learning_rate, b1: float = 0.9, b2: float = 0.95, weight_decay: float = 0.01):
    """AdamW without decay of embeddings, biases and normalisations, as in the authors' code.

    Decayed are parameters of two axes or more, but for those whose name, or that of the module they
    are in, contains "embedding" or "norm".
    """
    return optax.chain(
        scale_by_adam(b1, b2),
        optax.add_decayed_weights(weight_decay, mask=_decayed),
        optax.scale_by_learning_rate(learning_rate),
    )


def _after(
    direction: Callable[[], optax.GradientTransformation], momentum: float | None = None
) -> Rule:
    """Momentum and learning rate applied after a change of direction: the order matters."""
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


def _decayed(params: Any) -> Any:
    """Which parameters AdamW decays, a tree of booleans."""

    def is_decayed(path: Any, leaf: jax.Array) -> bool:
        name = jax.tree_util.keystr(path).lower()
        return leaf.ndim >= 2 and not any(word in name for word in ("embedding", "norm"))

    return jax.tree_util.tree_map_with_path(is_decayed, params)


def _with_and_without(
    name: str, label: str, colour: str, plain: Rule, with_momentum: Rule
) -> dict[str, Optimizer]:
    without = Optimizer(plain, label, colour, momentum=False)
    return {name: without, f"{name}+m": Optimizer(with_momentum, f"{label} +m", colour)}


ADAM = Optimizer(adam, "Adam", "#BB5566")
OPTIMIZERS: dict[str, Optimizer] = {
    **_with_and_without("gd", "GD", "#000000", optax.sgd, partial(optax.sgd, momentum=0.9)),
    **_with_and_without(
        "normalized_gd", "normalized GD", "#DDAA33", _after(_normalize), _after(_normalize, 0.9)
    ),
    **_with_and_without(
        "block_normalized_gd",
        "block-normalized GD",
        "#997700",
        _after(_normalize_blocks),
        _after(_normalize_blocks, 0.9),
    ),
    **_with_and_without(
        "sign",
        "sign descent",
        "#004488",
        _after(optax.scale_by_sign),
        _after(optax.scale_by_sign, 0.9),
    ),
    **_with_and_without(
        "scaled_sign",
        "scaled sign",
        "#33BBEE",
        _after(_scale_by_l1_sign),
        _after(_scale_by_l1_sign, 0.9),
    ),
    "adam": ADAM,
    "adam_without_momentum": replace(
        ADAM, rule=partial(adam, b1=0.0), label="Adam, no momentum", momentum=False
    ),
    "adamw": replace(ADAM, rule=adamw, label="AdamW", colour="#CC79A7"),
    "adagrad": Optimizer(_after(_scale_by_adagrad), "AdaGrad", "#EE7733", momentum=False),
    "rmsprop": Optimizer(optax.rmsprop, "RMSProp", "#882255", momentum=False),
    "armijo": Optimizer(_armijo, "GD, line search", "#777777", momentum=False),
    # Newer ones, as optax has them.
    "sign_of_momentum": Optimizer(optax.signum, "sign of momentum", "#6699CC"),  # not sign+m
    "lion": Optimizer(optax.lion, "Lion", "#009988"),
    "muon": Optimizer(optax.contrib.muon, "Muon", "#AA3377"),
    "adopt": Optimizer(optax.contrib.adopt, "ADOPT", "#117733"),
    "ademamix": Optimizer(optax.contrib.ademamix, "AdEMAMix", "#EE99AA"),
}


ON_MINI_BATCHES: dict[str, Optimizer] = OPTIMIZERS | {
    name: replace(OPTIMIZERS[name], label=label)
    for name, label in (("gd", "SGD"), ("gd+m", "SGD +m"))
}
"""The same rules by the names they have where a step takes a part of the training set."""


def optimizer_named(
    name: str, optimizers: Mapping[str, Optimizer | Rule] = OPTIMIZERS
) -> Optimizer:
    """The optimizer called ``name``; a bare rule gets its name for a label.

    Raises:
      ValueError: if there is none of that name.
    """
    try:
        found = optimizers[name]
    except KeyError:
        raise ValueError(
            f"unknown optimizer {name!r}; known are {', '.join(sorted(optimizers))}. "
            "To use your own, add it: Sweep(..., optimizers={**OPTIMIZERS, 'mine': mine})."
        ) from None
    found = found if isinstance(found, Optimizer) else Optimizer(found)
    return found if found.label else replace(found, label=name)
