"""What the paper's sizes cost: runs, memory and GPU hours of every experiment, from its plans.

No data are needed and nothing is run: data sets that are not at hand are replaced by stand-ins of
their size, on which sweeps are planned. A test compares the table of docs/paper.md with this.

Operations are those of the products of a step, and of a forward pass for each measurement. An hour
is that of one H100 at a share of its peak: half of the 67 TFLOP/s that it has in float32, a third
of the 989 in bfloat16, in which Figure 1 and most networks of ImageNet compute. Memory is what XLA
plans for a step of one run, on a CPU; it is not compiled for the test.

Run:    python benchmarks/paper_sizes.py            (a minute; with --memory some more)
"""

import contextlib
import functools
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
import tyro

from imbalance.data import images
from imbalance.data.published import PUBLISHED
from imbalance.data.resampling import heavy_tailed_counts, small_counts
from imbalance.data.zipf import labels_from_counts, uniform_counts
from imbalance.models.pixels import Pixels
from imbalance.problems import language, pictures, vision
from imbalance.reporting.experiment import load_experiment
from imbalance.training import memory
from imbalance.training.plan import Plan, plans
from imbalance.training.sweep import Sweep

ROOT = Path(__file__).resolve().parents[1]
USEFUL = {"float32": 67e12 / 2, "bfloat16": 989e12 / 3}  # operations a second
IN_BFLOAT16 = (
    "fig1_language",
    "fig3_imagenet",
    "vision_layernorm",
    "vision_reweighted",
    "vision_transformer",
)
TEXTS = {  # tokens of the training and the validation text, and classes
    "ptb": (924_200, 73_000, 9_922),
    "tiny ptb": (73_000, 82_000, 9_922),
    "wikitext-2": (2_088_628, 217_646, 28_782),
    "wikitext-103": (1_000_000, 230_000, 50_000),
}
LEFT_OUT = {"wikitext-103": 107_262 * 1_024 - 1_000_000}  # tokens that the stand-in lacks
BYTES_A_TOKEN = 12  # input, label and weight


class Cost(NamedTuple):
    """What an experiment costs at the paper's size.

    Attributes:
      steps: Steps of a run, of each sweep.
      grids: Exponents of the first and last learning rate of each optimizer, and their number; of
        the first sweep that has it.
      stops: Most steps at which something is measured.
      seeds: Seeds whose results are shown.
      runs: Runs of all sweeps, with one best rate for each optimizer to confirm.
      hours: Hours of one H100.
    """

    steps: tuple[int, ...]
    grids: dict[str, tuple[float, float, int]]
    stops: int
    seeds: int
    runs: int
    hours: float


def stand_in(name: str, classes: int | None = None) -> language.Corpus:
    """A corpus of the size of a published one, whose classes are as frequent as by Zipf's law."""
    train, validation, words = TEXTS[name]
    classes = words if classes is None else classes
    rank = np.arange(1, classes + 1)
    shares = np.cumsum(1 / rank) / np.sum(1 / rank)
    random = np.random.default_rng(0)

    def tokens(number: int) -> np.ndarray:
        return np.minimum(np.searchsorted(shares, random.random(number)), classes - 1).astype("i4")

    return language.Corpus(name, {}, classes, tokens(train), tokens(validation))


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Within it every published data set is there, as a stand-in of its size."""

    @functools.cache
    def text(folder: Path, tokenizer: Any = None) -> language.Corpus:
        return stand_in(folder.name, getattr(tokenizer, "vocabulary_size", None))

    @functools.cache
    def digits(folder: Path, num_train: int | None = None) -> vision.Digits:
        label = np.arange(60_000, dtype=np.int32) % 10
        image = np.zeros((60_000, 28, 28), np.uint8)
        image[:, 0, 0] = label
        found = images.split(images.Images(image, label))
        train = found.train.take(np.arange(num_train or len(found.train.label)))
        return vision.Digits("mnist", {}, images.Split(train, found.val))

    @functools.cache
    def imagenet(folder: Path, subset: str, side: int = 224) -> pictures.Pictures:
        counts = {
            "full": uniform_counts(PUBLISHED["imagenet"].images["train"], 1_000),
            "small": small_counts(),
            "heavy_tailed": heavy_tailed_counts(),
        }[subset]
        label = labels_from_counts(counts)
        found = images.Images(np.zeros((len(label), side, side, 3), np.uint8), label)
        pixels = Pixels((0.5,) * 3, (0.25,) * 3)
        return pictures.Pictures("imagenet", {}, found, len(counts), pixels)

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patched:
        for name in PUBLISHED:
            (Path(folder) / name).mkdir()
        for where, name, other in (
            (language, "text_folder", text),
            (language, "tiny_folder", lambda folder: stand_in(f"tiny {folder.name}")),
            (vision, "mnist", digits),
            (pictures, "imagenet", imagenet),
        ):
            patched.enter_context(mock.patch.object(where, name, other))
        patched.enter_context(mock.patch.dict(os.environ, {"IMBALANCE_DATA": folder}))
        yield


def sweeps_of(name: str) -> list[Sweep]:
    """The sweeps of an experiment at the paper's size, on stand-ins."""
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    with stand_ins():
        return list(experiment.sweeps("paper").values())


def cost(name: str, sweeps: list[Sweep]) -> Cost:
    """What an experiment costs.

    Args:
      name: Name of the experiment.
      sweeps: Sweeps of it, as `sweeps_of` gives them.
    """
    grids = {}
    for sweep in sweeps:
        for optimizer, rates in sweep.learning_rates.items():
            ends = (round(float(np.log10(end)), 2) for end in (rates[0], rates[-1]))
            grids.setdefault(optimizer, (*ends, len(rates)))
    found = [(plan, number_of_runs(plan)) for sweep in sweeps for plan in plans(sweep)]
    operations = sum(number * operations_of(plan) for plan, number in found)
    speed = USEFUL["bfloat16" if name in IN_BFLOAT16 else "float32"]
    return Cost(
        steps=tuple(dict.fromkeys(sweep.steps for sweep in sweeps)),
        grids=grids,
        stops=max(len(stops) for plan, _ in found for _, stops in plan.measurements),
        seeds=max(len((sweep.confirm or sweep).seeds) for sweep in sweeps),
        runs=sum(number for _, number in found),
        hours=operations / speed / 3600,
    )


def number_of_runs(plan: Plan) -> int:
    """Runs of an optimizer: its grid, and one best rate on fresh seeds."""
    confirm = plan.sweep.confirm
    searched = len(plan.learning_rates) * len(plan.sweep.seeds)
    return searched + (len(confirm.seeds) if confirm else 0)


def operations_of(plan: Plan) -> float:
    """Operations of a run: its steps, and a third of a step's for each row measured."""
    a_row = plan.problem.flops_per_step / plan.problem.num_rows / 3
    measured = plan.sweep.measured_rows or plan.problem.num_rows
    held = len(plan.problem.validation(0).weight) if plan.validated else 0
    looked_at = sum(
        len(stops) * (held if probe.validation else measured) for probe, stops in plan.measurements
    )
    return plan.flops + a_row * looked_at


def planned_memory(sweeps: list[Sweep]) -> int:
    """Bytes of a step of one run, of the optimizer, data and batch that are largest."""

    def size(plan: Plan) -> tuple[int, int]:
        held = jax.tree.leaves((plan.programs(1).start.out_shapes, plan.row_shapes.training))
        in_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in held)
        return in_bytes, plan.microbatch_rows

    largest = max((plan for sweep in sweeps for plan in plans(sweep)), key=size)
    corpus = dict(largest.problem.settings).get("corpus", {}).get("name", "")
    more = BYTES_A_TOKEN * LEFT_OUT.get(corpus, 0)
    return memory.needed(largest.programs(1).advance.compiled()) + more


def row(name: str, cost: Cost) -> str:
    """The numbers of an experiment as cells of a Markdown table: all of them are checked."""
    steps = ", ".join(f"{number:,}" for number in cost.steps)
    grids = ", ".join(grid(*item) for item in cost.grids.items())
    hours = f"{cost.hours:.1f}" if cost.hours >= 0.05 else "< 0.1"
    cells = (f"`{name}`", grids, steps, f"{cost.stops:,}", cost.seeds, cost.runs, hours)
    return f"| {' | '.join(map(str, cells))} |"


def grid(optimizer: str, ends: tuple[float, float, int]) -> str:
    """A grid as ``gd+m -3..-1 (5)``; one rate as ``gd+m -3``."""
    first, last, number = ends
    return f"{optimizer} {first:g}" + (f"..{last:g} ({number})" if number > 1 else "")


@dataclass(frozen=True)
class Settings:
    """Which experiments."""

    only: tuple[str, ...] = ()
    """Names of experiments; left out: all."""
    memory: bool = False
    """Compile the programs and print what they need, too."""


def main(settings: Settings) -> None:
    """Print the rows of the table."""
    every = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))
    for name in settings.only or every:
        sweeps = sweeps_of(name)
        more = f" {planned_memory(sweeps) / 2**30:.1f} GiB |" if settings.memory else ""
        print(row(name, cost(name, sweeps)) + more, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings))
