"""ImageNet (ILSVRC 2012) from its folders, whole and as the paper resamples it (Figure 3).

The authors train on random crops and flips and validate on the middle of the image. Here an image
is decoded once, as for their validation, and training sees the same pixels in every step: the loss
of the training set, which is what the paper shows, is then that of the images trained on.
"""

from os import PathLike
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from imbalance.data.image_cache import CachedImages, cached
from imbalance.data.image_files import ImageFiles, image_files
from imbalance.data.resampling import choose, heavy_tailed_counts, small_counts

LARGEST = 1300
"""Images of the most frequent class of "heavy_tailed"."""
EACH = 10
"""Images of each class of "small"."""

Subset = Literal["full", "small", "heavy_tailed"]


class Channels(NamedTuple):
    """Mean and standard deviation of red, green and blue, where white is 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CHANNELS: dict[Subset, Channels] = {
    # What everybody takes for ImageNet.
    "full": Channels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # The constants of the authors' loader for its two subsets.
    "small": Channels((0.4840, 0.4531, 0.4013), (0.2180, 0.2138, 0.2126)),
    "heavy_tailed": Channels((0.4984, 0.4675, 0.4102), (0.2192, 0.2147, 0.2155)),
}
"""What inputs are normalised by, for each subset."""


class Parts(NamedTuple):
    """Images for training and for validation, with the same classes."""

    train: CachedImages
    val: CachedImages


def imagenet(
    folder: str | PathLike,
    subset: Subset = "full",
    size: int = 224,
    seed: int = 0,
    *,
    cache: str | PathLike | None = None,
    processes: int | None = None,
) -> Parts:
    """ImageNet, or any data set in its form, decoded once and cached.

    Class k = 1, 2, ... is the k-th folder in alphabetical order, as in the authors' loader.
    Validation is always whole.

    Args:
      folder: Folder with ``train/`` and ``val/``, in each a folder for each class.
      subset: "full"; "small": 10 training images of each class; "heavy_tailed": ``⌈1300 / k⌉`` of
        class k, 10,217 of 1,000 classes. Only the files of the subset are decoded.
      size: Pixels along a side.
      seed: Seed of the choice of training images.
      cache: Folder of all caches, as in `imbalance.data.image_cache.cached`.
      processes: Number of processes that decode; None: as many as there are processors.

    Raises:
      FileNotFoundError: If a folder is not there.
      ValueError: If there is no such subset, the folder does not hold folders by class, the classes
        of both parts differ, a class has too few images, or as `cached`.
      OSError: As `cached`.
      ImportError: As `cached`.
    """
    if subset not in CHANNELS:
        raise ValueError(f"subset is {subset!r}; give one of {', '.join(CHANNELS)}.")
    train, val = (image_files(Path(folder) / part) for part in ("train", "val"))
    if apart := sorted(set(train.classes) ^ set(val.classes)):
        raise ValueError(
            f"{folder}: train/ has {len(train.classes)} classes and val/ {len(val.classes)}; "
            f"{apart[0]} is in one of them only. Give both the same folders."
        )
    return Parts(
        cached(_subset(train, subset, seed), size, cache, processes),
        cached(val, size, cache, processes),
    )


def _subset(train: ImageFiles, subset: Subset, seed: int) -> ImageFiles:
    if subset == "full":
        return train
    num_classes = len(train.classes)
    small = subset == "small"
    counts = small_counts(EACH, num_classes) if small else heavy_tailed_counts(LARGEST, num_classes)
    return train.take(choose(train.label, counts, seed))


def normalised(image: np.ndarray, channels: Channels) -> np.ndarray:
    """Pixels over 255, minus the mean, over the standard deviation of each channel.

    Args:
      image: Images, uint8 ``[example, row, column, channel]``.
      channels: Mean and standard deviation, as in `CHANNELS`.

    Returns:
      float32 of the same shape.
    """
    out = image.astype(np.float32)
    # In place: a second array of 10,000 images of 224 pixels would be 6 GB.
    out -= 255 * np.array(channels.mean, np.float32)
    out /= 255 * np.array(channels.std, np.float32)
    return out
