"""The work of an experiment: which of its runs are missing, and what is made of them all."""

import functools
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr

from imbalance.reporting import evidence
from imbalance.reporting.experiment import Experiment, Options
from imbalance.reporting.part import Part
from imbalance.storage import agendas, datasets, files, joining
from imbalance.storage.store import Store
from imbalance.training.plan import Plan, Run, plans
from imbalance.training.running import known_in, stored
from imbalance.training.search import expected_flops, wanted

SECONDS_A_PROGRAM = 1.5  # of tracing and compiling, on a machine of 2025
EFFICIENCY = 0.6  # of steps, beside a large matrix product
SECONDS_A_PICTURE = 2.0


@dataclass(frozen=True)
class Work:
    """An experiment at one scale: what it wants and what is there, as far as is known now.

    Attributes:
      path: of the script.
      experiment: that it declares.
      plans: of its sweeps, by the value of ``over``.
      runs: that are wanted, likewise.
      settled: whether these are all; while learning rates are searched, more follow.
      missing: runs to make: that the store does not have, of the optimizers asked for.
      absent: optimizers that miss runs which were not asked for.
      joined: whether the stored dataset is of just these runs.
      elsewhere: whether the stored dataset is to be drawn though it is of other runs than these.
    """

    path: Path
    experiment: Experiment
    plans: dict[Any, list[Plan]]
    runs: dict[Any, list[Run]]
    settled: bool
    missing: list[Run]
    absent: tuple[str, ...]
    joined: bool
    elsewhere: bool = False

    @property
    def name(self) -> str:
        """The experiment's."""
        return self.experiment.name

    @property
    def keys(self) -> list[str]:
        """Of all runs, in their order."""
        return [run.key for group in self.runs.values() for run in group]


def plans_of(experiment: Experiment, part: Part) -> dict[Any, list[Plan]]:
    """The plans of a part of an experiment by the value of ``over``.

    Raises:
      ValueError: for an optimizer in ``part.only`` or ``part.rates`` that it does not compare, or
        several sweeps without a name for their difference.
    """
    sweeps = experiment.sweeps(part.scale)
    if len(sweeps) > 1 and not experiment.over:
        raise ValueError(
            f"{experiment.name} has {len(sweeps)} sweeps; say what differs: Experiment(over=...)."
        )
    known = {optimizer for sweep in sweeps.values() for optimizer in sweep.learning_rates}
    for name in part.only:
        if name not in known:
            raise ValueError(
                f"--only {name}: {experiment.name} has no such optimizer; it compares "
                f"{', '.join(sorted(known))}."
            )
    return {value: plans(part.cut(sweep)) for value, sweep in sweeps.items()}


def wanted_of(found: Mapping[Any, list[Plan]], store: Store) -> tuple[dict[Any, list[Run]], bool]:
    """The runs of an experiment by the value of ``over``, and whether these are all."""
    chosen = {value: wanted(group, known_in(store)) for value, group in found.items()}
    runs = {value: group for value, (group, _) in chosen.items()}
    return runs, all(settled for _, settled in chosen.values())


def missing_of(
    runs: Mapping[Any, list[Run]], store: Store, only: Sequence[str]
) -> tuple[list[Run], list[Run]]:
    """Runs that the store does not have: those of the optimizers asked for, and the others."""
    every = {run.key: run for group in runs.values() for run in group}
    lacking = [run for key, run in every.items() if not store.has(key)]
    asked = [run for run in lacking if not only or run.plan.name in only]
    return asked, [run for run in lacking if only and run.plan.name not in only]


def resolve(path: Path, experiment: Experiment, options: Options) -> Work:
    """Plan an experiment and look up what is there.

    Raises:
      ValueError, OSError: as `plans_of`, or if the store cannot be read.
    """
    found = plans_of(experiment, options)
    return renewed(Work(path, experiment, found, {}, False, [], (), False), options)


def renewed(work: Work, options: Options) -> Work:
    """The work as it stands now that more runs may be there."""
    store = Store(options.results / "runs")
    runs, settled = wanted_of(work.plans, store)
    missing, others = missing_of(runs, store, options.only)
    if options.redraw:
        missing, others = [], missing + others
    absent = tuple(sorted({run.plan.name for run in others}))
    work = replace(work, runs=runs, settled=settled, missing=missing, absent=absent, joined=False)
    place = datasets.dataset_path(work.name, options.label, options.results)
    if settled and not missing and not absent:
        work = replace(work, joined=datasets.stored_runs(place) == work.keys)
    elif options.redraw and datasets.stored_runs(place):
        # Made on another kind of device, such as the GPUs of a cluster, or declared otherwise.
        work = replace(work, settled=True, absent=(), joined=True, elsewhere=True)
    return work


def tell_agenda(work: Work, options: Options) -> None:
    """Tell what is wanted, for `imbalance status`.

    Raises:
      OSError: if it cannot be written.
    """
    runs = {
        run.key: agendas.Wanted(
            run.plan.name, float(run.learning_rate), int(run.seed), run.plan.steps, run.plan.flops
        )
        for group in work.runs.values()
        for run in group
        if not options.only or run.plan.name in options.only
    }
    agenda = agendas.Agenda(runs, work.settled, following(work), time.time())
    agendas.write(work.name, options.label, options.results, agenda)


def size(works: Sequence[Work]) -> int:
    """Bytes that missing runs and joined datasets will take, about."""
    return 2 * sum(run.plan.bytes for work in works for run in work.missing)


def flops(works: Sequence[Work]) -> float:
    """Floating-point operations that are still to be done, about where searches go on."""
    missing = sum({run.key: run.plan.flops for work in works for run in work.missing}.values())
    return missing + sum(map(following, works))


def following(work: Work) -> float:
    """Operations of runs that will follow those that are missing now, about."""
    if work.settled or not work.missing:
        return 0.0
    found = {
        id(run.plan)
        for group in work.runs.values()
        for run in group
        if run.seed not in run.plan.sweep.seeds
    }
    plans = (plan for group in work.plans.values() for plan in group)
    return sum(expected_flops(plan) for plan in plans if id(plan) not in found)


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


def join_runs(work: Work, options: Options) -> None:
    """Join the runs, and keep what is shown of them beside the pictures.

    Nothing is wanted any more, and no failure counts.

    Raises:
      OSError: if it cannot be written.
    """
    dataset, place = _dataset(work, options), evidence.data_path(work.name, options)
    if place is not None:
        evidence.keep(dataset, place)
    if not work.elsewhere:
        agendas.remove(work.name, options.label, options.results)


def _dataset(work: Work, options: Options) -> xr.Dataset:
    """The joined dataset, from its file or anew from the store."""
    place = datasets.dataset_path(work.name, options.label, options.results)
    if work.joined:
        return datasets.read(place)
    store, over = Store(options.results / "runs"), work.experiment.over
    parts = []
    for value, group in work.runs.items():
        part = stored(store, group)
        parts.append(part.expand_dims({over: [value]}) if over else part)
    joined = joining.concat(parts, over) if over else parts[0]
    attrs = {
        "experiment": work.name,
        "scale": options.scale,
        "precision": options.precision,
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
