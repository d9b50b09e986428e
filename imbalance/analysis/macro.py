"""Means over classes, in which every class counts the same."""

import numpy as np


def mean_over_classes(
    value: np.ndarray, group: np.ndarray | None = None, num_groups: int = 1
) -> np.ndarray:
    """Arithmetic mean over the K classes of each group, ``Σ_k v_k / K``.

    Args:
      value: Value of each class, ``[class]``; classes of value NaN are left out.
      group: Group of each class, ``[class]``, -1 for none; None: one group.
      num_groups: Number of groups.

    Returns:
      float64 ``[group]``; NaN for a group without a class.
    """
    return _mean(value, value, group, num_groups)


def harmonic_mean(
    value: np.ndarray, group: np.ndarray | None = None, num_groups: int = 1
) -> np.ndarray:
    """``K / Σ_k (1 / v_k)`` of values of 0 or more, as `mean_over_classes`; 0 if one is 0."""
    with np.errstate(divide="ignore"):
        return 1 / _mean(1 / value, value, group, num_groups)


def geometric_mean(
    value: np.ndarray, group: np.ndarray | None = None, num_groups: int = 1
) -> np.ndarray:
    """``(Π_k v_k)^(1/K)`` of values of 0 or more, as `mean_over_classes`; 0 if one is 0."""
    with np.errstate(divide="ignore"):
        return np.exp(_mean(np.log(value), value, group, num_groups))


def _mean(
    term: np.ndarray, value: np.ndarray, group: np.ndarray | None, num_groups: int
) -> np.ndarray:
    known = ~np.isnan(value)
    if group is None:
        group = np.zeros(len(value), int)
    known &= group >= 0
    number = np.bincount(group[known], minlength=num_groups)
    total = np.bincount(group[known], term[known], num_groups)
    return np.divide(total, number, out=np.full(num_groups, np.nan), where=number > 0)
