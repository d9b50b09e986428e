"""Mean loss of each class and of each bucket of classes."""

import numpy as np
from numpy.typing import ArrayLike

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.checks import checked_losses, checked_weights
from imbalance.analysis.counts import checked_labels


def loss_by_class(
    loss: ArrayLike, label: ArrayLike, num_classes: int, weight: ArrayLike | None = None
) -> np.ndarray:
    """Mean loss of the examples of each class, ``Σ w ℓ / Σ w``.

    Args:
      loss: Loss of each example, ``[example]``.
      label: Integers ``[example]``, each in ``0 .. num_classes - 1``.
      num_classes: Length of the result.
      weight: Weight of each example, ``[example]``, 0 masks it; None: 1 each.

    Returns:
      float64 ``[class]``; NaN for a class without examples.

    Raises:
      TypeError: If labels are not of an integer dtype.
      ValueError: If shapes differ, labels are out of range, a loss is NaN, or a weight is negative
        or not finite.
    """
    label = checked_labels(label, num_classes)
    loss, weight = _checked(loss, label, weight)
    return _means(loss, label, weight, num_classes)


def loss_by_bucket(
    loss: ArrayLike,
    label: ArrayLike,
    buckets: FrequencyBuckets,
    weight: ArrayLike | None = None,
) -> np.ndarray:
    """Mean loss of the examples of each bucket, ``Σ w ℓ / Σ w``.

    Examples of a class that is in no bucket are left out. Where the buckets were made from the
    counts of these examples, the result is the paper's ``Σ n_k ℓ_k / Σ n_k``.

    Args:
      loss: Loss of each example, ``[example]``.
      label: Class of each example, integers ``[example]``.
      buckets: Grouping of the classes.
      weight: Weight of each example, ``[example]``, 0 masks it; None: 1 each.

    Returns:
      float64 ``[bucket]``; NaN for a bucket without examples.

    Raises:
      TypeError: If labels are not of an integer dtype.
      ValueError: If shapes differ, labels are out of range, a loss is NaN, or a weight is negative
        or not finite.
    """
    label = checked_labels(label, len(buckets.counts))
    loss, weight = _checked(loss, label, weight)
    bucket = buckets.bucket_of_class[label]
    inside = bucket >= 0
    return _means(loss[inside], bucket[inside], weight[inside], buckets.num_buckets)


def _checked(
    loss: ArrayLike, label: np.ndarray, weight: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """``loss`` and ``weight`` as float64 ``[example]``."""
    loss = checked_losses(loss, label.shape)
    weight = np.ones(label.shape) if weight is None else checked_weights(weight, label.shape)
    missing = np.isnan(loss)
    if missing.any():
        raise ValueError(
            f"{np.count_nonzero(missing)} of {loss.size} losses are NaN, the first at position "
            f"{np.argmax(missing)}; leave these examples out, or report the run as diverged."
        )
    return loss, weight


def _means(loss: np.ndarray, group: np.ndarray, weight: np.ndarray, num_groups: int) -> np.ndarray:
    # A masked infinite loss has no effect: 0 * inf would be NaN.
    weighted = np.multiply(loss, weight, out=np.zeros(loss.shape), where=weight > 0)
    total = np.bincount(group, weights=weighted, minlength=num_groups)
    mass = np.bincount(group, weights=weight, minlength=num_groups)
    return np.divide(total, mass, out=np.full(num_groups, np.nan), where=mass > 0)
