"""Mean loss of each class and of each bucket of classes."""

from typing import Any

import numpy as np

from imbalance.analysis.buckets import FrequencyBuckets, checked_buckets
from imbalance.analysis.checks import as_numpy, without_mask
from imbalance.analysis.counts import checked_labels
from imbalance.analysis.streaming import LossByClass


def loss_by_class(loss: Any, label: Any, num_classes: int, weight: Any = None) -> np.ndarray:
    """Mean loss of the examples of each class, ``Σ w ℓ / Σ w``.

    Losses that are NaN, infinite or beyond ``LARGEST_LOSS`` are in no mean; a warning says how many
    there are, and of which classes. `LossByClass` counts them, and has the errors of the means.

    Args:
      loss: Loss of each example, ``[example]``.
      label: Integers ``[example]``, each in ``0 .. num_classes - 1`` unless it is masked.
      num_classes: Length of the result.
      weight: Weight of each example, ``[example]``, 0 masks it; None: 1 each.

    Returns:
      float64 ``[class]``; NaN for a class without examples.

    Raises:
      TypeError: If labels are not of an integer dtype.
      ValueError: If shapes differ, labels are out of range, or a weight is negative or not finite.

    Example:
      >>> from imbalance import loss_by_class
      >>> loss_by_class([0.1, 0.3, 2.0], [0, 0, 1], num_classes=3)
      array([0.2, 2. , nan])
    """
    losses = LossByClass(num_classes)
    losses._update(loss, _checked(label, num_classes), weight)
    return losses.mean


def loss_by_bucket(
    loss: Any, label: Any, buckets: FrequencyBuckets, weight: Any = None
) -> np.ndarray:
    """Mean loss of the examples of each bucket, ``Σ w ℓ / Σ w``.

    Examples of a class that is in no bucket are left out, and losses that are not finite as in
    `loss_by_class`. Where the buckets were made from the counts of these examples, the result is
    the paper's ``Σ n_k ℓ_k / Σ n_k``.

    Args:
      loss: Loss of each example, ``[example]``.
      label: Class of each example, integers ``[example]``.
      buckets: Grouping of the classes.
      weight: Weight of each example, ``[example]``, 0 masks it; None: 1 each.

    Returns:
      float64 ``[bucket]``; NaN for a bucket without examples.

    Raises:
      TypeError: If labels are not of an integer dtype, or ``buckets`` no `FrequencyBuckets`.
      ValueError: If shapes differ, labels are out of range, or a weight is negative or not finite.

    Example:
      >>> from imbalance import FrequencyBuckets, loss_by_bucket
      >>> buckets = FrequencyBuckets.thresholds([50, 4, 2], [10])  # counts of training
      >>> loss_by_bucket([0.1, 0.3, 2.0, 4.0], [0, 0, 1, 2], buckets)
      array([0.2, 3. ])
    """
    losses = LossByClass(len(checked_buckets(buckets).counts))
    losses._update(loss, _checked(label, losses.num_classes), weight)
    return losses.by_bucket(buckets).mean


def _checked(label: Any, num_classes: int) -> np.ndarray:
    """Labels ``[example]`` in range, which keep their mask."""
    label, mask = without_mask(label)
    label = as_numpy(label)
    label = label.astype(np.intp) if not label.size else label  # [] is of float64
    label = checked_labels(label, num_classes)
    return label if mask is None else np.ma.array(label, mask=mask)
