"""Causal self-attention by JAX's own kernels."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from imbalance.models.layers import dropped, linear, uniform

Implementation = Literal["auto", "xla", "cudnn"]

CUDNN_LARGEST_HEAD = 128  # features of the largest head that cuDNN takes on every GPU it supports


class CausalAttention(nnx.Module):
    """Self-attention in which no position sees a later one.

    Initialised as PyTorch's ``nn.MultiheadAttention``: queries, keys and values share one matrix
    ``[3 width, width]``, which is Xavier-uniform as a whole, hence uniform on
    ``±sqrt(6 / (4 width))``; the output weight is uniform on ``±1/sqrt(width)``; biases are 0.

    Args:
      width: Number of features, a multiple of the number of heads.
      num_heads: Number of attention heads.
      dropout: Dropout rate of the attention weights.
      implementation: Kernel of the attention product. "auto" is cuDNN's fused kernel for 16-bit
        floats on a GPU, and XLA elsewhere. "cudnn" has no second derivatives, "xla" has.
      key: Random key of the initialisation; equal keys give equal layers.

    Raises:
      ValueError: If the width is not a multiple of the number of heads.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        implementation: Implementation = "auto",
        key: jax.Array,
    ):
        if num_heads < 1 or width % num_heads:
            raise ValueError(
                f"{width} features cannot be split into {num_heads} heads; "
                "give a width that is a multiple of the number of heads."
            )
        in_key, out_key = jax.random.split(key)
        self.in_weight = nnx.Param(uniform(in_key, (3 * width, width), (6 / (4 * width)) ** 0.5))
        self.in_bias = nnx.Param(jnp.zeros(3 * width))
        self.out_weight = nnx.Param(uniform(out_key, (width, width), width**-0.5))
        self.out_bias = nnx.Param(jnp.zeros(width))
        self.num_heads, self.dropout = num_heads, dropout
        self.implementation: Implementation = implementation

    def __call__(self, inputs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Attention output for ``inputs [row, position, feature]``; no dropout if key is None."""
        rows, length, width = inputs.shape
        joint = linear(inputs, self.in_weight[...], self.in_bias[...])
        query, keys, value = (
            part.reshape(rows, length, self.num_heads, width // self.num_heads)
            for part in jnp.split(joint, 3, axis=-1)
        )
        if key is None or self.dropout == 0:
            mixed = jax.nn.dot_product_attention(
                query,
                keys,
                value,
                is_causal=True,
                implementation=kernel_for(self.implementation, query),
            )
        else:  # JAX's kernels have no dropout
            mixed = _attention_with_dropout(query, keys, value, self.dropout, key)
        return linear(mixed.reshape(inputs.shape), self.out_weight[...], self.out_bias[...])


def kernel_for(implementation: Implementation, query: jax.Array) -> Literal["xla", "cudnn"]:
    """The fastest kernel of JAX for the attention of ``query``, or the one asked for."""
    if implementation != "auto":
        return implementation
    head = query.shape[-1]
    fits = head <= CUDNN_LARGEST_HEAD and head % 8 == 0
    sixteen = query.dtype in (jnp.bfloat16, jnp.float16)
    return "cudnn" if fits and sixteen and jax.default_backend() == "gpu" else "xla"


def _attention_with_dropout(
    query: jax.Array, keys: jax.Array, value: jax.Array, rate: float, key: jax.Array
) -> jax.Array:
    """``softmax(Q Kᵀ / sqrt(d)) V`` with weight dropout, ``[row, position, head, feature]``."""
    length, features = query.shape[1], query.shape[-1]
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("rqhf,rkhf->rhqk", query, keys, preferred_element_type=wide)
    seen = jnp.tril(jnp.ones((length, length), bool))
    scores = jnp.where(seen[None, None], scores * features**-0.5, jnp.finfo(wide).min)
    weight = dropped(jax.nn.softmax(scores), rate, key).astype(query.dtype)
    return jnp.einsum("rhqk,rkhf->rqhf", weight, value)
