"""Tasks: two pure functions, for the initial parameters and for the loss of every example.

A task never reduces losses. The mean in training, the losses by bucket and all other statistics
come from the same `Examples`, so they cannot disagree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from imbalance.ondevice.cross_entropy import chunked_cross_entropy

if TYPE_CHECKING:
    from flax import nnx

Params = Any  # a pytree of arrays
Leaf = Any  # an array, or what replaces one in a tree: a shape, a sharding, an axis


class Batch(NamedTuple):
    """Rows of data; every leaf has the same leading axis ``[row, ...]``."""

    input: Any  # a pytree of arrays, or None if the task needs no input
    label: Leaf  # int32 [row, ...]
    weight: Leaf  # float32 [row, ...]; 0 masks padding


class Examples(NamedTuple):
    """Losses of the examples of a batch; an example is a row, or a token position."""

    loss: jax.Array  # float32 [example], nats
    label: jax.Array  # int32 [example], the class
    weight: jax.Array  # float32 [example]; 0 masks


class Head(NamedTuple):
    """The linear softmax layer at the end of a model: logits ``W x + b`` of features x."""

    features: jax.Array  # [example, feature]
    weight: jax.Array  # [class, feature]
    bias: jax.Array | None  # [class]


@dataclass(frozen=True)
class Task:
    """The interface between models and the engine."""

    init: Callable[[jax.Array], Params]  # key -> parameters
    per_example: Callable[[Params, Batch, jax.Array | None], Examples]  # no dropout if key is None
    head: Callable[[Params, Batch], Head] | None = None  # None: the model has no such layer


def classification(build: "Callable[..., nnx.Module]") -> Task:
    """Cross-entropy of the model's logits against one label per row.

    Args:
      build: Constructor of the flax module, with its random streams as keyword ``rngs``. The module
        maps ``Batch.input`` to logits and names the axis of its classes in ``class_axis``. If it
        ends in a linear layer, a method ``head`` maps the input to that layer's features, weight
        and bias (see `Head`). One that normalises examples together says so by ``takes_weight``:
        both are then called with the weights of the examples too, of which those of 0 must not
        count.
    """
    # Only this module converts flax models; elsewhere parameters are a plain pytree. flax is slow
    # to import, half as slow as JAX, so it is imported only for flax models.
    from flax import nnx

    model = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    class_axis = model.class_axis  # pyright: ignore[reportAttributeAccessIssue]
    graphdef, _ = nnx.split(model)
    together = getattr(model, "takes_weight", False)

    def given(batch: Batch) -> tuple[Any, ...]:
        return (batch.input, batch.weight) if together else (batch.input,)

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(rngs=nnx.Rngs(key))))

    def per_example(params: Params, batch: Batch, key: jax.Array | None) -> Examples:
        del key  # no dropout in these models
        logits = nnx.merge(graphdef, params)(*given(batch))
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label, axis=class_axis)
        return Examples(loss, batch.label, batch.weight)

    def head(params: Params, batch: Batch) -> Head:
        model: Any = nnx.merge(graphdef, params)
        return Head(*model.head(*given(batch)))

    return Task(init, per_example, head if hasattr(model, "head") else None)


KEPT_LOGITS = 2**26
"""Largest number of logits of a step or microbatch kept for the backward pass, 256 MiB."""


def next_token(
    build: "Callable[..., nnx.Module]",
    *,
    chunk: int | None = None,
    noisy_evaluation: bool = False,
) -> Task:
    """Cross-entropy of a language model's next token at every position.

    An example is a position: labels and weights ``[row, position]`` are returned as ``[example]``.

    Args:
      build: Constructor of the flax module, with its random streams as keyword ``rngs``. Its method
        ``head`` takes ``Batch.input`` and the random key of the dropout, or None, and returns the
        features ``[row * position, feature]`` of its last layer, that layer's weight
        ``[class, feature]`` and its bias ``[class]`` or None.
      chunk: Largest number of examples with logits in memory, as in `chunked_cross_entropy`.
      noisy_evaluation: Whether to apply dropout with a fixed key where no key is given, as in the
        paper's evaluations of transformers. See "Evaluation and dropout" in docs/method.md.
    """
    from flax import nnx

    graphdef, _ = nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(rngs=nnx.Rngs(key))))

    def head(params: Params, batch: Batch, key: jax.Array | None = None) -> Head:
        model: Any = nnx.merge(graphdef, params)
        return Head(*model.head(batch.input, key))

    def per_example(params: Params, batch: Batch, key: jax.Array | None) -> Examples:
        if key is None and noisy_evaluation:
            key = jax.random.key(0)
        features, weight, bias = head(params, batch, key)
        label = batch.label.reshape(-1)
        keep = len(label) * len(weight) <= KEPT_LOGITS
        loss = chunked_cross_entropy(features, weight, label, bias, chunk=chunk, keep=keep)
        return Examples(loss, label, batch.weight.reshape(-1))

    return Task(init, per_example, head)


def quadratic(num_classes: int) -> Task:
    """The weighted quadratic of Section 3.1 (Figure 6).

    Class k has loss ``w_k² / 2`` and starts at ``w_k = 1``. The weights of the examples are the
    class probabilities, so the objective is ``½ Σ π_k w_k²``.
    """

    def init(key: jax.Array) -> Params:
        del key  # all seeds have the same initial parameters
        return {"weight": jnp.ones(num_classes)}

    def per_example(params: Params, batch: Batch, key: jax.Array | None) -> Examples:
        del key
        return Examples(params["weight"][batch.label] ** 2 / 2, batch.label, batch.weight)

    return Task(init, per_example)


def accumulate(function: Callable[[Batch, Any], Any], batch: Batch) -> Any:
    """Sum of ``function(microbatch, index)`` over the leading axis of ``batch [micro, row, ...]``.

    One microbatch is processed at a time, so memory does not grow with their number.
    """
    count = batch.weight.shape[0]
    if count == 1:
        return function(jax.tree.map(lambda leaf: leaf[0], batch), 0)

    def add(sums, one):
        return jax.tree.map(jnp.add, sums, function(*one)), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], batch), 0)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(add, zeros, (batch, jnp.arange(count)))[0]
