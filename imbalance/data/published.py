"""The published data sets of the paper: where one gets each, and what its files hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from imbalance.data.files import MNIST_SHA256


class TextCounts(NamedTuple):
    """What a file of text holds.

    Attributes:
      lines: Number of line breaks.
      tokens: Number of words and line breaks, as the literature counts tokens.
      classes: Number of distinct words, and one for the line break; None: not known.
    """

    lines: int
    tokens: int
    classes: int | None = None


@dataclass(frozen=True)
class Published:
    """A published data set as it is looked for in a folder of data.

    Attributes:
      name: Name of its folder.
      layout: Files of the folder, in words.
      source: Where one gets it, in words.
      text: Counts of the training, validation and test text, where it is text.
      images: Number of training and test images, where it is images.
      per_class: Least and greatest number of images in a class, by the part, where it is known.
      side: Pixels along a side of an image.
      classes: Number of classes, where it is images.
      sha256: Known checksums, by the file's name.
    """

    name: str
    layout: str
    source: str
    text: Mapping[str, TextCounts] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    per_class: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    side: int = 0
    classes: int = 0
    sha256: Mapping[str, str] = field(default_factory=dict)


_WIKITEXT = "wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens"
_HELD_OUT = {"validation": TextCounts(3_760, 217_646), "test": TextCounts(4_358, 245_569)}
_ARCHIVE = "https://wikitext.smerity.com/wikitext-{}-v1.zip"  # its author's; the first is gone

PUBLISHED = {
    one.name: one
    for one in (
        Published(
            "mnist",
            "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
            "t10k-labels-idx1-ubyte, each plain or with .gz",
            "imbalance.data.files.download_mnist gets it and verifies it",
            images={"train": 60_000, "test": 10_000},
            side=28,
            classes=10,
            sha256=MNIST_SHA256,
        ),
        Published(
            "ptb",
            "ptb.train.txt, ptb.valid.txt and ptb.test.txt",
            "they are in the folder data of Mikolov's simple-examples.tgz",
            text={
                "train": TextCounts(42_068, 929_589, 10_000),
                "validation": TextCounts(3_370, 73_760),
                "test": TextCounts(3_761, 82_430),
            },
        ),
        Published(
            "wikitext-2",
            _WIKITEXT,
            f"unpack {_ARCHIVE.format(2)}",
            text={"train": TextCounts(36_718, 2_088_628, 33_278), **_HELD_OUT},
            sha256={
                "train.txt": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
                "valid.txt": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                "test.txt": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            },
        ),
        Published(
            "wikitext-103",
            _WIKITEXT,
            f"unpack {_ARCHIVE.format(103)}",
            text={"train": TextCounts(1_801_350, 103_227_021, 267_735), **_HELD_OUT},
        ),
        Published(
            "imagenet",
            "train/ and val/, in each a folder of JPEG files for each of 1,000 classes, such as "
            "n01440764/",
            "https://image-net.org, the ILSVRC 2012 images, after registration",
            images={"train": 1_281_167, "val": 50_000},
            per_class={"train": (732, 1_300), "val": (50, 50)},
            classes=1_000,
        ),
    )
}
"""Data sets of the paper by the name of their folder."""
