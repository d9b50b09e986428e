"""Fast convolution and pooling of small images.

Images have shape ``[row, column, channel, example]``. With examples last, every pass over pixels
reads contiguous memory, and nearly every product below takes its operands without a transposition.

GPU and TPU use the native convolution. On CPU it is slow inside a compiled loop, most of all its
gradients, which are up to a hundred times slower there than outside. There, matrix products replace
it, forward and backward:

- *few inputs* (the first layer): the shifted copies of the image times the kernel, for the four
  pixels of a pooling window in one product.
- *many inputs*: products of discrete Fourier transforms, three real ones for each complex one
  (Gauss). For 14 x 14 images and a 5 x 5 kernel that takes a twelfth of the multiplications. The
  transform of so small an image is itself a matrix product. Splitting pixels into sums and
  differences of opposite pixels, which need only cosines and only sines, halves its work. The work
  grows with the square of the number of pixels.

Values and gradients equal those of the plain convolution up to the rounding of float32 (measured:
3e-6 of the largest entry).
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FEW_INPUTS = 64
"""Largest kernel (rows x columns x channels) for which shifted copies are multiplied on CPU."""


def convolve_and_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Cross-correlation that keeps the size, then the maximum over windows of 2 x 2 pixels.

    As PyTorch's ``Conv2d`` with zero padding and no bias, and ``MaxPool2d(2)``. Among equal entries
    of a window, the first in reading order takes the gradient, as in PyTorch and in JAX's own
    pooling (whose gradient is slow on CPU).

    Args:
      images: Images ``[row, column, channel, example]``, with even numbers of rows and columns.
      kernel: Kernel ``[row, column, channel, output]``, with odd numbers of rows and columns.

    Returns:
      ``[row / 2, column / 2, output, example]``.

    Raises:
      ValueError: For images of odd size, a kernel of even size, or if their channels differ.
    """
    height, width, channels, _ = images.shape
    rows, columns, inputs, _ = kernel.shape
    if height % 2 or width % 2:
        raise ValueError(f"images of {height} x {width} pixels; give even numbers.")
    if rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(f"kernel of {rows} x {columns} positions; give odd numbers.")
    if inputs != channels:
        raise ValueError(f"kernel for {inputs} channels, images with {channels}; give equal ones.")
    few = rows * columns * channels <= FEW_INPUTS
    on_cpu = _pool_of_shifts if few else _pool_of_frequencies
    return jax.lax.platform_dependent(images, kernel, cpu=on_cpu, default=_pool_of_native)


def _pool_of_native(images: jax.Array, kernel: jax.Array) -> jax.Array:
    layout = ("HWCN", "HWIO", "HWCN")
    return max_pool(
        jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=layout)
    )


def _pool_of_frequencies(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return max_pool(convolve_by_frequencies(images, kernel))


def _pool_of_shifts(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """All four pixels of every window from one product with four shifted copies of the kernel."""
    height, width = images.shape[0] // 2, images.shape[1] // 2
    rows, columns, channels, outputs = kernel.shape
    margins = [(rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0), (0, 0)]
    padded = jnp.pad(images, margins)
    shifted = [
        padded[i : i + 2 * height : 2, j : j + 2 * width : 2]
        for i in range(rows + 1)
        for j in range(columns + 1)
    ]
    shifted = jnp.moveaxis(jnp.stack(shifted), 3, 1)  # [shift, channel, row, column, example]
    kernels = jnp.stack(
        [
            jnp.pad(kernel, [(i, 1 - i), (j, 1 - j), (0, 0), (0, 0)])
            for i in range(2)
            for j in range(2)
        ]
    )
    # Plain matrices: a product over several axes would copy its operands.
    kernels = jnp.moveaxis(kernels, 4, 1).reshape(4 * outputs, -1)
    windows = kernels @ shifted.reshape(kernels.shape[1], -1)
    return jnp.moveaxis(largest(windows.reshape(4, outputs, height, width, -1)), 0, 2)


# Pooling ------------------------------------------------------------------------------------------


@jax.custom_vjp
def largest(entries: jax.Array) -> jax.Array:
    """Largest of ``entries [4, ...]``; among equal ones the first takes the gradient."""
    first, second, third, fourth = entries
    return jnp.maximum(jnp.maximum(first, second), jnp.maximum(third, fourth))


def _which_is_largest(entries: jax.Array) -> jax.Array:
    """Index of the largest of the four entries."""
    first, second, third, fourth = entries
    in_upper = jnp.maximum(first, second) >= jnp.maximum(third, fourth)
    return jnp.where(in_upper, first < second, 2 + (third < fourth))


def _to_largest(entries: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    places = jnp.arange(4).reshape(4, *(1,) * gradient.ndim)
    return (jnp.where(_which_is_largest(entries)[None] == places, gradient[None], 0),)


largest.defvjp(lambda entries: (largest(entries), entries), _to_largest)


@jax.custom_vjp
def max_pool(images: jax.Array) -> jax.Array:
    """`largest` of each 2 x 2 window of ``[row, column, channel, example]``."""
    return largest(_windows(images))


def _windows(images: jax.Array) -> jax.Array:
    height, width, *rest = images.shape
    windows = images.reshape(height // 2, 2, width // 2, 2, *rest)
    return jnp.stack([windows[:, i, :, j] for i in range(2) for j in range(2)])


def _to_windows(images: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    which = _which_is_largest(_windows(images))[:, None, :, None]
    places = jnp.arange(4).reshape(1, 2, 1, 2, *(1,) * (images.ndim - 2))
    return (jnp.where(which == places, gradient[:, None, :, None], 0).reshape(images.shape),)


max_pool.defvjp(lambda images: (max_pool(images), images), _to_windows)


# Convolution by frequencies -----------------------------------------------------------------------


class _Waves(NamedTuple):
    """Cosines and sines of a Fourier transform, float64 NumPy arrays.

    Of the frequencies f and -f, whose coefficients are conjugate for real images, one is kept.
    Positions are measured from the centre, so sums of opposite pixels need cosines only, and their
    differences sines only.
    """

    cos: np.ndarray  # [frequency, pixel of the first half and the centre]
    sin: np.ndarray  # [frequency, pixel of the first half]
    kernel_cos: np.ndarray  # [frequency, position in the kernel], with the inverse's factor 1/size
    kernel_sin: np.ndarray


@lru_cache
def _waves(image: tuple[int, ...], kernel: tuple[int, ...], periodic: bool) -> _Waves:
    # Circular wrapping reaches k // 2 past the edge, so k // 2 rows of zeros are enough.
    sizes = [
        length + (0 if periodic else side // 2) for length, side in zip(image, kernel, strict=True)
    ]
    kept, share = [], []
    for f in np.ndindex(*sizes):
        mirrored = tuple(-i % size for i, size in zip(f, sizes, strict=True))
        if f <= mirrored:
            kept.append(f)
            share.append((1 if f == mirrored else 2) / np.prod(sizes))
    turns = 2 * np.pi * np.array(kept) / sizes

    def angles(shape: tuple[int, ...]) -> np.ndarray:
        places = [np.arange(length) - (length - 1) / 2 for length in shape]
        return turns @ np.stack([axis.ravel() for axis in np.meshgrid(*places, indexing="ij")])

    pixels, taps = angles(image), angles(kernel)
    half = pixels.shape[1] // 2
    return _Waves(
        np.cos(pixels[:, : pixels.shape[1] - half]),
        np.sin(pixels[:, :half]),
        np.cos(taps) * np.array(share)[:, None],
        np.sin(taps) * np.array(share)[:, None],
    )


def _transform(waves: _Waves, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Fourier transform ``Σ x cos`` and ``-Σ x sin``, each ``[frequency, channel, example]``."""
    pixels = images.reshape(-1, *images.shape[2:])
    count = len(pixels)
    half = count // 2
    first, last = pixels[:half], pixels[count - half :][::-1]
    even = first + last
    if count % 2:
        even = jnp.concatenate([even, pixels[half : half + 1]])
    cos, sin = (jnp.asarray(table, images.dtype) for table in (waves.cos, -waves.sin))
    return jnp.tensordot(cos, even, 1), jnp.tensordot(sin, first - last, 1)


def _transform_back(
    waves: _Waves, real: jax.Array, imaginary: jax.Array, image: tuple[int, ...]
) -> jax.Array:
    """``Σ real cos - imaginary sin`` over frequencies, the adjoint of `_transform`."""
    cos, sin = (jnp.asarray(table.T, real.dtype) for table in (waves.cos, -waves.sin))
    even, odd = jnp.tensordot(cos, real, 1), jnp.tensordot(sin, imaginary, 1)
    half = len(odd)
    first, last = even[:half] + odd, (even[:half] - odd)[::-1]
    return jnp.concatenate([first, even[half:], last]).reshape(*image, *real.shape[1:])


def _transform_kernel(waves: _Waves, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Transform of ``kernel [row, column, ...]``: real and imaginary, ``[frequency, ...]``."""
    taps = kernel.reshape(-1, *kernel.shape[2:])
    cos, sin = (jnp.asarray(t, kernel.dtype) for t in (waves.kernel_cos, waves.kernel_sin))
    return jnp.tensordot(cos, taps, 1), jnp.tensordot(sin, taps, 1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_by_frequencies(
    images: jax.Array, kernel: jax.Array, periodic: bool = False
) -> jax.Array:
    """Cross-correlation that keeps the size, as products of Fourier transforms.

    Args:
      images: Images ``[row, column, channel, example]`` of any size.
      kernel: Kernel ``[row, column, channel, output]``, of odd size.
      periodic: Whether beyond an edge lies the opposite one, and not zeros: fewer frequencies.

    Returns:
      ``[row, column, output, example]``.
    """
    return _forward(images, kernel, periodic)[0]


# A product of complex numbers takes three real ones (Gauss). Sums and differences are passes over
# memory, so the side with more channels has the fewest. Each product takes its operands as they
# are, or copies the smaller one.


def _forward(images: jax.Array, kernel: jax.Array, periodic: bool):
    image = images.shape[:2]
    waves = _waves(image, kernel.shape[:2], periodic)
    a, b = _transform(waves, images)
    c, d = _transform_kernel(waves, jnp.swapaxes(kernel, 2, 3))
    multiply = partial(jnp.einsum, "foc,fcn->fon")
    both, by_a, by_b = multiply(c, a + b), multiply(d - c, a), multiply(c + d, b)
    # (a + ib)(c + id)
    convolved = _transform_back(waves, both - by_b, both + by_a, image)
    return convolved, (a, b, kernel, jnp.zeros((*image, 0)))


def _backward(periodic: bool, residuals, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    a, b, kernel, empty = residuals
    image = empty.shape[:2]
    waves = _waves(image, kernel.shape[:2], periodic)
    p, q = _transform(waves, gradient)
    c, d = _transform_kernel(waves, kernel)
    multiply = partial(jnp.einsum, "fco,fon->fcn")
    both, by_p, by_q = multiply(c, p + q), multiply(c + d, p), multiply(d - c, q)
    # (p + iq)(c - id)
    to_images = _transform_back(waves, both + by_q, both - by_p, image)
    multiply = partial(jnp.einsum, "fon,fcn->foc")
    both, by_p, by_q = multiply(p + q, a), multiply(p, a + b), multiply(q, b - a)
    # (p + iq)(a - ib)
    parts = both + by_q, both - by_p
    tables = (jnp.asarray(t.T, a.dtype) for t in (waves.kernel_cos, waves.kernel_sin))
    taps = sum(jnp.tensordot(table, part, 1) for table, part in zip(tables, parts, strict=True))
    return to_images, jnp.swapaxes(taps, 1, 2).reshape(kernel.shape)


convolve_by_frequencies.defvjp(_forward, _backward)
