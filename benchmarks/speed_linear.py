"""How fast the engine trains the linear model, against this machine's limits and PyTorch.

Everything is measured in one process, by turns: a matrix product, the engine, the PyTorch loop, and
again, because a machine's speed drifts more than the differences sought. Numbers are medians with
[smallest, largest]; a ratio is the median of ratios between neighbours in time.

- *engine*: `advance` of one optimizer at several rates, one after another on a CPU, in one program
  elsewhere, as sweeps make them; the loss of every class at every step comes from the training
  forward.
- *PyTorch*: an eager loop that does the same work, one run at a time, with the fused optimizers of
  `torch.optim`. Without PyTorch those columns say so.
- *useful work*: 4 n c d floating-point operations a run and step, the forward product and the one
  of the gradient; the rest counts as nothing.

Run:      python benchmarks/speed_linear.py --write     (about five minutes on two cores)
On a GPU: python benchmarks/speed_linear.py --m 11 --write
Writes:   a section of benchmarks/RESULTS.md, with --write
"""

import contextlib
import importlib
import logging
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from report import neighbours, quotients, seconds, spread, table, write_section

from imbalance.problems import Problem, heavy_tailed_linear
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Examples
from imbalance.training import engine
from imbalance.training.engine import Engine, State, microbatched
from imbalance.training.optimizers import OPTIMIZERS
from imbalance.training.plan import run_alone
from imbalance.training.precision import Precision
from imbalance.training.running import run
from imbalance.training.sweep import Sweep, default_stops

start = jax.jit(engine.start, static_argnums=0)
advance = jax.jit(engine.advance, static_argnums=0, donate_argnums=1)
torch: Any = None
with contextlib.suppress(ImportError):  # it is optional
    torch = importlib.import_module("torch")

ROOT = Path(__file__).resolve().parent.parent
SQUARE = 2048  # side of the matrices whose product is the machine's peak
QUIET = 0.1  # share of the machine that others may take of a measurement that counts
FEWEST = 3  # measurements that count; with fewer, all do
GIGA = 1e9


@dataclass(frozen=True)
class Settings:
    """What is measured, and how often."""

    m: int = 7
    """Size of the problem."""
    rates: int = 7
    """Learning rates of a measurement."""
    steps: int = 20
    """Steps of one measurement."""
    repeats: int = 7
    """Measurements of everything, by turns, that no other process disturbed."""
    tries: int = 0
    """How many to make at most to find these; 0 is twice as many."""
    optimizers: tuple[str, ...] = ("gd", "sign", "adam_without_momentum", "adam")
    precisions: tuple[Precision, ...] = ()
    """Of matrix products; none given: float32, and on a GPU tensorfloat32 too."""
    walk_steps: int = 400
    """Steps of the sweeps that tell what recording costs; 0 leaves them out."""
    walk_repeats: int = 5
    memory_m: int = 8
    """Size of the problem whose memory is measured; 0 leaves it out."""
    write: bool = False
    """Write the section of RESULTS.md."""


def learning_rates(count: int) -> tuple[float, ...]:
    """Half decades from 1e-5 on: small enough that no side is slowed by denormal numbers."""
    return tuple(10 ** (-5 + k / 2) for k in range(count))


# Measuring --------------------------------------------------------------------------------------


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of all programs compiled inside the block."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if match := re.match(r"Finished XLA compilation of (\S+)", record.getMessage()):
                found.append(match[1])

    logger, handler = logging.getLogger("jax"), Handler()
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False  # and nothing on the terminal
    try:
        with jax.log_compiles():
            yield found
    finally:
        logger.handlers, logger.propagate = before


# The two sides ----------------------------------------------------------------------------------


class OurSide:
    """The engine at one precision, with the data on the device."""

    def __init__(self, problem: Problem, rates: Sequence[float], precision: Precision):
        self.num_classes = len(problem.counts)
        self.rates = jnp.asarray(rates, jnp.float32)
        self.groups = jnp.split(self.rates, len(rates) if run_alone() else 1)
        self.data = jax.device_put(microbatched(problem.batch(0)))
        make = partial(Engine, problem.task, track=self.class_sums, precision=precision)
        self.engines = {name: make(optimizer.rule) for name, optimizer in OPTIMIZERS.items()}

    def class_sums(self, examples: Examples) -> tuple[jax.Array, jax.Array]:
        """Sums of loss and weight by class: what every step reports."""
        sums = partial(jax.ops.segment_sum, num_segments=self.num_classes)
        return (
            sums(examples.weight * examples.loss, examples.label),
            sums(examples.weight, examples.label),
        )

    def start(self, optimizer: str) -> list[State]:
        """Runs at step 0, there when this returns: a state for each program's rates."""
        begin = partial(start, self.engines[optimizer], jax.random.key(0))
        return jax.block_until_ready([begin(rates) for rates in self.groups])

    def advance(self, optimizer: str, states: list[State], steps: int) -> list[Any]:
        """Sums of loss and of weight, each ``[step, rate, class]``, from each state."""
        go = partial(advance, self.engines[optimizer])
        return [
            jax.block_until_ready(go(state, self.data, Objective(), steps)[1]) for state in states
        ]


class TorchSide:
    """The same work in an eager PyTorch loop."""

    def __init__(self, problem: Problem, ours: OurSide, precision: Precision):
        torch.set_flush_denormal(True)  # as XLA does; before its threads start
        torch.set_num_threads(os.cpu_count() or 1)
        torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.num_classes, self.rates = ours.num_classes, [float(rate) for rate in ours.rates]
        batch, params = problem.batch(0), ours.start("gd")[0].params
        self.inputs = torch.tensor(batch.input, device=self.device)
        self.labels = torch.tensor(batch.label, device=self.device).long()
        self.first = [np.array(params[name][0]) for name in ("weight", "bias")]

    def start(self, optimizer: str) -> list:
        """Parameters and optimizer of every run, from the engine's own start."""
        runs = []
        for rate in self.rates:
            params = [torch.tensor(p, device=self.device).requires_grad_() for p in self.first]
            runs.append((params, TORCH_OPTIMIZERS[optimizer](params, rate)))
        return runs

    def advance(self, runs: list, steps: int):
        """Sums of loss by class, ``[rate, step, class]``."""
        sums = torch.zeros(len(runs), steps, self.num_classes, device=self.device)
        for run_sums, ((weight, bias), optimizer) in zip(sums, runs, strict=True):
            for step_sums in run_sums:
                logits = torch.nn.functional.linear(self.inputs, weight, bias)
                loss = torch.nn.functional.cross_entropy(logits, self.labels, reduction="none")
                step_sums.index_add_(0, self.labels, loss.detach())
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return sums


class TorchSign:
    """Sign descent, as lean as PyTorch's own optimizers."""

    def __init__(self, params: list, rate: float):
        self.params, self.rate = params, rate

    def zero_grad(self) -> None:
        for param in self.params:
            param.grad = None

    def step(self) -> None:
        with torch.no_grad():
            signs = torch._foreach_sign([param.grad for param in self.params])
            torch._foreach_add_(self.params, signs, alpha=-self.rate)


TORCH_OPTIMIZERS = {}
if torch is not None:
    TORCH_OPTIMIZERS = {
        "gd": partial(torch.optim.SGD, fused=True),
        "gd+m": partial(torch.optim.SGD, momentum=0.9, fused=True),
        "sign": TorchSign,
        "adam_without_momentum": partial(torch.optim.Adam, betas=(0.0, 0.999), fused=True),
        "adam": partial(torch.optim.Adam, fused=True),
    }


def why_no_torch() -> str | None:
    """Why PyTorch is not measured, if it is not."""
    if torch is None:
        return "torch not installed"
    if jax.default_backend() != ("gpu" if torch.cuda.is_available() else "cpu"):
        return "torch is on another device"
    return None


# What is measured -------------------------------------------------------------------------------


def matrix_products(problem: Problem, num_rates: int, precision: Precision) -> dict[str, Callable]:
    """Name -> a product that returns its speed in GF/s: the square one, and the task's own."""
    num_examples, num_inputs = problem.shapes.input.shape
    rows = (1 if run_alone() else num_rates) * len(problem.counts)
    sizes = {
        f"{SQUARE}³": (SQUARE, SQUARE, SQUARE),
        f"[{rows}, {num_inputs}] x [{num_inputs}, {num_examples}]": (
            rows,
            num_inputs,
            num_examples,
        ),
    }

    def speed_of(size: tuple[int, int, int]) -> Callable[[], float]:
        a, b, c = size
        left, right = jax.random.normal(jax.random.key(0), (a, b)), jnp.ones((b, c)) / b
        multiply = jax.jit(jnp.matmul)
        flops = 2.0 * a * b * c
        on_cpu = jax.default_backend() == "cpu"
        enough = 10 * GIGA if on_cpu else 10_000 * GIGA  # work that takes its time
        calls = max(1, round(enough / flops))

        def products() -> jax.Array:
            for _ in range(calls):
                product = multiply(left, right)
                if on_cpu:  # elsewhere the device takes them one after another by itself
                    product.block_until_ready()
            return product

        def speed() -> float:
            with jax.default_matmul_precision(precision):
                return calls * flops / seconds(products) / GIGA

        speed()
        return speed

    return {name: speed_of(size) for name, size in sizes.items()}


class Turn(NamedTuple):
    """One measurement of one optimizer, all within a few seconds."""

    others: float  # share of the machine that other processes took
    peaks: list[float]  # GF/s of each matrix product
    engine: float  # ms a run and step
    torch: float | None  # ms a run and step


def take_turns(
    settings: Settings,
    problem: Problem,
    precision: Precision,
    products: Sequence[Callable[[], float]],
) -> dict[str, list[Turn]]:
    """Measure products, engine and PyTorch by turns until enough are undisturbed."""
    rates = learning_rates(settings.rates)
    ours = OurSide(problem, rates, precision)
    theirs = None if why_no_torch() else TorchSide(problem, ours, precision)
    to_ms = 1e3 / (len(rates) * settings.steps)

    def turn(optimizer: str) -> Turn:
        with neighbours() as others:
            peaks = [product() for product in products]
            engine_s = seconds(ours.advance, optimizer, ours.start(optimizer), settings.steps)
            torch_s = None
            if theirs and optimizer in TORCH_OPTIMIZERS:
                torch_s = seconds(theirs.advance, theirs.start(optimizer), settings.steps)
        return Turn(others[0], peaks, to_ms * engine_s, torch_s and to_ms * torch_s)

    for optimizer in settings.optimizers:
        turn(optimizer)  # compiles, and warms up
    turns: dict[str, list[Turn]] = {optimizer: [] for optimizer in settings.optimizers}
    for round_ in range(settings.tries or 2 * settings.repeats):
        for optimizer in settings.optimizers[:: -1 if round_ % 2 else 1]:
            if sum(t.others <= QUIET for t in turns[optimizer]) < settings.repeats:
                turns[optimizer].append(turn(optimizer))
    return turns


def steps_by_turns(settings: Settings, problem: Problem, precision: Precision) -> str:
    """Items 1 to 3: peaks, the engine and PyTorch, alternated; a report in markdown."""
    products = matrix_products(problem, settings.rates, precision)
    turns = take_turns(settings, problem, precision, list(products.values()))
    rows, counted = [], []
    for optimizer, made in turns.items():
        quiet = [t for t in made if t.others <= QUIET]
        kept = quiet if len(quiet) >= FEWEST else made
        counted += kept
        times = [t.engine for t in kept]
        speed = [problem.flops_per_step / (1e-3 * ms) / GIGA for ms in times]
        peaks = zip(*(t.peaks for t in kept), strict=True)
        shares = [[100 * share for share in quotients(speed, peak)] for peak in peaks]
        theirs = [t.torch for t in kept if t.torch]
        versus = [why_no_torch() or "no twin"] * 2
        if theirs:
            versus = [spread(theirs), spread(quotients(theirs, times))]
        others = f"{100 * np.mean([t.others for t in kept]):.0f} %"
        rows.append(
            [optimizer, spread(times), spread(speed, 0)]
            + [*(spread(share, 0, " %") for share in shares), *versus]
            + [f"{len(kept)} of {len(made)}", others]
        )
    peaks = [[name, spread([t.peaks[i] for t in counted], 0)] for i, name in enumerate(products)]
    head = ["optimizer", "engine, ms", "GF/s", "of the square product", "of the task's product"]
    head += ["PyTorch, ms", "PyTorch / engine", "turns counted", "others' share"]
    return "\n\n".join(
        [
            f"**Precision {precision}.** Milliseconds are a run and step; {settings.rates} rates "
            f"{'one by one' if run_alone() else 'in one program'}; a turn takes {settings.steps} "
            f"steps. Turns of which other processes took over {QUIET:.0%} do not count, unless "
            f"fewer than {FEWEST} are left.",
            table(["matrix product", "GF/s"], peaks),
            table(head, rows),
        ]
    )


def agreement(settings: Settings, problem: Problem) -> str:
    """Item 8: both sides take the same steps of gradient descent."""
    if reason := why_no_torch():
        return f"Agreement with PyTorch: {reason}."
    rates = learning_rates(settings.rates)
    ours = OurSide(problem, rates, "float32")
    theirs = TorchSide(problem, ours, "float32")
    made = ours.advance("gd", ours.start("gd"), settings.steps)
    loss, weight = (np.concatenate(sums, axis=1) for sums in zip(*made, strict=True))
    means = np.asarray(loss[: settings.steps].sum(-1) / weight[: settings.steps].sum(-1)).T
    reference = theirs.advance(theirs.start("gd"), settings.steps).sum(-1).cpu().numpy()
    reference = reference / len(problem.batch(0).label)
    apart = np.abs(means / reference - 1).max(axis=1)
    verdict = "agree" if np.nanmax(apart) <= 1e-5 else "DO NOT AGREE"
    listed = ", ".join(f"{rate:.1e}: {a:.1e}" for rate, a in zip(rates, apart, strict=True))
    return (
        f"**Agreement.** Losses of {settings.steps} steps of gd from one start {verdict} with "
        f"PyTorch to 1e-5 relative; largest difference at each rate: {listed}."
    )


def recording(settings: Settings, problem: Problem) -> str:
    """Item 4: a sweep that looks at the default stops against one that looks at both ends."""
    steps = settings.walk_steps
    stops = {"default": default_stops(steps), "ends": (0, steps)}
    sweeps = {
        name: Sweep(problem, {"gd": learning_rates(settings.rates)}, steps, stops=at)
        for name, at in stops.items()
    }
    took = defaultdict(list)
    with neighbours() as others:
        for repeat in range(-1, settings.walk_repeats):  # the first is to warm up
            for name in sorted(sweeps, reverse=bool(repeat % 2)):
                spent = seconds(lambda name=name: run(sweeps[name]) and None)
                if repeat >= 0:
                    took[name].append(spent)
    return (
        f"**Recording.** A sweep of {steps} steps that measures bucket losses at its "
        f"{len(stops['default'])} default stops takes {spread(took['default'])} s, one that looks "
        f"only at both ends {spread(took['ends'])} s: ratio "
        f"{spread(quotients(took['default'], took['ends']), 3)}; others' share {others[0]:.0%}."
    )


def recompilation(problem: Problem) -> str:
    """Item 5: programs compiled by a first sweep, and by others of the same shape."""
    counts = {}
    for what, rates, seed in (
        ("first sweep", (1e-3, 1e-2), 0),
        ("new rates", (2e-3, 3e-2), 0),
        ("new seed", (2e-3, 3e-2), 1),
    ):
        with compilations() as found:
            run(Sweep(problem, {"gd": rates}, 4, seeds=(seed,)))
        counts[what] = found
    first, *later = (f"{what} {len(found)}" for what, found in counts.items())
    names = sorted({name for what in ("new rates", "new seed") for name in counts[what]})
    again = f" ({', '.join(names)})" if names else ""
    return f"**Programs compiled.** {first}, {', '.join(later)}{again}."


def import_times() -> str:
    """Item 6: in fresh processes, files in the page cache."""
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    found = {}
    for module in ("imbalance", "imbalance.training.engine"):
        times = [float(in_new_process(code.format(module))) for _ in range(6)][1:]
        found[module] = spread(times)
    return "**Import.** " + ", ".join(f"`{name}` {value} s" for name, value in found.items()) + "."


MEMORY = """
import resource, sys
from imbalance.problems import heavy_tailed_linear
from imbalance.training.memory import needed
from imbalance.training.plan import plans
from imbalance.training.plan import run_alone
from imbalance.training.precision import Precision
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

rates = tuple(10 ** (-5 + k / 2) for k in range(7))
sweep = Sweep(heavy_tailed_linear({m}), {{"{optimizer}": rates}}, 3, seeds=(0, 1, 2))
(plan,) = plans(sweep)
planned = needed(plan.alone.advance.compiled())
run(sweep)
try:  # what getrusage says contains the peak of the process this one was forked from
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
print(planned / 2**20, peak / 2**20)
"""


def memory(settings: Settings) -> str:
    """Item 7: peak memory of 21 runs."""
    found = []
    for optimizer in ("gd", "adam"):
        answer = in_new_process(MEMORY.format(m=settings.memory_m, optimizer=optimizer))
        planned, peak = (float(number) for number in answer.split())
        found.append(f"{optimizer} {peak:.0f} MiB (of which the program {planned:.0f} MiB)")
    return (
        f"**Memory.** Peak of a process that makes 21 runs (7 rates, 3 seeds) of 3 steps, one by "
        f"one on a CPU, at m = {settings.memory_m}: {', '.join(found)}."
    )


def in_new_process(code: str) -> str:
    """What ``code`` prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


# The report -------------------------------------------------------------------------------------


def main(settings: Settings) -> None:
    problem = heavy_tailed_linear(settings.m)
    backend = jax.default_backend()
    precisions = settings.precisions or get_args(Precision)[: 1 + (backend == "gpu")]
    num_examples, num_inputs = problem.shapes.input.shape
    versions = f"jax {jax.__version__}"
    if torch is not None:
        versions += f", torch {torch.__version__}"
    command = shlex.join(["python", "benchmarks/speed_linear.py", *sys.argv[1:]])
    parts = [
        f"`{command}` on {os.cpu_count()} cores, {jax.devices()[0].device_kind}; {versions}; "
        f"n = {num_examples}, d = {num_inputs}, c = {len(problem.counts)}. "
        "Medians with [smallest, largest]."
    ]
    print(parts[0], "\n", flush=True)
    jobs = [partial(steps_by_turns, settings, problem, precision) for precision in precisions]
    jobs += [partial(agreement, settings, problem)]
    jobs += [partial(recompilation, problem)]  # before others compile the same programs
    if settings.walk_steps:
        jobs += [partial(recording, settings, problem)]
    jobs += [import_times]
    if settings.memory_m:
        jobs += [partial(memory, settings)]
    for job in jobs:
        parts.append(job())
        print(parts[-1], "\n", flush=True)
    if settings.write:
        title = f"Linear softmax, m = {settings.m}, {backend}"
        write_section(title, "\n\n".join(parts))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
