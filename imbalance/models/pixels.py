"""Pixels as a model takes them: bytes stay bytes until a model standardises them on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Pixels(NamedTuple):
    """How pixels are standardised: ``(pixel / 255 - mean) / std`` in each channel.

    Attributes:
      mean: Mean of each channel, of pixels between 0 and 1.
      std: Standard deviation of each channel.
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    def standardised(self, images: jax.Array) -> jax.Array:
        """Images as float32 ``[example, row, column, channel]``.

        Args:
          images: Images ``[example, row, column, channel]``, or without the last axis where there
            is one channel. Bytes are standardised; floating-point numbers are as they should be.

        Raises:
          ValueError: If the images have another number of channels.
        """
        images = images[..., None] if images.ndim == 3 else images
        if images.shape[-1] != self.channels:
            raise ValueError(
                f"images of {images.shape[-1]} channels, mean and std of {self.channels}; give one "
                "of each for every channel."
            )
        if images.dtype != jnp.uint8:
            return images
        shape = (1, 1, 1, self.channels)
        scale = jnp.asarray([1 / (255 * std) for std in self.std], jnp.float32)
        shift = jnp.asarray(
            [mean / std for mean, std in zip(self.mean, self.std, strict=True)], jnp.float32
        )
        return images.astype(jnp.float32) * scale.reshape(shape) - shift.reshape(shape)
