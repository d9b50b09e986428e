"""Probes: what is measured of every run at chosen steps.

A probe is a function ``(params, batch) -> named arrays`` with the names of their axes; ``batch`` is
the whole training set in microbatches, ``[micro, row, ...]``.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imbalance.analysis import FrequencyBuckets
from imbalance.ondevice import bucket_sums
from imbalance.tasks import Batch, Examples, Params, Task, accumulate


class Probe(NamedTuple):
    """A measurement, and how its arrays are labelled."""

    name: str
    measure: Callable[[Params, Batch], dict[str, jax.Array]]
    dims: Mapping[str, tuple[str, ...]]  # of each array, without seed, rate and step
    coords: Mapping[str, Any] = {}
    stops: tuple[int, ...] | None = None  # None: wherever the sweep stops

    @property
    def step_dim(self) -> str:
        """The sweep's own ``step``, or ``<name>_step`` for a probe with stops of its own."""
        return "step" if self.stops is None else f"{self.name}_step"


@lru_cache  # one function for equal arguments, so that sweeps share its compiled program
def loss_by_bucket(task: Task, buckets: FrequencyBuckets) -> Probe:
    """``loss []``, the mean over all examples, and ``bucket_loss [bucket]`` (section A.2)."""
    bucket_of_class = np.asarray(buckets.bucket_of_class)
    num_buckets = buckets.num_buckets

    def measure(params: Params, batch: Batch) -> dict[str, jax.Array]:
        def sums(microbatch: Batch, _):
            examples = task.per_example(params, microbatch, None)
            bucket = jnp.asarray(bucket_of_class)[examples.label]
            weighted = examples.weight * examples.loss
            return (
                (jnp.sum(weighted), jnp.sum(examples.weight)),
                (
                    bucket_sums(weighted, bucket, num_buckets),
                    bucket_sums(examples.weight, bucket, num_buckets),
                ),
            )

        (loss, weight), (bucket_loss, bucket_weight) = accumulate(sums, batch)
        return {"loss": loss / weight, "bucket_loss": bucket_loss / bucket_weight}

    return Probe("loss_by_bucket", measure, {"loss": (), "bucket_loss": ("bucket",)})


def correct_class_probability(
    task: Task, levels: FrequencyBuckets, quantiles: tuple[float, ...] = (0.05, 0.5, 0.95)
) -> Probe:
    """``probability [level, quantile]``: of the true class, over the examples of each level.

    ``exp(-loss)`` of every example (section G.8); levels group classes of equal frequency.
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


def all_examples(task: Task, params: Params, batch: Batch) -> Examples:
    """The examples of all microbatches at once, ``[example]``, for statistics that need all."""
    found = jax.lax.map(lambda microbatch: task.per_example(params, microbatch, None), batch)
    return jax.tree.map(lambda leaf: leaf.reshape(-1), found)
