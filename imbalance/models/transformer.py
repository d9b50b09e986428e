"""Transformers that predict the next token.

An `Architecture` describes a model, and `Transformer` builds it. `post_norm` gives the paper's
one-layer and two-layer models, `gpt2` its GPT-2 small, each at any size. The last layer is a linear
softmax on features. `Transformer.head` returns the features in place of logits, as the logits of
all positions may not fit into memory.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from imbalance.models.attention import CausalAttention, Implementation
from imbalance.models.layers import LayerNorm, dropped, embedded, linear

PTB_SPREAD = 0.02
GPT2_SPREAD = 2**0.5 * 0.02


@dataclass(frozen=True)
class Architecture:
    """Description of a transformer by plain values; equal descriptions build equal models.

    Attributes:
      num_classes: Size of the vocabulary.
      width: Number of features of a position; a multiple of the number of heads.
      num_layers: Number of blocks.
      num_heads: Number of attention heads of a block.
      mlp_width: Number of features inside a block's MLP.
      block: Order of the sublayers and normalisations. "post", in the paper's small models:
        ``x <- LN(x + SA(x)); x <- LN(x + MLP(x))``. "authors", in the authors' GPT-2 code, where
        the residual stream itself is normalised:
        ``x <- LN(x); x <- x + SA(x); x <- LN(x); x <- x + MLP(x)``. "pre", the standard order:
        ``x <- x + SA(LN(x)); x <- x + MLP(LN(x))``. The last two end with one more LN.
      activation: Activation of the MLP; "gelu" is the tanh approximation.
      dropout: Dropout rate after the embedding and after every sublayer.
      mlp_dropout: Dropout rate after the activation of the MLP.
      attention_dropout: Dropout rate of attention weights; JAX's fused kernels require 0.
      spread: Standard deviation of the initial embedding, MLP and output weights; their biases
        start at 0.
      norm_spread: Standard deviation of the initial normalisation weights, of mean 1.
      scaled_mlp_out: Whether the initial second weight of the MLP is divided by
        ``sqrt(2 num_layers)``.
      copied_attention: Whether attention starts with equal weights in all blocks, as in the
        authors' code: PyTorch's encoder copies one block, and only the rest is redrawn.
      tied: Whether the output weight is the embedding.
      head_bias: Whether the output layer has a bias.
      dtype: Precision of blocks and logits, "float32" or "bfloat16"; parameters, normalisations,
        softmaxes and sums of gradients are float32 in both cases.
      remat: Whether the backward pass keeps only the input of each block and recomputes the rest:
        much less memory, a third more time.
      attention: ``implementation`` of `CausalAttention`; curvature on a GPU needs "xla".
    """

    num_classes: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    block: Literal["post", "authors", "pre"] = "post"
    activation: Literal["relu", "gelu"] = "relu"
    dropout: float = 0.0
    mlp_dropout: float = 0.0
    attention_dropout: float = 0.0
    spread: float = PTB_SPREAD
    norm_spread: float = 0.0
    scaled_mlp_out: bool = False
    copied_attention: bool = False
    tied: bool = False
    head_bias: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    attention: Implementation = "auto"

    def __post_init__(self):
        for name in ("num_classes", "width", "num_layers", "num_heads", "mlp_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more.")
        for name in ("dropout", "mlp_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more, below 1.")
        for name, allowed in (
            ("block", ("post", "authors", "pre")),
            ("activation", ("relu", "gelu")),
            ("dtype", ("float32", "bfloat16")),
            ("attention", ("auto", "xla", "cudnn")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; give one of {allowed}.")

    def matrix_parameters(self) -> int:
        """Number of weights that multiply every token: all matrices but the embedding."""
        block = 4 * self.width**2 + 2 * self.width * self.mlp_width
        return self.num_layers * block + self.num_classes * self.width

    def flops(self, num_rows: int, length: int) -> float:
        """Useful floating-point operations of a step on ``[row, position]`` tokens.

        Two per weight and token, and as many for each of the two gradients. Attention counts only
        the half of its scores that is not masked. Recomputation is not counted.
        """
        attention = self.num_layers * 2 * self.width * length / 2
        return 6.0 * num_rows * length * (self.matrix_parameters() + attention)


def post_norm(num_classes: int, **changes: Any) -> Architecture:
    """The paper's two-layer model of PTB: 2 layers, 4 heads, 1000 features, dropout 0.2.

    Attention weights are dropped at that rate too, as PyTorch's encoder layer hands its dropout to
    its attention. TinyPTB's one-layer model has ``num_layers=1, num_heads=1, width=1200,
    mlp_width=1200``.
    """
    paper = Architecture(
        num_classes,
        width=1000,
        num_layers=2,
        num_heads=4,
        mlp_width=1000,
        dropout=0.2,
        mlp_dropout=0.2,
        attention_dropout=0.2,
        norm_spread=PTB_SPREAD,
        copied_attention=True,
    )
    return replace(paper, **changes)


def gpt2(num_classes: int, **changes: Any) -> Architecture:
    """GPT-2 small as in the authors' code (Figure 1); ``block="pre"`` is the standard one.

    See "The blocks of GPT-2" in docs/method.md. Attention starts with equal weights in all layers:
    the authors' code copies one layer and never draws attention again.
    """
    paper = Architecture(
        num_classes,
        width=768,
        num_layers=12,
        num_heads=12,
        mlp_width=3072,
        block="authors",
        activation="gelu",
        dropout=0.1,
        attention_dropout=0.1,
        spread=GPT2_SPREAD,
        scaled_mlp_out=True,
        copied_attention=True,
    )
    return replace(paper, **changes)


class Transformer(nnx.Module):
    """A language model: tokens ``[row, position]`` to the logits of each position's next token."""

    class_axis = -1

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs):
        size = self.architecture = architecture
        self.embedding = nnx.Param(_embedding(size, rngs))
        copied = rngs.params()
        self.blocks = nnx.List(
            Block(size, copied if size.copied_attention else rngs.params(), rngs=rngs)
            for _ in range(size.num_layers)
        )
        after = size.block != "post"
        self.norm = LayerNorm(size.width, size.norm_spread, rngs=rngs) if after else None
        self.weight = None if size.tied else nnx.Param(_embedding(size, rngs))
        self.bias = nnx.Param(jnp.zeros(size.num_classes)) if size.head_bias else None

    def __call__(self, tokens: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Logits ``[row, position, class]``; for many positions and classes, prefer `head`."""
        features, weight, bias = self.head(tokens, key)
        wide = jnp.promote_types(features.dtype, jnp.float32)
        logits = jnp.einsum("ef,cf->ec", features, weight, preferred_element_type=wide)
        logits = logits if bias is None else logits + bias[None]
        return logits.reshape(*tokens.shape, -1)

    def head(
        self, tokens: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Features ``[row * position, feature]`` of the last layer, its weight and its bias.

        Args:
          tokens: Tokens, int32 ``[row, position]``; one out of range makes its row NaN.
          key: Random key of the dropout; None drops nothing.
        """
        size = self.architecture
        keys = [None] * (1 + size.num_layers)
        if key is not None:
            keys = list(jax.random.split(key, 1 + size.num_layers))
        x = embedded(tokens, self.embedding[...], size.dtype)
        x = dropped(x, size.dropout, keys[0])
        for block, noise in zip(self.blocks, keys[1:], strict=True):
            x = (jax.checkpoint(partial(_call, block)) if size.remat else block)(x, noise)
        if self.norm is not None:
            x = self.norm(x)
        weight = (self.embedding if self.weight is None else self.weight)[...]
        bias = None if self.bias is None else self.bias[...]
        return x.reshape(-1, size.width), weight.astype(x.dtype), bias


class Block(nnx.Module):
    """Attention and an MLP, with their normalisations (see `Architecture.block`).

    Args:
      architecture: Architecture of the model.
      attention_key: Random key of the attention's initialisation.
      rngs: Random streams of the other layers.
    """

    def __init__(self, architecture: Architecture, attention_key: jax.Array, *, rngs: nnx.Rngs):
        size = self.architecture = architecture
        self.attention = CausalAttention(
            size.width,
            size.num_heads,
            dropout=size.attention_dropout,
            implementation=size.attention,
            key=attention_key,
        )
        self.norm_attention = LayerNorm(size.width, size.norm_spread, rngs=rngs)
        self.norm_mlp = LayerNorm(size.width, size.norm_spread, rngs=rngs)
        out_spread = size.spread
        if size.scaled_mlp_out:
            out_spread /= (2 * size.num_layers) ** 0.5
        into, out = (size.mlp_width, size.width), (size.width, size.mlp_width)
        self.mlp_in = nnx.Param(size.spread * jax.random.normal(rngs.params(), into))
        self.mlp_in_bias = nnx.Param(jnp.zeros(size.mlp_width))
        self.mlp_out = nnx.Param(out_spread * jax.random.normal(rngs.params(), out))
        self.mlp_out_bias = nnx.Param(jnp.zeros(size.width))

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Output for ``x [row, position, feature]``; no dropout if key is None."""
        in_attention = after_attention = in_mlp = after_mlp = None
        if key is not None:
            in_attention, after_attention, in_mlp, after_mlp = jax.random.split(key, 4)
        rate = self.architecture.dropout

        def attend(x: jax.Array) -> jax.Array:
            return dropped(self.attention(x, in_attention), rate, after_attention)

        def think(x: jax.Array) -> jax.Array:
            return dropped(self.mlp(x, in_mlp), rate, after_mlp)

        match self.architecture.block:
            case "post":
                x = self.norm_attention(x + attend(x))
                return self.norm_mlp(x + think(x))
            case "authors":
                x = self.norm_attention(x)
                x = x + attend(x)
                x = self.norm_mlp(x)
                return x + think(x)
            case "pre":
                x = x + attend(self.norm_attention(x))
                return x + think(self.norm_mlp(x))

    def mlp(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Two linear layers with an activation between them."""
        inside = linear(x, self.mlp_in[...], self.mlp_in_bias[...])
        inside = jax.nn.relu(inside) if self.architecture.activation == "relu" else _gelu(inside)
        inside = dropped(inside, self.architecture.mlp_dropout, key)
        return linear(inside, self.mlp_out[...], self.mlp_out_bias[...])


def _embedding(size: Architecture, rngs: nnx.Rngs) -> jax.Array:
    return size.spread * jax.random.normal(rngs.params(), (size.num_classes, size.width))


def _call(block: Block, x: jax.Array, key: jax.Array | None) -> jax.Array:
    return block(x, key)


_gelu = partial(jax.nn.gelu, approximate=True)
