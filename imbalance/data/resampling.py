"""The paper's three sets of images made from one: full, small and uniform, and heavy-tailed."""

import numpy as np
from numpy.typing import ArrayLike


def heavy_tailed_counts(largest: int = 1300, num_classes: int = 1000) -> np.ndarray:
    """``n_k = ⌈largest / k⌉`` for the classes ``k = 1, 2, ...``: shares in proportion to 1/k.

    With the paper's 1,300 images in 1,000 classes that makes 10,217.

    Returns:
      int64 ``[class]``, non-increasing, at least one each.

    Raises:
      ValueError: If a number is less than 1.
    """
    if largest < 1 or num_classes < 1:
        raise ValueError(f"largest {largest}, num_classes {num_classes}; give 1 or more each.")
    return -(-largest // np.arange(1, num_classes + 1, dtype=np.int64))


def small_counts(each: int = 10, num_classes: int = 1000) -> np.ndarray:
    """The same number of images in every class; the paper's 10 make 10,000.

    Returns:
      int64 ``[class]``.

    Raises:
      ValueError: If a number is less than 1.
    """
    if each < 1 or num_classes < 1:
        raise ValueError(f"each {each}, num_classes {num_classes}; give 1 or more each.")
    return np.full(num_classes, each, np.int64)


def choose(label: ArrayLike, counts: ArrayLike, seed: int = 0) -> np.ndarray:
    """Examples chosen at random, without replacement, so many of each class.

    Every class has an order of its own, by the seed, and its first examples are chosen. The choice
    for smaller counts is therefore part of that for larger ones.

    Args:
      label: Labels, integers ``[example]``.
      counts: Number of examples of each class, integers ``[class]``, 0 or more.
      seed: Random seed, 0 or more and less than 2^64.

    Returns:
      Indices in ascending order, int64 ``[chosen]``.

    Raises:
      ValueError: If a class has fewer examples than its count, a label is out of range, a count is
        negative, or the seed is out of range.
    """
    label, counts = np.asarray(label), np.asarray(counts)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; give 0 to 2^64 - 1.")
    if counts.min(initial=0) < 0:
        raise ValueError(f"a count is {counts.min()}; give 0 or more for each class.")
    if label.min(initial=0) < 0 or label.max(initial=0) >= len(counts):
        raise ValueError(
            f"labels are {label.min()} .. {label.max()}, and counts are of {len(counts)} classes; "
            "give one count for each class."
        )
    have = np.bincount(label, minlength=len(counts))
    if (short := np.flatnonzero(have < counts)).size:
        k = short[0]
        raise ValueError(
            f"{len(short)} classes have fewer examples than are to be chosen: class {k} has "
            f"{have[k]}, and {counts[k]} are wanted. Give smaller counts or more data."
        )
    by_class = np.split(np.argsort(label, kind="stable"), np.cumsum(have)[:-1])
    kept = [
        members[_order(len(members), seed, k)[:count]]
        for k, (members, count) in enumerate(zip(by_class, counts, strict=True))
    ]
    return np.sort(np.concatenate(kept))


def _order(number: int, seed: int, k: int) -> np.ndarray:
    # By random bits, whose stream NumPy guarantees, where that of a permutation may change.
    bits = np.random.Philox(key=np.array([seed, k], np.uint64)).random_raw(number)
    return np.argsort(bits, kind="stable")
