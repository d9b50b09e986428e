"""Statistics of all classes of a linear softmax layer, beside a step of training it.

By turns in one process, on random heavy-tailed labels of size m; numbers are medians with
[smallest, largest], ratios those of neighbours in time.

- *gradients and traces*: of every row of the weight, and of all Hessian blocks. Target: the time of
  2 training steps or less.
- *with diagonals*: those of all diagonal blocks too.
- *norms of single classes*: gradients to the whole weight of the losses of one class each.
- *a loop over classes*: gradient and row of traces of one class in each call, which either finds
  probabilities anew or is given them; timed on some classes, and extrapolated to all.

Run:     python benchmarks/speed_class_blocks.py     (half a minute on two cores)
Writes:  a section of benchmarks/RESULTS.md, with --write
"""

import os
import shlex
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import tyro
from report import by_turns, neighbours, quotients, spread, table, write_section

from imbalance.curvature.class_blocks import class_blocks, class_gradient_norms
from imbalance.problems import heavy_tailed_linear
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Head, accumulate
from imbalance.training import engine
from imbalance.training.engine import Engine, microbatched
from imbalance.training.optimizers import OPTIMIZERS

start = jax.jit(engine.start, static_argnums=0)
advance = jax.jit(engine.advance, static_argnums=0, donate_argnums=1)


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    m: int = 8
    microbatches: int = 1
    steps: int = 5
    """Of training, in one turn."""
    looped: int = 8
    """Classes that the loops are timed on."""
    repeats: int = 7
    write: bool = False
    """Write the section of RESULTS.md."""


def main(settings: Settings) -> None:
    problem = heavy_tailed_linear(settings.m)
    task, num_classes, head_of = problem.task, len(problem.counts), problem.task.head
    assert head_of is not None
    data = jax.device_put(microbatched(problem.batch(0), settings.microbatches))
    adam = Engine(task, OPTIMIZERS["adam"].rule)
    state = start(adam, jax.random.key(0), jnp.array([1e-3]))
    params = jax.tree.map(lambda leaf: leaf[0], state.params)

    def train():
        nonlocal state
        state, losses = advance(adam, state, data, Objective(), settings.steps)
        return losses

    def statistics(diagonal: bool):
        def measure(params, batch):
            def sums(rows, _):
                head, among = head_of(params, rows), jnp.arange(num_classes)
                return class_blocks(head, rows.label, rows.weight, diagonal=diagonal, among=among)

            found = accumulate(sums, batch).mean()
            return found, found.gradient_norm

        program = jax.jit(measure)
        return lambda: program(params, data.batch)

    whole = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), data.batch)
    head, label = head_of(params, whole), whole.label
    norms = jax.jit(class_gradient_norms)

    def probabilities(head: Head):
        assert head.bias is not None
        return jax.nn.softmax(head.weight @ head.features.T + head.bias[:, None], 0)

    def one_class(p, head: Head, label, k):
        error = p[k] - (label == k)
        scale = p[k][None] * ((jnp.arange(num_classes) == k)[:, None] - p)
        return error @ head.features / label.size, scale @ jnp.sum(head.features**2, 1) / label.size

    anew = jax.jit(lambda head, *rest: one_class(probabilities(head), head, *rest))
    given, p, classes = jax.jit(one_class), jax.jit(probabilities)(head), range(settings.looped)
    of = f", extrapolated from {settings.looped} classes"
    sides = {
        "a step of training": train,
        "gradients and traces": statistics(False),
        "with diagonals": statistics(True),
        "norms of single classes": lambda: norms(head, label),
        f"loop, probabilities anew{of}": lambda: [anew(head, label, k) for k in classes],
        f"loop, probabilities given{of}": lambda: [given(p, head, label, k) for k in classes],
    }
    factors = [1 / settings.steps, 1, 1, 1, *[num_classes / settings.looped] * 2]
    with neighbours() as others:
        took = by_turns(list(sides.values()), settings.repeats)
    took = [[k * t for t in times] for times, k in zip(took, factors, strict=True)]
    rows = [
        [name, spread([1e3 * t for t in times], 1), spread(quotients(times, took[0]))]
        for name, times in zip(sides, took, strict=True)
    ]
    command = shlex.join(["python", "benchmarks/speed_class_blocks.py", *sys.argv[1:]])
    intro = (
        f"`{command}` on {os.cpu_count()} cores, {jax.devices()[0].device_kind}; jax "
        f"{jax.__version__}; m = {settings.m}; others' share {others[0]:.0%}."
    )
    measured = table(["what", "ms", "training steps"], rows)
    print(intro, measured, sep="\n\n")
    if settings.write:
        write_section(f"Class blocks, {jax.default_backend()}", f"{intro}\n\n{measured}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
