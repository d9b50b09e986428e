"""How fast the engine trains the paper's CNN, against this machine's limits and PyTorch.

Everything is measured in one process, by turns. Numbers are medians with [smallest, largest]; a
ratio is the median of ratios between neighbours in time.

- *engine*: `advance` of gradient descent, one run a program, as sweeps run it on CPU; the loss of
  every class at every step comes from the training forward.
- *PyTorch*: an eager loop that does the same work with the fused optimizer. Of both memory layouts
  and all microbatch sizes the fastest counts; the engine's microbatch is chosen likewise.
- *useful work*: the multiplications and additions of plain convolutions and of the last layer,
  forward and backward, but for the gradient to the images. An algorithm that needs fewer of them
  may exceed the speed of the matrix product.
- *pieces*: each layer alone in a compiled loop, forward and backward: where the time goes.

Run:     python benchmarks/speed_cnn.py     (about four minutes on two cores)
Writes:  a section of benchmarks/RESULTS.md, with --write
"""

import contextlib
import importlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from report import by_turns, neighbours, quotients, seconds, spread, table, write_section

from imbalance.models.cnn import SimpleCNN
from imbalance.models.convolution import convolve_and_pool
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Batch, Examples, classification
from imbalance.training import engine
from imbalance.training.engine import Engine, State, microbatched
from imbalance.training.optimizers import OPTIMIZERS

start = jax.jit(engine.start, static_argnums=0)
advance = jax.jit(engine.advance, static_argnums=0, donate_argnums=1)
torch: Any = None
with contextlib.suppress(ImportError):  # it is optional
    torch = importlib.import_module("torch")

SQUARE = 2048  # side of the matrices whose product is the machine's peak
RATE = 1e-3  # one at which both sides stay finite
GIGA = 1e9
SIDE, KERNEL, CHANNELS = 28, 5, (32, 100)  # the paper's network
FEATURES = (SIDE // 4) ** 2 * CHANNELS[1]


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    sizes: tuple[tuple[int, int], ...] = ((1000, 1000),)
    """Images and classes."""
    microbatches: tuple[int, ...] = (50, 100, 250, 500, 1000)
    """Images of a microbatch, of which each side takes its fastest."""
    rates: int = 3
    """Runs of the sweep, one after another."""
    work: int = 4000
    """Images a measurement takes at least, in whole steps."""
    repeats: int = 7
    write: bool = False
    """Write the section of RESULTS.md."""


def flops(num_classes: int) -> dict[str, float]:
    """Useful operations by layer, for one image and step."""
    first, second = CHANNELS
    return {
        "first convolution": 2 * 2.0 * SIDE**2 * KERNEL**2 * first,
        "second convolution": 3 * 2.0 * (SIDE // 2) ** 2 * KERNEL**2 * first * second,
        "last layer": 3 * 2.0 * FEATURES * num_classes,
    }


def draw(num_images: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(num_images, SIDE, SIDE)).astype(np.float32)
    return images, rng.integers(0, num_classes, num_images).astype(np.int32)


# The two sides ----------------------------------------------------------------------------------


class OurSide:
    """The engine, one run a program."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, num_classes: int, each: int):
        self.num_images, self.num_classes = len(labels), num_classes
        batch = Batch(images, labels, np.ones(len(labels), np.float32))
        self.data = jax.device_put(microbatched(batch, -(-len(labels) // each)))
        task = classification(partial(_network, num_classes))
        self.engine = Engine(task, OPTIMIZERS["gd"].rule, track=self.class_sums)

    def class_sums(self, examples: Examples) -> tuple[jax.Array, jax.Array]:
        """Sums of loss and weight by class: what every step reports."""
        sums = partial(jax.ops.segment_sum, num_segments=self.num_classes)
        return (
            sums(examples.weight * examples.loss, examples.label),
            sums(examples.weight, examples.label),
        )

    def start(self) -> State:
        found = start(self.engine, jax.random.key(0), jnp.asarray([RATE]))
        return jax.block_until_ready(found)

    def advance(self, steps: int, runs: int = 1) -> np.ndarray:
        """Mean loss of each step of the last run."""
        for _ in range(runs):
            _, (loss, _) = advance(self.engine, self.start(), self.data, Objective(), steps)
            loss.block_until_ready()
        return np.asarray(loss[:steps, 0].sum(-1)) / self.num_images


def _network(num_classes: int, rngs: Any) -> SimpleCNN:
    return SimpleCNN(num_classes, rngs=rngs)


class TorchSide:
    """The same work in an eager PyTorch loop, from the engine's own start."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, ours: OurSide, each: int, layout: str
    ):
        torch.set_flush_denormal(True)  # as XLA does; before its threads start
        torch.set_num_threads(os.cpu_count() or 1)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.layout, self.each = getattr(torch, layout), each
        self.num_classes, self.params = ours.num_classes, ours.start().params
        inputs = torch.tensor(images, device=self.device)[:, None]
        self.images = inputs.contiguous(memory_format=self.layout)
        self.labels = torch.tensor(labels, device=self.device).long()

    def network(self) -> Any:
        params = jax.tree.map(lambda leaf: np.array(leaf[0]), self.params)
        nn, (first, second) = torch.nn, CHANNELS
        convolution = partial(nn.Conv2d, kernel_size=KERNEL, padding=KERNEL // 2)
        after = [nn.ReLU(), nn.MaxPool2d(2)]
        net = nn.Sequential(
            *(convolution(1, first), *after, convolution(first, second), *after),
            *(nn.Flatten(), nn.Linear(FEATURES, self.num_classes)),
        )
        side = SIDE // 4
        last = params["weight"].reshape(-1, side, side, second).transpose(0, 3, 1, 2)
        kernels = [params["kernels"][i].transpose(3, 2, 0, 1) for i in range(2)]
        shifts = [params["shifts"][i] for i in range(2)]
        values = [kernels[0], shifts[0], kernels[1], shifts[1], last, params["bias"]]
        with torch.no_grad():
            for param, value in zip(net.parameters(), values, strict=True):
                param.copy_(torch.tensor(value.reshape(param.shape)))
        return net.to(self.device, memory_format=self.layout)

    def advance(self, steps: int, runs: int = 1) -> np.ndarray:
        """Mean loss of each step of the last run."""
        for _ in range(runs):
            net = self.network()
            optimizer = torch.optim.SGD(net.parameters(), RATE, fused=True)
            sums = torch.zeros(steps, self.num_classes, device=self.device)
            for step_sums in sums:
                optimizer.zero_grad()
                for images, labels in zip(
                    self.images.split(self.each), self.labels.split(self.each), strict=True
                ):
                    loss = torch.nn.functional.cross_entropy(net(images), labels, reduction="none")
                    step_sums.index_add_(0, labels, loss.detach())
                    (loss.sum() / len(self.labels)).backward()
                optimizer.step()
            if self.device == "cuda":
                torch.cuda.synchronize()
        return sums.sum(1).cpu().numpy() / len(self.labels)


def why_no_torch() -> str | None:
    """Why PyTorch is not measured, if it is not."""
    if torch is None:
        return "torch not installed"
    if jax.default_backend() != ("gpu" if torch.cuda.is_available() else "cpu"):
        return "torch is on another device"
    return None


# What is measured -------------------------------------------------------------------------------


def fastest(sides: dict[str, Any], steps: int) -> tuple[str, Any]:
    """The side whose better of two turns was the shortest."""
    took = by_turns([partial(side.advance, steps) for side in sides.values()], 2)
    return min(zip(took, sides.items(), strict=True), key=lambda pair: min(pair[0]))[1]


def matrix_product() -> float:
    """Speed of a square product, GF/s."""
    square = jnp.ones((SQUARE, SQUARE)) / SQUARE
    multiply = jax.jit(partial(jnp.matmul, precision="highest"))
    multiply(square, square).block_until_ready()
    return 2.0 * SQUARE**3 / seconds(multiply, square, square) / GIGA


def _append(found: list[float], measure: Callable[[], float]) -> None:
    found.append(measure())


def one_size(settings: Settings, num_images: int, num_classes: int) -> list[list[str]]:
    """Rows of the table: a single run, and a sweep of several."""
    images, labels = draw(num_images, num_classes)
    steps = -(-settings.work // num_images)
    sizes = sorted({min(each, num_images) for each in settings.microbatches})
    ours = {str(each): OurSide(images, labels, num_classes, each) for each in sizes}
    name, our_side = fastest(ours, steps)
    sides, names = [our_side], [name]
    if not why_no_torch():
        theirs = {
            f"{each}, {layout}": TorchSide(images, labels, our_side, each, layout)
            for each in sizes
            for layout in ("channels_last", "contiguous_format")
        }
        name, side = fastest(theirs, steps)
        sides, names = [*sides, side], [*names, name]
    apart = np.abs(sides[0].advance(steps) / sides[-1].advance(steps) - 1).max()
    rows = []
    for runs in (1, settings.rates):
        with neighbours() as others:
            peaks: list[float] = []
            turns: list[Callable] = [partial(_append, peaks, matrix_product)]
            turns += [partial(side.advance, steps, runs) for side in sides]
            took = by_turns(turns, settings.repeats)[1:]
        speed = [[runs * steps * num_images / s for s in times] for times in took]
        work = [sum(flops(num_classes).values()) * s / GIGA for s in speed[0]]
        share = [100 * part for part in quotients(work, peaks[1:])]  # the first was to warm up
        versus, agree = [why_no_torch() or "", "", ""], ""
        if len(sides) > 1:
            agree = f"{apart:.0e}"
            versus = [names[1], spread(speed[1], 0), spread(quotients(*speed))]
        rows.append(
            [f"{num_images:,}", f"{num_classes:,}", str(runs), names[0], spread(speed[0], 0)]
            + [spread(share, 0, " %"), *versus, agree, f"{others[0]:.0%}"]
        )
    return rows


def pieces(settings: Settings, num_classes: int, each: int = 250) -> str:
    """Time of each layer, forward and backward, in a compiled loop."""
    first, second = CHANNELS
    half = SIDE // 2
    shapes = {
        "first convolution": ((SIDE, SIDE, 1, each), (KERNEL, KERNEL, 1, first)),
        "second convolution": ((half, half, first, each), (KERNEL, KERNEL, first, second)),
        "last layer": ((FEATURES, each), (num_classes, FEATURES)),
    }
    calls = -(-settings.work // each)
    rows = []
    for name, (inputs, weights) in shapes.items():
        layer = (lambda x, w: w @ x) if name == "last layer" else convolve_and_pool
        given = [jax.random.normal(jax.random.key(i), s) for i, s in enumerate((inputs, weights))]
        loop = _loop(layer, to_inputs=name != "first convolution", calls=calls)
        (took,) = by_turns([partial(loop, *given)], settings.repeats)
        micros = [1e6 * s / (calls * each) for s in took]
        work = [flops(num_classes)[name] / m / 1e3 for m in micros]
        rows.append([name, spread(micros, 0), spread(work, 0)])
    head = ["piece", "µs an image", "useful GF/s"]
    return f"**Pieces**, {num_classes} classes, microbatches of {each}.\n\n{table(head, rows)}"


def _loop(layer: Callable, to_inputs: bool, calls: int) -> Callable:
    """``layer`` and its gradients ``calls`` times, each from what the last one left."""

    @jax.jit
    def loop(inputs: jax.Array, weights: jax.Array):
        def body(_, carry):
            inputs, weights = carry
            value, back = jax.vjp(layer, inputs, weights)
            to_x, to_w = back(value)
            return inputs - 1e-9 * to_x if to_inputs else inputs, weights - 1e-9 * to_w

        return jax.lax.fori_loop(0, calls, body, (inputs, weights))

    return loop


# The report -------------------------------------------------------------------------------------


def main(settings: Settings) -> None:
    command = shlex.join(["python", "benchmarks/speed_cnn.py", *sys.argv[1:]])
    versions = f"jax {jax.__version__}"
    if torch is not None:
        versions += f", torch {torch.__version__}"
    parts: list[str] = [
        f"`{command}` on {os.cpu_count()} cores, {jax.devices()[0].device_kind}; {versions}. "
        "Images a second and run, medians with [smallest, largest]; microbatches as chosen."
    ]
    print(parts[0], "\n", flush=True)
    head: Sequence[str] = ["images", "classes", "runs", "engine: microbatch", "images / s"]
    head = [*head, "useful work / peak", "PyTorch: microbatch, layout", "images / s"]
    head = [*head, "engine / PyTorch", "losses apart", "others' share"]
    rows = []
    for size in settings.sizes:
        rows += one_size(settings, *size)
        print(table(head, rows), "\n", flush=True)
    parts += [table(head, rows), pieces(settings, settings.sizes[0][1])]
    print(parts[-1], flush=True)
    if settings.write:
        write_section(f"CNN of the paper, {jax.default_backend()}", "\n\n".join(parts))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
