"""What it costs to watch the rare classes: LossByClass on the host and on the device.

- *Host*: tokens a second of `LossByClass.update` on one core, all checks included, beside the bare
  `np.bincount` calls that any such sum needs. Target: 10 million.
- *Device*: `ondevice.LossByClass.update` beside the forward pass, losses included, of a small
  transformer (two post-norm blocks of width 200, as the paper's on PTB) at 50,000 classes. Target:
  under 5 %.
- *Accuracy*: 10^8 bfloat16 losses on the device, against float64.

Everything is measured in one process, by turns; medians with [smallest, largest].

Run:     python benchmarks/speed_analyzers.py --write     (about two minutes on two cores)
Writes:  a section of benchmarks/RESULTS.md, with --write
"""

import os
import shlex
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import tyro
from flax import nnx
from report import by_turns, neighbours, quotients, spread, table, write_section

from imbalance import LossByClass, ondevice
from imbalance.data.zipf import labels_from_counts, power_law_counts


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    num_classes: int = 50_000
    width: int = 200
    """Of the transformer."""
    batch: tuple[int, int] = (16, 128)
    """Sequences and their length."""
    host_tokens: int = 1_000_000
    """Tokens of an update on the host."""
    repeats: int = 9
    accuracy_batches: int = 1526
    """Updates of 65,536 losses; 0 leaves them out."""
    write: bool = False
    """Write the section of RESULTS.md."""


def zipf_labels(number: int, num_classes: int) -> np.ndarray:
    """Labels of a Zipf law over the classes, shuffled."""
    counts = power_law_counts(max(number, num_classes), num_classes, 1.0)
    return np.random.default_rng(0).permutation(labels_from_counts(counts))[:number]


def host(settings: Settings) -> str:
    """Tokens a second, for several kinds of arrays."""
    number, num_classes = settings.host_tokens, settings.num_classes
    rng = np.random.default_rng(1)
    label = zipf_labels(number, num_classes)
    loss = rng.exponential(5, number).astype(np.float32)
    weight = rng.choice(np.array([0, 1, 2], np.float32), number)
    padded = np.where(rng.random(number) < 0.1, -100, label)
    wide = label.astype(np.int64)
    bare = lambda: [np.bincount(wide, v, num_classes) for v in (None, loss, loss * loss)]  # noqa: E731
    cases = {
        "float32 losses": (loss, label, None),
        "bfloat16 losses": (loss.astype(ml_dtypes.bfloat16), label, None),
        "10 % ignored": (loss, padded, None),
        "weights, a third 0": (loss, label, weight),
    }
    rows = []
    for name, batch in cases.items():
        losses = LossByClass(num_classes, ignore_index=-100)
        ours, bincount = by_turns([lambda b=batch: losses.update(*b), bare], settings.repeats)  # noqa: B023
        speed = [number / seconds / 1e6 for seconds in ours]
        rows.append([name, spread(speed, 1), spread(quotients(ours, bincount))])
    return f"**Host**, one core: {number} tokens an update, {num_classes} classes.\n\n" + table(
        ["batch", "million tokens a second", "time / three bare bincounts"], rows
    )


class Block(nnx.Module):
    """A post-norm block."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
        self.up, self.down = (nnx.Linear(width, width, rngs=rngs) for _ in range(2))
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        mask = nnx.make_causal_mask(jnp.ones(x.shape[:2]))
        x = self.norms[0](x + self.attention(x, mask=mask))
        return self.norms[1](x + self.down(nnx.relu(self.up(x))))


class Transformer(nnx.Module):
    """Two blocks between an embedding and an output layer."""

    def __init__(self, num_classes: int, width: int, rngs: nnx.Rngs):
        self.embed = nnx.Embed(num_classes, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(2)])
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, token: jax.Array) -> jax.Array:
        x = self.embed(token)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def device(settings: Settings) -> str:
    """The update beside the forward pass that makes its losses."""
    sequences, length = settings.batch
    number = sequences * length
    token = jnp.asarray(zipf_labels(number, settings.num_classes)).reshape(settings.batch)
    label = jnp.roll(token, -1, axis=1)
    graph, params = nnx.split(Transformer(settings.num_classes, settings.width, nnx.Rngs(0)))

    @jax.jit
    def forward(params, token, label):
        logits = nnx.merge(graph, params)(token)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label)

    update = jax.jit(lambda losses, *batch: losses.update(*batch))
    losses = ondevice.LossByClass.create(settings.num_classes)
    loss = forward(params, token, label)
    mask = (label > 5).astype(jnp.float32)
    sides = [
        lambda: forward(params, token, label),
        lambda: update(losses, loss, label),
        lambda: update(losses, loss, label, mask),
    ]
    times = by_turns(sides, settings.repeats)
    names = ("forward pass", "update", "update with weights")
    rows = [
        [
            name,
            spread([1e3 * t for t in side], 1),
            spread([100 * q for q in quotients(side, times[0])], 1),
        ]
        for name, side in zip(names, times, strict=True)
    ]
    return (
        f"**Device** ({jax.devices()[0].device_kind}): {sequences} x {length} tokens, "
        f"{settings.num_classes} classes, width {settings.width}.\n\n"
        + table(["", "ms", "% of the forward pass"], rows)
    )


def accuracy(settings: Settings) -> str:
    """Largest relative error of a mean, float32 sums beside ours, over a long bfloat16 stream."""
    size, num_classes = 2**16, 1000
    rng = np.random.default_rng(2)
    label = jnp.asarray(zipf_labels(size, num_classes))
    loss = jnp.asarray(rng.exponential(5, size), jnp.bfloat16)

    @jax.jit
    def many(losses, plain, loss, label):
        def add(carry, _):
            losses, plain = carry
            return (losses.update(loss, label), plain.at[label].add(loss.astype(jnp.float32))), None

        return jax.lax.scan(add, (losses, plain), length=settings.accuracy_batches)[0]

    empty = ondevice.LossByClass.create(num_classes)
    losses, plain = many(empty, jnp.zeros(num_classes), loss, label)
    read, once = losses.to_host(), LossByClass(num_classes)
    once.update(loss, label)
    count = read.count
    ours, naive = (
        np.max(np.abs(m / once.mean - 1)) for m in (read.mean, np.asarray(plain) / count)
    )
    return (
        f"**Accuracy** over {count.sum():.3g} bfloat16 losses, {count.max():.3g} of one class: "
        f"largest relative error of a class mean {ours:.1e}; of plain float32 sums {naive:.1e}. "
        f"Counts exact: {bool(np.all(count == settings.accuracy_batches * once.count))}."
    )


def main(settings: Settings) -> None:
    command = shlex.join(["python", "benchmarks/speed_analyzers.py", *sys.argv[1:]])
    parts = [
        f"`{command}` on {os.cpu_count()} cores; jax {jax.__version__}, numpy {np.__version__}."
    ]
    jobs = [host, device] + ([accuracy] if settings.accuracy_batches else [])
    with neighbours() as others:
        for job in jobs:
            parts.append(job(settings))
            print(parts[-1], "\n", flush=True)
    parts.append(f"Other processes took {others[0]:.0%} of the machine.")
    print(parts[-1])
    if settings.write:
        write_section(f"Loss by class, {jax.default_backend()}", "\n\n".join(parts))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
