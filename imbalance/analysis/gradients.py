"""Gradient norms by class of a softmax head, from its features and logits alone.

With logits z = W x + b, class probabilities p = softmax(z) and example weights w, the gradient of
the mean loss ``Σ w ℓ / Σ w`` with respect to row k of W is ``∇_k = Σ w (p_k - 1[y=k]) x / Σ w``.
It needs neither W nor automatic differentiation: a training loop that has the last features and the
logits at hand has the gradient of every class for one matrix product.

The functions use the operations that NumPy, PyTorch and JAX share, in the library of the logits.
"""

import sys
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from imbalance.analysis.buckets import FrequencyBuckets, checked_buckets
from imbalance.analysis.checks import as_numpy, check_mergeable, in_32_bits

_CHUNK = 4096  # classes at a time: what is made for them is a part of the logits in size


def head_gradient_norms(
    features: Any, logits: Any, label: Any, weight: Any = None, ignore_index: int | None = None
) -> Any:
    """Norm ``‖∇_k‖`` of the gradient of each row of a softmax head, for one batch.

    ``∇_k = Σ w (p_k - 1[y=k]) x / Σ w``, in at least float32. Nothing of size ``[example, class,
    feature]`` is made. It may be called inside ``jax.jit`` and ``torch.compile``. For a gradient
    over several batches use `HeadGradient`, as the norm of a sum is not the sum of norms.

    Args:
      features: Inputs of the head, ``[..., feature]``; NumPy's, PyTorch's or JAX's.
      logits: Its outputs, ``[..., class]``, of the same library.
      label: Class of each example, integers ``[...]``. Examples whose label is no class are left
        out.
      weight: Weight of each example, ``[...]``, 0 masks it; None: 1 each.
      ignore_index: Label that masks its example; it may be one of the classes.

    Returns:
      ``[class]``, in the library of ``logits``; NaN if no example is left.

    Raises:
      TypeError: If labels are not integers, or features or logits not floating-point numbers.
      ValueError: If shapes do not match.

    Example:
      >>> import numpy as np
      >>> from imbalance import head_gradient_norms
      >>> features = np.array([[1.0, 0.0], [0.0, 2.0]])
      >>> logits = np.zeros((2, 2))  # of a head that is still zero: both classes have p = 1/2
      >>> head_gradient_norms(features, logits, [0, 1])
      array([0.55901699, 0.55901699])
    """
    xp = _library(logits)
    batch = _Batch(xp, features, logits, label, weight, ignore_index)
    squares = [xp.sum(rows * rows, axis=1) for rows in batch.gradients()]
    return xp.sqrt(xp.concatenate(squares)) / xp.sum(batch.weight)


class HeadGradient:
    """Gradient of a softmax head over a stream of batches, by class; updated batch by batch.

    It holds the sum ``Σ w (p_k - 1[y=k]) x``, of the size of the head, in the library and on the
    device of the batches. Parameters must stay fixed while it is updated: it is the gradient at one
    point.

    Args:
      num_classes: Number of classes.
      ignore_index: Label that masks its example; it may be one of the classes.

    Raises:
      ValueError: If there is not one class.

    Example:
      >>> import numpy as np
      >>> from imbalance import HeadGradient
      >>> gradient = HeadGradient(num_classes=2)
      >>> for features, label in (([1.0, 0.0], 0), ([0.0, 2.0], 1)):
      ...     gradient.update(np.array([features]), np.zeros((1, 2)), np.array([label]))
      >>> gradient.gradient
      array([[-0.25,  0.5 ],
             [ 0.25, -0.5 ]])
    """

    def __init__(self, num_classes: int, ignore_index: int | None = None):
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; give 1 or more.")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._sums: list[Any] = []  # [class, feature] in chunks of classes
        self._weight: Any = 0.0

    def update(self, features: Any, logits: Any, label: Any, weight: Any = None) -> None:
        """Add a batch; arguments and errors as in `head_gradient_norms`.

        Raises:
          TypeError: As `head_gradient_norms`.
          ValueError: As `head_gradient_norms`, or if the number of classes or features changes.
        """
        xp = _library(logits)
        batch = _Batch(xp, features, logits, label, weight, self.ignore_index)
        num_classes, num_features = batch.logits.shape[1], batch.features.shape[1]
        if num_classes != self.num_classes:
            raise ValueError(f"logits are of {num_classes} classes, not of {self.num_classes}.")
        if self._sums and self._sums[0].shape[1] != num_features:
            raise ValueError(
                f"there are {num_features} features, and there were {self._sums[0].shape[1]}."
            )
        self._sums = list(batch.gradients(self._sums))
        self._weight = self._weight + xp.sum(batch.weight)

    def merge(self, other: Self) -> Self:
        """The gradient over both streams; neither object is changed.

        Raises:
          ValueError: If they differ in their classes or in ``ignore_index``.
        """
        check_mergeable(self, other)
        merged = type(self)(self.num_classes, self.ignore_index)
        if self._sums and other._sums:
            merged._sums = [a + b for a, b in zip(self._sums, other._sums, strict=True)]
        else:
            merged._sums = self._sums or other._sums
        merged._weight = self._weight + other._weight
        return merged

    @property
    def gradient(self) -> np.ndarray:
        """The gradient ``∇_k`` of each row of the head, ``[class, feature]``, as a NumPy array.

        Raises:
          ValueError: If no batch was added.
        """
        return np.concatenate([as_numpy(rows) for rows in self._added()]) / self._total_weight

    @property
    def norm(self) -> np.ndarray:
        """Norm ``‖∇_k‖`` of each class, float64 ``[class]``; NaN if all examples had weight 0.

        Raises:
          ValueError: If no batch was added.
        """
        # Squared on the device of the batches: only [class] numbers leave it.
        squares = [as_numpy((rows * rows).sum(1)) for rows in self._added()]
        return np.sqrt(np.concatenate(squares).astype(np.float64)) / self._total_weight

    def by_bucket(self, buckets: FrequencyBuckets) -> np.ndarray:
        """Norm of the gradient of all rows of each bucket, ``√(Σ_k ‖∇_k‖²)``, float64 ``[bucket]``.

        Raises:
          TypeError: If ``buckets`` are not `FrequencyBuckets`.
          ValueError: If they have another number of classes, or no batch was added.
        """
        if len(checked_buckets(buckets).counts) != self.num_classes:
            raise ValueError(
                f"buckets are of {len(buckets.counts)} classes, the gradient of {self.num_classes}."
            )
        inside = buckets.bucket_of_class >= 0
        square = np.bincount(
            buckets.bucket_of_class[inside], self.norm[inside] ** 2, buckets.num_buckets
        )
        return np.sqrt(square)

    @property
    def _total_weight(self) -> float:
        return float(self._weight) or np.nan

    def _added(self) -> list[Any]:
        if not self._sums:
            raise ValueError("no batch was added; update first.")
        return self._sums


class _Batch:
    """A batch with flat axes, in at least float32; examples that are left out have weight 0."""

    def __init__(
        self, xp: Any, features: Any, logits: Any, label: Any, weight: Any, ignore_index: int | None
    ):
        shape = tuple(logits.shape[:-1])
        if isinstance(label, np.ndarray):
            label = in_32_bits(as_numpy(label))
        label, features = _beside(label, logits, xp), _beside(features, logits, xp)
        for name, array in (("features", features), ("logits", logits)):
            if tuple(array.shape[:-1]) != tuple(label.shape):
                raise ValueError(
                    f"{name} have shape {tuple(array.shape)}, labels {tuple(label.shape)}; give "
                    "one row for every label."
                )
        if "int" not in str(label.dtype):
            raise TypeError(f"labels have dtype {label.dtype}; give integers.")
        if weight is None:
            weight = xp.ones_like(label, dtype=xp.float32)
        weight = _beside(weight, logits, xp)
        if tuple(weight.shape) != shape:
            raise ValueError(f"weights have shape {tuple(weight.shape)}, labels {shape}.")
        self.xp = xp
        self.label = label.reshape(-1)
        self.logits = _floating("logits", logits.reshape(-1, logits.shape[-1]), xp)
        kept = (self.label >= 0) & (self.label < logits.shape[-1])
        if ignore_index is not None:
            kept = kept & (self.label != ignore_index)
        weight = xp.where(kept, weight.reshape(-1), 0)
        self.weight = weight + xp.zeros_like(self.logits[:, 0])
        # What is left out may be NaN, and 0 times NaN is NaN.
        features = _floating("features", features.reshape(-1, features.shape[-1]), xp)
        self.features = xp.where(self.weight[:, None] > 0, features, 0)

    def gradients(self, before: list[Any] | None = None) -> Iterator[Any]:
        """``Σ w (p_k - 1[y=k]) x``, ``[class, feature]``, a chunk of classes at a time.

        Args:
          before: Chunks that are added to these.
        """
        xp, weight = self.xp, self.weight[:, None]
        highest = xp.amax(self.logits, axis=1)[:, None]
        chunks = [slice(first, first + _CHUNK) for first in range(0, self.logits.shape[1], _CHUNK)]
        total = xp.zeros_like(self.weight)
        for chunk in chunks:
            total = total + xp.sum(xp.exp(self.logits[:, chunk] - highest), axis=1)
        for number, chunk in enumerate(chunks):
            probability = xp.exp(self.logits[:, chunk] - highest) / total[:, None]
            classes = _beside(np.arange(self.logits.shape[1])[chunk], self.logits, xp)
            chosen = self.label[:, None] == classes[None, :]
            error = xp.where(chosen, probability - 1, probability)
            error = xp.where(weight > 0, error * weight, 0)
            rows = _product(error.T, self.features, xp)
            yield rows + before[number] if before else rows


def _library(array: Any) -> Any:
    """The module whose functions work on an array: numpy, torch or jax.numpy."""
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    if hasattr(array, "detach"):
        return sys.modules["torch"]  # loaded, as the array is its tensor
    raise TypeError(
        f"logits are of type {type(array).__name__}; give an array of NumPy, PyTorch or JAX."
    )


def _beside(array: Any, logits: Any, xp: Any) -> Any:
    """An array in the library and on the device of the logits."""
    if xp.__name__ == "torch":
        return xp.as_tensor(array, device=logits.device).detach()
    if hasattr(array, "detach") or isinstance(array, np.ndarray):
        array = as_numpy(array)
    return xp.asarray(array)


def _floating(name: str, array: Any, xp: Any) -> Any:
    if "float" not in str(array.dtype):
        raise TypeError(f"{name} have dtype {array.dtype}; give floating-point numbers.")
    if isinstance(array, np.ndarray):
        array = as_numpy(array)
    if xp.__name__ == "torch":
        array = array.detach()
        return array.float() if array.dtype.itemsize < 4 else array
    return array.astype(xp.float32) if array.dtype.itemsize < 4 else array


def _product(a: Any, b: Any, xp: Any) -> Any:
    """The matrix product; JAX's default on an accelerator has the precision of bfloat16."""
    return xp.matmul(a, b, precision="highest") if "jax" in xp.__name__ else xp.matmul(a, b)
