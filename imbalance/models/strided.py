"""Convolutions of images of any size, with stride 1 or 2.

Images have shape ``[row, column, channel, example]`` and results the same, as in
`imbalance.models.convolution`. GPU and TPU use the native convolution, whose operands the compiler
lays out as it likes. On CPU, where it is slow inside a compiled loop, matrix products replace it:

- a *tiny* image, of a few pixels, is multiplied by the convolution written as one matrix;
- a *small* one goes by products of Fourier transforms;
- a large image is cut into *tiles* of about 8 x 8 pixels, each with a margin of its neighbours,
  and tiles are convolved as images of their own;
- for *stride 2* the four phases of the image (even or odd row, even or odd column) become channels
  of an image of half the side, and the kernel is rearranged likewise.
"""

import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imbalance.models.convolution import convolve_by_frequencies

LARGEST_TILE = 8
"""Pixels along a side of an image that is not cut on CPU; transforms grow with their square."""
MOST_PAIRS = 64
"""Pairs of a pixel and a pixel of the result up to which a convolution is one matrix on CPU."""


def convolve(images: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Cross-correlation as PyTorch's ``Conv2d`` with padding ``side // 2`` and no bias.

    Args:
      images: Images ``[row, column, channel, example]``.
      kernel: Kernel ``[row, column, channel, output]``, with odd numbers of rows and columns.
      stride: Pixels from one window to the next, 1 or 2.

    Returns:
      ``[row / stride, column / stride, output, example]``, sizes rounded up.

    Raises:
      ValueError: For a kernel of even size, another stride, or if channels differ.
    """
    rows, columns, inputs, _ = kernel.shape
    if rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(f"kernel of {rows} x {columns} positions; give odd numbers.")
    if stride not in (1, 2):
        raise ValueError(f"stride {stride}; give 1 or 2.")
    if inputs != images.shape[2]:
        raise ValueError(
            f"kernel for {inputs} channels, images with {images.shape[2]}; give equal ones."
        )
    if rows == columns == 1:
        return jnp.einsum("hwcn,co->hwon", images[::stride, ::stride], kernel[0, 0])

    def native(images: jax.Array, kernel: jax.Array) -> jax.Array:
        padding = [(rows // 2, rows // 2), (columns // 2, columns // 2)]
        layout = ("HWCN", "HWIO", "HWCN")
        return jax.lax.conv_general_dilated(
            images, kernel, (stride, stride), padding, dimension_numbers=layout
        )

    def on_cpu(images: jax.Array, kernel: jax.Array) -> jax.Array:
        # Cosines and sums of a transform need float32, also where the network computes in less.
        wide = jnp.promote_types(images.dtype, jnp.float32)
        return _by_products(images.astype(wide), kernel.astype(wide), stride).astype(images.dtype)

    return jax.lax.platform_dependent(images, kernel, cpu=on_cpu, default=native)


def max_pool(images: jax.Array) -> jax.Array:
    """Maximum over windows of 3 x 3 pixels, with stride 2 and a margin of one pixel."""
    margins = [(1, 1), (1, 1), (0, 0), (0, 0)]
    return jax.lax.reduce_window(images, -jnp.inf, jax.lax.max, (3, 3, 1, 1), (2, 2, 1, 1), margins)


def _by_products(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    size = images.shape[:2]
    if math.prod(size) * math.prod(_after(size, stride)) <= MOST_PAIRS:
        return _by_matrix(images, kernel, stride)
    if stride == 2:
        images, kernel = _phases_of_images(images), _phases_of_kernel(kernel)
    return _by_tiles(images, kernel)


# One matrix ---------------------------------------------------------------------------------------


def _after(size: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """Rows and columns of the result."""
    return tuple(-(-side // stride) for side in size)


@lru_cache
def _places(size: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> np.ndarray:
    """``[position, pixel of the result * pixel]``: 1 where a position lies on a pixel."""
    axes = []
    for side, taps, after in zip(size, kernel, _after(size, stride), strict=True):
        on = np.arange(taps)[:, None, None] - taps // 2 + stride * np.arange(after)[None, :, None]
        axes.append(on == np.arange(side)[None, None])
    both = np.einsum("iph,jqw->ijpqhw", *(axis.astype(np.float32) for axis in axes))
    return both.reshape(math.prod(kernel), -1)


def _by_matrix(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Each pixel of the result from all pixels; the gradients are products as well."""
    size, channels, outputs = images.shape[:2], *kernel.shape[2:]
    places = jnp.asarray(_places(size, kernel.shape[:2], stride), kernel.dtype)
    matrix = jnp.einsum("tp,to->po", places, kernel.reshape(len(places), -1))
    matrix = matrix.reshape(-1, math.prod(size), channels, outputs).transpose(0, 3, 1, 2)
    after = _after(size, stride)
    matrix = matrix.reshape(math.prod(after) * outputs, -1)
    return (matrix @ images.reshape(matrix.shape[1], -1)).reshape(*after, outputs, -1)


# Stride 2 -----------------------------------------------------------------------------------------


def _phases_of_images(images: jax.Array) -> jax.Array:
    """``[row / 2, column / 2, phase * channel, example]``, with a zero row where it is odd."""
    odd = [(0, side % 2) for side in images.shape[:2]]
    images = jnp.pad(images, [*odd, (0, 0), (0, 0)])
    height, width, channels, count = images.shape
    parts = images.reshape(height // 2, 2, width // 2, 2, channels, count)
    return parts.transpose(0, 2, 1, 3, 4, 5).reshape(height // 2, width // 2, -1, count)


def _phases_of_kernel(kernel: jax.Array) -> jax.Array:
    """The kernel for `_phases_of_images`: position 2a + b is position a in phase b."""
    rows, columns, channels, outputs = kernel.shape
    reach = [-(-(side // 2) // 2) for side in (rows, columns)]
    margins = []
    for side, far in zip((rows, columns), reach, strict=True):
        before = 2 * far - side // 2
        margins.append((before, 2 * (2 * far + 1) - side - before))
    kernel = jnp.pad(kernel, [*margins, (0, 0), (0, 0)])
    high, wide = (2 * far + 1 for far in reach)
    parts = kernel.reshape(high, 2, wide, 2, channels, outputs)
    return parts.transpose(0, 2, 1, 3, 4, 5).reshape(high, wide, -1, outputs)


# Tiles --------------------------------------------------------------------------------------------


def _by_tiles(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve_by_frequencies` of the tiles, as further examples."""
    height, width, channels, count = images.shape
    down, across = -(-height // LARGEST_TILE), -(-width // LARGEST_TILE)
    if down == across == 1:
        return convolve_by_frequencies(images, kernel)
    high, wide = -(-height // down), -(-width // across)
    top, left = (side // 2 for side in kernel.shape[:2])
    beyond = (down * high - height + top, across * wide - width + left)
    padded = jnp.pad(images, [(top, beyond[0]), (left, beyond[1]), (0, 0), (0, 0)])
    tiles = jnp.stack(
        [
            padded[i * high : (i + 1) * high + 2 * top, j * wide : (j + 1) * wide + 2 * left]
            for i in range(down)
            for j in range(across)
        ],
        axis=3,
    )
    tiles = tiles.reshape(*tiles.shape[:3], -1)
    # What wraps around falls on the margin, which is cut off.
    found: Any = convolve_by_frequencies(tiles, kernel, True)
    found = found[top : top + high, left : left + wide]
    found = found.reshape(high, wide, -1, down, across, count).transpose(3, 0, 4, 1, 2, 5)
    return found.reshape(down * high, across * wide, -1, count)[:height, :width]
