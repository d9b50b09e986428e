"""Whether two processes of one thread beat one process of two, on each kind of task.

An experiment is run as a user runs it, in processes of its own and into an empty folder, by turns
with ``--jobs 1`` and ``--jobs 2``. Tracing and compiling are part of the time, which is wall time.

Run:    python benchmarks/speed_workers.py       (about ten minutes on two quiet cores)
Writes: a section of benchmarks/RESULTS.md, with --write
"""

import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
import tyro
from report import quotients, seconds, spread, table, write_section

SCRIPT = """
from matplotlib.figure import Figure

from imbalance import Sweep, problems
from imbalance.models.transformer import post_norm
from imbalance.problems import language, vision
from imbalance.reporting.experiment import Experiment, main

def digits():
    return vision.imbalanced_digits(vision.rendered(160), 5, (6, 12))

def transformer():
    corpus = language.docstrings(20_000)
    size = {{"width": 128, "mlp_width": 128, "num_heads": 4, "dropout": 0.0, "mlp_dropout": 0.0}}
    return language.next_token_problem(corpus, post_norm(corpus.num_classes, **size), 32)

problem = {problem}
rates = {{"gd+m": (1e-3, 1e-2, 1e-1), "adam": (1e-4, 1e-3, 1e-2)}}
EXPERIMENT = Experiment(
    "task",
    lambda scale: {{"": Sweep(problem, rates, {steps}, microbatches={microbatches})}},
    lambda dataset: Figure(),
    lambda dataset: [],
)
if __name__ == "__main__":
    main(EXPERIMENT)
"""
TASKS = {  # name -> problem, steps, microbatches
    "linear, m = 6": ("problems.heavy_tailed_linear(6)", 2000, 1),
    "linear, m = 7": ("problems.heavy_tailed_linear(7)", 800, 1),
    "linear, m = 8": ("problems.heavy_tailed_linear(8)", 150, 1),
    "CNN, 3,200 images": ("digits()", 10, 8),
    "transformer, 20,000 words": ("transformer()", 6, 1),
}


@dataclass(frozen=True)
class Settings:
    """How often."""

    repeats: int = 3
    write: bool = False
    """Write the section of RESULTS.md."""


def measured(name: str, settings: Settings) -> list[str]:
    """A row of the table: six runs of one task with one process and with two."""
    problem, steps, microbatches = TASKS[name]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "task.py"
        script.write_text(SCRIPT.format(problem=problem, steps=steps, microbatches=microbatches))

        def run(jobs: int, turn: int) -> None:
            command = [sys.executable, script, "--jobs", str(jobs)]
            command += ["--results", f"{folder}/{jobs}-{turn}", "--figures", folder]
            subprocess.run(command, check=True, capture_output=True)

        took = {1: [], 2: []}
        for turn in range(settings.repeats):
            for jobs in (1, 2) if turn % 2 else (2, 1):
                took[jobs].append(seconds(run, jobs, turn))
    return [name, spread(took[1], 1), spread(took[2], 1), spread(quotients(took[1], took[2]))]


def main(settings: Settings) -> None:
    command = shlex.join(["python", "benchmarks/speed_workers.py", *sys.argv[1:]])
    rows = []
    for name in TASKS:
        rows.append(measured(name, settings))
        print(*rows[-1], flush=True)
    text = (
        f"`{command}` on {os.cpu_count()} cores; jax {jax.__version__}. Seconds of six runs, with "
        "imports, tracing and compiling; medians with [smallest, largest].\n\n"
    )
    head = ["task", "one process", "two processes", "one / two"]
    if settings.write:
        write_section("Workers", text + table(head, rows))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
