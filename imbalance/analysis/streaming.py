"""Loss by class of a stream of examples, for any training loop."""

import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.checks import as_numpy, checked_losses, checked_weights
from imbalance.analysis.sums import LARGEST_LOSS, LossSums

if TYPE_CHECKING:
    import xarray as xr


class LossByClass(LossSums):
    """Sums of losses by class on the host, updated batch by batch.

    Pass the unreduced losses and the labels of every batch to `update`. At any time, read `mean`,
    `count`, `weight`, `standard_error` and `share` ``[class]`` and `overall`, or the same by bucket
    from `by_bucket`. The order and the size of batches do not matter. Arrays may be NumPy's,
    PyTorch's (also bfloat16 and on a GPU), JAX's or lists, of equal shapes; sums are float64 and
    counts int64. `imbalance.ondevice.LossByClass` does the same inside a compiled function.

    For the losses at one point of training, use one object while parameters stay fixed, as in an
    evaluation. An object that is updated during training averages over changing parameters: start a
    new one for every window that you report.

    Args:
      num_classes: Number of classes; labels are ``0 .. num_classes - 1``.
      ignore_index: Label that masks its example, such as -100; it may be one of the classes.

    Raises:
      TypeError: If a number is not an integer.
      ValueError: If there is not one class.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = None):
        if not isinstance(num_classes, int | np.integer):
            raise TypeError(f"num_classes is {num_classes!r}; give an integer.")
        if not isinstance(ignore_index, int | np.integer | None):
            raise TypeError(f"ignore_index is {ignore_index!r}; give an integer or None.")
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; give 1 or more.")
        super().__init__(
            count=np.zeros(num_classes, np.int64),
            diverged=np.zeros(num_classes, np.int64),
            moments=np.zeros((5, num_classes)),
        )
        self.ignore_index = ignore_index

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.count)

    def __repr__(self) -> str:
        left_out = {
            "ignored": self.ignored,
            "out of range": self.out_of_range,
            f"diverged, in class {_named(self.diverged)}": self.diverged.sum(),
        }
        return (
            f"LossByClass(num_classes={self.num_classes}, ignore_index={self.ignore_index}): "
            f"overall loss {self.overall:.6g}, examples: {self.count.sum()}, "
            f"classes seen: {np.count_nonzero(self.count)}"
            + "".join(f", {number} {what}" for what, number in left_out.items() if number)
        )

    def update(self, loss: Any, label: Any, weight: Any = None) -> None:
        """Add a batch.

        An example is left out if its weight is 0 or its label is ``ignore_index`` (counted in
        ``ignored``), else if its label is no class (counted in ``out_of_range``). An example whose
        loss is NaN, infinite or beyond ``LARGEST_LOSS`` is counted in ``diverged`` of its class and
        enters no sum. The first label out of range and the first diverged loss raise a warning.

        Args:
          loss: Loss of each example, unreduced and unweighted, ``[...]``. For label smoothing, pass
            the smoothed loss and the hard labels.
          label: Class of each example, integers ``[...]``.
          weight: Weight of each example, ``[...]``, finite and 0 or more, or a boolean mask; None:
            1 each. It is applied once, here: mean losses are ``Σ w ℓ / Σ w``.

        Raises:
          TypeError: If labels are not integers, or losses or weights not real numbers.
          ValueError: If shapes differ, or a weight is negative or not finite. Nothing was added.
        """
        label = as_numpy(label)
        if not np.issubdtype(label.dtype, np.integer):
            raise TypeError(
                f"labels have dtype {label.dtype}; give integers, or soft labels to update_soft."
            )
        loss = checked_losses(loss, label.shape)
        masked = np.zeros(label.size, bool)
        if weight is not None:
            weight = checked_weights(weight, label.shape)
            masked |= weight == 0
        label = label.reshape(-1)
        if self.ignore_index is not None:
            masked |= label == self.ignore_index
        outside = ~masked & ((label < 0) | (label >= self.num_classes))
        num_masked, num_outside = np.count_nonzero(masked), np.count_nonzero(outside)
        if num_outside and not self.out_of_range:
            first = int(np.argmax(outside))
            warnings.warn(
                f"{num_outside} of {label.size} labels are out of range, the first is "
                f"{label[first]} at position {first}; classes are 0 .. {self.num_classes - 1} and "
                f"ignore_index is {self.ignore_index}. They are in no mean, and are counted in "
                "out_of_range.",
                stacklevel=2,
            )
        if num_masked or num_outside:
            kept = ~(masked | outside)
            loss, label = loss[kept], label[kept]
            weight = None if weight is None else weight[kept]
        self._add(loss, label.astype(np.intp, copy=False), weight)
        self.ignored += int(num_masked)
        self.out_of_range += int(num_outside)

    def update_soft(self, loss: Any, target: Any, weight: Any = None) -> None:
        """Add a batch with soft labels: each example is split over the classes of its target.

        Where ``loss[i, k] = -log p_k``, the cross-entropy of example i is ``Σ_k target[i, k]
        loss[i, k]``: its part k counts in class k, with weight ``weight[i] target[i, k]``. So
        `overall` is the mean cross-entropy of targets that sum to one, `count` counts parts above
        zero, and one-hot targets give what `update` gives.

        Args:
          loss: Loss of each example under each class as its label, ``[..., class]``.
          target: Share of each class, finite and 0 or more, ``[..., class]``.
          weight: Weight of each example, ``[...]``, or a boolean mask; None: 1 each.

        Raises:
          TypeError: If an array does not hold real numbers.
          ValueError: If shapes differ, or a weight or target is negative or not finite. Nothing was
            added.
        """
        target = as_numpy(target)
        if target.ndim == 0 or target.shape[-1] != self.num_classes:
            raise ValueError(
                f"targets have shape {target.shape}; give one share for each of the "
                f"{self.num_classes} classes in the last axis."
            )
        loss = checked_losses(loss, target.shape)
        part = checked_weights(target, target.shape).reshape(-1, self.num_classes)
        if weight is not None:
            weight = checked_weights(weight, target.shape[:-1])
            part = part * weight[:, None]
        example, label = np.nonzero(part)
        self._add(loss.reshape(part.shape)[example, label], label, part[example, label])
        if weight is not None:
            self.ignored += int(np.count_nonzero(weight == 0))

    def _add(self, loss: np.ndarray, label: np.ndarray, weight: np.ndarray | None) -> None:
        """Add examples with labels in range and weights above 0; all arrays ``[example]``."""

        def by_class(values: np.ndarray | None = None) -> np.ndarray:
            return np.bincount(label, values, self.num_classes)

        usable = np.abs(loss) <= LARGEST_LOSS  # not so for NaN
        diverged = np.bincount(label[~usable], minlength=self.num_classes)
        if diverged.any() and not self.diverged.any():
            warnings.warn(  # before anything is added: warnings may be turned into errors
                f"{diverged.sum()} of {loss.size} losses are NaN, infinite or beyond "
                f"{LARGEST_LOSS:.0e}, in class {_named(diverged)}. They are in no mean, and are "
                "counted in diverged.",
                stacklevel=3,
            )
        self.count += by_class()
        self.diverged += diverged
        if not usable.all():
            loss, label = loss[usable], label[usable]
            weight = None if weight is None else weight[usable]
        if weight is None:  # w = w² = 1
            count, total = by_class(), by_class(loss)
            self.moments += np.stack([count, total, count, total, by_class(loss * loss)])
        else:
            weighted = weight * loss
            products = (weight, weighted, weight * weight, weight * weighted, weighted * weighted)
            self.moments += np.stack([by_class(values) for values in products])

    def merge(self, other: Self) -> Self:
        """The sums of both streams, as if one object had seen them; neither object is changed.

        Raises:
          ValueError: If they differ in their classes or in ``ignore_index``.
        """
        for name in ("num_classes", "ignore_index"):
            one, two = getattr(self, name), getattr(other, name)
            if one != two:
                raise ValueError(f"{name} is {one} here and {two} there; only equal ones merge.")
        merged = type(self)(self.num_classes, self.ignore_index)
        for name in LossSums.__dataclass_fields__:
            setattr(merged, name, getattr(self, name) + getattr(other, name))
        return merged

    def by_bucket(self, buckets: FrequencyBuckets | None = None, num_buckets: int = 10) -> LossSums:
        """The same sums by bucket: the sum of a bucket is that of its classes.

        Args:
          buckets: Grouping of the classes; None: ``num_buckets`` of about equal mass, by the counts
            seen so far. To evaluate on other data, pass the buckets of the training data, such as
            ``FrequencyBuckets.from_counts(training.count)``. Examples whose class is in no bucket
            are counted in ``unbucketed``.
          num_buckets: Number of buckets, where ``buckets`` is None.

        Raises:
          ValueError: If buckets have another number of classes, or are None and no example was
            seen.
        """
        buckets = buckets or FrequencyBuckets.from_counts(self.count, num_buckets)
        if len(buckets.counts) != self.num_classes:
            raise ValueError(
                f"buckets are of {len(buckets.counts)} classes, losses of {self.num_classes}; "
                "make buckets from the counts of these classes."
            )
        inside = buckets.bucket_of_class >= 0
        bucket = buckets.bucket_of_class[inside]

        def summed(values: np.ndarray) -> np.ndarray:
            total = np.zeros((*values.shape[:-1], buckets.num_buckets), values.dtype)
            np.add.at(total.T, bucket, values.T[inside])
            return total

        return LossSums(
            count=summed(self.count),
            diverged=summed(self.diverged),
            moments=summed(self.moments),
            ignored=self.ignored,
            out_of_range=self.out_of_range,
            unbucketed=self.unbucketed + int(self.count[~inside].sum()),
        )

    def to_dataset(
        self, buckets: FrequencyBuckets | None = None, num_buckets: int = 10
    ) -> "xr.Dataset":
        """A dataset labelled by ``class`` and ``bucket``, with the variable names of sweeps.

        Args:
          buckets: Grouping of the classes, as in `by_bucket`.
          num_buckets: Number of buckets, where ``buckets`` is None.

        Raises:
          ValueError: As `by_bucket`.
        """
        import xarray as xr  # slow to import, and needed only here

        from imbalance.analysis.dataset import bucket_variables, loss_variables

        buckets = buckets or FrequencyBuckets.from_counts(self.count, num_buckets)
        losses = loss_variables(self, self.by_bucket(buckets))
        return xr.Dataset(losses | bucket_variables(buckets.counts, buckets))


def warn_of_left_out(losses: LossByClass) -> None:
    """Warns of examples left out without a mask, on behalf of the caller's caller."""
    if losses.out_of_range:
        warnings.warn(
            f"{losses.out_of_range} labels are out of range: classes are 0 .. "
            f"{losses.num_classes - 1} and ignore_index is {losses.ignore_index}. They are in no "
            "mean, and are counted in out_of_range.",
            stacklevel=3,
        )
    if losses.diverged.any():
        warnings.warn(
            f"{losses.diverged.sum()} of {losses.count.sum()} losses are NaN, infinite or beyond "
            f"{LARGEST_LOSS:.0e}, in class {_named(losses.diverged)}. They are in no mean, and are "
            "counted in diverged.",
            stacklevel=3,
        )


def _named(diverged: np.ndarray) -> str:
    """The first few classes that have diverged losses, as text."""
    classes = np.flatnonzero(diverged)
    return ", ".join(map(str, classes[:5])) + (", ..." if len(classes) > 5 else "")
