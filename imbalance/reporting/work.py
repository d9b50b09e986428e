"""The work of an experiment: which of its runs are missing, and what is made of them all."""

import functools
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import xarray as xr

from imbalance.reporting.claims import Claim
from imbalance.reporting.experiment import Experiment, Options
from imbalance.reporting.plots import STYLE
from imbalance.storage import datasets, files
from imbalance.storage.store import Store
from imbalance.training.plan import Run, plans, runs
from imbalance.training.running import stored

SECONDS_A_PROGRAM = 1.5  # of tracing and compiling, on a machine of 2025
EFFICIENCY = 0.6  # of steps, beside a large matrix product
SECONDS_A_PICTURE = 2.0


@dataclass(frozen=True)
class Work:
    """An experiment at one scale, resolved.

    Attributes:
      path: of the script.
      experiment: that it declares.
      runs: by the value of ``over``.
      missing: those to make: that the store does not have, of the optimizers asked for.
      absent: optimizers that miss runs which were not asked for.
      joined: whether the stored dataset is of just these runs.
    """

    path: Path
    experiment: Experiment
    runs: dict[Any, list[Run]]
    missing: list[Run]
    absent: tuple[str, ...]
    joined: bool

    @property
    def name(self) -> str:
        """The experiment's."""
        return self.experiment.name

    @property
    def keys(self) -> list[str]:
        """Of all runs, in their order."""
        return [run.key for group in self.runs.values() for run in group]


def runs_of(experiment: Experiment, options: Options) -> dict[Any, list[Run]]:
    """The runs of an experiment by the value of ``over``.

    Raises:
      ValueError: for an optimizer in ``options.only`` that it does not compare, or several sweeps
        without a name for their difference.
    """
    sweeps = experiment.sweeps(options.scale)
    if len(sweeps) > 1 and not experiment.over:
        raise ValueError(
            f"{experiment.name} has {len(sweeps)} sweeps; say what differs: Experiment(over=...)."
        )
    known = {optimizer for sweep in sweeps.values() for optimizer in sweep.learning_rates}
    for name in options.only:
        if name not in known:
            raise ValueError(
                f"--only {name}: {experiment.name} has no such optimizer; it compares "
                f"{', '.join(sorted(known))}."
            )
    return {value: runs(plans(sweep)) for value, sweep in sweeps.items()}


def resolve(path: Path, experiment: Experiment, options: Options) -> Work:
    """Plan an experiment and look up what is there.

    Raises:
      ValueError, OSError: as `runs_of`, or if the store cannot be read.
    """
    found = runs_of(experiment, options)
    every = {run.key: run for group in found.values() for run in group}
    place = datasets.dataset_path(experiment.name, options.scale, options.results)
    asked = {key for key, run in every.items() if not options.only or run.plan.name in options.only}
    if options.overwrite and not options.redraw:
        return Work(
            path, experiment, found, [every[key] for key in every if key in asked], (), False
        )
    if datasets.stored_runs(place) == [run.key for group in found.values() for run in group]:
        return Work(path, experiment, found, [], (), True)
    store = Store(options.results / "runs")
    lacking = {key: run for key, run in every.items() if not store.has(key)}
    missing = [] if options.redraw else [run for key, run in lacking.items() if key in asked]
    absent = {run.plan.name for run in lacking.values()} - {run.plan.name for run in missing}
    return Work(path, experiment, found, missing, tuple(sorted(absent)), False)


def size(works: Sequence[Work]) -> int:
    """Bytes that missing runs and joined datasets will take, about."""
    return 2 * sum(run.plan.bytes for work in works for run in work.missing)


def flops(works: Sequence[Work]) -> float:
    """Floating-point operations that are still to be done."""
    return sum({run.key: run.plan.flops for work in works for run in work.missing}.values())


def seconds(work: Work, jobs: int) -> float:
    """About how long an experiment takes on this machine."""
    programs = len({(run.plan.digest) for run in work.missing}) + bool(work.missing)
    steps = flops([work]) / (EFFICIENCY * _speed())
    alone = SECONDS_A_PROGRAM * programs
    return steps + alone / jobs + SECONDS_A_PICTURE


@functools.cache
def _speed() -> float:
    """Floating-point operations a second of a large matrix product."""
    product = jax.jit(lambda a: a @ a).lower(jnp.ones((1024, 1024))).compile()
    square, best = jnp.ones((1024, 1024)), math.inf
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(product(square))
        best = min(best, time.perf_counter() - began)
    return 2 * 1024**3 / best


def finish(work: Work, options: Options) -> tuple[list[Claim], Path]:
    """Join the runs, draw the figure and check the claims.

    Raises:
      Exception: whatever drawing or checking raises.
    """
    dataset = _dataset(work, options)
    path = options.figure_path(work.name)
    with matplotlib.rc_context(STYLE):
        figure = work.experiment.draw(dataset)
        kinds = {".png": {"Software": None}}
        if options.pdf:
            kinds[".pdf"] = {"CreationDate": None}
        for kind, metadata in kinds.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind[1:], metadata=metadata)
            files.write_as_it_is(path.with_suffix(kind), buffer.getvalue())
    return work.experiment.claims(dataset), path


def _dataset(work: Work, options: Options) -> xr.Dataset:
    """The joined dataset, from its file or anew from the store."""
    place = datasets.dataset_path(work.name, options.scale, options.results)
    if work.joined:
        return datasets.read(place)
    store, over = Store(options.results / "runs"), work.experiment.over
    parts = []
    for value, group in work.runs.items():
        part = stored(store, group)
        parts.append(part.expand_dims({over: [value]}) if over else part)
    joined = datasets.concat(parts, over) if over else parts[0]
    attrs = {
        "experiment": work.name,
        "scale": options.scale,
        "over": over or "",
        "runs": json.dumps(work.keys),
        "wall_seconds": sum(part.attrs["wall_seconds"] for part in parts),
        **_together(parts),
    }
    joined = datasets.described(joined)
    with files.locked(place, wait=True):
        datasets.save(joined, place, attrs)
    return datasets.read(place)  # what others will read


def _together(parts: Sequence[xr.Dataset]) -> dict[str, str]:
    """Settings of all sweeps, and everyone who made a run."""
    makers = []
    for part in parts:
        makers += [one for one in json.loads(part.attrs["provenance"]) if one not in makers]
    settings = [json.loads(part.attrs["settings"]) for part in parts]
    return {"settings": json.dumps(settings), "provenance": json.dumps(makers)}
