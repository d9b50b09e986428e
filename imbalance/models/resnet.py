"""Residual networks for images of 224 pixels, of 32, and smaller (Figure 3).

Each example is normalised with the others of its microbatch, or by itself.

*Batch normalisation.* A task is a pure function, so nothing runs along with the parameters:
statistics are those of the batch at hand, in training and in evaluation alike. The authors' code
has the same, since until 30 June 2024 it never called ``eval()``: the losses they show are those of
the training objective. It follows that

- the loss of an example depends on the others of its microbatch, so the number of microbatches is
  part of the problem. Data that are sorted by class must be shuffled, or the statistics of a
  microbatch would tell its classes (`imbalance.problems.pictures` shuffles);
- evaluation changes neither parameters nor statistics, as there are none;
- rows of weight 0, with which microbatches are padded, take no part in the statistics.

*Layer normalisation* is over all pixels and channels of an example, as the authors have it:
PyTorch's ``GroupNorm`` with one group. Nothing of the above applies to it.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from imbalance.models.layers import EPSILON, parts_of_a_draw
from imbalance.models.pixels import Pixels
from imbalance.models.strided import convolve, max_pool


class Stem(NamedTuple):
    """The first layer: a convolution, and perhaps the maximum over 3 x 3 pixels with stride 2.

    Attributes:
      kernel: Positions along a side of the kernel.
      stride: Stride of the convolution.
      pool: Whether the maximum follows.
    """

    kernel: int
    stride: int
    pool: bool


STEMS = {"224": Stem(7, 2, True), "32": Stem(3, 1, False), "16": Stem(3, 2, False)}
"""By the side of the images that they are made for: the paper's, CIFAR's, and one for glyphs."""

RESNET18 = (2, 2, 2, 2)
RESNET34 = (3, 4, 6, 3)


class ResNet(nnx.Module):
    """A residual network of basic blocks: images to class-major logits.

    The defaults are the paper's ResNet18, torchvision's ``resnet18``. A block is convolution,
    normalisation, ReLU, convolution, normalisation, the sum with its input, ReLU. Each stage but
    the first begins with stride 2 and doubles the channels; there a convolution of one position,
    with normalisation, brings the input to size. The mean over pixels goes into the last layer.

    Initialised as torchvision does: kernels normal with variance 2 / fan-out, scales 1, offsets 0,
    the last layer uniform on ``±1/sqrt(fan_in)``.

    Args:
      num_classes: Number of classes.
      width: Channels of the first stage.
      blocks: Number of blocks of each stage.
      norm: "batch" or "layer".
      stem: First layer, a name in `STEMS` or a `Stem`.
      pixels: How pixels are standardised; it tells the number of channels.
      dtype: Precision of convolutions, "float32" or "bfloat16"; parameters, statistics and the last
        layer are float32 in both cases.
      rngs: Random streams of the initialisation.

    Raises:
      ValueError: If there is no stage or no block in one, the width is not positive, or a name is
        unknown.
    """

    class_axis = 0
    takes_weight = True  # see `imbalance.problems.tasks.classification`

    def __init__(
        self,
        num_classes: int,
        *,
        width: int = 64,
        blocks: tuple[int, ...] = RESNET18,
        norm: Literal["batch", "layer"] = "batch",
        stem: str | Stem = "224",
        pixels: Pixels = Pixels((0.5,) * 3, (0.25,) * 3),  # noqa: B008 - a constant
        dtype: Literal["float32", "bfloat16"] = "float32",
        rngs: nnx.Rngs,
    ):
        if not blocks or min(blocks) < 1 or width < 1:
            raise ValueError(
                f"blocks {blocks}, width {width}; give a stage or more, all at least 1."
            )
        for name, given, allowed in (
            ("norm", norm, ("batch", "layer")),
            ("dtype", dtype, ("float32", "bfloat16")),
            ("stem", stem, tuple(STEMS)),
        ):
            if given not in allowed and not isinstance(given, Stem):
                raise ValueError(f"{name} is {given!r}; give one of {allowed}.")
        self.blocks, self.norm, self.pixels, self.dtype = blocks, norm, pixels, dtype
        self.stem = STEMS[stem] if isinstance(stem, str) else stem

        shapes = list(_kernel_shapes(pixels.channels, width, blocks, self.stem.kernel))
        spreads = [(2 / (rows * columns * out)) ** 0.5 for rows, columns, _, out in shapes]
        size = sum(map(math.prod, shapes))
        kernels = parts_of_a_draw(jax.random.normal(rngs.params(), (size,)), shapes, spreads)
        self.kernels = nnx.List(map(nnx.Param, kernels))
        self.norm_scales = nnx.List(nnx.Param(jnp.ones(shape[-1])) for shape in shapes)
        self.norm_offsets = nnx.List(nnx.Param(jnp.zeros(shape[-1])) for shape in shapes)
        features = width * 2 ** (len(blocks) - 1)
        last = [(num_classes, features), (num_classes,)]
        drawn = jax.random.uniform(
            rngs.params(), (num_classes * (features + 1),), minval=-1, maxval=1
        )
        self.weight, self.bias = map(nnx.Param, parts_of_a_draw(drawn, last, [features**-0.5] * 2))

    def __call__(self, images: jax.Array, weight: jax.Array | None = None) -> jax.Array:
        """Logits ``[class, example]``.

        Args:
          images: Images ``[example, row, column, channel]``, as `Pixels.standardised` takes them.
          weight: Weight of each example, ``[example]``; those of 0 are left out of statistics.
            None: all take part.
        """
        return self.weight[...] @ self._features(images, weight) + self.bias[...][:, None]

    def head(
        self, images: jax.Array, weight: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Features ``[example, feature]`` of the last layer, its weight and its bias."""
        return self._features(images, weight).T, self.weight[...], self.bias[...]

    def _features(self, images: jax.Array, weight: jax.Array | None) -> jax.Array:
        """Features ``[feature, example]``."""
        present = jnp.ones(len(images)) if weight is None else jnp.asarray(weight > 0, jnp.float32)
        layers = zip(self.kernels, self.norm_scales, self.norm_offsets, strict=True)

        def layer(x: jax.Array, stride: int = 1) -> jax.Array:
            kernel, scale, offset = (param[...] for param in next(layers))
            x = convolve(x, kernel.astype(x.dtype), stride)
            return normalised(x, scale, offset, present if self.norm == "batch" else None)

        x = jnp.moveaxis(self.pixels.standardised(images), 0, -1)
        x = x if self.dtype == "float32" else x.astype(self.dtype)
        x = jax.nn.relu(layer(x, self.stem.stride))
        x = max_pool(x) if self.stem.pool else x
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                wider = stage > 0 and block == 0
                inside = layer(jax.nn.relu(layer(x, 2 if wider else 1)))
                x = jax.nn.relu(inside + (layer(x, 2) if wider else x))
        return x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((0, 1))


def normalised(
    x: jax.Array, scale: jax.Array, offset: jax.Array, present: jax.Array | None
) -> jax.Array:
    """``[row, column, channel, example]`` with mean 0 and variance 1, then scaled and shifted.

    Computed in at least float32.

    Args:
      x: Values ``[row, column, channel, example]``.
      scale: Factor of each channel.
      offset: Summand of each channel.
      present: 1 for each example over which channels are averaged, else 0, ``[example]``. None:
        each example is averaged by itself, over all its channels.
    """
    values = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    height, width, channels, _ = x.shape
    if present is None:

        def mean(values: jax.Array) -> jax.Array:
            return values.mean((0, 1, 2))[None, None, None]

    else:
        number = height * width * jnp.maximum(present.sum(), 1)

        def mean(values: jax.Array) -> jax.Array:
            return (jnp.einsum("hwcn,n->c", values, present) / number)[None, None, :, None]

    centred = values - mean(values)
    factor = jax.lax.rsqrt(mean(jnp.square(centred)) + EPSILON)
    shape = (1, 1, channels, 1)
    return (centred * (factor * scale.reshape(shape)) + offset.reshape(shape)).astype(x.dtype)


def flops(
    side: int,
    num_classes: int,
    *,
    width: int = 64,
    blocks: tuple[int, ...] = RESNET18,
    stem: str | Stem = "224",
    channels: int = 3,
) -> float:
    """Useful floating-point operations of a step on one image of ``side x side`` pixels.

    Two per multiplication, and as many for each of the two gradients; the first layer has no
    gradient to the image.
    """
    first = STEMS[stem] if isinstance(stem, str) else stem
    shapes = _kernel_shapes(channels, width, blocks, first.kernel)
    side = -(-side // first.stride)
    found = 2.0 * 2 * side**2 * math.prod(next(shapes))
    side = -(-side // 2) if first.pool else side
    for stage, count in enumerate(blocks):
        wider = stage > 0
        side = -(-side // 2) if wider else side
        for _ in range(2 * count + wider):
            found += 3.0 * 2 * side**2 * math.prod(next(shapes))
    return found + 3.0 * 2 * num_classes * width * 2 ** (len(blocks) - 1)


def _kernel_shapes(
    channels: int, width: int, blocks: tuple[int, ...], kernel: int
) -> Iterator[tuple[int, ...]]:
    """Shapes ``(row, column, channel, output)`` of all kernels, in the order of the layers."""
    yield kernel, kernel, channels, width
    inputs = width
    for stage, count in enumerate(blocks):
        outputs = width * 2**stage
        for _ in range(count):
            yield 3, 3, inputs, outputs
            yield 3, 3, outputs, outputs
            if inputs != outputs:
                yield 1, 1, inputs, outputs
            inputs = outputs
