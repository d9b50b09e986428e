"""Running sweeps: what the store does not have is made, and all of it joined with its labels."""

import json
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from imbalance.analysis.dataset import bucket_variables
from imbalance.storage import files, joining
from imbalance.storage.datasets import RUN_DIMS, STATUS
from imbalance.storage.notes import Note
from imbalance.storage.provenance import provenance
from imbalance.storage.store import Store
from imbalance.training.making import Maker, Stopped, Watch
from imbalance.training.plan import Plan, Run, plans, run_alone, runs
from imbalance.training.search import Known, wanted
from imbalance.training.sweep import Sweep

WAIT_SECONDS = 0.5  # between two looks at runs that other processes make
NOTE_SECONDS = 3.0  # between two words in a lock of how far its runs are


def dims_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Axes of a run's arrays."""
    dims: dict[str, tuple[str, ...]] = {"train_loss": ("train_step",), "status": ()}
    for probe, _ in plan.measurements:
        dims |= {name: (probe.step_dim, *axes) for name, axes in probe.dims.items()}
    return dims


def piece(plan: Plan, seed: int, made: Sequence[tuple[float, Any]]) -> xr.Dataset:
    """Runs of one optimizer and seed with their labels: a dataset to `joining.join`.

    Args:
      plan: of the runs.
      seed: of the runs.
      made: learning rates, and the arrays of each run by name.
    """
    dims, problem = dims_of(plan), plan.problem
    variables = {
        name: (
            (*RUN_DIMS, *dims[name]),
            np.stack([np.asarray(arrays[name]) for _, arrays in made])[None, :, None],
        )
        for name in dims
    }
    coords: dict[str, Any] = {
        "optimizer": [plan.name],
        "label": ("optimizer", [plan.optimizer.label]),
        "colour": ("optimizer", [plan.optimizer.colour or ""]),
        "momentum": ("optimizer", [plan.optimizer.momentum]),
        "learning_rate": [rate for rate, _ in made],
        "seed": [seed],
        "train_step": np.arange(plan.steps),
        "bucket": np.arange(problem.buckets.num_buckets),
        "class": np.arange(len(problem.counts)),
    }
    for probe, stops in plan.measurements:
        coords |= {probe.step_dim: np.asarray(stops), **probe.coords}
    found = xr.Dataset(variables, coords, {"wall_seconds": 0.0})
    found = found.assign(bucket_variables(problem.counts, problem.buckets))
    for name in ("loss", "bucket_loss", "train_loss"):
        found[name].attrs["units"] = "nats"
    found["status"].attrs.update(STATUS)
    found["train_loss"].attrs["rows"] = plan.sweep.batch_size or "all"
    return found


def grouped(chosen: Sequence[Run]) -> list[list[Run]]:
    """Runs that share a program, where runs do: those of one optimizer and seed."""
    if run_alone():
        return [[run] for run in chosen]
    groups: dict[Any, list[Run]] = {}
    for run in chosen:
        groups.setdefault((id(run.plan), run.seed), []).append(run)
    return list(groups.values())


def device() -> str:
    """The devices in words."""
    return f"{len(jax.devices())} x {jax.devices()[0].device_kind} ({jax.default_backend()})"


def make_in(
    store: Store, chosen: Sequence[Run], watch: Watch
) -> Generator[tuple[list[Run], bool], None, list[Run]]:
    """Make the runs that the store does not have.

    Args:
      store: of finished runs.
      chosen: runs, in the order in which they are wanted.
      watch: what is told and asked on the way.

    Yields:
      Runs that are stored now, and whether this process made them.

    Returns:
      Runs that other processes are making.

    Raises:
      MemoryError, OSError, Stopped: as `Maker.make` and `Store.write`.
    """
    maker, held = Maker(watch), []
    for group in grouped(chosen):
        if watch.stopping():
            raise Stopped
        try:
            with store.making(group[0].key) as say:
                todo = [run for run in group if not store.has(run.key)]
                if todo:
                    maker.watch = _saying(say, watch, todo)
                    _commit(store, todo, maker)
        except files.Held:
            held += group
        else:
            yield group, bool(todo)
    return held


def _saying(say: Callable[[str], None], watch: Watch, todo: Sequence[Run]) -> Watch:
    """The watch, which also tells those who look at the lock how far these runs are."""
    note = Note([run.key for run in todo], time.time())
    total, done, said = sum(run.plan.flops for run in todo), 0.0, -math.inf

    def report(flops: float) -> None:
        nonlocal note, done, said
        watch.report(flops)
        done += flops
        share = min(done / total, 1.0) if total else 1.0
        if said == -math.inf:  # what lay behind a checkpoint, or nothing
            note = replace(note, began_with=share)
        if time.monotonic() - said > NOTE_SECONDS:
            said = time.monotonic()
            note = replace(note, done=share, at=time.time())
            say(note.to_line())

    say(note.to_line())
    return Watch(report, watch.stopping, watch.workers)


def _make_all(store: Store, chosen: Sequence[Run]) -> list[Run]:
    """As `make_in` without a word in between."""
    making = make_in(store, chosen, Watch())
    while True:
        try:
            next(making)
        except StopIteration as end:
            return end.value


def _commit(store: Store, todo: list[Run], maker: Maker) -> None:
    plan, began = todo[0].plan, time.monotonic()
    checkpoint = store.checkpoint(todo[0].key)
    made = maker.make(todo, checkpoint)
    seconds = (time.monotonic() - began) / len(todo)
    dims = dims_of(plan)
    for run, arrays in zip(todo, made, strict=True):
        attrs = {
            "wall_seconds": seconds,
            "device": device(),
            "settings": plan.sweep.settings()
            | {"optimizer": plan.name, "learning_rate": run.learning_rate, "seed": run.seed},
            "provenance": provenance(),
        }
        store.write(run.key, {name: (dims[name], arrays[name]) for name in dims}, attrs)


def stored(
    store: Store, chosen: Sequence[Run], read: Mapping[str, xr.Dataset] | None = None
) -> xr.Dataset:
    """Runs of one sweep, joined from the store.

    Args:
      store: that has all of them.
      chosen: the runs.
      read: these runs by their keys, where they have been read already.

    Raises:
      FileNotFoundError, Damaged: as `Store.read`.
    """
    read = {run.key: read[run.key] if read else store.read(run.key) for run in chosen}
    made_by = {}
    for one in read.values():
        who = json.loads(one.attrs["provenance"]) | {"device": one.attrs["device"]}
        when = who.pop("created_at")
        made_by.setdefault(json.dumps(who, sort_keys=True), []).append(when)
    makers = [
        {**json.loads(who), "runs": len(times), "first": min(times), "last": max(times)}
        for who, times in made_by.items()
    ]
    seconds = sum(one.attrs["wall_seconds"] for one in read.values())
    return _joined(chosen, read, seconds, makers)


def known_in(store: Store) -> Known:
    """What a store knows of runs; each is read once."""
    read: dict[str, xr.Dataset] = {}

    def known(chosen: Sequence[Run]) -> xr.Dataset | None:
        for run in chosen:
            if run.key not in read:
                if not store.has(run.key):
                    return None
                read[run.key] = store.read(run.key)
        return stored(store, chosen, read)

    return known


def _joined(
    chosen: Sequence[Run], made: Mapping[str, Any], seconds: float, makers: list[dict[str, Any]]
) -> xr.Dataset:
    """Runs of one sweep with their labels, from the arrays of each by its key."""
    groups: dict[Any, list[Run]] = {}
    for run in chosen:
        groups.setdefault((id(run.plan), run.seed), []).append(run)
    joined = joining.join(
        piece(group[0].plan, group[0].seed, [(run.learning_rate, made[run.key]) for run in group])
        for group in groups.values()
    )
    sweep = chosen[0].plan.sweep
    searched = {} if sweep.confirm is None else {"search_seeds": list(sweep.seeds)}
    return joined.assign_attrs(
        wall_seconds=seconds,
        settings=json.dumps(sweep.settings()),
        provenance=json.dumps(makers),
        **searched,
    )


def run(sweep: Sweep, results: str | Path | None = None) -> xr.Dataset:
    """All runs of a sweep as a labelled dataset: for notebooks and one's own optimizers.

    Args:
      sweep: what is compared.
      results: a folder whose store keeps the runs: only those that are not there are made. None:
        all are made, and kept nowhere.

    Returns:
      Dimensions ``optimizer, learning_rate, seed, step, bucket``.

    Raises:
      MemoryError: if a run does not fit this device.
      OSError: if the store cannot be written to.

    Example:
      >>> from imbalance import Sweep, problems, run
      >>> linear = problems.heavy_tailed_linear(m=3, bucketing="levels")
      >>> rates = {"gd": (0.1, 0.3), "adam": (0.01, 0.1)}
      >>> runs = run(Sweep(linear, rates, steps=30, seeds=(0, 1, 2)))
      >>> dict(runs["bucket_loss"].sizes)
      {'optimizer': 2, 'learning_rate': 3, 'seed': 3, 'step': 4, 'bucket': 3}
    """
    found = plans(sweep)
    if results is None:
        return _run_in_memory(found)
    store = Store(Path(results) / "runs")
    store.open(sum({one.key: one.plan.bytes for one in runs(found)}.values()))
    while True:
        chosen, settled = wanted(found, known_in(store))
        waiting = [one for one in chosen if not store.has(one.key)]
        if settled and not waiting:
            return stored(store, chosen)
        while waiting := _make_all(store, waiting):
            time.sleep(WAIT_SECONDS)


def _run_in_memory(found: Sequence[Plan]) -> xr.Dataset:
    maker, began = Maker(), time.monotonic()
    made: dict[str, Any] = {}
    who = [{**provenance(), "device": device()}]

    def known(chosen: Sequence[Run]) -> xr.Dataset | None:
        if any(run.key not in made for run in chosen):
            return None
        return _joined(chosen, made, time.monotonic() - began, who)

    while True:
        chosen, settled = wanted(found, known)
        missing = [run for run in chosen if run.key not in made]
        if settled and not missing:
            return _joined(chosen, made, time.monotonic() - began, who)
        for group in grouped(missing):
            for run, arrays in zip(group, maker.make(group), strict=True):
                made[run.key] = arrays
