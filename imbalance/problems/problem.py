"""A problem: a task, the data it is learnt from, and the buckets that losses are reported in."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import jax
import numpy as np
from numpy.typing import ArrayLike

from imbalance.analysis import FrequencyBuckets, class_counts
from imbalance.problems.tasks import Batch, Task

Bucketing = int | Literal["levels"] | tuple[int, ...]
"""How classes are grouped by frequency: a number of buckets of about equal mass; ``"levels"``, one
bucket for each distinct count; or the least counts of all buckets but the last, descending."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is learnt from what.

    `Problem.from_arrays` makes one of a user's own arrays.

    Attributes:
      name: in results and messages.
      task: how parameters start and what an example's loss is.
      counts: examples of each class, int64 ``[class]``; for the quadratic, class probabilities.
      make_batch: seed -> all rows of the training set, as NumPy arrays.
      shapes: shapes and dtypes of that batch, known without making it.
      data_by_seed: whether the seed changes the data or only the start.
      flops_per_step: useful floating-point operations of a step of one run on all rows, to estimate
        time with.
      bucketing: the classes of each bucket, as `Bucketing` says.
      make_validation: seed -> all rows of the validation set; None: there is none.
      settings: what the data were made from, for the people who read a result. Nothing is
        recognised by them: two problems are the same if their programs and the bytes of their data
        are.

    Example:
      >>> from imbalance import problems
      >>> problem = problems.heavy_tailed_linear(m=3)
      >>> problem.num_rows, problem.counts
      (24, array([8, 4, 4, 2, 2, 2, 2]))
    """

    name: str
    task: Task
    counts: np.ndarray
    make_batch: Callable[[int], Batch]
    shapes: Batch
    data_by_seed: bool
    flops_per_step: float
    bucketing: Bucketing = 10
    make_validation: Callable[[int], Batch] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not np.sum(self.counts) > 0:
            raise ValueError(
                f"problem {self.name!r}: the counts of its {len(self.counts)} classes add up to "
                f"{np.sum(self.counts)}; give at least one example."
            )

    @classmethod
    def from_arrays(
        cls,
        name: str,
        task: Task,
        input: Any,
        label: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        num_classes: int | None = None,
        counts: ArrayLike | None = None,
        validation: tuple[Any, ArrayLike] | None = None,
        bucketing: Bucketing = 10,
        flops_per_step: float | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """A problem of arrays at hand, the same for every seed.

        Args:
          name: in results and messages.
          task: how parameters start and what an example's loss is.
          input: any tree of arrays ``[row, ...]``, or None where the task needs none.
          label: integers ``[row, ...]``.
          weight: of each label, ``[row, ...]``, 0 masks; None: 1 each.
          num_classes: of the labels; None: one more than the largest.
          counts: of the classes, where they are not to be counted, such as probabilities.
          validation: input and labels of a validation set.
          bucketing: the classes of each bucket.
          flops_per_step: of all rows; None: six for each value of the input and each class.
          settings: what the data were made from, for the people who read a result.

        Raises:
          ValueError: as `batch`.

        Example:
          >>> from functools import partial
          >>> import numpy as np
          >>> from imbalance import Problem
          >>> from imbalance.models.linear import SoftmaxLinear
          >>> from imbalance.problems.tasks import classification
          >>> task = classification(partial(SoftmaxLinear, 2, 3))  # two inputs, three classes
          >>> x = np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0], [2.0, 2.0]])
          >>> problem = Problem.from_arrays("mine", task, x, [0, 0, 1, 2], bucketing="levels")
          >>> problem.counts, problem.buckets.bucket_of_class
          (array([2, 1, 1]), array([0, 1, 1], dtype=int32))
        """
        rows = _rows(input, label, weight)
        held = None if validation is None else _rows(*validation, None)
        num_classes = num_classes or int(rows.label.max(initial=0)) + 1
        if counts is None:
            counts = class_counts(rows.label[rows.weight > 0], num_classes)
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(rows.input)) or rows.label.size
        problem = cls(
            name=name,
            task=task,
            counts=np.asarray(counts),
            make_batch=lambda seed: rows,
            shapes=shapes_of(rows),
            data_by_seed=False,
            flops_per_step=flops_per_step or 6.0 * size * len(np.asarray(counts)),
            bucketing=bucketing,
            make_validation=None if held is None else lambda seed: held,
            settings=settings or {},
        )
        problem.batch(0)  # for its checks
        return problem

    @property
    def num_rows(self) -> int:
        """Rows of the training set."""
        return self.shapes.weight.shape[0]

    @cached_property
    def buckets(self) -> FrequencyBuckets:
        """Classes by frequency."""
        if self.bucketing == "levels":
            return FrequencyBuckets.levels(self.counts)
        if isinstance(self.bucketing, tuple):
            return FrequencyBuckets.thresholds(self.counts, self.bucketing)
        if np.issubdtype(self.counts.dtype, np.integer):
            return FrequencyBuckets.from_counts(self.counts, self.bucketing)
        return FrequencyBuckets.from_masses(self.counts, self.bucketing)

    @cached_property
    def validation_buckets(self) -> FrequencyBuckets:
        """Classes by frequency in the validation set, in as many buckets of equal mass.

        Raises:
          ValueError: as `validation`, of seed 0.
        """
        held = self.validation(0)
        counts = class_counts(np.asarray(held.label)[held.weight > 0], len(self.counts))
        return FrequencyBuckets.from_counts(counts, self.buckets.num_buckets)

    def batch(self, seed: int) -> Batch:
        """All rows for ``seed``, checked.

        Raises:
          ValueError: if shapes differ from the promised ones, labels are out of range or do not add
            up to ``counts``, or an input or weight is not finite.
        """
        batch = self.make_batch(seed)
        self._check_shapes(batch)
        self._check_values(batch)
        self._check_counts(batch)
        return batch

    def validation(self, seed: int) -> Batch:
        """All rows of the validation set for ``seed``, checked.

        Raises:
          ValueError: if there is none, labels are out of range, or an input or weight is not
            finite.
        """
        if self.make_validation is None:
            raise ValueError(f"problem {self.name!r} has no validation set.")
        batch = self.make_validation(seed)
        self._check_values(batch)
        return batch

    def _check_shapes(self, batch: Batch) -> None:
        found = jax.tree.map(lambda leaf: (leaf.shape, np.dtype(leaf.dtype)), batch)
        promised = jax.tree.map(lambda leaf: (leaf.shape, np.dtype(leaf.dtype)), self.shapes)
        if found != promised:
            raise ValueError(f"problem {self.name!r}: the batch has {found}; promised {promised}.")

    def _check_values(self, batch: Batch) -> None:
        for name, leaves in (("input", batch.input), ("weight", batch.weight)):
            for leaf in jax.tree.leaves(leaves):
                if not np.issubdtype(leaf.dtype, np.floating):
                    continue  # always finite, and perhaps the bytes of a million images
                bad = np.size(leaf) - np.count_nonzero(np.isfinite(leaf))
                if bad:
                    raise ValueError(
                        f"problem {self.name!r}: {bad} of {np.size(leaf)} values of {name!r} are "
                        "NaN or infinite; all must be finite."
                    )
        if np.min(batch.weight) < 0:
            raise ValueError(f"problem {self.name!r}: negative weights; give 0 or more.")
        class_counts(np.asarray(batch.label).reshape(-1), len(self.counts))  # labels in range

    def _check_counts(self, batch: Batch) -> None:
        seen = class_counts(np.asarray(batch.label)[batch.weight > 0], len(self.counts))
        if np.issubdtype(self.counts.dtype, np.integer) and not np.array_equal(seen, self.counts):
            wrong = int(np.flatnonzero(seen != self.counts)[0])
            raise ValueError(
                f"problem {self.name!r}: counts do not add up: class {wrong} has {seen[wrong]} "
                f"labels, but counts say {self.counts[wrong]}."
            )


def shapes_of(batch: Batch) -> Batch:
    """Shapes and dtypes of a batch, as `Problem.shapes` promises them."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)


def digest_of(batch: Batch | None) -> str:
    """A digest of every byte of a batch, its shapes and its dtypes."""
    digest = hashlib.sha256()
    leaves, tree = jax.tree.flatten(batch)
    digest.update(str(tree).encode())
    for leaf in map(np.ascontiguousarray, leaves):
        digest.update(f"{leaf.dtype.str}{leaf.shape}".encode())
        digest.update(leaf.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _rows(input: Any, label: ArrayLike, weight: ArrayLike | None) -> Batch:
    """A batch of the dtypes that the engine works in: floats are float32, labels int32."""

    def of_device(leaf: ArrayLike) -> np.ndarray:
        leaf = np.asarray(leaf)
        return leaf.astype(np.float32) if np.issubdtype(leaf.dtype, np.floating) else leaf

    label = np.asarray(label)
    weight = np.ones(label.shape) if weight is None else np.asarray(weight)
    if not np.issubdtype(label.dtype, np.integer):
        raise TypeError(f"labels are of dtype {label.dtype}; give integers.")
    if weight.shape != label.shape:
        raise ValueError(
            f"weights have shape {weight.shape}, labels {label.shape}; give one for each label."
        )
    for leaf in jax.tree.leaves(input):
        if len(leaf) != len(label):
            raise ValueError(
                f"an input has {len(leaf)} rows and there are {len(label)} labels; give one row "
                "of labels for each row of the input."
            )
    return Batch(jax.tree.map(of_device, input), label.astype(np.int32), weight.astype(np.float32))
