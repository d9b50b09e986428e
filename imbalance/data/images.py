"""Labelled images, and data sets with heavy-tailed labels made from them (Figure 2).

Pixels stay uint8 until `standardise`: the paper's 101,200 images take 79 MB, in float32 317 MB.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from imbalance.data.zipf import labels_from_counts, power_law_counts

NUM_DIGITS = 10
# A barcode lies in row 0 of an image.
_MAX_BITS = 16
_WHITE = 255
# Number of images that are converted to int32 at once.
_CHUNK = 4096


class Images(NamedTuple):
    """Labelled gray images.

    Attributes:
      image: Images, uint8 ``[example, row, column]``, 0 for background.
      label: Labels, int32 ``[example]``.
    """

    image: np.ndarray
    label: np.ndarray

    def take(self, index: np.ndarray) -> "Images":
        """A copy of the examples at the indices."""
        return Images(self.image[index], self.label[index])


class Split(NamedTuple):
    """Images for training and for validation."""

    train: Images
    val: Images


class PixelStatistics(NamedTuple):
    """Mean and unbiased standard deviation of every pixel, float64 ``[row, column]``."""

    mean: np.ndarray
    std: np.ndarray


def images_from_arrays(image: ArrayLike, label: ArrayLike) -> Images:
    """`Images` of checked arrays.

    Raises:
      TypeError: Unless pixels are uint8 and labels integers.
      ValueError: Unless there is an image, and one label, 0 or more, for each image.
    """
    image, label = np.asarray(image), np.asarray(label)
    if image.dtype != np.uint8 or not np.issubdtype(label.dtype, np.integer):
        raise TypeError(
            f"images have dtype {image.dtype} and labels {label.dtype}; give uint8 and integers."
        )
    if image.ndim != 3 or label.shape != image.shape[:1] or not image.size:
        raise ValueError(
            f"images have shape {image.shape} and labels {label.shape}; give one label per image: "
            "[example, row, column] and [example], not empty."
        )
    if label.min() < 0 or label.max() > np.iinfo(np.int32).max:
        raise ValueError(f"labels are in {label.min()} .. {label.max()}; give 0 .. 2^31 - 1.")
    return Images(image, label.astype(np.int32))


def split(images: Images, num_train: int | None = None, seed: int = 0) -> Split:
    """A random split: the first ``num_train`` permuted images train, the others validate.

    Args:
      images: Images to split.
      num_train: Number of training images; None: five sixths, for MNIST the paper's 50,000.
      seed: Seed of the permutation.

    Raises:
      ValueError: Unless both parts get an example.
    """
    if num_train is None:
        num_train = len(images.label) * 5 // 6
    if not 1 <= num_train < len(images.label):
        raise ValueError(
            f"num_train is {num_train} of {len(images.label)} images; give 1 or more, and leave "
            "one or more for validation."
        )
    order = np.random.default_rng(seed).permutation(len(images.label))
    return Split(images.take(order[:num_train]), images.take(order[num_train:]))


def halved(images: Images) -> Images:
    """Images of half the side: means of 2 x 2 pixels, with a border of 0 to a multiple of 4.

    MNIST's 28 x 28 pixels become 16 x 16, of which the outermost are background.

    Raises:
      ValueError: If a side is odd.
    """
    number, *sides = images.image.shape
    if any(side % 2 for side in sides):
        raise ValueError(f"images have {sides[0]} x {sides[1]} pixels; give even sides.")
    blocks = images.image.reshape(number, sides[0] // 2, 2, sides[1] // 2, 2)
    small = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
    lacking = [-side // 2 % 4 for side in sides]
    border = [(one // 2, one - one // 2) for one in lacking]
    return Images(np.pad(small, [(0, 0), *border]), images.label)


def barcodes(num_bits: int, zero_barcode: bool = True) -> np.ndarray:
    """All barcodes in lexicographic order.

    Args:
      num_bits: Number of bits, 1 to 16; 10 in the paper.
      zero_barcode: Whether to include the all-zero barcode, which does not change an image.

    Returns:
      bool ``[barcode, bit]``.

    Raises:
      ValueError: If num_bits is out of range.
    """
    if not 1 <= num_bits <= _MAX_BITS:
        raise ValueError(f"num_bits is {num_bits}; give 1 to {_MAX_BITS}.")
    code = np.arange(0 if zero_barcode else 1, 2**num_bits)
    return (code[:, None] >> np.arange(num_bits - 1, -1, -1)) & 1 == 1


def barcoded(
    images: Images,
    per_class: int,
    num_bits: int = 10,
    seed: int = 0,
    zero_barcode: bool = True,
) -> Images:
    """Digits drawn with replacement and stamped with every barcode.

    Bit j, if set, sets pixel (0, j) to 255; other pixels are unchanged. The class of digit d under
    the b-th barcode is ``10 b + d``; examples are in the order of the classes.

    Args:
      images: Images of the ten digits, labels 0 to 9.
      per_class: Examples of each pair of barcode and digit: 5 to train and 1 to validate.
      num_bits: Number of bits; 10 in the paper, for 1,024 barcodes.
      seed: Seed of the draws.
      zero_barcode: Whether to include the all-zero barcode, as in the paper; its ten classes look
        like plain digits. See "The all-zero barcode" in docs/method.md.

    Raises:
      ValueError: If a digit is absent, labels exceed 9, a barcode does not fit, or per_class < 1.
    """
    codes = barcodes(num_bits, zero_barcode)
    if num_bits > images.image.shape[2]:
        raise ValueError(f"{num_bits} bits do not fit in {images.image.shape[2]} columns.")
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}; give 1 or more.")
    _check_digits(images)
    rng = np.random.default_rng(seed)
    drawn = np.empty((len(codes), NUM_DIGITS, per_class), np.int64)
    for digit in range(NUM_DIGITS):
        of_digit = np.flatnonzero(images.label == digit)
        drawn[:, digit] = rng.choice(of_digit, (len(codes), per_class))
    image = images.image[drawn.ravel()]
    per_code = image.reshape(len(codes), NUM_DIGITS * per_class, *image.shape[1:])
    corner = per_code[:, :, 0, :num_bits]
    corner[...] = np.where(codes[:, None], np.uint8(_WHITE), corner)
    num_classes = len(codes) * NUM_DIGITS
    return Images(image, labels_from_counts(np.full(num_classes, per_class)))


def barcoded_only(
    digits: Split, num_bits: int = 10, seed: int = 0, zero_barcode: bool = True
) -> Split:
    """Balanced barcoded classes: 5 examples each to train, 1 to validate.

    With 10 bits: 10,240 classes, 51,200 training and 10,240 validation images. Arguments are those
    of `barcoded`.
    """
    # Distinct seeds, so that the draws of both parts are independent.
    train_seed, val_seed = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
    return Split(
        barcoded(digits.train, 5, num_bits, train_seed, zero_barcode),
        barcoded(digits.val, 1, num_bits, val_seed, zero_barcode),
    )


def combined(digits: Split, num_bits: int = 10, seed: int = 0, zero_barcode: bool = True) -> Split:
    """Plain digits, then `barcoded_only` with labels shifted by 10: "Imbalanced MNIST".

    With 10 bits and 50,000 digits: 10,250 classes and 101,200 training images, half of them in ten
    classes of 5,000, half in classes of five.
    """
    rare = barcoded_only(digits, num_bits, seed, zero_barcode)
    return Split(_append(digits.train, rare.train), _append(digits.val, rare.val))


def pixel_statistics(image: np.ndarray) -> PixelStatistics:
    """Mean and unbiased standard deviation of every pixel, from exact integer sums.

    Raises:
      ValueError: If there are fewer than two images.
    """
    n = len(image)
    if n < 2:
        raise ValueError(f"{n} images have no unbiased standard deviation; give two or more.")
    total = np.zeros(image.shape[1:], np.int64)
    squares = np.zeros(image.shape[1:], np.int64)
    for start in range(0, n, _CHUNK):
        wide = image[start : start + _CHUNK].astype(np.int32)
        total += wide.sum(axis=0, dtype=np.int64)
        squares += (wide * wide).sum(axis=0, dtype=np.int64)
    # n Σx² - (Σx)² stays below 255² n², which fits into 63 bits for n below 10 million.
    variance = (n * squares - total * total) / (n * (n - 1))
    return PixelStatistics(total / n, np.sqrt(variance))


def standardise(image: np.ndarray, statistics: PixelStatistics) -> np.ndarray:
    """Pixels minus their mean, over their standard deviation where that is positive.

    Other pixels are unchanged. Both parts use the statistics of the training set.

    Returns:
      float32 ``[example, row, column]``.
    """
    varies = statistics.std > 0
    mean = np.where(varies, statistics.mean, 0.0).astype(np.float32)
    scale = np.where(varies, statistics.std, 1.0).astype(np.float32)
    out = image.astype(np.float32)
    # In place: a second array of the paper's size would be 317 MB.
    out -= mean
    out /= scale
    return out


def normalise_plain(image: np.ndarray, divide_by_255: bool = False) -> np.ndarray:
    """``(pixel - 0.1307) / 0.3081``, the normalisation of plain MNIST.

    The released code applies these constants, meant for pixels in [0, 1], to raw pixels: inputs
    reach 827, and the released learning rates belong to that scale. See "Pixels of plain MNIST" in
    docs/method.md.

    Args:
      image: Images, uint8 ``[example, row, column]``.
      divide_by_255: Whether to scale pixels to [0, 1] first, unlike the released code.

    Returns:
      float32 ``[example, row, column]``.
    """
    out = image.astype(np.float32)
    if divide_by_255:
        out /= np.float32(_WHITE)
    out -= np.float32(0.1307)
    out /= np.float32(0.3081)
    return out


def resample_power_law(images: Images, num_examples: int, exponent: float, seed: int = 0) -> Images:
    """A subset with heavy-tailed labels, ``n_k ∝ k^-exponent``, drawn without replacement.

    Class k = 1, 2, ... is label 0, 1, ...; each keeps at least one example. Counts are those of
    `power_law_counts`; examples keep their order.

    Raises:
      ValueError: If a class has fewer examples than its count.
    """
    have = np.bincount(images.label)
    counts = power_law_counts(num_examples, len(have), exponent)
    if (counts > have).any():
        first = int(np.argmax(counts > have))
        raise ValueError(
            f"class {first} has {have[first]} images, and {num_examples} images with exponent "
            f"{exponent} need {counts[first]} of it; give fewer images or another exponent."
        )
    rng = np.random.default_rng(seed)
    kept = [
        rng.choice(np.flatnonzero(images.label == k), count, replace=False)
        for k, count in enumerate(counts)
    ]
    return images.take(np.sort(np.concatenate(kept)))


def _append(digits: Images, rare: Images) -> Images:
    return Images(
        np.concatenate([digits.image, rare.image]),
        np.concatenate([digits.label, rare.label + np.int32(NUM_DIGITS)]),
    )


def _check_digits(images: Images) -> None:
    counts = np.bincount(images.label, minlength=NUM_DIGITS)
    if len(counts) > NUM_DIGITS:
        raise ValueError(f"labels reach {len(counts) - 1}; give digits, 0 to {NUM_DIGITS - 1}.")
    if not counts.all():
        raise ValueError(
            f"no image has label {int(np.argmin(counts))}; barcodes need each of the "
            f"{NUM_DIGITS} digits in each part: give more images."
        )
