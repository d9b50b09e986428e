"""Making one run: data onto the device, from stop to stop, with a checkpoint on the way."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imbalance.analysis.selection import DIVERGED
from imbalance.storage import files
from imbalance.storage.datasets import FINISHED
from imbalance.training import memory
from imbalance.training.devices import Layout, place
from imbalance.training.engine import MAX_STRIDE, Data, State, microbatched
from imbalance.training.plan import Plan, Programs, Rows, Run

SECONDS_A_CALL = 0.5  # how long the device works between two looks at the clock
CHECKPOINT_SECONDS = 120.0  # what a kill may cost

Arrays = dict[str, np.ndarray]


class Stopped(Exception):
    """Somebody asked to stop; what was done is stored."""


@dataclass
class Watch:
    """What the maker of runs tells and asks between two calls of the device.

    Attributes:
      report: called with the floating-point operations done since the last call.
      stopping: whether to save a checkpoint and stop.
      workers: processes that share this machine's memory.
    """

    report: Callable[[float], None] = lambda flops: None
    stopping: Callable[[], bool] = lambda: False
    workers: int = 1


@dataclass
class Maker:
    """Makes runs one after another; data and programs of the last stay at hand.

    Attributes:
      watch: what is told and asked on the way.
    """

    watch: Watch = field(default_factory=Watch)
    _rows: tuple[Any, int, Layout | None, Rows] | None = None
    _programs: tuple[Plan, int, Programs] | None = None

    def make(self, group: Sequence[Run], checkpoint: Path | None = None) -> list[Arrays]:
        """Arrays ``[(step), ...]`` of each run; the runs differ in their learning rate only.

        Args:
          group: several only where runs share a program, see `plan.run_alone`.
          checkpoint: file of the state on the way; None: none is kept.

        Raises:
          MemoryError: if the program does not fit.
          Stopped: when `Watch.stopping` says so; the checkpoint is saved.
        """
        plan, seed = group[0].plan, group[0].seed
        rates, laid = [run.learning_rate for run in group], plan.layout(len(group))
        programs = self._of(plan, len(rates))
        memory.check(
            f"{plan.problem.name} {dict(plan.problem.settings)}: {len(group)} run(s) of "
            f"{plan.name!r}",
            memory.needed(programs.advance.compiled()),
            self.watch.workers,
        )
        rows = self._data(plan, seed, laid)
        start = programs.start.compiled()(
            jax.random.key(np.uint32(seed)), np.asarray(rates, np.float32)
        )
        progress = _Walk(group[0], start, laid)
        if checkpoint is not None:
            progress = _resumed(progress, checkpoint)
            self.watch.report(progress.step * plan.sweep.flops_per_step * len(group))
        _walk(plan, programs, rows, progress, len(group), checkpoint, self.watch)
        return [progress.finished(i) for i in range(len(group))]

    def _of(self, plan: Plan, number: int) -> Programs:
        if self._programs is None or self._programs[:2] != (plan, number):
            found = plan.alone if number == 1 else plan.programs(number)
            self._programs = (plan, number, found)
        return self._programs[2]

    def _data(self, plan: Plan, seed: int, laid: Layout | None) -> Rows:
        of_seed = seed if plan.problem.data_by_seed else 0
        known = self._rows
        if known is None or known[0] is not plan.sweep or known[1:3] != (of_seed, laid):
            self._rows = known = None  # before others are made: two may not fit
            self._rows = known = (plan.sweep, of_seed, laid, _to_device(plan, of_seed, laid))
        return known[3]


def _to_device(plan: Plan, seed: int, laid: Layout | None) -> Rows:
    """The data of a seed in microbatches, on the devices of their layout."""
    problem, each = plan.problem, plan.microbatch_rows
    where = laid and plan.rows_layout(laid)

    def cut(batch: Any, where: Data | None) -> Data:
        parts = -(-len(batch.weight) // each)
        return jax.device_put(microbatched(batch, parts, each), where)

    batch = problem.batch(seed)
    training = measured = cut(batch, where and where.training)
    number = plan.sweep.measured_rows
    if number is not None:
        chosen = np.linspace(0, problem.num_rows - 1, number).round().astype(int)
        batch = jax.tree.map(lambda leaf: np.asarray(leaf)[chosen], batch)
    if number is not None or (where and where.training is not where.measured):
        measured = cut(batch, where and where.measured)
    held = problem.validation(seed) if plan.validated else None
    validation = None if held is None else cut(held, where and where.validation)
    return Rows(training, measured, validation)


class _Walk:
    """A run on its way: its state, and what was measured so far."""

    def __init__(self, run: Run, state: State, laid: Layout | None):
        self.key, self.state, self.laid = run.key, state, laid
        number = len(state.learning_rate)
        self.train_loss = np.full((run.plan.steps, number), np.nan, np.float32)
        self.found: dict[str, list[np.ndarray]] = {}
        self.step, self.measured = 0, -1  # steps taken; the last step at which all was measured

    def finished(self, i: int) -> Arrays:
        """All of run i."""
        arrays = {name: np.stack(values)[:, i] for name, values in self.found.items()}
        arrays["train_loss"] = self.train_loss[:, i]
        alive = bool(np.asarray(self.state.alive)[i]) and np.isfinite(arrays["loss"][-1])
        arrays["status"] = np.asarray(FINISHED if alive else DIVERGED, np.int8)
        return arrays

    def to_bytes(self) -> bytes:
        """All of it; `restore` reads it."""
        leaves = jax.tree.leaves(self.state._replace(key=jax.random.key_data(self.state.key)))
        arrays = {f"state {i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        arrays |= {f"found {name}": np.stack(values) for name, values in self.found.items()}
        arrays |= {"train_loss": self.train_loss, "place": np.array([self.step, self.measured])}
        arrays |= {"key": np.array(self.key)}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType]
        return buffer.getvalue()

    def restore(self, data: bytes) -> None:
        """Go on from there.

        Raises:
          ValueError: if it is of another run.
        """
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            like, tree = jax.tree.flatten(
                self.state._replace(key=jax.random.key_data(self.state.key))
            )
            leaves = [stored[f"state {i}"] for i in range(len(like))]
            same = [x.shape for x in leaves] == [x.shape for x in like]
            if not same or stored["key"].item() != self.key:
                raise ValueError("the checkpoint is of another run")
            state = tree.unflatten([jnp.asarray(x) for x in leaves])
            self.state = place(state._replace(key=jax.random.wrap_key_data(state.key)), self.laid)
            self.train_loss = stored["train_loss"].copy()
            names = [name for name in stored.files if name.startswith("found ")]
            self.found = {name[6:]: list(stored[name]) for name in names}
            self.step, self.measured = map(int, stored["place"])


def _resumed(progress: _Walk, checkpoint: Path) -> _Walk:
    try:
        progress.restore(files.read(checkpoint))
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, OSError):
        checkpoint.unlink(missing_ok=True)  # damaged: the run begins anew
    return progress


def _walk(
    plan: Plan,
    programs: Programs,
    rows: Rows,
    progress: _Walk,
    number: int,
    checkpoint: Path | None,
    watch: Watch,
) -> None:
    """From where ``progress`` stands to the last stop."""
    due: dict[int, list[int]] = {plan.steps: []}
    for i, (_, stops) in enumerate(plan.measurements):
        for stop in stops:
            due.setdefault(stop, []).append(i)
    objective = jax.tree.map(jnp.float32, plan.objective)
    advance = programs.advance.compiled()
    stride, saved = 1, time.monotonic()

    def look() -> None:
        nonlocal saved
        stopping = watch.stopping()
        if checkpoint and (stopping or time.monotonic() - saved > CHECKPOINT_SECONDS):
            files.write(checkpoint, progress.to_bytes())
            saved = time.monotonic()
        if stopping:
            raise Stopped

    for stop in sorted(due):
        while progress.step < stop:
            taken = min(stride, stop - progress.step)
            began = time.perf_counter()
            progress.state, (loss, weight) = advance(
                progress.state, rows.training, objective, np.int32(taken)
            )
            mean = np.asarray(loss)[:taken] / np.asarray(weight)[:taken]
            progress.train_loss[progress.step : progress.step + taken] = mean
            seconds = time.perf_counter() - began
            stride = int(np.clip(SECONDS_A_CALL * taken / seconds, 1, MAX_STRIDE))
            progress.step += taken
            watch.report(taken * plan.sweep.flops_per_step * number)
            look()
        if progress.measured < stop:
            for i in due[stop]:
                probe = plan.measurements[i].probe
                on = rows.validation if probe.validation else rows.measured
                state = progress.state
                found = programs.measure[i].compiled()(state.params, state.alive, on)
                for name, value in found.items():
                    progress.found.setdefault(name, []).append(np.asarray(value))
            progress.measured = stop
            look()
