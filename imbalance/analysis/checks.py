"""Arrays of any library as NumPy arrays, with errors that say what was wrong and where."""

from typing import Any

import numpy as np


def as_numpy(array: Any) -> np.ndarray:
    """``array`` in host memory: NumPy's, PyTorch's, JAX's or a list.

    Float types that NumPy does not know, such as bfloat16, become float32.
    """
    if hasattr(array, "detach"):  # PyTorch's numpy() takes neither gradients nor GPUs nor bfloat16
        array = array.detach().cpu()
        if array.dtype.is_floating_point and array.dtype.itemsize < 4:
            array = array.float()
        array = array.numpy()
    array = np.asarray(array)
    if array.dtype.kind == "V" and array.dtype.names is None:  # the extension types that JAX uses
        array = array.astype(np.float32)
    return array


def checked_losses(loss: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``loss`` as float64 ``[example]``, however it was shaped; it may hold NaN.

    Raises:
      TypeError: if losses are not real numbers.
      ValueError: if their shape is not ``shape``, the one of the labels.
    """
    loss = _checked_numbers("losses", loss, shape)
    return loss.reshape(-1).astype(np.float64, copy=False)


def checked_weights(weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``weight`` as float64 ``[example]``, however it was shaped; a boolean mask is 0 and 1.

    Raises:
      TypeError: if weights are not real numbers.
      ValueError: if their shape is not ``shape``, the one of the labels, or one is negative or not
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
