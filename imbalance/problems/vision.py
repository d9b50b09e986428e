"""Problems of vision: digits, the same with barcodes as many rare classes, and both.

Digits are rendered by default, which needs no file; `mnist` reads real ones from a folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from imbalance.analysis import class_counts
from imbalance.data import images
from imbalance.data.digits import rendered_digits
from imbalance.data.files import mnist_from_folder
from imbalance.models.cnn import SimpleCNN
from imbalance.problems.problem import Bucketing, Problem
from imbalance.problems.tasks import classification

PAPER_CHANNELS = (32, 100)


@dataclass(frozen=True, eq=False)
class Digits:
    """Ten classes of images to make problems of.

    Attributes:
      name: in results and messages.
      settings: what defines the images, as JSON-able values.
      split: images to train on and to validate on.
    """

    name: str
    settings: Mapping[str, Any]
    split: images.Split


def rendered(per_class: int) -> Digits:
    """So many drawn images of each digit, and a fifth as many for validation."""
    train = rendered_digits(per_class, seed=0)
    validation = rendered_digits(max(1, per_class // 5), seed=1)
    return Digits("rendered digits", {"per_class": per_class}, images.Split(train, validation))


def mnist(folder: str | Path, num_train: int | None = None) -> Digits:
    """MNIST or a relative from its IDX files; five sixths are to train on, 50,000 of MNIST's.

    Args:
      folder: of the files.
      num_train: so many of the images to train on; None: all of them.

    Raises:
      FileNotFoundError: if a file is missing.
      ValueError: if one is damaged, or has fewer images.
    """
    found = images.split(mnist_from_folder(folder).train)
    available = len(found.train.label)
    num_train = available if num_train is None else num_train
    if not 1 <= num_train <= available:
        raise ValueError(
            f"num_train is {num_train}; {folder} has {available} images to train on: give 1 to "
            f"{available}, or None for all."
        )
    train = found.train.take(np.arange(num_train))
    return Digits("mnist", {"num_train": num_train}, images.Split(train, found.val))


def halved(digits: Digits) -> Digits:
    """The digits at half their side, as `imbalance.data.images.halved`."""
    split = images.Split(*map(images.halved, digits.split))
    side = split.train.image.shape[1]
    return Digits(digits.name, {**digits.settings, "side": side}, split)


def plain_digits(digits: Digits, channels: tuple[int, int] = PAPER_CHANNELS) -> Problem:
    """Ten balanced classes, learnt by a CNN of so many channels.

    Pixels are standardised one by one, as in the other two problems; the paper has another scale
    here, which changes what learning rates mean and nothing else.
    """
    return _problem("plain_digits", digits, {}, digits.split.train, channels, 1)


def barcoded_digits(
    digits: Digits, num_bits: int = 10, channels: tuple[int, int] = PAPER_CHANNELS
) -> Problem:
    """``10 * 2^bits`` classes of five images each, told apart by digit and barcode."""
    train = images.barcoded_only(digits.split, num_bits).train
    return _problem("barcoded_digits", digits, {"num_bits": num_bits}, train, channels, 1)


def imbalanced_digits(
    digits: Digits, num_bits: int = 10, channels: tuple[int, int] = PAPER_CHANNELS
) -> Problem:
    """Plain digits, ten frequent classes, and barcoded ones, all rare (Figure 2).

    About half of the images are in frequent classes if there are ``50 * 2^bits`` digits. Buckets
    are two, the digits and the rest, as in the paper.
    """
    train = images.combined(digits.split, num_bits).train
    settings, rare = {"num_bits": num_bits}, 5
    return _problem("imbalanced_digits", digits, settings, train, channels, (rare + 1,))


def _problem(
    name: str,
    digits: Digits,
    settings: Mapping[str, Any],
    train: images.Images,
    channels: tuple[int, int],
    bucketing: Bucketing,
) -> Problem:
    counts, side = class_counts(train.label), train.image.shape[1]
    return Problem.from_arrays(
        name,
        classification(partial(SimpleCNN, len(counts), side=side, channels=channels)),
        images.standardise(train.image, images.pixel_statistics(train.image)),
        train.label,
        num_classes=len(counts),
        bucketing=bucketing,
        flops_per_step=len(train.label) * _flops(side, channels, len(counts)),
        settings={
            "digits": {"name": digits.name, **digits.settings},
            **settings,
            "channels": list(channels),
        },
    )


def _flops(side: int, channels: tuple[int, int], num_classes: int) -> float:
    """Useful floating-point operations of a step on one image; the first layer has two products."""
    first = 2 * side**2 * 25 * channels[0]
    second = 2 * (side // 2) ** 2 * 25 * channels[0] * channels[1]
    last = 2 * (side // 4) ** 2 * channels[1] * num_classes
    return 2.0 * first + 3 * (second + last)
