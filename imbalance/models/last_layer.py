"""The frozen model of Figure 5 and the last layer that is trained on its features.

The features depend only on the data and on the initialisation, so they are computed once. The rest
is a linear softmax model.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from imbalance.models.attention import CausalAttention
from imbalance.models.layers import embedded, linear

SPREAD = 0.02


class FrozenFeatures(nnx.Module):
    """Features of Figure 5's last layer: ``x = h + SA(h)``.

    One layer of attention on ``h = sqrt(d) E + PE``, without MLP, normalisation or dropout, as
    initialised. The paper has 1200 features and one head.
    """

    def __init__(self, num_classes: int, width: int, num_heads: int = 1, *, rngs: nnx.Rngs):
        shape = (num_classes, width)
        self.embedding = nnx.Param(SPREAD * jax.random.normal(rngs.params(), shape))
        self.attention = CausalAttention(width, num_heads, key=rngs.params())

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Features ``[row, position, feature]`` of ``tokens [row, position]``."""
        h = embedded(tokens, self.embedding[...])
        return h + self.attention(h)


class LastLayer(nnx.Module):
    """The linear softmax layer of a transformer, on precomputed features."""

    class_axis = -1

    def __init__(self, num_features: int, num_classes: int, *, rngs: nnx.Rngs):
        shape = (num_classes, num_features)
        self.weight = nnx.Param(SPREAD * jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(num_classes))

    def __call__(self, inputs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Logits ``[row, position, class]`` of ``inputs [row, position, feature]``."""
        del key  # no dropout
        return linear(inputs, self.weight[...], self.bias[...])

    def head(
        self, inputs: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Features ``[row * position, feature]``, the layer's weight and its bias."""
        del key
        return inputs.reshape(-1, inputs.shape[-1]), self.weight[...], self.bias[...]
