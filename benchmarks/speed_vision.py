"""How fast the engine trains residual networks, against this machine's limits and PyTorch.

Everything is measured in one process, by turns. Numbers are medians with [smallest, largest]; a
ratio is the median of ratios between neighbours in time.

- *engine*: `advance` of gradient descent with momentum, one run a program, as sweeps run it on CPU;
  the loss of every class at every step comes from the training forward.
- *PyTorch*: an eager loop that does the same work, from the same start, with the fused optimizer
  and images in channels-last layout, its fastest here. Its microbatches are the engine's, as
  statistics must be over equally many images.
- *useful work*: the multiplications and additions of plain convolutions and of the last layer,
  forward and backward, but for the gradient to the images.

Run:     python benchmarks/speed_vision.py     (about five minutes on two cores)
Writes:  a section of benchmarks/RESULTS.md, with --write
"""

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from report import by_turns, neighbours, quotients, spread, table, write_section
from speed_cnn import GIGA, matrix_product, torch, why_no_torch

from imbalance.models.pixels import Pixels
from imbalance.models.resnet import STEMS, ResNet, flops
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Batch, Examples, classification
from imbalance.training import engine
from imbalance.training.engine import Engine, State, microbatched
from imbalance.training.optimizers import OPTIMIZERS

start = jax.jit(engine.start, static_argnums=0)
advance = jax.jit(engine.advance, static_argnums=0, donate_argnums=1)

RATE = 1e-3  # one at which both sides stay finite
MOMENTUM = 0.9  # of gd+m
GREY = Pixels()


class Case(NamedTuple):
    """A network and its images."""

    name: str
    images: int
    each: int  # of a microbatch
    side: int
    classes: int
    norm: str
    width: int
    blocks: tuple[int, ...]
    stem: str

    @property
    def size(self) -> dict[str, Any]:
        """Arguments of `ResNet` that decide its operations."""
        return {"width": self.width, "blocks": self.blocks, "stem": self.stem}

    @property
    def flops(self) -> float:
        """Useful operations of a step on one image."""
        return flops(self.side, self.classes, channels=1, **self.size)


CASES = (
    Case("Figure 3 at laptop scale", 1000, 250, 16, 100, "batch", 8, (1, 1, 1), "16"),
    Case("the same, layer norm", 1000, 250, 16, 100, "layer", 8, (1, 1, 1), "16"),
    Case("ResNet18 of a quarter width, 32 pixels", 200, 100, 32, 100, "batch", 16, (2,) * 4, "32"),
    Case("ResNet18, 32 pixels", 50, 50, 32, 100, "batch", 64, (2,) * 4, "32"),
)


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    only: tuple[int, ...] = (0, 1, 2, 3)
    """Which cases, in the order of the table."""
    work: float = 2e10
    """Useful operations a measurement takes at least, in whole steps."""
    repeats: int = 7
    write: bool = False
    """Write the section of RESULTS.md."""


# The two sides ----------------------------------------------------------------------------------


class OurSide:
    """The engine, one run a program."""

    def __init__(self, case: Case):
        rng = np.random.default_rng(0)
        shape = (case.images, case.side, case.side)
        label = rng.integers(0, case.classes, case.images).astype(np.int32)
        batch = Batch(rng.integers(0, 256, shape, np.uint8), label, np.ones(len(label), np.float32))
        self.case, self.data = case, jax.device_put(microbatched(batch, case.images // case.each))
        build = partial(ResNet, case.classes, norm=case.norm, pixels=GREY, **case.size)
        rule = OPTIMIZERS["gd+m"].rule
        self.engine = Engine(classification(build), rule, track=self.class_sums)

    def class_sums(self, examples: Examples) -> tuple[jax.Array, jax.Array]:
        """Sums of loss and weight by class: what every step reports."""
        sums = partial(jax.ops.segment_sum, num_segments=self.case.classes)
        return (
            sums(examples.weight * examples.loss, examples.label),
            sums(examples.weight, examples.label),
        )

    def start(self) -> State:
        found = start(self.engine, jax.random.key(0), jnp.asarray([RATE]))
        return jax.block_until_ready(found)

    def advance(self, steps: int) -> np.ndarray:
        """Mean loss of each step."""
        _, (loss, _) = advance(self.engine, self.start(), self.data, Objective(), steps)
        return np.asarray(loss[:steps, 0].sum(-1)) / self.case.images


class TorchSide:
    """The same work in an eager PyTorch loop, from the engine's own start."""

    def __init__(self, ours: OurSide):
        torch.set_flush_denormal(True)  # as XLA does; before its threads start
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.case, self.params = ours.case, ours.start().params
        rows = ours.data.batch
        image = (np.array(rows.input).reshape(-1, 1, *rows.input.shape[2:]) / 255 - 0.5) / 0.25
        image = torch.tensor(image.astype(np.float32))
        self.images = image.contiguous(memory_format=torch.channels_last)
        self.labels = torch.tensor(np.array(rows.label).reshape(-1)).long()

    def network(self) -> Any:
        net = _twin(self.case)
        kernels, scales, offsets = (
            self.params[name].values() for name in ("kernels", "norm_scales", "norm_offsets")
        )
        values = [
            value
            for kernel, *rest in zip(kernels, scales, offsets, strict=True)
            for value in (jnp.transpose(kernel, (0, 4, 3, 1, 2)), *rest)
        ]
        with torch.no_grad():
            for param, value in zip(
                net.parameters(), [*values, self.params["weight"], self.params["bias"]], strict=True
            ):
                param.copy_(torch.tensor(np.array(value[0])))
        return net.to(memory_format=torch.channels_last)

    def advance(self, steps: int) -> np.ndarray:
        """Mean loss of each step."""
        net = self.network()
        optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, fused=True)
        sums = torch.zeros(steps, self.case.classes)
        each = self.case.each
        for step_sums in sums:
            optimizer.zero_grad()
            for images, labels in zip(
                self.images.split(each), self.labels.split(each), strict=True
            ):
                loss = torch.nn.functional.cross_entropy(net(images), labels, reduction="none")
                step_sums.index_add_(0, labels, loss.detach())
                (loss.sum() / len(self.labels)).backward()
            optimizer.step()
        return sums.sum(1).numpy() / len(self.labels)


def _twin(case: Case) -> Any:
    """The network of the same layers, with statistics of the batch at hand."""
    nn, stem = torch.nn, STEMS[case.stem]

    def layer(inputs: int, outputs: int, side: int, stride: int) -> Any:
        norm = (
            nn.BatchNorm2d(outputs, track_running_stats=False)
            if case.norm == "batch"
            else nn.GroupNorm(1, outputs)
        )
        return nn.Sequential(nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), norm)

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int):
            super().__init__()
            stride = 1 if inputs == outputs else 2
            self.first = layer(inputs, outputs, 3, stride)
            self.second = layer(outputs, outputs, 3, 1)
            self.short = nn.Identity() if stride == 1 else layer(inputs, outputs, 1, 2)

        def forward(self, x: Any) -> Any:
            inside = self.second(nn.functional.relu(self.first(x), inplace=True))
            return nn.functional.relu(inside + self.short(x), inplace=True)

    layers = [layer(1, case.width, stem.kernel, stem.stride), nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(3, 2, 1)] if stem.pool else []
    inputs = case.width
    for stage, count in enumerate(case.blocks):
        for _ in range(count):
            layers.append(Block(inputs, case.width * 2**stage))
            inputs = case.width * 2**stage
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, case.classes)]
    return nn.Sequential(*layers, *last)


# What is measured -------------------------------------------------------------------------------


def one_case(settings: Settings, case: Case) -> list[str]:
    """A row of the table."""
    steps = max(1, round(settings.work / case.flops / case.images))
    sides: list[Any] = [OurSide(case)]
    sides += [] if why_no_torch() else [TorchSide(sides[0])]
    apart = np.abs(sides[0].advance(steps) / sides[-1].advance(steps) - 1).max()
    peaks: list[float] = []
    with neighbours() as others:
        turns: list[Callable] = [lambda: peaks.append(matrix_product())]
        turns += [partial(side.advance, steps) for side in sides]
        took = by_turns(turns, settings.repeats)[1:]
    millis = [[1e3 * s / steps for s in times] for times in took]
    work = [case.images * case.flops * 1e3 / ms / GIGA for ms in millis[0]]
    share = [100 * part for part in quotients(work, peaks[1:])]  # the first was to warm up
    versus = [why_no_torch() or "", "", ""]
    if len(sides) > 1:
        versus = [spread(millis[1], 0), spread(quotients(millis[1], millis[0])), f"{apart:.0e}"]
    size = [
        case.name,
        f"{case.images:,} by {case.each:,}",
        f"{case.images * case.flops / GIGA:.1f}",
    ]
    return [*size, spread(millis[0], 0), spread(share, 0, " %"), *versus, f"{others[0]:.0%}"]


def main(settings: Settings) -> None:
    command = shlex.join(["python", "benchmarks/speed_vision.py", *sys.argv[1:]])
    versions = f"jax {jax.__version__}"
    if torch is not None:
        versions += f", torch {torch.__version__}"
    cores = len(os.sched_getaffinity(0))
    said = (
        f"`{command}` on {cores} cores, {jax.devices()[0].device_kind}; {versions}. Milliseconds a "
        "step, medians with [smallest, largest]."
    )
    print(said, "\n", flush=True)
    head = [
        "network",
        "images by microbatch",
        "useful GF a step",
        "engine, ms",
        "useful work / peak",
    ]
    head += ["PyTorch, channels last, ms", "PyTorch / engine", "losses apart", "others' share"]
    rows = []
    for index in settings.only:
        rows.append(one_case(settings, CASES[index]))
        print(table(head, rows), "\n", flush=True)
    if settings.write:
        title = f"Residual networks, {jax.default_backend()}"
        write_section(title, f"{said}\n\n{table(head, rows)}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
