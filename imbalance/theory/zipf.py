"""Zipf's law: probabilities of classes by rank, and which classes are frequent."""

import math

import numpy as np


def zipf_probabilities(num_classes: int, exponent: float = 1.0) -> np.ndarray:
    """``π_k ∝ k^-exponent`` for ranks ``k = 1 .. num_classes``, float64 ``[class]``, sum 1.

    Raises:
      ValueError: If there is not one class, or the exponent is not finite.
    """
    if num_classes < 1 or not math.isfinite(exponent):
        raise ValueError(
            f"{num_classes} classes with exponent {exponent}; give 1 class or more and a finite "
            "exponent."
        )
    share = np.arange(1, num_classes + 1) ** -float(exponent)
    return share / share.sum()


def frequent_ranks(num_classes: int) -> int:
    """The rank K up to which classes count as frequent, ``K = ceil(c / log² c)``.

    Under ``π_k ∝ 1/k`` the classes up to K have ``c π_k >= log² c / H_c`` (up to the rounding of
    K), which grows like ``log c``. Their mass ``H_K / H_c`` goes to one, though only as
    ``1 - 2 log log c / log c``: at a million classes it is .64. For such classes, gradient norm and
    Hessian trace are proportional by Proposition 2.

    The paper takes ``K = c / log c``: see "Frequent classes under Zipf's law" in docs/method.md.

    Raises:
      ValueError: For fewer than three classes, of which the logarithm is below one.
    """
    if num_classes < 3:
        raise ValueError(f"{num_classes} classes; give 3 or more.")
    return math.ceil(num_classes / math.log(num_classes) ** 2)
