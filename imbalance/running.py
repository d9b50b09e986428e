"""Carrying sweeps out: data onto the device, runs from stop to stop, pieces with labels."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from imbalance import results
from imbalance.analysis.dataset import bucket_variables
from imbalance.engine import MAX_STRIDE, Data, Engine, State, advance, measure, microbatched, start
from imbalance.memory import fit
from imbalance.probes import Probe
from imbalance.sweep import Sweep
from imbalance.tasks import Batch

SECONDS_A_CALL = 0.5  # how long the device works between two looks at the clock

Report = Callable[[float], None]
"""Called with the floating-point operations done since the last call."""


class _Rows(NamedTuple):
    """What runs learn from and are measured on, on the device."""

    training: Data
    measured: Data  # the training set, or as much of it as the sweep says
    validation: Data | None


def _to_device(sweep: Sweep, seeds: Sequence[int]) -> _Rows:
    """The data of ``seeds`` in microbatches, the same on every device."""
    seeds = seeds if sweep.stacks_data(len(seeds)) else seeds[:1]
    batches = [sweep.problem.batch(seed) for seed in seeds]
    training = measured = _stacked(sweep, batches)
    if sweep.measured_rows is not None:
        chosen = np.linspace(0, sweep.problem.num_rows - 1, sweep.measured_rows).round().astype(int)
        take = partial(jax.tree.map, lambda leaf: np.asarray(leaf)[chosen])
        measured = _stacked(sweep, [take(batch) for batch in batches])
    validation = None
    if any(probe.validation for probe in sweep.all_probes):
        validation = _stacked(sweep, [sweep.problem.validation(seed) for seed in seeds])
    return _Rows(training, measured, validation)


def _stacked(sweep: Sweep, batches: Sequence[Batch]) -> Data:
    """Microbatches on the device; of several seeds, with a leading seed axis."""
    each = sweep.microbatch_rows
    parts = [microbatched(batch, -(-len(batch.weight) // each), each) for batch in batches]
    data = parts[0]
    if len(parts) > 1:
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *(part.batch for part in parts))
        data = Data(batch, data.num_rows)
    return jax.device_put(data, _sharding())


def _sharding(*axes: str | None) -> NamedSharding | None:
    """Runs are laid over all devices along rates; one device is the plain case."""
    devices = jax.devices()
    if len(devices) == 1:
        return None
    mesh = jax.make_mesh((len(devices),), ("rate",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec(*axes))


def _start_on_devices(engine: Engine, seeds: Sequence[int], rates: Sequence[float]) -> State:
    """States of all runs, sharded over devices; rates are padded to a multiple of their number."""
    padded = [*rates, *[rates[-1]] * (-len(rates) % len(jax.devices()))]
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    state = start(engine, keys, jnp.asarray(padded, jnp.float32))
    over_runs, everywhere = _sharding(None, "rate"), _sharding()
    shardings = State(
        params=jax.tree.map(lambda _: over_runs, state.params),
        opt_state=jax.tree.map(lambda _: over_runs, state.opt_state),
        learning_rate=over_runs,
        alive=over_runs,
        key=everywhere,
        step=everywhere,
    )
    return state if over_runs is None else jax.device_put(state, shardings)


def _run_chunk(
    sweep: Sweep,
    optimizer: str,
    seeds: Sequence[int],
    rates: Sequence[float],
    rows: _Rows,
    report: Report,
) -> dict[str, np.ndarray]:
    """All steps of a few runs: named arrays ``[seed, rate, (step), ...]``."""
    engine, objective = sweep.engine(optimizer, len(seeds)), sweep.objective()
    state = _start_on_devices(engine, seeds, rates)
    flops_a_step = sweep.flops_per_step * len(seeds) * len(rates)
    due: dict[int, list[Probe]] = {sweep.steps: []}
    for probe in sweep.all_probes:
        for stop in sweep.stops_of(probe):
            due.setdefault(stop, []).append(probe)

    train_loss = np.full((sweep.steps, len(seeds), len(rates)), np.nan, np.float32)
    found: dict[str, list[np.ndarray]] = {}
    step, stride = 0, 1
    for stop in sorted(due):
        while step < stop:
            taken = min(stride, stop - step)
            began = time.perf_counter()
            state, (loss, weight) = advance(engine, state, rows.training, objective, taken)
            train_loss[step : step + taken] = (
                np.asarray(loss)[:taken, :, : len(rates)]
                / np.asarray(weight)[:taken, :, : len(rates)]
            )
            seconds = time.perf_counter() - began
            stride = int(np.clip(SECONDS_A_CALL * taken / seconds, 1, MAX_STRIDE))
            step += taken
            report(taken * flops_a_step)
        for probe in due[stop]:  # each a program of its own, which sweeps may have in common
            on = rows.validation if probe.validation else rows.measured
            for name, value in measure(engine, probe.measure, state, on).items():
                found.setdefault(name, []).append(np.asarray(value)[:, : len(rates)])
    arrays = {name: np.stack(values, axis=2) for name, values in found.items()}
    arrays["train_loss"] = np.moveaxis(train_loss, 0, 2)
    alive = np.asarray(state.alive)[:, : len(rates)] & np.isfinite(arrays["loss"][:, :, -1])
    arrays["status"] = np.where(alive, results.FINISHED, results.DIVERGED).astype(np.int8)
    return arrays


def _piece(
    sweep: Sweep, optimizer: str, seed: int, arrays: Mapping[str, np.ndarray], wall_seconds: float
) -> xr.Dataset:
    """Arrays ``[rate, (step), ...]`` of one optimizer and seed, with labels."""
    dims: dict[str, tuple[str, ...]] = {"train_loss": ("train_step",), "status": ()}
    coords: dict[str, Any] = {
        "optimizer": [optimizer],
        "learning_rate": np.asarray(sweep.learning_rates[optimizer], float),
        "seed": [seed],
        "train_step": np.arange(sweep.steps),
        "bucket": np.arange(sweep.problem.buckets.num_buckets),
        "class": np.arange(len(sweep.problem.counts)),
    }
    for probe in sweep.all_probes:
        dims |= {name: (probe.step_dim, *axes) for name, axes in probe.dims.items()}
        coords |= {probe.step_dim: np.asarray(sweep.stops_of(probe)), **probe.coords}
    variables = {
        name: ((*results.RUN_DIMS, *dims[name]), value[None, :, None])
        for name, value in arrays.items()
    }
    piece = xr.Dataset(variables, coords)
    piece = piece.assign(bucket_variables(sweep.problem.counts, sweep.problem.buckets))
    for name in ("loss", "bucket_loss", "train_loss"):
        piece[name].attrs["units"] = "nats"
    piece["status"].attrs.update(results.STATUS)
    device = jax.devices()[0].device_kind
    piece.attrs["device"] = f"{len(jax.devices())} x {device} ({jax.default_backend()})"
    piece.attrs["wall_seconds"] = wall_seconds
    return piece


def run(
    sweep: Sweep,
    todo: Mapping[str, Sequence[int]] | None = None,
    report: Report = lambda flops: None,
) -> Iterator[tuple[str, int, xr.Dataset]]:
    """Make the pieces ``todo`` (all, if None); yields ``(optimizer, seed, piece)`` as they end."""
    if todo is None:
        todo = {optimizer: sweep.seeds for optimizer in sweep.learning_rates}
    for optimizer, seeds in todo.items():
        rates = sweep.learning_rates[optimizer]
        layout = fit(sweep, optimizer, len(seeds))
        for first in range(0, len(seeds), layout.seeds):
            together = seeds[first : first + layout.seeds]
            began = time.perf_counter()
            rows = _to_device(sweep, together)
            parts = [
                _run_chunk(sweep, optimizer, together, rates[at : at + layout.rates], rows, report)
                for at in range(0, len(rates), layout.rates)
            ]
            arrays = {name: np.concatenate([p[name] for p in parts], axis=1) for name in parts[0]}
            seconds = (time.perf_counter() - began) / len(together)
            for i, seed in enumerate(together):
                one = {name: value[i] for name, value in arrays.items()}
                yield optimizer, seed, _piece(sweep, optimizer, seed, one, seconds)


def run_to_dataset(sweep: Sweep) -> xr.Dataset:
    """Run a whole sweep in memory and join it: for notebooks, tests and one's own optimizers."""
    return results.join([piece for _, _, piece in run(sweep)])
