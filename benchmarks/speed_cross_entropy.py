"""Chunked cross-entropy beside optax on the logits of all examples: time and memory.

- *Time*: the mean loss alone, and with its gradient to hidden states and weights; both sides in one
  process, by turns. A ratio is the median of ratios between neighbours in time. The gradient takes
  four matrix products instead of three. Target: 1.3 or less.
- *Memory*: temporary memory of the compiled gradient, without arguments and results, over a chunk's
  own need: that of optax on as many examples as one chunk has. Target: 1.25 or less.

Run:     python benchmarks/speed_cross_entropy.py     (under two minutes on two cores)
Writes:  a section of benchmarks/RESULTS.md, with --write
"""

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from report import by_turns, neighbours, quotients, spread, table, write_section

from imbalance.ondevice.cross_entropy import chunked_cross_entropy


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    sizes: tuple[tuple[int, int, int], ...] = (
        (4096, 10_000, 64),
        (4096, 10_000, 256),
        (4096, 50_000, 64),
        (4096, 50_000, 256),
    )
    """Examples, classes and features whose time is measured."""
    repeats: int = 3
    memory_classes: int = 2**18
    memory_features: tuple[int, ...] = (64, 128)
    write: bool = False
    """Write the section of RESULTS.md."""


def plain(hidden: jax.Array, weight: jax.Array, label: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ weight.T, label).mean()


def chunked(hidden: jax.Array, weight: jax.Array, label: jax.Array) -> jax.Array:
    return chunked_cross_entropy(hidden, weight, label).mean()


def with_gradient(function: Callable) -> Callable:
    return jax.value_and_grad(function, (0, 1))


def compiled(function: Callable, num_examples: int, num_classes: int, num_features: int):
    """The program for float32."""
    floats = (num_examples, num_features), (num_classes, num_features)
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in floats]
    return jax.jit(function).lower(*shapes, jax.ShapeDtypeStruct((num_examples,), int)).compile()


def times(size: tuple[int, int, int], repeats: int) -> list[str]:
    num_examples, num_classes, num_features = size
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(num_examples, num_features)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=(num_classes, num_features)) / 10, jnp.float32)
    label = jnp.asarray(rng.integers(0, num_classes, num_examples))
    functions = plain, chunked, with_gradient(plain), with_gradient(chunked)
    programs = [compiled(function, *size) for function in functions]
    sides = [lambda program=program: program(hidden, weight, label) for program in programs]
    with neighbours() as others:
        took = by_turns(sides, repeats)
    cells = [f"{number:,}" for number in size]
    for old, new in (took[:2], took[2:]):
        cells += [f"{np.median(old):.2f}", f"{np.median(new):.2f}", spread(quotients(new, old))]
    return [*cells, f"{others[0]:.0%}"]


def memory(num_classes: int, num_features: int) -> list[str]:
    def temporary(function: Callable, num_examples: int) -> float:
        program = compiled(with_gradient(function), num_examples, num_classes, num_features)
        found = program.memory_analysis()
        return float("nan") if found is None else found.temp_size_in_bytes / 2**20

    # At so many classes the default chunk has as many examples as there are features.
    ours, one_chunk, all_at_once = (
        temporary(function, count)
        for function, count in ((chunked, 4096), (plain, num_features), (plain, 4096))
    )
    found = f"{ours:.0f}", f"{one_chunk:.0f}", f"{ours / one_chunk:.2f}", f"{all_at_once:.0f}"
    return [f"{num_classes:,}", str(num_features), *found]


def main(settings: Settings) -> None:
    command = shlex.join(["python", "benchmarks/speed_cross_entropy.py", *sys.argv[1:]])
    kind = jax.devices()[0].device_kind
    intro = f"`{command}` on {os.cpu_count()} cores, {kind}; jax {jax.__version__}."
    rows = [memory(settings.memory_classes, width) for width in settings.memory_features]
    need = table(
        ["classes", "features", "chunked, MiB", "a chunk's need", "ratio", "optax, all examples"],
        rows,
    )
    print(intro, need, sep="\n\n", flush=True)
    head = ["examples", "classes", "features", "optax, s", "chunked", "ratio"]
    head += ["gradient: optax, s", "chunked", "ratio", "others' share"]
    speed = table(head, [times(size, settings.repeats) for size in settings.sizes])
    print("", speed, sep="\n")
    if settings.write:
        title = f"Chunked cross-entropy, {jax.default_backend()}"
        write_section(title, "\n\n".join([intro, need, speed]))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
