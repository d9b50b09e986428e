"""Probes: what is measured of every run at chosen steps.

A probe is a function ``(params, batch) -> named arrays`` with the names of their axes; ``batch`` is
the whole training set in microbatches, ``[micro, row, ...]``, or what else the sweep measures on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imbalance.analysis import FrequencyBuckets
from imbalance.curvature.class_blocks import class_blocks, class_variances, hessian_blocks
from imbalance.curvature.operators import Operator, spectrum
from imbalance.ondevice import LossByClass
from imbalance.problems.tasks import Batch, Examples, Head, Params, Task, accumulate


@dataclass(frozen=True)
class Probe:
    """A measurement, and how its arrays are labelled."""

    name: str
    measure: Callable[[Params, Batch], dict[str, jax.Array]]
    dims: Mapping[str, tuple[str, ...]]  # of each array, without seed, rate and step
    coords: Mapping[str, Any] = field(default_factory=dict)
    stops: tuple[int, ...] | None = None  # None: wherever the sweep stops
    validation: bool = False  # measured on the validation set

    @property
    def step_dim(self) -> str:
        """The sweep's own ``step``, or ``<name>_step`` for a probe with stops of its own."""
        return "step" if self.stops is None else f"{self.name}_step"


def loss_by_bucket(task: Task, buckets: FrequencyBuckets) -> Probe:
    """``loss []``, the mean over all examples, and ``bucket_loss [bucket]``."""
    bucket_of_class = np.asarray(buckets.bucket_of_class)

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        loss, bucket_loss = _losses(task, params, batch, buckets.num_buckets, bucket_of_class)
        return {"loss": loss, "bucket_loss": bucket_loss}

    return Probe("loss_by_bucket", measure, {"loss": (), "bucket_loss": ("bucket",)})


def loss_by_class(task: Task, num_classes: int) -> Probe:
    """``class_loss [class]``: mean over the examples of each class, NaN where there is none."""

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        return {"class_loss": _losses(task, params, batch, num_classes)[1]}

    return Probe("loss_by_class", measure, {"class_loss": ("class",)})


def validation_loss_by_bucket(task: Task, buckets: FrequencyBuckets) -> Probe:
    """As `loss_by_bucket` on the validation set: ``validation_loss`` and its buckets' losses.

    Args:
      task: of the problem.
      buckets: of the validation set's own counts, as the paper has them.
    """
    on_training = loss_by_bucket(task, buckets)

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        found = on_training.measure(params, batch)
        return {f"validation_{name}": value for name, value in found.items()}

    dims = {"validation_loss": (), "validation_bucket_loss": ("validation_bucket",)}
    coords = {"validation_bucket": np.arange(buckets.num_buckets)}
    return Probe("validation_loss_by_bucket", measure, dims, coords, validation=True)


def correct_class_probability(
    task: Task, levels: FrequencyBuckets, quantiles: tuple[float, ...] = (0.05, 0.5, 0.95)
) -> Probe:
    """``probability [level, quantile]``: of the true class, over the examples of each level.

    ``exp(-loss)`` of every example; levels group classes of equal frequency.
    """
    level_of_class = np.asarray(levels.bucket_of_class)

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        examples = all_examples(task, params, batch)
        level = jnp.asarray(level_of_class)[examples.label]
        inside = level[None] == jnp.arange(levels.num_buckets)[:, None]
        probability = jnp.where(
            inside & (examples.weight > 0)[None], jnp.exp(-examples.loss)[None], jnp.nan
        )
        found = jnp.nanquantile(probability, jnp.asarray(quantiles), axis=1)  # [quantile, level]
        return {"probability": found.T}

    return Probe(
        "probability",
        measure,
        {"probability": ("level", "quantile")},
        {"quantile": list(quantiles), "level": np.arange(levels.num_buckets)},
    )


def class_statistics(task: Task) -> Probe:
    """Gradient norm and Hessian trace of every class in the model's linear softmax layer.

    ``gradient_norm``, ``hessian_trace`` and the ``authors_statistic``, each ``[class]``; and
    the same at ``(-W, -b)``, where the data and all else are as they were, as ``flipped_...``.

    Raises:
      ValueError: if the task does not end in such a layer.
    """
    head = _head_of(task)

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        def sums(rows: Batch, _):
            here = head(params, rows)
            bias = None if here.bias is None else -here.bias
            there = here._replace(weight=-here.weight, bias=bias)
            return tuple(
                class_blocks(one, rows.label.ravel(), rows.weight.ravel()) for one in (here, there)
            )

        found = {}
        for prefix, total in zip(("", "flipped_"), accumulate(sums, batch), strict=True):
            blocks = total.mean()
            found[f"{prefix}gradient_norm"] = blocks.gradient_norm
            found[f"{prefix}hessian_trace"] = blocks.trace
            found[f"{prefix}authors_statistic"] = blocks.authors_statistic
        return found

    names = ("gradient_norm", "hessian_trace", "authors_statistic")
    dims = {f"{prefix}{name}": ("class",) for prefix in ("", "flipped_") for name in names}
    return Probe("class_statistics", measure, dims)


def block_traces(task: Task, classes: tuple[int, ...]) -> Probe:
    """``block_trace [block_row, block_column]``: traces of Hessian blocks of some classes.

    Raises:
      ValueError: if the task does not end in a linear softmax layer.
    """
    head = _head_of(task)
    chosen = np.asarray(classes)

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        def sums(rows: Batch, _):
            return class_blocks(
                head(params, rows), rows.label.ravel(), rows.weight.ravel(), among=chosen
            )

        return {"block_trace": accumulate(sums, batch).mean().block_trace}

    dims = {"block_trace": ("block_row", "block_column")}
    return Probe("block_traces", measure, dims, {"block_row": chosen, "block_column": chosen})


def hessian_entries(
    task: Task, name: str, classes: tuple[int, ...], coordinates: tuple[int, ...]
) -> Probe:
    """``entry_<name> [row, column]``: the Hessian in some coordinates of some classes' rows.

    Both axes run over classes, and within a class over coordinates.

    Raises:
      ValueError: if the task does not end in a linear softmax layer.
    """
    head = _head_of(task)
    chosen, inside = np.asarray(classes), np.asarray(coordinates)
    pair_rows, pair_columns = np.repeat(chosen, len(chosen)), np.tile(chosen, len(chosen))

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        def sums(rows: Batch, _):
            here = head(params, rows)
            return hessian_blocks(
                here, pair_rows, pair_columns, rows.weight.ravel(), coordinates=inside
            )

        blocks = (
            accumulate(sums, batch).mean().reshape(len(chosen), len(chosen), *[len(inside)] * 2)
        )
        side = len(chosen) * len(inside)
        return {f"entry_{name}": jnp.swapaxes(blocks, 1, 2).reshape(side, side)}

    dims = (f"{name}_row", f"{name}_column")
    coords = {dim: np.repeat(chosen, len(inside)) for dim in dims}
    return Probe(f"hessian_entries_{name}", measure, {f"entry_{name}": dims}, coords)


def block_spectra(
    task: Task, classes: tuple[int, ...], *, steps: int = 60, starts: int = 4
) -> Probe:
    """Spectra of the diagonal Hessian blocks of some classes, by Lanczos quadrature.

    As arXiv 2402.16788 has it. ``ritz_value`` and ``ritz_weight``, each ``[block, start,
    lanczos]``, are those of `curvature.operators.Spectrum`. Needs ``p (1 - p)`` of the chosen
    classes for all examples at once.

    Raises:
      ValueError: if the task does not end in a linear softmax layer.
    """
    head = _head_of(task)
    chosen = np.asarray(classes)

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        total = jnp.sum(batch.weight)

        def scale(rows: Batch):
            return class_variances(head(params, rows), chosen) * rows.weight.ravel()[None] / total

        scales = jax.lax.map(scale, batch)  # [micro, chosen, row]
        first = head(params, jax.tree.map(lambda leaf: leaf[0], batch)).features

        def of_block(k: jax.Array):
            def product(v: jax.Array):
                def part(rows: Batch, micro: jax.Array):
                    x = head(params, rows).features
                    return (scales[micro, k] * (x @ v)) @ x

                return accumulate(part, batch)

            operator = Operator(product, first[0])
            return spectrum(operator, jax.random.fold_in(jax.random.key(0), k), steps, starts)

        found = jax.lax.map(of_block, jnp.arange(len(chosen)))
        return {"ritz_value": found.node, "ritz_weight": found.weight}

    dims = ("block", "start", "lanczos")
    return Probe(
        "block_spectra",
        measure,
        {"ritz_value": dims, "ritz_weight": dims},
        {"block": chosen},
    )


def _losses(
    task: Task,
    params: Params,
    batch: Batch,
    num_groups: int,
    group_of_class: np.ndarray | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Mean loss of all examples ``[]`` and of each group of classes ``[group]``, as `LossByClass`.

    A mean over a loss that is not finite is NaN. Groups are the classes if none are given.
    """

    def add(sums: LossByClass, rows: Batch) -> tuple[LossByClass, None]:
        examples = task.per_example(params, rows, None)
        group = examples.label
        if group_of_class is not None:
            group = jnp.asarray(group_of_class)[group]
        group = jnp.where(group < 0, num_groups, group)  # in no bucket, and in the overall mean
        return sums.update(examples.loss, group, examples.weight), None

    sums, _ = jax.lax.scan(add, LossByClass.create(num_groups + 1), batch)
    overall = jnp.where(jnp.any(sums.diverged > 0), jnp.nan, sums.overall)
    return overall, jnp.where(sums.diverged > 0, jnp.nan, sums.mean)[:num_groups]


def _head_of(task: Task) -> Callable[[Params, Batch], Head]:
    if task.head is None:
        raise ValueError(
            "this task does not say where its linear softmax layer is: give its model a method "
            "head(inputs) -> (features, weight, bias), or use imbalance.curvature for any loss."
        )
    return task.head


def all_examples(task: Task, params: Params, batch: Batch) -> Examples:
    """The examples of all microbatches at once, ``[example]``, for statistics that need all."""
    found = jax.lax.map(lambda microbatch: task.per_example(params, microbatch, None), batch)
    return jax.tree.map(lambda leaf: leaf.reshape(-1), found)
