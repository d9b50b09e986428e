"""Twins of the analyzers in `imbalance.analysis` that run inside ``jit``."""

import jax
import jax.numpy as jnp


def bucket_sums(values: jax.Array, bucket: jax.Array, num_buckets: int) -> jax.Array:
    """Sum of ``values [example]`` over the examples of each bucket, float32 ``[bucket]``.

    Examples whose bucket is -1 belong to none and are left out.
    """
    # segment_sum would wrap -1 around to the last segment, so give it a segment of its own.
    segment = jnp.where(bucket < 0, num_buckets, bucket)
    return jax.ops.segment_sum(values.astype(jnp.float32), segment, num_buckets + 1)[:-1]
