"""The layers of a transformer, except attention, and how parameters start.

A layer with dropout takes the random key when it is called, so a model's parameters are a plain
tree of arrays. Parameters are float32; layers compute in the precision of their inputs.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

EPSILON = 1e-5  # of layer normalisation, as in PyTorch
BITS = 16  # random bits per value that decide whether it is dropped


def dropped(values: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Values with dropout: each is zero with probability ``rate``, else divided by ``1 - rate``.

    ``1 - rate`` is rounded to a multiple of 2^-16, since one random number decides about two
    values: on a CPU, drawing random numbers takes a good part of a step.

    Args:
      values: Array of any shape.
      rate: Dropout rate, 0 or more and below 1.
      key: Random key of the dropout; None drops nothing.
    """
    if key is None or rate == 0:
        return values
    kept_of = round((1 - rate) * 2**BITS)
    bits = jax.random.bits(key, (-(-values.size // 2),), jnp.uint32)
    halves = jnp.concatenate([bits >> BITS, bits & (2**BITS - 1)])[: values.size]
    keep = halves.reshape(values.shape) < kept_of
    return jnp.where(keep, values * (2**BITS / kept_of), 0)


def sinusoids(length: int, width: int) -> np.ndarray:
    """Positional encoding ``[position, feature]``, float32: sines at even features, else cosines.

    Features 2i and 2i + 1 of position t have the angle ``t / 10000^(2i / width)``.
    """
    rate = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angle = np.arange(length)[:, None] * rate
    pairs = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)
    return pairs[:, :width].astype(np.float32)


def uniform(key: jax.Array, shape: tuple[int, ...], bound: float) -> jax.Array:
    """Float32 numbers uniform on ``±bound``."""
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def parts_of_a_draw(
    drawn: jax.Array, shapes: Sequence[tuple[int, ...]], spreads: Sequence[float]
) -> list[jax.Array]:
    """Initial parameters from one draw for all of them: compiling a draw takes about a second.

    Args:
      drawn: Random numbers, as many as all shapes hold.
      shapes: Shape of each parameter.
      spreads: Factor of each parameter.
    """
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    parts = zip(jnp.split(drawn, ends[:-1]), shapes, spreads, strict=True)
    return [part.reshape(shape) * spread for part, shape, spread in parts]


def linear(inputs: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """``W x + b`` for ``inputs [..., in]``, ``weight [out, in]`` and ``bias [out]``."""
    product = jnp.einsum("...i,oi->...o", inputs, weight.astype(inputs.dtype))
    return product + jnp.broadcast_to(bias.astype(inputs.dtype), product.shape)


def embedded(tokens: jax.Array, embedding: jax.Array, dtype: str = "float32") -> jax.Array:
    """``sqrt(width) E[token] + PE[position]``, ``[row, position, feature]``."""
    width = embedding.shape[-1]
    # A token out of range would be clamped silently; NaN stops the run.
    found = jnp.asarray(embedding).at[tokens].get(mode="fill", fill_value=jnp.nan)
    positions = jnp.asarray(sinusoids(tokens.shape[-1], width), found.dtype)
    x = width**0.5 * found + positions[None]
    return x if dtype == "float32" else x.astype(dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation: features of mean 0 and variance 1, then a scale and an offset of each.

    Args:
      width: Number of features.
      spread: Standard deviation of the initial scale, N(1, spread²); the offset starts at 0.
      rngs: Random streams of the initialisation.
    """

    def __init__(self, width: int, spread: float, *, rngs: nnx.Rngs):
        self.weight = nnx.Param(1 + spread * jax.random.normal(rngs.params(), (width,)))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Normalised ``inputs [..., feature]``, computed in at least float32."""
        values = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        centred = values - values.mean(-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPSILON)
        weight, bias = (jnp.broadcast_to(p[...], values.shape) for p in (self.weight, self.bias))
        return (centred * scale * weight + bias).astype(inputs.dtype)
