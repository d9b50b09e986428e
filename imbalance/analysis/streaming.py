"""Loss by class of a stream of examples, for any training loop."""

import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from imbalance.analysis.buckets import FrequencyBuckets, checked_buckets
from imbalance.analysis.by_bucket import LossByBucket, frame_columns
from imbalance.analysis.checks import (
    as_numpy,
    check_mergeable,
    checked_correct,
    checked_labels_of,
    checked_losses,
    checked_weights,
    needed,
    without_mask,
)
from imbalance.analysis.left_out import about_diverged, listed
from imbalance.analysis.macro import geometric_mean, harmonic_mean, mean_over_classes
from imbalance.analysis.names import Names, checked_names, names_of
from imbalance.analysis.states import restored, state_of
from imbalance.analysis.sums import LossSums, added, frozen, regrouped, sums_of
from imbalance.analysis.worst import Worst, worst_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class LossByClass(LossSums):
    """Sums of losses by class on the host, updated batch by batch.

    Pass the unreduced losses and the labels of every batch to `update`. At any time, read `mean`,
    `count`, `standard_error` and `share` ``[class]``, `overall` and `macro`, the classes of the
    largest loss from `worst`, a data frame from `table`, or the same by bucket from `by_bucket`.
    With predictions (``correct=``) there are accuracies beside the losses. The order and the size
    of batches do not matter, and what was read does not change with later batches. Arrays may be
    NumPy's (masked ones too), PyTorch's (also bfloat16 and on a GPU), JAX's or lists, of equal
    shapes; sums are float64 and counts int64. `imbalance.ondevice.LossByClass` does the same inside
    a compiled function.

    For the losses at one point of training, use one object while parameters stay fixed, as in an
    evaluation. An object that is updated during training averages over changing parameters: start a
    new one for every window that you report.

    Args:
      num_classes: Number of classes; labels are ``0 .. num_classes - 1``.
      ignore_index: Label that masks its example, such as -100; it may be one of the classes.
      names: Names of the classes, for what is printed and tabled: a sequence of ``num_classes``, a
        mapping from class to name, or a function, as ``lambda k: tokenizer.decode([k])``, which is
        called only for classes that are shown.

    Raises:
      TypeError: If a number is not an integer, or names are none of these.
      ValueError: If there is not one class, or another number of names.

    Example:
      >>> from imbalance import LossByClass
      >>> losses = LossByClass(num_classes=3, names=["the", "of", "zebra"])
      >>> losses.update([0.1, 0.2, 0.3], [0, 0, 1])  # a batch: losses, labels
      >>> losses.update([0.3, 0.5, 4.0], [0, 1, 2])  # the next
      >>> losses.mean
      array([0.2, 0.4, 4. ])
      >>> losses.overall, round(losses.macro, 3)  # over examples, over classes
      (0.9, 1.533)
    """

    def __init__(
        self, num_classes: int, ignore_index: int | None = None, names: Names | None = None
    ):
        if not isinstance(num_classes, int | np.integer):
            raise TypeError(f"num_classes is {num_classes!r}; give an integer.")
        if not isinstance(ignore_index, int | np.integer | None):
            raise TypeError(f"ignore_index is {ignore_index!r}; give an integer or None.")
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; give 1 or more.")
        super().__init__(
            count=frozen(np.zeros(num_classes, np.int64)),
            diverged=frozen(np.zeros(num_classes, np.int64)),
            moments=frozen(np.zeros((5, num_classes))),
        )
        self.ignore_index = ignore_index
        self.names = checked_names(names, int(num_classes))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.count)

    @property
    def macro(self) -> float:
        """Mean over classes of their mean losses, which counts rare classes like frequent ones.

        ``Σ_k mean_k / K`` over the K classes that have a loss; NaN if none has.
        """
        return float(mean_over_classes(self.mean)[0])

    @property
    def balanced_accuracy(self) -> float:
        """Mean over classes of their accuracies (recalls), of the classes that have examples.

        Raises:
          ValueError: If no update had ``correct``.
        """
        return float(mean_over_classes(self.accuracy)[0])

    @property
    def harmonic_recall(self) -> float:
        """Harmonic mean over classes of their accuracies, 0 if that of one class is 0.

        Raises:
          ValueError: If no update had ``correct``.
        """
        return float(harmonic_mean(self.accuracy)[0])

    @property
    def geometric_recall(self) -> float:
        """Geometric mean over classes of their accuracies, 0 if that of one class is 0.

        Raises:
          ValueError: If no update had ``correct``.
        """
        return float(geometric_mean(self.accuracy)[0])

    def __repr__(self) -> str:
        left_out = {
            "ignored": self.ignored,
            "out of range": self.out_of_range,
            f"diverged, in class {listed(self.diverged, self.names)}": self.diverged.sum(),
        }
        return (
            f"LossByClass(num_classes={self.num_classes}, ignore_index={self.ignore_index}): "
            f"overall loss {self.overall:.6g}, examples: {self.count.sum()}, "
            f"classes seen: {np.count_nonzero(self.count)}"
            + "".join(f", {number} {what}" for what, number in left_out.items() if number)
        )

    def update(self, loss: Any, label: Any, weight: Any = None, correct: Any = None) -> None:
        """Add a batch.

        An example is left out if it is masked in a NumPy masked array, its weight is 0 or its label
        is ``ignore_index`` (counted in ``ignored``), else if its label is no class (counted in
        ``out_of_range``). An example whose loss is NaN, infinite or beyond ``LARGEST_LOSS`` is
        counted in ``diverged`` of its class and enters no sum of losses. The first label out of
        range and the first diverged loss raise a warning.

        Args:
          loss: Loss of each example, unreduced and unweighted, ``[...]``. For label smoothing, pass
            the smoothed loss and the hard labels.
          label: Class of each example, integers ``[...]``.
          weight: Weight of each example, ``[...]``, finite and 0 or more, or a boolean mask; None:
            1 each. It is applied once, here: mean losses are ``Σ w ℓ / Σ w``.
          correct: Whether the prediction of each example is right, booleans ``[...]``, as ``logits
            .argmax(-1) == label``; None: not known. Accuracies are over the examples with it.

        Raises:
          TypeError: If labels are not integers, or losses or weights not real numbers.
          ValueError: If shapes differ, a weight is negative or not finite, or ``correct`` holds
            other values than true and false. Nothing was added.
        """
        self._update(loss, label, weight, correct)

    def _update(
        self, loss: Any, label: Any, weight: Any, correct: Any = None, depth: int = 3
    ) -> None:
        """`update`, which warns the caller ``depth`` calls above."""
        (loss, label, weight, correct), masks = zip(
            *map(without_mask, (loss, label, weight, correct)), strict=True
        )
        label = checked_labels_of(label)
        loss = checked_losses(loss, label.shape)
        masked = np.zeros(label.size, bool)
        if weight is not None:
            weight = checked_weights(weight, label.shape)
            masked |= weight == 0
        if correct is not None:
            correct = checked_correct(correct, label.shape)
        for mask in masks:
            if mask is not None:
                masked |= mask.reshape(-1)
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
                stacklevel=depth,
            )
        if num_masked or num_outside:
            kept = ~(masked | outside)
            loss, label = loss[kept], label[kept]
            weight = None if weight is None else weight[kept]
            correct = None if correct is None else correct[kept]
        label = label.astype(np.intp, copy=False)
        batch = sums_of(loss, label, weight, self.num_classes)
        batch.ignored, batch.out_of_range = int(num_masked), int(num_outside)
        if correct is not None:
            batch.correct = sums_of(correct, label, weight, self.num_classes)
        self._add(batch, depth + 1)

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

        Example:
          >>> from imbalance import LossByClass
          >>> losses = LossByClass(num_classes=2)
          >>> losses.update_soft([[0.2, 1.6]], [[0.75, 0.25]])  # -log p; a mixed label
          >>> round(losses.overall, 6)
          0.55
        """
        weight, _ = without_mask(weight)  # what is masked has weight 0 now
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
        cost = loss.reshape(part.shape)[example, label]
        batch = sums_of(cost, label, part[example, label], self.num_classes)
        batch.ignored = 0 if weight is None else int(np.count_nonzero(weight == 0))
        self._add(batch, depth=3)

    def _add(self, batch: LossSums, depth: int) -> None:
        if batch.diverged.any() and not self.diverged.any():
            # Before anything is added: warnings may be turned into errors.
            warnings.warn(
                about_diverged(batch.diverged, int(batch.count.sum()), self.names),
                stacklevel=depth,
            )
        self.__dict__ |= added(self, batch, use_up=True)

    def merge(self, other: Self) -> Self:
        """The sums of both streams, as if one object had seen them; neither object is changed.

        Raises:
          ValueError: If they differ in their classes or in ``ignore_index``.

        Example:
          >>> from imbalance import LossByClass
          >>> one, other = LossByClass(num_classes=2), LossByClass(num_classes=2)
          >>> one.update([0.1], [0])
          >>> other.update([0.3, 2.0], [0, 1])
          >>> one.merge(other).mean
          array([0.2, 2. ])
        """
        check_mergeable(self, other)
        names = other.names if self.names is None else self.names
        merged = type(self)(self.num_classes, self.ignore_index, names)
        merged.__dict__ |= added(self, other)
        return merged

    def by_bucket(
        self, buckets: FrequencyBuckets | None = None, num_buckets: int = 10
    ) -> LossByBucket:
        """The same sums by bucket: the sum of a bucket is that of its classes.

        The result prints as a table that says how many classes each bucket has, and of which
        counts.

        Args:
          buckets: Grouping of the classes; None: at most ``num_buckets`` of about equal mass, by
            the counts seen so far, without empty ones. To evaluate on other data, pass the buckets
            of the training data, as ``FrequencyBuckets.from_counts(training.count)``. Examples
            whose class is in no bucket are counted in ``unbucketed``.
          num_buckets: Number of buckets, where ``buckets`` is None.

        Raises:
          TypeError: If ``buckets`` are not `FrequencyBuckets`.
          ValueError: If buckets have another number of classes, or are None and no example was
            seen.

        Example:
          >>> from imbalance import FrequencyBuckets, LossByClass
          >>> losses = LossByClass(num_classes=3)
          >>> losses.update([0.1, 0.3, 1.0, 3.0], [0, 0, 1, 2])
          >>> losses.by_bucket(FrequencyBuckets.thresholds([90, 6, 4], [10])).mean
          array([0.2, 2. ])
        """
        buckets = self._buckets(buckets, num_buckets)
        return LossByBucket(
            **regrouped(self, buckets.bucket_of_class, buckets.num_buckets),
            buckets=buckets,
            mean_of_class=self.mean,
            accuracy_of_class=None if self.correct is None else self.accuracy,
            class_names=self.names,
        )

    def _buckets(self, buckets: FrequencyBuckets | None, num_buckets: int) -> FrequencyBuckets:
        if buckets is None:
            if not self.count.any():
                raise ValueError(
                    "no example was seen, so there are no counts to make buckets of; update first, "
                    "or pass the buckets of the training data."
                )
            return FrequencyBuckets.from_counts(self.count, num_buckets).without_empty()
        if len(checked_buckets(buckets).counts) != self.num_classes:
            raise ValueError(
                f"buckets are of {len(buckets.counts)} classes, losses of {self.num_classes}; "
                "make buckets from the counts of these classes."
            )
        return buckets

    def worst(self, k: int = 10, least: int = 1) -> Worst:
        """The classes of the largest mean loss, with names, counts and errors; prints as a table.

        Args:
          k: Number of classes; there are fewer where fewer have a loss.
          least: Smallest number of examples of a class: the mean of one example is mostly noise.

        Raises:
          ValueError: If ``k`` or ``least`` is less than 1.

        Example:
          >>> from imbalance import LossByClass
          >>> losses = LossByClass(num_classes=3, names=["the", "of", "zebra"])
          >>> losses.update([0.1, 0.5, 4.0], [0, 1, 2])
          >>> losses.worst(2).name
          ['zebra', 'of']
        """
        return worst_of(self, self.names, k, least)

    def table(self, buckets: FrequencyBuckets | None = None) -> "pd.DataFrame":
        """A tidy frame, a row for each class; ``by_bucket(buckets).table()`` has one per bucket.

        Columns: ``class``, ``name`` (where classes have names), with buckets ``bucket`` (-1 for
        none) and ``class_examples`` (the count that made the buckets), ``examples``, ``weight``,
        ``loss``, ``standard_error``, ``share``, ``diverged`` and, where it is known, ``accuracy``
        and ``accuracy_standard_error``.

        Args:
          buckets: Grouping of the classes, to be told beside them; None: none.

        Raises:
          ImportError: If pandas is not installed.
          TypeError, ValueError: As `by_bucket`.
        """
        columns = {"class": np.arange(self.num_classes)}
        if self.names is not None:
            columns["name"] = np.array(names_of(self.names, range(self.num_classes)), object)
        if buckets is not None:
            buckets = self._buckets(buckets, 0)
            columns |= {"bucket": buckets.bucket_of_class, "class_examples": buckets.counts}
        return needed("pandas", "table").DataFrame(columns | frame_columns(self))

    def to_dataset(
        self, buckets: FrequencyBuckets | None = None, num_buckets: int = 10
    ) -> "xr.Dataset":
        """A dataset labelled by ``class`` and ``bucket``, with the variable names of sweeps.

        Args:
          buckets: Grouping of the classes, as in `by_bucket`.
          num_buckets: Number of buckets, where ``buckets`` is None.

        Raises:
          ImportError: If xarray is not installed.
          TypeError, ValueError: As `by_bucket`.
        """
        xr = needed("xarray", "to_dataset")  # slow to import, and needed only here

        from imbalance.analysis.dataset import bucket_variables, loss_variables

        read = self.by_bucket(buckets, num_buckets)
        variables = loss_variables(self, read)
        variables |= bucket_variables(read.buckets.counts, read.buckets)
        dataset = xr.Dataset(variables)
        if self.names is not None:
            names = names_of(self.names, range(self.num_classes))
            dataset = dataset.assign_coords(class_name=("class", names))
        return dataset

    def state_dict(self) -> dict[str, Any]:
        """The sums as built-in types: lists, integers and floats, which any checkpoint can hold.

        ``torch.save`` and ``torch.load(weights_only=True)`` keep it, and so does JSON, without
        losing a bit. It has no names: they are given to the object that loads it.
        """
        return state_of(self, self.ignore_index)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the sums of `state_dict` in the place of those here.

        Raises:
          ValueError: If it is no such state, or differs in its classes or in ``ignore_index``.
            Nothing was changed.
        """
        self.__dict__ |= restored(state, self.num_classes, self.ignore_index)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: names of a function, which may not be pickled, as they are."""
        names = self.names
        if callable(names):
            names = tuple(names_of(names, range(self.num_classes)))
        return self.__dict__ | {"names": names}
