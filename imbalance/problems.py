"""Problems: a task with its data and class counts, by name."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imbalance.analysis import FrequencyBuckets, class_counts
from imbalance.data import linear, zipf
from imbalance.models.linear import SoftmaxLinear
from imbalance.tasks import Batch, Task, classification, quadratic
from imbalance.theory import zipf_probabilities


@dataclass(frozen=True, eq=False)
class Problem:
    """What is learned from what.

    Attributes:
      name: in results and messages.
      settings: the numbers that define the data, as JSON-able values: two problems with equal name
        and settings are the same problem.
      task: how parameters start and what an example's loss is.
      counts: examples of each class, int64 ``[class]``; for the quadratic, class probabilities.
      make_batch: seed -> all rows of the training set, as NumPy arrays.
      shapes: shapes and dtypes of that batch, known without making it.
      data_by_seed: whether the seed changes the data or only the start.
      flops_per_step: useful floating-point operations of a step of one run on all rows, to estimate
        time with.
      num_buckets: how many frequency buckets of equal mass losses are reported in; None is one
        bucket for each distinct class count, the levels of the grouped distribution.
      bucket_thresholds: instead, buckets by least count, as `FrequencyBuckets.thresholds` has them.
      make_validation: seed -> all rows of the validation set, where there is one.
    """

    name: str
    settings: Mapping[str, Any]
    task: Task
    counts: np.ndarray
    make_batch: Callable[[int], Batch]
    shapes: Batch
    data_by_seed: bool
    flops_per_step: float
    num_buckets: int | None = 10
    bucket_thresholds: tuple[int, ...] | None = None
    make_validation: Callable[[int], Batch] | None = None

    @property
    def num_rows(self) -> int:
        """Rows of the training set."""
        return self.shapes.weight.shape[0]

    @cached_property
    def buckets(self) -> FrequencyBuckets:
        """Classes by frequency."""
        if self.bucket_thresholds is not None:
            return FrequencyBuckets.thresholds(self.counts, self.bucket_thresholds)
        if self.num_buckets is None:
            return FrequencyBuckets.levels(self.counts)
        if np.issubdtype(self.counts.dtype, np.integer):
            return FrequencyBuckets.from_counts(self.counts, self.num_buckets)
        return FrequencyBuckets.from_masses(self.counts, self.num_buckets)

    @cached_property
    def validation_buckets(self) -> FrequencyBuckets:
        """Classes by frequency in the validation set, in as many buckets of equal mass (A.2).

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


@lru_cache  # equal sizes share one task, and with it the compiled programs
def _linear_task(num_inputs: int, num_classes: int, theoretical: bool = False) -> Task:
    def build(rngs):
        return SoftmaxLinear(num_inputs, num_classes, theoretical=theoretical, rngs=rngs)

    return classification(build)


def random_linear(
    name: str,
    settings: Mapping[str, Any],
    counts: np.ndarray,
    dimension: int,
    inputs: linear.Distribution = linear.Uniform(),  # noqa: B008 - frozen
    bias_column: bool = False,
    num_buckets: int | None = 10,
) -> Problem:
    """Softmax regression on random inputs that say nothing of the label (section A.1).

    Args:
      name: of the problem.
      settings: what `counts` was made from.
      counts: examples of each class.
      dimension: of the inputs.
      inputs: distribution of every entry.
      bias_column: append a column of ones to the inputs.
      num_buckets: as `Problem.num_buckets`.
    """
    num_inputs = dimension + bias_column
    num_examples, num_classes = int(counts.sum()), len(counts)
    labels = zipf.labels_from_counts(counts)

    def make_batch(seed: int) -> Batch:
        values = linear.random_inputs(inputs, num_examples, dimension, seed, bias_column)
        return Batch(values, labels, np.ones(num_examples, np.float32))

    struct = jax.ShapeDtypeStruct
    return Problem(
        name=name,
        settings={
            **settings,
            "dimension": dimension,
            "inputs": {type(inputs).__name__.lower(): asdict(inputs)},
            "bias_column": bias_column,
        },
        task=_linear_task(num_inputs, num_classes),
        counts=counts,
        make_batch=make_batch,
        shapes=Batch(
            struct((num_examples, num_inputs), jnp.float32),
            struct((num_examples,), jnp.int32),
            struct((num_examples,), jnp.float32),
        ),
        data_by_seed=True,
        flops_per_step=4.0 * num_examples * num_inputs * num_classes,
        num_buckets=num_buckets,
    )


def heavy_tailed_linear(m: int, **options) -> Problem:
    """Random heavy-tailed labels of size m: 2^i classes of 2^(m-i) samples, i < m (section A.1).

    n = m 2^m samples, c = 2^m - 1 classes (erratum E1: the paper's text says 2^(m+1) - 1),
    d = (m + 1) 2^m inputs. ``options`` go to `random_linear`.
    """
    counts = zipf.grouped_counts(m)
    options = {"dimension": (m + 1) * 2**m, **options}
    return random_linear("heavy_tailed_linear", {"m": m}, counts, **options)


def balanced_linear(m: int, **options) -> Problem:
    """The control of section E.4: the same inputs as size m, with 2^m classes of m samples each."""
    counts = zipf.uniform_counts(m * 2**m, 2**m)
    options = {"dimension": (m + 1) * 2**m, **options}
    return random_linear("balanced_linear", {"m": m}, counts, **options)


def power_law_linear(m: int, exponent: float, **options) -> Problem:
    """Sizes n, c, d of size m, with class counts ``n_k ∝ k^-exponent`` (section E.4)."""
    counts = zipf.power_law_counts(m * 2**m, 2**m - 1, exponent)
    options = {"dimension": (m + 1) * 2**m, **options}
    settings = {"m": m, "exponent": exponent}
    return random_linear("power_law_linear", settings, counts, **options)


def simple_imbalanced(probability: np.ndarray) -> Problem:
    """The setting of Theorem 3 (F.6): one input ``e_k`` a class, of weight π_k, and ``W(0) = 0``.

    Args:
      probability: π ``[class]``, float64, sum 1.
    """
    num_classes = len(probability)
    labels = np.arange(num_classes, dtype=np.int32)
    inputs = np.eye(num_classes, dtype=np.float32)
    struct = jax.ShapeDtypeStruct
    return Problem(
        name="simple_imbalanced",
        settings={"probability": probability.tolist()},
        task=_linear_task(num_classes, num_classes, theoretical=True),
        counts=probability,
        make_batch=lambda seed: Batch(inputs, labels, probability.astype(np.float32)),
        shapes=Batch(
            struct(inputs.shape, jnp.float32),
            struct((num_classes,), jnp.int32),
            struct((num_classes,), jnp.float32),
        ),
        data_by_seed=False,
        flops_per_step=4.0 * num_classes**3,
    )


def weighted_quadratic(num_classes: int = 1000) -> Problem:
    """``½ Σ π_k w_k²`` with ``π_k ∝ 1/k`` (section 3.1, Figure 6)."""
    probability = zipf_probabilities(num_classes)
    labels = np.arange(num_classes, dtype=np.int32)
    struct = jax.ShapeDtypeStruct
    return Problem(
        name="weighted_quadratic",
        settings={"num_classes": num_classes},
        task=_quadratic_task(num_classes),
        counts=probability,
        make_batch=lambda seed: Batch(None, labels, probability.astype(np.float32)),
        shapes=Batch(None, struct((num_classes,), jnp.int32), struct((num_classes,), jnp.float32)),
        data_by_seed=False,
        flops_per_step=10.0 * num_classes,
    )


@lru_cache
def _quadratic_task(num_classes: int) -> Task:
    return quadratic(num_classes)
