"""A simple vision transformer (arXiv 2205.01580), as in the paper's appendix."""

import math
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from imbalance.models.attention import kernel_for
from imbalance.models.layers import LayerNorm, linear, parts_of_a_draw
from imbalance.models.pixels import Pixels


class VisionTransformer(nnx.Module):
    """Patches of an image, blocks of attention and an MLP, the mean over patches: to logits.

    The defaults are the paper's: patches of 16 x 16 pixels of images of 224, 384 features, 12
    blocks, 6 heads, 1,536 features in the MLP. Patches are normalised, mapped to features and
    normalised again; sines and cosines of row and column are added. A block is
    ``x <- x + SA(LN(x)); x <- x + MLP(LN(x))``, without biases in the attention and with GELU. One
    more LN follows the last. How the authors normalise before the last layer is in no released
    code.

    Initialised as PyTorch's ``Linear``: weights and biases uniform on ``±1/sqrt(fan_in)``.

    Args:
      num_classes: Number of classes.
      side: Pixels along a side of an image, a multiple of the patch.
      patch: Pixels along a side of a patch.
      width: Number of features, a multiple of 4 and of the number of heads.
      num_layers: Number of blocks.
      num_heads: Number of attention heads.
      mlp_width: Number of features inside an MLP; None: four times the width.
      pixels: How pixels are standardised; it tells the number of channels.
      dtype: Precision of blocks, "float32" or "bfloat16"; parameters, normalisations and the last
        layer are float32 in both cases.
      rngs: Random streams of the initialisation.

    Raises:
      ValueError: If a size does not divide as said.
    """

    class_axis = -1

    def __init__(
        self,
        num_classes: int,
        *,
        side: int = 224,
        patch: int = 16,
        width: int = 384,
        num_layers: int = 12,
        num_heads: int = 6,
        mlp_width: int | None = None,
        pixels: Pixels = Pixels((0.5,) * 3, (0.25,) * 3),  # noqa: B008 - a constant
        dtype: Literal["float32", "bfloat16"] = "float32",
        rngs: nnx.Rngs,
    ):
        if patch < 1 or side < patch or side % patch:
            raise ValueError(
                f"images of {side} x {side} pixels cannot be cut into patches of {patch}; give a "
                "side that is a multiple of the patch."
            )
        if num_heads < 1 or width < 1 or width % 4 or width % num_heads:
            raise ValueError(
                f"{width} features, {num_heads} heads; give a multiple of 4 and of the heads."
            )
        if num_layers < 1:
            raise ValueError(f"{num_layers} blocks; give 1 or more.")
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {dtype!r}; give 'float32' or 'bfloat16'.")
        self.side, self.patch, self.pixels, self.dtype = side, patch, pixels, dtype
        inside = 4 * width if mlp_width is None else mlp_width
        entries = patch**2 * pixels.channels

        block = [(3 * width, width), (width, width), (inside, width), (inside,)]
        block += [(width, inside), (width,)]
        fan_ins = [width] * 4 + [inside] * 2
        shapes = [(width, entries), (width,), *block * num_layers]
        shapes += [(num_classes, width), (num_classes,)]
        bounds = [n**-0.5 for n in [entries] * 2 + fan_ins * num_layers + [width] * 2]
        size = sum(map(math.prod, shapes))
        drawn = jax.random.uniform(rngs.params(), (size,), minval=-1, maxval=1)
        first, first_bias, *middle, last, last_bias = parts_of_a_draw(drawn, shapes, bounds)

        self.patch_norm = LayerNorm(entries, 0.0, rngs=rngs)
        self.patch_weight, self.patch_bias = nnx.Param(first), nnx.Param(first_bias)
        self.embedded_norm = LayerNorm(width, 0.0, rngs=rngs)
        self.blocks = nnx.List(
            Block(num_heads, middle[i : i + len(block)], rngs=rngs)
            for i in range(0, len(middle), len(block))
        )
        self.norm = LayerNorm(width, 0.0, rngs=rngs)
        self.weight, self.bias = nnx.Param(last), nnx.Param(last_bias)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits ``[example, class]``; images as `Pixels.standardised` takes them."""
        return linear(*self.head(images))

    def head(self, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Features ``[example, feature]`` of the last layer, its weight and its bias."""
        if images.shape[1:3] != (self.side, self.side):
            raise ValueError(
                f"images of {images.shape[1]} x {images.shape[2]} pixels, a model for "
                f"{self.side} x {self.side}; give the model their side."
            )
        x = self.patch_norm(patches(self.pixels.standardised(images), self.patch))
        x = x if self.dtype == "float32" else x.astype(self.dtype)
        x = linear(x, self.patch_weight[...], self.patch_bias[...])
        x = self.embedded_norm(x)
        places = jnp.asarray(sinusoids_of_places(self.side // self.patch, x.shape[-1]), x.dtype)
        x = x + places[None]
        for block in self.blocks:
            x = jax.checkpoint(_call)(block, x) if self.dtype == "bfloat16" else block(x)
        x = self.norm(x)
        features = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean(1)
        return features, self.weight[...], self.bias[...]


class Block(nnx.Module):
    """Attention and an MLP, each on normalised features and added to its input.

    Args:
      num_heads: Number of attention heads.
      start: Initial weight of queries, keys and values ``[3 * feature, feature]``, of the output of
        the attention, and weight and bias of the two layers of the MLP.
      rngs: Random streams of the normalisations.
    """

    def __init__(self, num_heads: int, start: list[jax.Array], *, rngs: nnx.Rngs):
        self.num_heads, width = num_heads, len(start[1])
        self.norm_attention = LayerNorm(width, 0.0, rngs=rngs)
        self.norm_mlp = LayerNorm(width, 0.0, rngs=rngs)
        self.in_weight, self.out_weight = map(nnx.Param, start[:2])
        self.mlp_in, self.mlp_in_bias, self.mlp_out, self.mlp_out_bias = map(nnx.Param, start[2:])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Output for ``x [example, patch, feature]``."""
        x = x + self._attention(self.norm_attention(x))
        inside = linear(self.norm_mlp(x), self.mlp_in[...], self.mlp_in_bias[...])
        inside = jax.nn.gelu(inside, approximate=False)
        return x + linear(inside, self.mlp_out[...], self.mlp_out_bias[...])

    def _attention(self, x: jax.Array) -> jax.Array:
        product = partial(jnp.einsum, "...i,oi->...o")
        joint = product(x, self.in_weight[...].astype(x.dtype))
        query, keys, value = (
            part.reshape(*x.shape[:2], self.num_heads, -1) for part in jnp.split(joint, 3, axis=-1)
        )
        mixed = jax.nn.dot_product_attention(
            query, keys, value, implementation=kernel_for("auto", query)
        )
        return product(mixed.reshape(x.shape), self.out_weight[...].astype(x.dtype))


def patches(images: jax.Array, patch: int) -> jax.Array:
    """``[example, patch, entry]`` of ``[example, row, column, channel]``.

    Entries of a patch are ordered by row, column and channel, and patches by row and column.
    """
    count, height, width, channels = images.shape
    cut = images.reshape(count, height // patch, patch, width // patch, patch, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, patch**2 * channels)


def sinusoids_of_places(side: int, width: int) -> np.ndarray:
    """Positional encoding ``[side * side, feature]`` of a square of places, float32.

    Quarters of the features are sine and cosine of the column and of the row, at frequencies
    ``10000^(-i / (width / 4 - 1))``.
    """
    quarter = width // 4
    rate = 10_000.0 ** (-np.arange(quarter) / max(quarter - 1, 1))
    row, column = (place.reshape(-1, 1) * rate for place in np.mgrid[:side, :side])
    parts = [np.sin(column), np.cos(column), np.sin(row), np.cos(row)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def flops(
    side: int,
    num_classes: int,
    *,
    patch: int = 16,
    width: int = 384,
    num_layers: int = 12,
    mlp_width: int | None = None,
    channels: int = 3,
) -> float:
    """Useful floating-point operations of a step on one image of ``side x side`` pixels.

    Two per multiplication, and as many for each of the two gradients. Recomputation is not counted.
    """
    number, inside = (side // patch) ** 2, 4 * width if mlp_width is None else mlp_width
    block = 4 * width**2 + 2 * width * inside + 2 * number * width
    first = patch**2 * channels * width
    return 6.0 * (number * (first + num_layers * block) + num_classes * width)


def _call(block: Block, x: jax.Array) -> jax.Array:
    return block(x)
