"""What the attacked processes make: sweeps of a moment, a record, a command."""

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from attacks.attempts import hush
from imbalance.analysis.streaming import LossByClass
from imbalance.problems import heavy_tailed_linear, weighted_quadratic
from imbalance.reporting.experiment import Experiment, Options
from imbalance.reporting.plots import panels
from imbalance.reporting.reproduce import carry_out
from imbalance.storage.records import read_record
from imbalance.training.sweep import Sweep

CLASSES = 50  # of records


def short_sweep() -> Sweep:
    """Twelve runs of a moment each."""
    return replace(few_runs(), seeds=tuple(range(6)))


def few_runs() -> Sweep:
    """Four of them."""
    return Sweep(weighted_quadratic(5), {"gd": (0.5, 0.25)}, 4, seeds=(0, 1))


def long_sweep(steps: int) -> Sweep:
    """One run that draws its batches at random: going on must go on with the draws."""
    return Sweep(heavy_tailed_linear(4), {"adam": (0.01,)}, steps, batch_size=16)


def draw(dataset: xr.Dataset):
    figure, axes = panels(1, 1)
    axes[0, 0].plot(dataset["step"], dataset["loss"].isel(learning_rate=0, seed=0).T)
    return figure


EXPERIMENT = Experiment("tiny", lambda scale: {"": few_runs()}, draw, lambda dataset: [])


def command_options(folder: Path) -> Options:
    return Options("smoke", jobs=1, results=folder / "results", figures=folder / "figures")


def bits(dataset: xr.Dataset) -> dict[str, Any]:
    """All numbers of a dataset, for comparison bit by bit."""
    return {
        str(name): (values.dims, values.dtype.str, values.values.tobytes())
        for name, values in dataset.variables.items()
    }


def losses_at(step: int) -> LossByClass:
    random = np.random.default_rng(step)
    losses = LossByClass(CLASSES)
    losses.update(random.exponential(1, 200), random.integers(0, CLASSES, 200))
    return losses


def right_steps(path: Path, number: int) -> bool:
    """Whether a record holds steps 0, 1, ... and no other number."""
    _, steps = read_record(path)
    return list(steps) == list(range(number)) and all(
        np.array_equal(losses.moments, losses_at(step).moments) for step, losses in steps.items()
    )


def make_command(folder: Path) -> None:
    hush()
    tqdm.set_lock(threading.RLock())  # its own leaves a semaphore behind where a process is killed
    os._exit(carry_out({Path("tiny.py"): EXPERIMENT}, command_options(folder)))
