"""Problems of vision: digits, the same with barcodes as many rare classes, and both (section A.3).

Digits are rendered by default, which needs no file; `mnist` reads real ones from a folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from imbalance.analysis import class_counts
from imbalance.data import images
from imbalance.data.digits import rendered_digits
from imbalance.data.files import mnist_from_folder
from imbalance.models.cnn import SimpleCNN
from imbalance.problems import Problem
from imbalance.tasks import Batch, Task, classification

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


def mnist(folder: str | Path, num_train: int = 50_000) -> Digits:
    """MNIST or a relative from its IDX files: the paper's 50,000, or as many of these (A.3).

    Raises:
      FileNotFoundError: if a file is missing.
      ValueError: if one is damaged, or has fewer images.
    """
    found = images.split(mnist_from_folder(folder).train)
    if not 1 <= num_train <= len(found.train.label):
        raise ValueError(
            f"num_train is {num_train}; these data have {len(found.train.label)} to train on."
        )
    train = found.train.take(np.arange(num_train))
    return Digits("mnist", {"num_train": num_train}, images.Split(train, found.val))


def plain_digits(digits: Digits, **options) -> Problem:
    """Ten balanced classes. ``options`` go to the CNN.

    Pixels are standardised one by one, as in the other two problems; the paper has another scale
    here (A.3, 5), which changes what learning rates mean and nothing else.
    """
    return _problem("plain_digits", digits, {}, digits.split.train, options)


def barcoded_digits(digits: Digits, num_bits: int = 10, **options) -> Problem:
    """``10 * 2^bits`` classes of five images each, told apart by digit and barcode (A.3)."""
    train = images.barcoded_only(digits.split, num_bits).train
    return _problem("barcoded_digits", digits, {"num_bits": num_bits}, train, options)


def imbalanced_digits(digits: Digits, num_bits: int = 10, **options) -> Problem:
    """Plain digits, ten frequent classes, and barcoded ones, all rare (A.3, Figure 2).

    About half of the images are in frequent classes if there are ``50 * 2^bits`` digits. Buckets
    are two, the digits and the rest, as in the paper.
    """
    train = images.combined(digits.split, num_bits).train
    settings, rare = {"num_bits": num_bits}, 5
    return _problem("imbalanced_digits", digits, settings, train, options, (rare + 1,))


def _problem(
    name: str,
    digits: Digits,
    settings: Mapping[str, Any],
    train: images.Images,
    options: Mapping[str, Any],
    bucket_thresholds: tuple[int, ...] | None = None,
) -> Problem:
    counts = class_counts(train.label)
    channels = options.get("channels", PAPER_CHANNELS)
    num_examples, side = train.image.shape[:2]

    def make_batch(seed: int) -> Batch:
        del seed  # the data are the same for every start
        values = images.standardise(train.image, images.pixel_statistics(train.image))
        return Batch(values, train.label, np.ones(num_examples, np.float32))

    struct = jax.ShapeDtypeStruct
    return Problem(
        name=name,
        settings={
            "digits": {"name": digits.name, **digits.settings},
            **settings,
            "channels": list(channels),
        },
        task=_cnn_task(len(counts), tuple(channels)),
        counts=counts,
        make_batch=make_batch,
        shapes=Batch(
            struct(train.image.shape, jnp.float32),
            struct((num_examples,), jnp.int32),
            struct((num_examples,), jnp.float32),
        ),
        data_by_seed=False,
        flops_per_step=num_examples * _flops(side, tuple(channels), len(counts)),
        num_buckets=1,
        bucket_thresholds=bucket_thresholds,
    )


def _flops(side: int, channels: tuple[int, int], num_classes: int) -> float:
    """Useful floating-point operations of a step on one image; the first layer has two products."""
    first = 2 * side**2 * 25 * channels[0]
    second = 2 * (side // 2) ** 2 * 25 * channels[0] * channels[1]
    last = 2 * (side // 4) ** 2 * channels[1] * num_classes
    return 2.0 * first + 3 * (second + last)


@lru_cache
def _cnn_task(num_classes: int, channels: tuple[int, int]) -> Task:
    def build(rngs: nnx.Rngs) -> nnx.Module:
        return SimpleCNN(num_classes, channels=channels, rngs=rngs)

    return classification(build)
