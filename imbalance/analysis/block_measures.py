"""Association of gradients and curvature across blocks of parameters, and spread of the blocks.

A block is a class (its row of the output layer) or a tensor. Functions take NumPy arrays with the
blocks on the last axes, or xarray objects with named dimensions, and return the same kind.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

Values = Any  # numbers of NumPy or xarray


def pearson(x: Values, y: Values, dim: str = "class") -> Values:
    """Pearson correlation over blocks; for a log-log plot such as Figure 7, pass logarithms.

    Here and in the next two functions, blocks with a NaN or infinite value are left out. The result
    is NaN where one side is constant or fewer than two blocks are left.
    """
    return _of_pairs(_pearson, x, y, dim)


def spearman(x: Values, y: Values, dim: str = "class") -> Values:
    """Spearman's rank correlation over blocks; equal values share their mean rank."""
    return _of_pairs(lambda x, y: _pearson(_mean_rank(x), _mean_rank(y)), x, y, dim)


def log_log_slope(x: Values, y: Values, dim: str = "class") -> Values:
    """Least-squares slope of ``log y`` against ``log x``, over blocks where both are positive.

    In Figure 7, x is the gradient norm and y the Hessian trace.
    """

    def slope(x: np.ndarray, y: np.ndarray) -> float:
        positive = (x > 0) & (y > 0)
        x, y = (_centred(np.log(v[positive])) for v in (x, y))
        return float(x @ y / (x @ x)) if x.any() else np.nan

    return _of_pairs(slope, x, y, dim)


def bucket_median(values: Values, bucket_of_class: Values, dim: str = "class") -> Values:
    """Median over the classes of each bucket, ``[..., bucket]``; NaN for an empty bucket.

    Half of all classes lie in the rarest level, so a correlation over all classes mostly shows the
    noise within it. Test the medians of the levels, and report both (Figure 7).

    Args:
      values: Values of the classes, ``[..., class]``.
      bucket_of_class: Integers ``[class]``, -1 for a class in no bucket.
      dim: Name of the class dimension.
    """
    bucket = np.asarray(bucket_of_class)

    def medians(values: np.ndarray) -> np.ndarray:
        inside = [values[..., bucket == b] for b in range(bucket.max() + 1)]
        empty = np.full(values.shape[:-1], np.nan)
        return np.stack([np.median(v, -1) if v.shape[-1] else empty for v in inside], -1)

    return _apply(medians, values, core=[[dim]], result=["bucket"])


def diagonal_dominance(
    block_trace: Values, dims: tuple[str, str] = ("class", "other_class")
) -> Values:
    """``median |tr H_kk| / median |tr H_kj|``, over k and over ``j ≠ k`` (Figure 9).

    Exactly the number of classes minus one where all have equal probability (W = 0).

    Args:
      block_trace: Traces of the blocks, ``[..., class, class]``.
      dims: Names of the two class dimensions.
    """

    def ratio(trace: np.ndarray) -> np.ndarray:
        size, same = np.abs(trace), np.eye(trace.shape[-1], dtype=bool)
        return np.median(size[..., same], -1) / np.median(size[..., ~same], -1)

    return _apply(ratio, block_trace, core=[dims])


def sharpness_of_classes(
    direction: Values, product: Values, dims: tuple[str, str] = ("class", "coordinate")
) -> Values:
    """Contribution of each class to the curvature along an update, ``v_k·(H v)_k / ‖v‖²``.

    Their sum is the directional sharpness ``vᵀ H v / ‖v‖²`` (Pan and Li 2023, arXiv 2306.00204).

    Args:
      direction: Update v, ``[..., class, coordinate]``.
      product: Hessian times v, of the same shape.
      dims: Names of the class and coordinate dimensions.
    """

    def parts(v: np.ndarray, product: np.ndarray) -> np.ndarray:
        return np.sum(v * product, -1) / np.sum(v**2, (-2, -1))[..., None]

    return _apply(parts, direction, product, core=[dims] * 2, result=dims[:1])


def jensen_shannon(one: Values, other: Values, dim: str = "point") -> Values:
    """Jensen-Shannon distance of two densities on one grid, from 0 to ``sqrt(log 2)``.

    The square root of ``½ KL(p, m) + ½ KL(q, m)`` with ``m = (p + q) / 2``, in nats. Densities are
    first divided by their sums. For spectra that span many scales, use a logarithmic grid.

    Raises:
      ValueError: If a density is negative or NaN somewhere, or zero everywhere.
    """
    return _apply(_jensen_shannon, one, other, core=[[dim], [dim]])


def mean_jensen_shannon(density: Values, dims: tuple[str, str] = ("block", "point")) -> Values:
    """Mean `jensen_shannon` distance over all pairs of blocks of ``[..., block, point]``.

    For Hessian spectra at initialisation, this is JS⁰ of Zhang et al. 2024 (arXiv 2402.16788).

    Raises:
      ValueError: As `jensen_shannon`, or if there are fewer than two blocks.
    """

    def mean(density: np.ndarray) -> np.ndarray:
        number = density.shape[-2]
        if number < 2:
            raise ValueError(f"{number} blocks make no pair; give the densities of 2 or more.")
        # A block at a time: all pairs of densities at once could fill the memory.
        with_later = [
            _jensen_shannon(density[..., [i], :], density[..., i + 1 :, :])
            for i in range(number - 1)
        ]
        return np.concatenate(with_later, -1).mean(-1)

    return _apply(mean, density, core=[dims])


def gini(values: Values, dim: str = "block") -> Values:
    """Gini coefficient of nonnegative numbers: 0 if all are equal, ``1 - 1/n`` if one has all."""

    def coefficient(values: np.ndarray) -> np.ndarray:
        n = values.shape[-1]
        return np.sort(values, -1) @ (2 * np.arange(n) - n + 1) / (n * values.sum(-1))

    return _apply(coefficient, values, core=[[dim]])


def gradient_heterogeneity(gradient_norm: Values, size: Values, dim: str = "block") -> Values:
    """Gini coefficient of ``‖g_b‖ / sqrt(P_b)`` over blocks of P_b parameters.

    After Tomihari and Sato 2025 (arXiv 2502.00213), whose normalisation may differ. Over classes,
    which are equal in size, the normalisation has no effect.
    """

    def per_parameter(norm: np.ndarray, size: np.ndarray) -> np.ndarray:
        return norm / np.sqrt(size)

    both = _apply(per_parameter, gradient_norm, size, core=[[dim], [dim]], result=[dim])
    return gini(both, dim)


def gradient_complexity(gradient_norm: Values, hessian_norm: Values, dim: str = "block") -> Values:
    """``Λ_G = Σ_b ‖g_b‖² ‖H_b‖ / Σ_b ‖g_b‖²``, which controls gradient descent.

    After Tomihari and Sato 2025 (arXiv 2502.00213).

    Args:
      gradient_norm: Norm of each block's gradient.
      hessian_norm: Largest absolute eigenvalue of each block's Hessian.
      dim: Name of the block dimension.
    """
    return parameter_complexity(gradient_norm**2, hessian_norm, dim)


def parameter_complexity(size: Values, hessian_norm: Values, dim: str = "block") -> Values:
    """``Λ_P = Σ_b P_b ‖H_b‖ / Σ_b P_b``, which controls sign-like methods.

    After Tomihari and Sato 2025 (arXiv 2502.00213).

    Args:
      size: Number of parameters P_b of each block.
      hessian_norm: Largest absolute eigenvalue of each block's Hessian.
      dim: Name of the block dimension.
    """

    def mean(size: np.ndarray, curvature: np.ndarray) -> np.ndarray:
        return np.sum(size * curvature, -1) / np.sum(size, -1)

    return _apply(mean, size, hessian_norm, core=[[dim], [dim]])


def _apply(
    function: Callable, *values: Values, core: Sequence[Sequence[str]], result: Sequence[str] = ()
) -> Values:
    """``function`` applied to float64 arrays that have the ``core`` dimensions last."""
    return xr.apply_ufunc(
        lambda *arrays: function(*(np.asarray(array, np.float64) for array in arrays)),
        *values,
        input_core_dims=core,
        output_core_dims=[result],
        join="exact",
    )


def _of_pairs(function: Callable, x: Values, y: Values, dim: str) -> Values:
    """``function`` applied to each pair of lines along ``dim``, without values not finite."""

    def of_lines(x: np.ndarray, y: np.ndarray) -> float:
        both = np.isfinite(x) & np.isfinite(y)
        return function(x[both], y[both])

    along = np.vectorize(of_lines, otypes=[float], signature="(n),(n)->()")
    return _apply(along, x, y, core=[[dim], [dim]])


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = _centred(x), _centred(y)
    return float(x @ y / np.sqrt((x @ x) * (y @ y))) if x.any() and y.any() else np.nan


def _centred(values: np.ndarray) -> np.ndarray:
    # Values that equal the first one are constant, whatever their rounded mean.
    return values - values.mean() if np.any(values != values[:1]) else np.zeros_like(values)


def _mean_rank(values: np.ndarray) -> np.ndarray:
    _, place, number = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(number) - (number - 1) / 2)[place]


def _jensen_shannon(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    for density in (one, other):
        if not ((density >= 0).all() and (density.sum(-1) > 0).all()):
            raise ValueError("a density is negative or NaN somewhere, or zero everywhere.")
    p, q = (density / density.sum(-1, keepdims=True) for density in (one, other))
    middle = (p + q) / 2

    def divergence(p: np.ndarray) -> np.ndarray:
        # 0 log 0 = 0, and half of the smallest float is 0.
        seen = (p > 0) & (middle > 0)
        ratio = np.divide(p, middle, out=np.ones_like(middle), where=seen)
        return np.sum(p * np.log(ratio), -1)

    return np.sqrt(np.maximum(divergence(p) + divergence(q), 0) / 2)
