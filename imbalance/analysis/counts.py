"""Class counts: how many examples each class has."""

import numpy as np
from numpy.typing import ArrayLike

from imbalance.analysis.checks import as_numpy, without_mask


def class_counts(label: ArrayLike, num_classes: int | None = None) -> np.ndarray:
    """Number of examples of each class.

    Args:
      label: Integers ``[example]``, each in ``0 .. num_classes - 1``. Masked labels, of a NumPy
        masked array, are not counted.
      num_classes: Length of the result; None: one more than the largest label.

    Returns:
      int64 ``[class]``, zero for classes that do not occur.

    Raises:
      TypeError: If labels are not of an integer dtype.
      ValueError: If labels are not one-dimensional or are out of range, or ``num_classes`` is None
        and there is no label.

    Example:
      >>> from imbalance import class_counts
      >>> class_counts([0, 2, 0, 1], num_classes=4)
      array([2, 1, 1, 0])
    """
    plain, mask = without_mask(label)
    label = checked_labels(plain if mask is None else plain[~mask], num_classes)
    if num_classes is None and label.size == 0:
        raise ValueError("no labels were given, so the number of classes is unknown; pass it.")
    return np.bincount(label, minlength=num_classes or 0).astype(np.int64, copy=False)


def checked_labels(label: ArrayLike, num_classes: int | None = None) -> np.ndarray:
    """``label`` as an integer array ``[example]``; raises as `class_counts` does, and for masks."""
    label = as_numpy(label)
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; give 1 or more.")
    if not np.issubdtype(label.dtype, np.integer):
        raise TypeError(f"labels have dtype {label.dtype}; give integers, e.g. int32.")
    if label.ndim != 1:
        raise ValueError(f"labels have shape {label.shape}; give one axis, as by reshape(-1).")
    if label.size and (label.min() < 0 or (num_classes is not None and label.max() >= num_classes)):
        outside = label < 0
        if num_classes is not None:
            outside |= label >= num_classes
        first = int(np.argmax(outside))
        allowed = "0 or more" if num_classes is None else f"in 0 .. {num_classes - 1}"
        raise ValueError(
            f"{np.count_nonzero(outside)} of {label.size} labels are out of range, the first is "
            f"{label[first]} at position {first}; labels must be {allowed}. Leave masked examples "
            "out, or give them a label in range and weight 0."
        )
    return label.astype(np.intp, copy=False)


def checked_masses(mass: ArrayLike) -> np.ndarray:
    """``mass [class]``: counts as int64, real masses as float64.

    Raises:
      TypeError: If the masses are not real numbers, or some are masked.
      ValueError: If they are not one-dimensional, are empty or all zero, or one is negative or not
        finite.
    """
    mass = as_numpy(mass)
    if mass.ndim != 1 or mass.size == 0:
        raise ValueError(f"class masses have shape {mass.shape}; give one number per class.")
    if np.issubdtype(mass.dtype, np.integer):
        mass = mass.astype(np.int64)
    elif np.issubdtype(mass.dtype, np.floating):
        mass = mass.astype(np.float64)
    else:
        raise TypeError(f"class masses have dtype {mass.dtype}; give integers or real numbers.")
    wrong = ~(np.isfinite(mass) & (mass >= 0))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"class {first} has mass {mass[first]}; masses must be finite and >= 0.")
    if not mass.any():
        raise ValueError(f"all {mass.size} classes have mass 0; at least one must occur.")
    return mass


def rank_order(counts: ArrayLike) -> np.ndarray:
    """Classes from the most to the least frequent, int ``[class]``.

    Classes of equal count keep the order of their indices; the paper's code leaves that order to an
    unstable sort.

    Args:
      counts: Examples of each class ``[class]``, or real masses.

    Raises:
      TypeError, ValueError: As `checked_masses`.
    """
    return np.argsort(-checked_masses(counts), kind="stable")


def entropy(counts: ArrayLike) -> float:
    """Entropy of the class frequencies in nats, ``H(π) = Σ π_k ln(1/π_k)``.

    It is the loss of a model that always predicts the class frequencies.

    Args:
      counts: Examples of each class ``[class]``, or real masses; need not be normalised.

    Raises:
      TypeError, ValueError: As `checked_masses`.
    """
    mass = checked_masses(counts)
    probability = mass[mass > 0] / mass.sum()  # 0 ln 0 = 0
    return float(-np.sum(probability * np.log(probability)))
