"""The convolutional network of Figure 2."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from imbalance.models.convolution import convolve_and_pool
from imbalance.models.layers import parts_of_a_draw


class SimpleCNN(nnx.Module):
    """Two convolutions with ReLU and pooling, then a linear layer: images to class-major logits.

    The defaults are the paper's network on 28 x 28 images: 5 x 5 kernels, 32 and 100 channels,
    4,900 features. Initialised as PyTorch does: weights and biases uniform on ``±1/sqrt(fan_in)``.

    Features are ordered by row, column and channel; PyTorch puts the channel first.

    Args:
      num_classes: Number of classes.
      side: Pixels along a side of an image; a multiple of 4.
      channels: Output channels of the first and the second convolution.
      kernel: Positions along a side of both kernels; odd.
      rngs: Random streams of the initialisation.

    Raises:
      ValueError: If the side is not a multiple of 4, or the kernel is even.
    """

    class_axis = 0

    def __init__(
        self,
        num_classes: int,
        *,
        side: int = 28,
        channels: tuple[int, int] = (32, 100),
        kernel: int = 5,
        rngs: nnx.Rngs,
    ):
        if side < 4 or side % 4:
            raise ValueError(f"images of {side} x {side} pixels; give a multiple of 4.")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernels of {kernel} x {kernel} positions; give an odd number.")

        shapes, fan_ins, inputs = [], [], 1
        for outputs in channels:
            shapes += [(kernel, kernel, inputs, outputs), (outputs,)]
            fan_ins += [kernel**2 * inputs] * 2
            inputs = outputs
        num_features = (side // 4) ** 2 * inputs
        shapes += [(num_classes, num_features), (num_classes,)]
        fan_ins += [num_features] * 2
        size = sum(map(math.prod, shapes))
        drawn = jax.random.uniform(rngs.params(), (size,), minval=-1, maxval=1)
        bounds = [fan_in**-0.5 for fan_in in fan_ins]
        start = map(nnx.Param, parts_of_a_draw(drawn, shapes, bounds))
        *layers, self.weight, self.bias = start
        self.kernels, self.shifts = nnx.List(layers[::2]), nnx.List(layers[1::2])

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits ``[class, example]`` of ``images [example, row, column]``."""
        return self.weight[...] @ self._features(images) + self.bias[...][:, None]

    def head(self, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Features ``[example, feature]`` of the last layer, its weight and its bias."""
        return self._features(images).T, self.weight[...], self.bias[...]

    def _features(self, images: jax.Array) -> jax.Array:
        """Features ``[feature, example]``."""
        found = jnp.moveaxis(images, 0, -1)[:, :, None]
        for kernel, shift in zip(self.kernels, self.shifts, strict=True):
            # Pooling commutes with the bias and with ReLU; done first, it saves 3/4 of their work.
            found = jax.nn.relu(
                convolve_and_pool(found, kernel[...]) + shift[...][None, None, :, None]
            )
        return found.reshape(-1, len(images))
