"""How fast the engine trains a small transformer, beside a lean PyTorch loop of the same model.

Everything is measured in one process, by turns, because a machine's speed drifts more than the
differences sought. Numbers are medians with [smallest, largest]; a ratio is the median of ratios
between neighbours in time. Target: 1.4 or more for a single run and for a sweep.

- *engine*: `advance` of one-layer post-norm models with Adam, which reports the loss of every
  class at every step from the training forward. A *sweep* is of several rates: one by one, as on a
  CPU, or side by side in one program (vmap), as on a GPU.
- *PyTorch*: an eager loop that does the same work, one run at a time, with its fused Adam and its
  own attention; losses of classes from the same forward.
- *useful work*: two operations for each weight and token forward and four backward.
- *parts*: what one gradient spends where; the parts are programs of their own.
- *GPU* (``--gpt2``): GPT-2 small in bfloat16 through the engine, tokens a second, the share of the
  peak of ``--gpu.peak-teraflops``, and what an evaluation by class costs. Without an accelerator it
  skips itself; ``--gpu.tiny`` runs it anyway, at a size for any machine.

Run:      python benchmarks/speed_transformer.py            (about five minutes on two cores)
On a GPU: python benchmarks/speed_transformer.py --gpt2
Writes:   a section of benchmarks/RESULTS.md, with --write
"""

import contextlib
import importlib
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from report import by_turns, neighbours, quotients, seconds, spread, table, write_section

from imbalance.analysis import FrequencyBuckets
from imbalance.models.layers import sinusoids
from imbalance.models.transformer import Architecture, Transformer, gpt2, post_norm
from imbalance.ondevice.cross_entropy import chunked_cross_entropy
from imbalance.probes import loss_by_bucket
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Batch, Examples, Task, next_token
from imbalance.theory import zipf_probabilities
from imbalance.training import engine
from imbalance.training.engine import Engine, microbatched
from imbalance.training.optimizers import OPTIMIZERS

start = jax.jit(engine.start, static_argnums=0)
advance = jax.jit(engine.advance, static_argnums=0, donate_argnums=1)
measure = jax.jit(engine.measure, static_argnums=(0, 1))
torch: Any = None
with contextlib.suppress(ImportError):  # it is optional
    torch = importlib.import_module("torch")

GIGA, TERA = 1e9, 1e12
RATE = 1e-3


@dataclass(frozen=True)
class Gpu:
    """GPT-2 small on an accelerator."""

    tiny: bool = False
    """A small model and batch, wherever."""
    rows: int = 32
    """Of a microbatch."""
    microbatches: int = 1
    length: int = 1024
    vocabulary: int = 50_257
    steps: int = 10
    remat: bool = False
    dropout: float = 0.0
    """Of embeddings and sublayers; attention weights are not dropped, which needs no own kernel."""
    block: Literal["authors", "pre"] = "authors"
    peak_teraflops: float = 989.0
    """Of bfloat16 products without sparsity; an H100 or H200 has 989."""
    evaluate_every: int = 100
    """Steps between evaluations by class, on as many tokens as two steps take."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    sizes: tuple[tuple[int, int, int, int, int], ...] = (
        (4_000, 128, 4, 16, 128),
        (10_000, 200, 4, 16, 128),
        (10_000, 200, 4, 40, 128),
    )
    """Classes, width, heads, rows and positions of each one-layer model."""
    rates: int = 3
    """Learning rates of the sweep."""
    dropout: float = 0.0
    steps: int = 5
    """Of one turn."""
    repeats: int = 7
    gpt2: bool = False
    """Measure GPT-2 small instead, on a GPU or TPU."""
    gpu: Gpu = Gpu()
    """How it is measured."""
    parts: bool = True
    """Where the time goes."""
    write: bool = False
    """Write the section of RESULTS.md."""


def tokens(num_classes: int, rows: int, length: int) -> Batch:
    """Independent tokens with frequencies 1/k."""
    law = zipf_probabilities(num_classes)
    text = np.random.default_rng(0).choice(num_classes, (rows, length + 1), p=law)
    text = text.astype(np.int32)
    return Batch(text[:, :-1].copy(), text[:, 1:].copy(), np.ones((rows, length), np.float32))


def task_of(size: Architecture) -> Task:
    return next_token(lambda rngs: Transformer(size, rngs=rngs))


# The two sides ----------------------------------------------------------------------------------


class OurSide:
    """The engine, with the data on the device and so many rates in one program."""

    def __init__(self, size: Architecture, task: Task, batch: Batch, microbatches: int = 1):
        self.num_classes, self.task = size.num_classes, task
        self.data = jax.device_put(microbatched(batch, microbatches))
        precision = "float32" if size.dtype == "float32" else "tensorfloat32"
        adam = OPTIMIZERS["adam"].rule
        self.engine = Engine(task, adam, track=self.class_sums, precision=precision)

    def class_sums(self, examples: Examples) -> tuple[jax.Array, jax.Array]:
        """Sums of loss and weight by class: what every step reports."""
        sums = partial(jax.ops.segment_sum, num_segments=self.num_classes)
        return (
            sums(examples.weight * examples.loss, examples.label),
            sums(examples.weight, examples.label),
        )

    def start(self, rates: int):
        """Runs at step 0; all have one rate, so that no side is slowed by what happens in one."""
        return start(self.engine, jax.random.key(0), jnp.full(rates, RATE))

    def runner(self, rates: int, steps: int) -> Callable[[], Any]:
        """Goes on by so many steps at each call."""
        state = self.start(rates)

        def go():
            nonlocal state
            state, tracked = advance(self.engine, state, self.data, Objective(), steps)
            return state.params, tracked

        return go


class TorchSide:
    """The same model and work in an eager PyTorch loop."""

    def __init__(self, size: Architecture, params: Any, batch: Batch):
        torch.set_flush_denormal(True)  # as XLA does; before its threads start
        torch.set_num_threads(os.cpu_count() or 1)
        self.size = size
        self.params = jax.tree.map(lambda p: torch.tensor(np.array(p)).requires_grad_(), params)
        self.optimizer = torch.optim.Adam(jax.tree.leaves(self.params), lr=RATE, fused=True)
        self.positions = torch.tensor(sinusoids(batch.input.shape[1], size.width))
        self.inputs = torch.tensor(batch.input).long()
        self.labels = torch.tensor(batch.label).long().reshape(-1)

    def logits(self):
        fn, params, size = torch.nn.functional, self.params, self.size
        shape = (*self.inputs.shape, size.width)
        drop = partial(fn.dropout, p=size.dropout)

        def norm(x, layer):
            return fn.layer_norm(x, (size.width,), layer["weight"], layer["bias"])

        x = fn.embedding(self.inputs, params["embedding"]) * size.width**0.5 + self.positions
        x = drop(x)
        for block in params["blocks"].values():
            attention = block["attention"]
            joint = fn.linear(x, attention["in_weight"], attention["in_bias"])
            joint = joint.view(*shape[:2], 3, size.num_heads, -1).permute(2, 0, 3, 1, 4)
            mixed = fn.scaled_dot_product_attention(*joint, is_causal=True)
            mixed = mixed.transpose(1, 2).reshape(shape)
            mixed = fn.linear(mixed, attention["out_weight"], attention["out_bias"])
            x = norm(x + drop(mixed), block["norm_attention"])
            inside = fn.relu(fn.linear(x, block["mlp_in"], block["mlp_in_bias"]))
            inside = fn.dropout(inside, size.mlp_dropout)
            out = fn.linear(inside, block["mlp_out"], block["mlp_out_bias"])
            x = norm(x + drop(out), block["norm_mlp"])
        return fn.linear(x.reshape(-1, size.width), params["weight"], params["bias"])

    def advance(self, steps: int):
        """Sums of loss by class ``[step, class]``."""
        sums = torch.zeros(steps, self.size.num_classes)
        for step_sums in sums:
            loss = torch.nn.functional.cross_entropy(self.logits(), self.labels, reduction="none")
            step_sums.index_add_(0, self.labels, loss.detach())
            self.optimizer.zero_grad()
            loss.mean().backward()
            self.optimizer.step()
        return sums.numpy()


# What is measured -------------------------------------------------------------------------------


def compare(settings: Settings, size: Architecture, batch: Batch) -> str:
    """A single run, and sweeps; a report in markdown."""
    ours = OurSide(size, task_of(size), batch)
    single = ours.runner(1, settings.steps)
    one_by_one = [ours.runner(1, settings.steps) for _ in range(settings.rates)]
    sides: dict[str, Callable[[], Any]] = {
        "engine, single run": single,
        f"engine, {settings.rates} rates, one by one": lambda: [go() for go in one_by_one],
        f"engine, {settings.rates} rates, vmap": ours.runner(settings.rates, settings.steps),
    }
    runs = [1, settings.rates, settings.rates]
    if torch is not None:
        first = jax.tree.map(lambda leaf: leaf[0], ours.start(1).params)
        theirs = TorchSide(size, first, batch)
        sides["PyTorch, single run"] = lambda: theirs.advance(settings.steps)
        runs.append(1)
    with neighbours() as others:
        times = by_turns(list(sides.values()), settings.repeats)
    rows = []
    for name, took, count in zip(sides, times, runs, strict=True):
        each = [t / (count * settings.steps) for t in took]
        speed = [size.flops(*batch.label.shape) / t / GIGA for t in each]
        versus = "torch not installed"
        if torch is not None:
            versus = spread(quotients([t / settings.steps for t in times[-1]], each))
        rows.append([name, spread([1e3 * t for t in each], 1), spread(speed, 0), versus])
    rows_, length = batch.label.shape
    title = (
        f"**{size.num_classes} classes, width {size.width}, {size.num_heads} heads, "
        f"{rows_} x {length} tokens, dropout {size.dropout:g}.** "
        f"Others' share {others[0]:.0%}. {agreement(size, batch)}"
    )
    head = ["", "ms a run and step", "GF/s", "PyTorch / this"]
    return f"{title}\n\n{table(head, rows)}"


def agreement(size: Architecture, batch: Batch, steps: int = 3) -> str:
    """Whether both sides take the same steps, where no dropout makes noise."""
    if torch is None or size.dropout:
        return ""
    ours = OurSide(size, task_of(size), batch)
    state = ours.start(1)
    theirs = TorchSide(size, jax.tree.map(lambda leaf: leaf[0], state.params), batch)
    _, (loss, _) = advance(ours.engine, state, ours.data, Objective(), steps)
    mine = np.asarray(loss)[:steps, 0].sum(-1)
    apart = np.abs(mine / theirs.advance(steps).sum(-1) - 1).max()
    verdict = "agree" if apart <= 1e-5 else "DO NOT AGREE"
    return f"Losses of {steps} steps {verdict} with PyTorch's to 1e-5: {apart:.1e} apart."


def parts(settings: Settings, size: Architecture, batch: Batch) -> str:
    """Milliseconds of a gradient's parts, each a program of its own."""
    task = task_of(size)
    head_of = task.head
    assert head_of is not None
    params = jax.jit(task.init)(jax.random.key(0))
    rows = jax.device_put(batch)
    hidden = jax.random.normal(jax.random.key(1), (batch.label.size, size.width))
    label, key = rows.label.reshape(-1), jax.random.key(0) if size.dropout else None
    optimizer = OPTIMIZERS["adam"].rule(RATE)

    def trunk(params):
        return jnp.vdot(head_of(params, rows).features, hidden)

    def head(hidden, weight, bias, chunk=None):
        return chunked_cross_entropy(hidden, weight, label, bias, chunk=chunk).sum()

    def whole(params):
        return task.per_example(params, rows, key).loss.sum()

    layer = hidden, params["weight"], params["bias"]
    by_head = partial(jax.grad, argnums=(0, 1, 2))
    programs = {
        "gradient of the whole": (jax.grad(whole), params),
        "of all before the last layer": (jax.grad(trunk), params),
        "of that without the embedding": (
            lambda blocks: jax.grad(lambda b: trunk({**params, "blocks": b}))(blocks),
            params["blocks"],
        ),
        "of the last layer and cross-entropy": (by_head(head), *layer),
        **{
            f"the same in chunks of {c}": (by_head(partial(head, chunk=c)), *layer)
            for c in (256, 512)
        },
        "Adam": (optimizer.update, params, optimizer.init(params), params),
    }
    compiled = [partial(jax.jit(function), *args) for function, *args in programs.values()]
    times = by_turns(compiled, settings.repeats)
    found = zip(programs, times, strict=True)
    return table(["part", "ms"], [[n, spread([1e3 * t for t in took], 1)] for n, took in found])


def on_gpu(gpu: Gpu, repeats: int) -> str:
    """Tokens a second of GPT-2 small, and the share of the peak; a report in markdown."""
    if jax.default_backend() == "cpu" and not gpu.tiny:
        return "GPT-2 small: skipped, no accelerator here."
    changes: dict[str, Any] = {"dropout": gpu.dropout, "attention_dropout": 0.0}
    rows, length, vocabulary, steps = gpu.rows, gpu.length, gpu.vocabulary, gpu.steps
    if gpu.tiny:
        changes |= {"width": 32, "num_layers": 2, "num_heads": 4, "mlp_width": 128}
        rows, length, vocabulary, steps = 2, 16, 100, 2
    size = gpt2(vocabulary, block=gpu.block, dtype="bfloat16", remat=gpu.remat, **changes)
    batch = tokens(vocabulary, rows * gpu.microbatches, length)
    ours = OurSide(size, task_of(size), batch, gpu.microbatches)
    counts = np.bincount(batch.label.reshape(-1), minlength=vocabulary)
    probe = loss_by_bucket(ours.task, FrequencyBuckets.from_counts(counts, 10)).measure
    state = ours.start(1)

    def train():
        nonlocal state
        state, tracked = advance(ours.engine, state, ours.data, Objective(), steps)
        return tracked

    def evaluate():
        return measure(ours.engine, probe, state.params, state.alive, ours.data)

    for warm_up in (train, evaluate):
        seconds(warm_up)
    training = [seconds(train) / steps for _ in range(repeats)]
    # On as many tokens as two steps take, every so many steps.
    share = [2 * seconds(evaluate) / gpu.evaluate_every / t for t in training]
    speed = [batch.label.size / (t * (1 + s)) for t, s in zip(training, share, strict=True)]
    flops = size.flops(*batch.label.shape) / batch.label.size
    peak = [100 * v * flops / (gpu.peak_teraflops * TERA) for v in speed]
    return (
        f"**GPT-2 ({size.block} block, width {size.width}, {size.num_layers} layers, "
        f"{vocabulary} classes) in bfloat16**, {gpu.microbatches} x {rows} x {length} tokens a "
        f"step, rematerialised: {gpu.remat}, dropout {gpu.dropout:g}: "
        f"{spread([1e3 * t for t in training], 1)} ms a step with losses by class, "
        f"{spread(speed, 0)} tokens a second, {spread(peak, 1, ' %')} of the peak of "
        f"{gpu.peak_teraflops:g} teraflops, with an evaluation every {gpu.evaluate_every} steps "
        f"that takes {spread([100 * s for s in share], 2, ' %')} of the time."
    )


def main(settings: Settings) -> None:
    versions = f"jax {jax.__version__}"
    versions += "" if torch is None else f", torch {torch.__version__}"
    command = shlex.join(["python", "benchmarks/speed_transformer.py", *sys.argv[1:]])
    report = [
        f"`{command}` on {os.cpu_count()} cores, {jax.devices()[0].device_kind}; {versions}. "
        "Medians with [smallest, largest]."
    ]
    print(report[0], "\n", flush=True)
    jobs: list[Callable[[], str]] = []
    if settings.gpt2:
        jobs.append(partial(on_gpu, settings.gpu, settings.repeats))
    else:
        for num_classes, width, heads, rows, length in settings.sizes:
            size = post_norm(
                num_classes,
                num_layers=1,
                num_heads=heads,
                width=width,
                mlp_width=width,
                dropout=settings.dropout,
                mlp_dropout=settings.dropout,
            )
            batch = tokens(num_classes, rows, length)
            jobs.append(partial(compare, settings, size, batch))
            if settings.parts:
                jobs.append(partial(parts, settings, size, batch))
    for job in jobs:
        report.append(job())
        print(report[-1], "\n", flush=True)
    if settings.write:
        model = "GPT-2 small" if settings.gpt2 else "One-layer transformer"
        write_section(f"{model}, {jax.default_backend()}", "\n\n".join(report))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
