"""Linear softmax models on random inputs, and the weighted quadratic."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imbalance.data import linear, zipf
from imbalance.models.linear import SoftmaxLinear
from imbalance.problems.problem import Bucketing, Problem
from imbalance.problems.tasks import Batch, classification, quadratic
from imbalance.theory import zipf_probabilities


def random_linear(
    name: str,
    settings: Mapping[str, Any],
    counts: np.ndarray,
    dimension: int,
    inputs: linear.Distribution = linear.Uniform(),  # noqa: B008 - frozen
    bias_column: bool = False,
    bucketing: Bucketing = 10,
) -> Problem:
    """Softmax regression on random inputs that say nothing of the label.

    Args:
      name: of the problem.
      settings: what `counts` was made from, for the people who read a result.
      counts: examples of each class.
      dimension: of the inputs.
      inputs: distribution of every entry.
      bias_column: append a column of ones to the inputs.
      bucketing: the classes of each bucket.

    Example:
      >>> import numpy as np
      >>> from imbalance import problems
      >>> problem = problems.random_linear("mine", {}, np.array([6, 3, 1]), dimension=20)
      >>> problem.batch(seed=0).input.shape
      (10, 20)
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
        task=classification(partial(SoftmaxLinear, num_inputs, num_classes)),
        counts=counts,
        make_batch=make_batch,
        shapes=Batch(
            struct((num_examples, num_inputs), jnp.float32),
            struct((num_examples,), jnp.int32),
            struct((num_examples,), jnp.float32),
        ),
        data_by_seed=True,
        flops_per_step=4.0 * num_examples * num_inputs * num_classes,
        bucketing=bucketing,
        settings={
            **settings,
            "dimension": dimension,
            "inputs": {type(inputs).__name__.lower(): asdict(inputs)},
            "bias_column": bias_column,
        },
    )


def heavy_tailed_linear(m: int, **options) -> Problem:
    """Random heavy-tailed labels of size m: 2^i classes of 2^(m-i) samples, i < m (Figure 4).

    n = m 2^m samples, c = 2^m - 1 classes (the paper's text says 2^(m+1) - 1, its code 2^m - 1),
    d = (m + 1) 2^m inputs. ``options`` go to `random_linear`.

    Example:
      >>> from imbalance import problems
      >>> problems.heavy_tailed_linear(m=3).counts
      array([8, 4, 4, 2, 2, 2, 2])
    """
    counts = zipf.grouped_counts(m)
    options = {"dimension": (m + 1) * 2**m, **options}
    return random_linear("heavy_tailed_linear", {"m": m}, counts, **options)


def balanced_linear(m: int, **options) -> Problem:
    """A control: the same inputs as size m, with 2^m classes of m samples each.

    Example:
      >>> from imbalance import problems
      >>> problems.balanced_linear(m=3).counts
      array([3, 3, 3, 3, 3, 3, 3, 3])
    """
    counts = zipf.uniform_counts(m * 2**m, 2**m)
    options = {"dimension": (m + 1) * 2**m, **options}
    return random_linear("balanced_linear", {"m": m}, counts, **options)


def power_law_linear(m: int, exponent: float, **options) -> Problem:
    """Sizes n, c, d of size m, with class counts ``n_k ∝ k^-exponent``.

    Example:
      >>> from imbalance import problems
      >>> problems.power_law_linear(m=3, exponent=1.0).counts
      array([9, 5, 3, 2, 2, 2, 1])
    """
    counts = zipf.power_law_counts(m * 2**m, 2**m - 1, exponent)
    options = {"dimension": (m + 1) * 2**m, **options}
    settings = {"m": m, "exponent": exponent}
    return random_linear("power_law_linear", settings, counts, **options)


def simple_imbalanced(probability: np.ndarray) -> Problem:
    """The setting of Theorem 3: one input ``e_k`` a class, of weight π_k, and ``W(0) = 0``.

    Args:
      probability: π ``[class]``, float64, sum 1.

    Example:
      >>> import numpy as np
      >>> from imbalance import problems
      >>> problems.simple_imbalanced(np.array([0.5, 0.3, 0.2])).num_rows
      3
    """
    num_classes = len(probability)
    model = partial(SoftmaxLinear, num_classes, num_classes, theoretical=True)
    return Problem.from_arrays(
        "simple_imbalanced",
        classification(model),
        np.eye(num_classes, dtype=np.float32),
        np.arange(num_classes),
        probability,
        counts=probability,
        flops_per_step=4.0 * num_classes**3,
        settings={"num_classes": num_classes},
    )


def weighted_quadratic(num_classes: int = 1000) -> Problem:
    """``½ Σ π_k w_k²`` with ``π_k ∝ 1/k`` (Section 3.1, Figure 6).

    Example:
      >>> from imbalance import problems
      >>> problems.weighted_quadratic(4).counts.round(2)
      array([0.48, 0.24, 0.16, 0.12])
    """
    probability = zipf_probabilities(num_classes)
    return Problem.from_arrays(
        "weighted_quadratic",
        quadratic(num_classes),
        None,
        np.arange(num_classes),
        probability,
        counts=probability,
        flops_per_step=10.0 * num_classes,
        settings={"num_classes": num_classes},
    )
