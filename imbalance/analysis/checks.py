"""Conversion of any library's arrays to NumPy, with errors that say what is wrong and where."""

from typing import Any

import numpy as np


def as_numpy(array: Any) -> np.ndarray:
    """``array`` as a NumPy array in host memory; it may be NumPy's, PyTorch's, JAX's or a list.

    Float types that NumPy lacks, such as bfloat16, become float32.
    """
    if hasattr(array, "detach"):  # PyTorch's numpy() refuses gradients, GPU tensors and bfloat16
        array = array.detach().cpu()
        if array.dtype.is_floating_point and array.dtype.itemsize < 4:
            array = array.float()
        array = array.numpy()
    array = np.asarray(array)
    if array.dtype.kind == "V" and array.dtype.names is None:  # JAX's extension types
        array = array.astype(np.float32)
    return array


def checked_losses(loss: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``loss``, flattened to float64 ``[example]``; it may hold NaN.

    Raises:
      TypeError: If losses are not real numbers.
      ValueError: If their shape is not ``shape``, that of the labels.
    """
    loss = _checked_numbers("losses", loss, shape)
    return loss.reshape(-1).astype(np.float64, copy=False)


def checked_weights(weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``weight``, flattened to float64 ``[example]``; a boolean mask becomes 0 and 1.

    Raises:
      TypeError: If weights are not real numbers.
      ValueError: If their shape is not ``shape``, that of the labels, or one is negative or not
        finite.
    """
    weight = _checked_numbers("weights", weight, shape)
    weight = weight.reshape(-1).astype(np.float64, copy=False)
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"{np.count_nonzero(wrong)} of {weight.size} weights are negative or not finite, the "
            f"first is {weight[first]} at position {first}; give finite weights, 0 or more."
        )
    return weight


def _checked_numbers(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    values = as_numpy(values)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} have dtype {values.dtype}; give real numbers.")
    if values.shape != shape:
        raise ValueError(
            f"{name} have shape {values.shape}, labels {shape}; give one of each for every example."
        )
    return values
