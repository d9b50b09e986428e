"""Problems of many classes of pictures: glyphs, which need no file, and ImageNet (Figure 3).

Pixels are bytes until the model standardises them on the device, so a data set takes a quarter of
the memory. Rows are shuffled once, always in the same way: data come sorted by class, and where
examples are normalised together a microbatch of one class would give it away. Pictures are learnt
as they are, without random crops or flips.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imbalance.analysis import class_counts
from imbalance.data import imagenet as data
from imbalance.data.glyphs import glyphs as drawn_glyphs
from imbalance.data.images import Images
from imbalance.models import resnet, vit
from imbalance.models.pixels import Pixels
from imbalance.problems.problem import Bucketing, Problem
from imbalance.problems.tasks import Task, classification

GREY = Pixels((0.5,), (0.25,))
"""Of glyphs: about their mean and standard deviation, and the same for all of them."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures to make problems of.

    Attributes:
      name: Name in results and messages.
      settings: What defines the pictures, as JSON values.
      train: Pictures to learn, in random order.
      num_classes: Number of classes.
      pixels: Mean and standard deviation of the channels.
    """

    name: str
    settings: Mapping[str, Any]
    train: Images
    num_classes: int
    pixels: Pixels


def glyphs(counts: ArrayLike, side: int = 32) -> Pictures:
    """Drawn characters, a class each, by `imbalance.data.glyphs`.

    Args:
      counts: Number of pictures of each class.
      side: Pixels along a side.
    """
    counts = np.asarray(counts)
    found = _shuffled(drawn_glyphs(counts, seed=0, size=side))
    settings = {"side": side, "counts": counts.tolist()}
    return Pictures("glyphs", settings, found, len(counts), GREY)


def imagenet(folder: str | PathLike, subset: data.Subset, side: int = 224) -> Pictures:
    """ImageNet, or one of the paper's two subsets of it, by `imbalance.data.imagenet`.

    Args:
      folder: Folder of the images, as `imbalance.data.folders.paper_data` finds it.
      subset: "full"; "heavy_tailed", ``1300 / k`` images of class k, rounded up, 10,217 in all; or
        "small", 10 of each class.
      side: Pixels along a side, to which images are resized and cropped once.
    """
    found = _shuffled(data.imagenet(folder, subset, side).train.everything())
    settings = {"subset": subset, "side": side, "pictures": len(found.label)}
    channels = data.CHANNELS[subset]
    classes = int(found.label.max()) + 1
    return Pictures("imagenet", settings, found, classes, Pixels(channels.mean, channels.std))


def resnet_problem(pictures: Pictures, *, bucketing: Bucketing = 10, **size: Any) -> Problem:
    """A residual network that learns pictures.

    Args:
      pictures: What is learnt.
      bucketing: Buckets of the classes, see `Bucketing`.
      size: Further arguments of `imbalance.models.resnet.ResNet`.
    """
    build = partial(resnet.ResNet, pictures.num_classes, pixels=pictures.pixels, **size)
    side, channels = pictures.train.image.shape[1], pictures.pixels.channels
    plain = {name: size[name] for name in ("width", "blocks", "stem") if name in size}
    operations = resnet.flops(side, pictures.num_classes, channels=channels, **plain)
    return _problem(pictures, "resnet", size, classification(build), operations, bucketing)


def transformer_problem(pictures: Pictures, *, bucketing: Bucketing = 10, **size: Any) -> Problem:
    """A vision transformer that learns pictures.

    Args:
      pictures: What is learnt.
      bucketing: Buckets of the classes, see `Bucketing`.
      size: Further arguments of `imbalance.models.vit.VisionTransformer`.
    """
    side, channels = pictures.train.image.shape[1], pictures.pixels.channels
    size = {"side": side, **size}
    build = partial(vit.VisionTransformer, pictures.num_classes, pixels=pictures.pixels, **size)
    names = ("patch", "width", "num_layers", "mlp_width")
    plain = {name: size[name] for name in names if name in size}
    operations = vit.flops(side, pictures.num_classes, channels=channels, **plain)
    return _problem(
        pictures, "vision_transformer", size, classification(build), operations, bucketing
    )


def _problem(
    pictures: Pictures,
    name: str,
    size: Mapping[str, Any],
    task: Task,
    operations: float,
    bucketing: Bucketing,
) -> Problem:
    image, label = pictures.train
    return Problem.from_arrays(
        name,
        task,
        image,
        label,
        counts=class_counts(label, pictures.num_classes),
        bucketing=bucketing,
        flops_per_step=len(label) * operations,
        settings={"pictures": {"name": pictures.name, **pictures.settings}, "model": dict(size)},
    )


def _shuffled(images: Images) -> Images:
    return images.take(np.random.default_rng(0).permutation(len(images.label)))
