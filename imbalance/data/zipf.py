"""Class distributions: number of examples of each class, the most frequent class first."""

import math

import numpy as np
from numpy.typing import ArrayLike

# Up to here the float64 quotas of power_law_counts are off by far less than one example.
_MAX_EXAMPLES = 2**40


def grouped_counts(m: int) -> np.ndarray:
    """``2^i`` classes of ``2^(m-i)`` examples for ``i = 0 .. m-1``, as in Figure 4.

    ``n = m 2^m`` examples in ``c = 2^m - 1`` classes. The paper's text says ``2^(m+1) - 1``: see
    "The number of classes" in docs/method.md.

    Returns:
      int64 ``[class]``, the most frequent class first.

    Raises:
      ValueError: If m is not an integer in 1 .. 20.
    """
    if not isinstance(m, int | np.integer) or not 1 <= m <= 20:
        raise ValueError(f"m is {m!r}; give an integer in 1 .. 20 (2^m - 1 classes).")
    group = np.arange(m, dtype=np.int64)
    return np.repeat(2 ** (m - group), 2**group)


def power_law_counts(num_examples: int, num_classes: int, exponent: float) -> np.ndarray:
    """Counts ``n_k ∝ k^-exponent`` that sum to ``num_examples``, at least one each.

    Largest remainders with a floor of one: classes whose share would be less than one example get
    one. The others divide the rest in proportion to ``k^-exponent``, rounded down. The remaining
    examples go, one each, to the largest fractions (ties: the more frequent class).

    Args:
      num_examples: Sum of the counts, at most 2^40.
      num_classes: Number of classes, at most ``num_examples``.
      exponent: Exponent, 0 for equal classes, 1 for Zipf's law.

    Returns:
      int64 ``[class]``, non-increasing.

    Raises:
      ValueError: If the sizes do not fit, or the exponent is negative or not finite.
    """
    _check_sizes(num_examples, num_classes)
    if num_examples > _MAX_EXAMPLES:
        raise ValueError(f"num_examples is {num_examples}; give at most 2^40 = {_MAX_EXAMPLES}.")
    if not (math.isfinite(exponent) and exponent >= 0):
        raise ValueError(f"exponent is {exponent}; give a finite number, 0 or more.")
    rank = np.arange(1, num_classes + 1)
    # For tiny exponents, rounding in the power must not put a class above the one before it.
    share = np.minimum.accumulate(rank ** -float(exponent))
    # If the first h classes are above the floor, they divide n - (c - h) examples. The right h is
    # the largest at which the last of them still gets one example; h = 1 always qualifies.
    divided = num_examples - num_classes + rank
    scale = divided / np.cumsum(share)
    h = int(np.count_nonzero(scale * share >= 1))
    quota = scale[h - 1] * share[:h]
    counts = np.ones(num_classes, np.int64)
    counts[:h] = np.floor(quota)
    left = num_examples - int(counts.sum())
    largest = np.argsort(np.floor(quota) - quota, kind="stable")[:left]
    counts[largest] += 1
    return counts


def uniform_counts(num_examples: int, num_classes: int) -> np.ndarray:
    """Counts that differ by at most one and sum to ``num_examples``, the larger ones first.

    Returns:
      int64 ``[class]``.

    Raises:
      ValueError: If there is no class, or there are fewer examples than classes.
    """
    _check_sizes(num_examples, num_classes)
    each, left = divmod(num_examples, num_classes)
    return each + (np.arange(num_classes) < left).astype(np.int64)


def labels_from_counts(counts: ArrayLike) -> np.ndarray:
    """Labels in the order of the classes, each class as often as its count says.

    Args:
      counts: Examples of each class, integers ``[class]``, 0 or more.

    Returns:
      int32 ``[example]``, sorted.

    Raises:
      TypeError: If counts are not integers.
      ValueError: If counts are not one-dimensional, one is negative, or all are 0.
    """
    counts = np.asarray(counts)
    if not np.issubdtype(counts.dtype, np.integer):
        raise TypeError(f"counts have dtype {counts.dtype}; give integers.")
    if counts.ndim != 1:
        raise ValueError(f"counts have shape {counts.shape}; give one integer per class.")
    if counts.size and counts.min() < 0:
        first = int(np.argmax(counts < 0))
        raise ValueError(f"class {first} has count {counts[first]}; counts must be 0 or more.")
    if not counts.any():
        raise ValueError(f"all {len(counts)} counts are 0; give at least one example.")
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def _check_sizes(num_examples: int, num_classes: int) -> None:
    for size in (num_examples, num_classes):
        if not isinstance(size, int | np.integer):
            raise ValueError(f"a size is {size!r}; give integers, numbers of examples and classes.")
    if num_classes < 1 or num_examples < num_classes:
        raise ValueError(
            f"{num_examples} examples in {num_classes} classes; give 1 class or more, and at least "
            "one example each."
        )
