"""Conversion of any library's arrays to NumPy, with errors that say what is wrong and where."""

import importlib
from types import ModuleType
from typing import Any

import numpy as np


def as_numpy(array: Any) -> np.ndarray:
    """``array`` as a NumPy array in host memory; it may be NumPy's, PyTorch's, JAX's or a list.

    Float types that NumPy lacks, such as bfloat16, become float32.

    Raises:
      TypeError: If it is a NumPy array with masked values, which would lose its mask.
    """
    array, mask = without_mask(array)
    if mask is not None:
        raise TypeError(
            f"{np.count_nonzero(mask)} of {mask.size} values are masked, and a mask is not honoured"
            " here; leave these examples out, or give them weight 0."
        )
    if hasattr(array, "detach"):  # PyTorch's numpy() refuses gradients, GPU tensors and bfloat16
        array = array.detach().cpu()
        if array.dtype.is_floating_point and array.dtype.itemsize < 4:
            array = array.float()
        array = array.numpy()
    array = np.asarray(array)
    if array.dtype.kind == "V" and array.dtype.names is None:  # JAX's extension types
        array = array.astype(np.float32)
    return array


def without_mask(array: Any) -> tuple[Any, np.ndarray | None]:
    """A NumPy masked array as a plain one with zeros, and its mask; None if nothing is masked."""
    if not isinstance(array, np.ma.MaskedArray):
        return array, None
    mask = np.ma.getmaskarray(array)
    return (array.filled(0), mask) if mask.any() else (array.data, None)


def in_32_bits(array: np.ndarray) -> np.ndarray:
    """Integers of 64 bits clipped into the range of 32, where JAX would wrap them around.

    A label out of range stays out of range; other arrays are returned as they are.
    """
    if array.dtype not in (np.int64, np.uint64):
        return array
    small, given = np.iinfo(np.int32), np.iinfo(array.dtype)
    return array.clip(max(small.min, given.min), small.max)


def checked_labels_of(label: Any) -> np.ndarray:
    """Integer labels of any shape; an empty batch may be of any dtype, as ``[]`` is of float64.

    Raises:
      TypeError: If labels are not integers.
    """
    label = as_numpy(label)
    if label.size == 0:
        return label.astype(np.intp)
    if not np.issubdtype(label.dtype, np.integer):
        raise TypeError(
            f"labels have dtype {label.dtype}; give integers, or soft labels to update_soft."
        )
    return label


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


def checked_correct(correct: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``correct``, flattened to float64 ``[example]`` of 0 and 1.

    Raises:
      TypeError: If they are not booleans or numbers.
      ValueError: If their shape is not ``shape``, that of the labels, or one is not 0 or 1.
    """
    correct = _checked_numbers("values of correct", correct, shape)
    correct = correct.reshape(-1).astype(np.float64, copy=False)
    wrong = (correct != 0) & (correct != 1)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"correct is {correct[first]:g} at position {first}; give whether each prediction is "
            "right, as prediction == label."
        )
    return correct


def wrong_shape(name: str, given: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The message for an array whose shape is not that of the labels."""
    message = f"{name} have shape {given}, labels {shape}; "
    if name == "losses" and given == ():
        return message + (
            'give the loss of every example, as by reduction="none", and not their mean.'
        )
    if name == "losses" and given[:-1] == shape:
        return message + "give the loss of every example; are these logits?"
    return message + "give one of each for every example."


def needed(library: str, what: str) -> ModuleType:
    """A library that is needed for one thing only, and imported where that is done.

    Raises:
      ImportError: If it is not installed; the message says what installs it.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ImportError(
            f"{what} needs {library}, which is not installed: pip install 'imbalance[analysis]'"
        ) from error


def _checked_numbers(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    values = as_numpy(values)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} have dtype {values.dtype}; give real numbers.")
    if values.shape != shape:
        raise ValueError(wrong_shape(name, values.shape, shape))
    return values


def check_mergeable(one: Any, other: Any) -> None:
    """That the sums of two streams are over the same classes and mask the same label.

    Raises:
      ValueError: If they are not.
    """
    for name in ("num_classes", "ignore_index"):
        here, there = getattr(one, name), getattr(other, name)
        if here != there:
            raise ValueError(f"{name} is {here} here and {there} there; only equal ones merge.")
