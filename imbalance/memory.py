"""Memory: how many runs of a sweep fit one program on this device."""

import math
import os
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from imbalance.engine import Data, advance, start
from imbalance.sweep import Sweep

USABLE_MEMORY = 0.9  # share of the device's memory a sweep may plan with


def device_memory() -> int:
    """Bytes the default device offers; of a CPU, the machine's memory."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_needed(sweep: Sweep, optimizer: str, num_seeds: int, num_rates: int) -> int:
    """Bytes one program needs: data, states and working memory, as the compiler plans them.

    The compiled program is kept, so that running it afterwards compiles nothing again.
    """
    engine = sweep.engine(optimizer, num_seeds)
    each = sweep.microbatch_rows

    def cut(leaf):
        rows = (-(-leaf.shape[0] // each), each, *leaf.shape[1:])
        seeds = (num_seeds,) if sweep.stacks_data(num_seeds) else ()
        return jax.ShapeDtypeStruct((*seeds, *rows), leaf.dtype)

    data = Data(jax.tree.map(cut, sweep.problem.shapes), sweep.problem.num_rows)
    keys = jax.eval_shape(lambda: jax.vmap(jax.random.key)(jnp.arange(num_seeds)))
    rates = jax.ShapeDtypeStruct((num_rates,), jnp.float32)
    state = jax.eval_shape(partial(start, engine), keys, rates)
    compiled = advance.lower(engine, state, data, sweep.objective(), 1).compile()
    plan = compiled.memory_analysis()
    assert plan is not None, "every backend of JAX that we know has a memory analysis"
    return (
        plan.argument_size_in_bytes
        + plan.output_size_in_bytes
        - plan.alias_size_in_bytes
        + plan.temp_size_in_bytes
    )


@dataclass(frozen=True)
class Fit:
    """How a sweep of one optimizer is laid onto the device."""

    seeds: int  # that share a program
    rates: int  # that share a program
    bytes: int  # the program needs
    device_bytes: int  # the device has


def fit(sweep: Sweep, optimizer: str, num_seeds: int) -> Fit:
    """The most runs that fit one program, or ``sweep.chunk`` of them.

    On a CPU seeds run one after another: one seed's runs already fill the machine, and fewer runs
    stay in its caches.

    Raises:
      MemoryError: if not even one run fits; it says how much one needs.
    """
    num_rates = len(sweep.learning_rates[optimizer])
    available = device_memory()
    need = partial(memory_needed, sweep, optimizer)
    if sweep.chunk:
        rates = min(sweep.chunk, num_rates)
        seeds = max(1, min(num_seeds, sweep.chunk // num_rates))
    else:
        rates, seeds = num_rates, (1 if jax.default_backend() == "cpu" else num_seeds)
    bytes_needed = need(seeds, rates)
    limit = USABLE_MEMORY * available
    if bytes_needed > limit and seeds > 1:
        seeds, bytes_needed = 1, need(1, rates)
    if bytes_needed > limit and rates > 1:
        one = need(1, 1)
        per_run = (bytes_needed - one) / (rates - 1)
        rates = max(1, 1 + int((limit - one) / per_run))
        parts = math.ceil(num_rates / rates)
        rates = math.ceil(num_rates / parts)  # even parts
        bytes_needed = need(1, rates)
        while bytes_needed > limit and rates > 1:  # memory need not grow evenly
            parts += 1
            rates = math.ceil(num_rates / parts)
            bytes_needed = need(1, rates)
    if bytes_needed > limit:
        raise MemoryError(
            f"{sweep.problem.name} {dict(sweep.problem.settings)}: {rates} run(s) of {optimizer!r} "
            f"need {bytes_needed / 2**30:.2f} GiB; {jax.devices()[0].device_kind} has "
            f"{available / 2**30:.2f} GiB, of which {USABLE_MEMORY:.0%} may be used. "
            "Choose a smaller --scale, more microbatches, or a larger device."
        )
    return Fit(seeds, rates, bytes_needed, available)
