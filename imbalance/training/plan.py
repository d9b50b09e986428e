"""The plan of a sweep: its programs as JAX traces them, and its runs, each with a key.

A sweep is resolved here once. Running, planning memory and storing read the plan and nothing else.

The key of a run is a digest of all that decides its numbers: the traced programs with the bytes of
every constant, the bytes of the data, learning rate, seed, steps and stops. A changed loss, a
changed constant in a closure or a changed option of a probe is a changed program, so no list of
settings has to be kept in step with the code. Names, the order of declarations and where a function
was defined do not enter.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from imbalance.probes import Probe, loss_by_bucket
from imbalance.problems.objective import Objective
from imbalance.problems.problem import Problem, digest_of
from imbalance.training import engine as walk
from imbalance.training.devices import Layout, layout, shapes_on, state_layout
from imbalance.training.engine import Data, Engine
from imbalance.training.optimizers import Optimizer, optimizer_named
from imbalance.training.sweep import Sweep, default_stops

_COMPILED: dict[str, Any] = {}  # by digest: equal programs are compiled once
KEPT_PROGRAMS = 64  # compiled ones; beyond them the oldest goes


class Rows(NamedTuple):
    """What runs of one seed learn from and are measured on."""

    training: Data
    measured: Data  # the training set, or as much of it as the sweep says
    validation: Data | None


class Traced:
    """A function as JAX traces it, recognised by its text and its constants.

    The function is wrapped anew, so that nothing that JAX remembers of it by identity is used: an
    optimizer whose attributes have changed since is traced as it is now.
    """

    def __init__(
        self, function: Callable, *shapes: Any, donate: tuple[int, ...] = (), laid: Any = None
    ):
        def anew(*arguments):
            return function(*arguments)

        options = {} if laid is None else {"out_shardings": laid}
        self._traced = jax.jit(anew, donate_argnums=donate, **options).trace(*shapes)
        self.out_shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self._traced.out_info
        )
        self.digest = _digest(
            *_fingerprint(self._traced.jaxpr), str(jax.tree.structure(self.out_shapes)), donate
        )

    def compiled(self) -> Any:
        """The compiled program, made once for all equal functions."""
        where = f"{self.digest} {jax.devices()}"
        if where not in _COMPILED:
            if len(_COMPILED) >= KEPT_PROGRAMS:
                del _COMPILED[next(iter(_COMPILED))]
            _COMPILED[where] = self._traced.lower().compile()
        return _COMPILED[where]

    def lowered(self, platform: str) -> Any:
        """The program for a platform, such as ``cuda`` or ``tpu``, which need not be here."""
        return self._traced.lower(lowering_platforms=(platform,))


class Measurement(NamedTuple):
    """A probe, and the steps at which it measures, in order."""

    probe: Probe
    stops: tuple[int, ...]


class Programs(NamedTuple):
    """All that is compiled for so many runs of one optimizer at once."""

    start: Traced
    advance: Traced
    measure: tuple[Traced, ...]  # one for each measurement


@dataclass(frozen=True, eq=False)
class Plan:
    """One optimizer of a sweep, resolved.

    Attributes:
      name: of the optimizer in the sweep.
      optimizer: its rule and looks.
      sweep: that it belongs to.
      engine: what a step consists of.
      objective: what is minimised.
      measurements: what is measured when; the loss by bucket is the first of them.
      microbatch_rows: rows that are worked on at once, when stepping and when measuring.
      probes: the measuring programs, by the number of runs at once; optimizers of a sweep have
        them in common, so they are traced once for all.
      data: digests of the data by seed, in common as well.
    """

    name: str
    optimizer: Optimizer
    sweep: Sweep
    engine: Engine
    objective: Objective
    measurements: tuple[Measurement, ...]
    microbatch_rows: int
    probes: dict[int, tuple[Traced, ...]]
    data: dict[int, str]

    @property
    def problem(self) -> Problem:
        """What is learnt."""
        return self.sweep.problem

    @property
    def steps(self) -> int:
        """How far every run goes."""
        return self.sweep.steps

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The grid."""
        return tuple(float(rate) for rate in self.sweep.learning_rates[self.name])

    @property
    def validated(self) -> bool:
        """Whether something is measured on the validation set."""
        return any(probe.validation for probe, _ in self.measurements)

    @cached_property
    def row_shapes(self) -> Rows:
        """Shapes of the data, known without making them."""
        shapes = self.problem.shapes

        def first(number: int) -> Any:
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((number, *leaf.shape[1:]), leaf.dtype), shapes
            )

        training = self._cut_shapes(shapes)
        measured = training
        if self.sweep.measured_rows is not None:
            measured = self._cut_shapes(first(self.sweep.measured_rows))
        validation = self._cut_shapes(self.problem.validation(0)) if self.validated else None
        return Rows(training, measured, validation)

    def _cut_shapes(self, batch: Any) -> Data:
        each = self.microbatch_rows
        number = batch.weight.shape[0]

        def cut(leaf: Any) -> Any:
            shape = (-(-number // each), each, *leaf.shape[1:])
            return jax.ShapeDtypeStruct(shape, leaf.dtype)

        return Data(jax.tree.map(cut, batch), jax.ShapeDtypeStruct((), jnp.int32))

    def layout(self, number: int) -> Layout | None:
        """How so many runs and their data lie over devices; None: there is one device."""
        return layout(number, self.microbatch_rows)

    def rows_layout(self, laid: Layout) -> Rows:
        """How data lie over devices: by rows, but the same on all where each step draws some."""
        by_row = Data(laid.rows, laid.whole)
        training = by_row if self.engine.batch_size is None else Data(laid.whole, laid.whole)
        return Rows(training, by_row, by_row if self.validated else None)

    def programs(self, number: int = 1) -> Programs:
        """The programs of ``number`` runs at once, traced."""
        engine, rows = self.engine, self.row_shapes
        laid = self.layout(number)
        whole = None if laid is None else laid.whole
        if laid is not None:
            engine = replace(engine, laid=laid.rows)
            rows = shapes_on(rows, self.rows_layout(laid))
        key = jax.eval_shape(lambda: jax.random.key(0))
        begin = partial(walk.start, engine), key, jax.ShapeDtypeStruct((number,), jnp.float32)
        start = Traced(*begin, laid=laid and state_layout(jax.eval_shape(*begin), laid))
        states = state_layout(start.out_shapes, laid)
        state = shapes_on(start.out_shapes, states)
        objective = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.float32, sharding=whole),
            self.objective,
        )
        advance = Traced(
            partial(walk.advance, engine),
            *(state, rows.training, objective, jax.ShapeDtypeStruct((), jnp.int32)),
            donate=(0,),
            laid=laid and (states, whole),
        )
        if number not in self.probes:
            self.probes[number] = tuple(
                Traced(
                    partial(walk.measure, engine, probe.measure),
                    *(state.params, state.alive),
                    rows.validation if probe.validation else rows.measured,
                    laid=whole,
                )
                for probe, _ in self.measurements
            )
        return Programs(start, advance, self.probes[number])

    @cached_property
    def alone(self) -> Programs:
        """The programs of a single run, by which all runs are recognised."""
        return self.programs(1)

    @cached_property
    def digest(self) -> str:
        """Of all that runs of this optimizer have in common, but for their data."""
        start, advance, measure = self.alone
        objective = [
            "" if leaf is None else np.asarray(leaf, np.float32).tobytes().hex()
            for leaf in (self.objective.class_weight, self.objective.l2)
        ]
        measured = [
            (program.digest, probe.step_dim, sorted(probe.dims.items()), probe.validation, stops)
            for program, (probe, stops) in zip(measure, self.measurements, strict=True)
        ]
        together = "alone" if run_alone() else "together"
        options = [
            str(getattr(jax.config, name))  # of random numbers, which programs do not show
            for name in ("jax_threefry_partitionable", "jax_default_prng_impl")
        ]
        if self.sweep.measured_rows is not None:
            options.append(str(self.sweep.measured_rows))  # padding hides it in the shapes
        return _digest(
            start.digest, advance.digest, objective, self.steps, measured, together, options
        )

    def run(self, learning_rate: float, seed: int) -> "Run":
        """One run with its key: 32 hexadecimal digits."""
        data = self._data(seed)  # first: data of other shapes than promised are refused there
        rate = np.float32(learning_rate).tobytes().hex()  # what the run is given
        key = _digest(self.digest, rate, seed, data)[:32]
        return Run(self, learning_rate, seed, key)

    def _data(self, seed: int) -> str:
        seed = seed if self.problem.data_by_seed else 0
        if seed not in self.data:
            held = self.problem.validation(seed) if self.validated else None
            parts = [self.problem.batch(seed), *([held] if held else [])]
            self.data[seed] = "".join(map(digest_of, parts))
        return self.data[seed]

    @property
    def flops(self) -> float:
        """Useful floating-point operations of one run: the unit of progress."""
        return self.sweep.flops_per_step * self.steps

    @cached_property
    def bytes(self) -> int:
        """About what one finished run takes on the disk, without compression."""
        found = self.steps * 4
        for program, (_, stops) in zip(self.alone.measure, self.measurements, strict=True):
            leaves = jax.tree.leaves(program.out_shapes)
            found += len(stops) * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        return found + 2**15


class Run(NamedTuple):
    """One run of a plan: what it is, and the key of its numbers."""

    plan: Plan
    learning_rate: float
    seed: int
    key: str


def plans(sweep: Sweep) -> list[Plan]:
    """One plan for each optimizer of a sweep."""
    problem = sweep.problem
    stops = sweep.stops or default_stops(sweep.steps)
    measurements = tuple(
        Measurement(probe, tuple(sorted({int(stop) for stop in probe.stops or stops})))
        for probe in (loss_by_bucket(problem.task, problem.buckets), *sweep.probes)
    )
    objective = Objective.reweighted(problem.counts, sweep.weighting, sweep.l2)
    rows = sweep.batch_size or problem.num_rows
    found, probes, data = [], {}, {}
    for name in sweep.learning_rates:
        optimizer = optimizer_named(name, sweep.optimizers)
        engine = Engine(
            task=problem.task,
            optimizer=optimizer.rule,
            batch_size=sweep.batch_size,
            in_order=sweep.in_order,
            precision=sweep.precision,
        )
        each = math.ceil(rows / sweep.microbatches)
        found.append(
            Plan(name, optimizer, sweep, engine, objective, measurements, each, probes, data)
        )
    return found


def runs(found: Sequence[Plan]) -> list[Run]:
    """The runs that plans of one sweep declare, in the order of declaration."""
    return [
        plan.run(rate, seed)
        for plan in found
        for seed in plan.sweep.seeds
        for rate in plan.learning_rates
    ]


def run_alone() -> bool:
    """Whether runs are made one by one, as on a CPU, where one fills the machine.

    Then no bit of a run depends on the others. On accelerators, and on several devices, the rates
    of one optimizer share a program, in which sums may be ordered otherwise.
    """
    return jax.default_backend() == "cpu" and len(jax.devices()) == 1


def _fingerprint(closed: ClosedJaxpr) -> list[str]:
    """A program's text, and the bytes of its constants, those of nested programs too."""
    text = closed.jaxpr.pretty_print(use_color=False, source_info=False)
    found = list(_programs(closed))
    names = {equation.primitive.name for program in found for equation in _plain(program).eqns}
    if names & {"pure_callback", "io_callback"}:
        # A function of Python that JAX cannot see into is never taken for another.
        text += os.urandom(16).hex()
    constants = [leaf for one in found if isinstance(one, ClosedJaxpr) for leaf in one.consts]
    return [text, *map(_constant, constants)]


def _programs(program: ClosedJaxpr | Jaxpr) -> Iterator[ClosedJaxpr | Jaxpr]:
    """A program and those inside it, in the order of the text."""
    yield program
    for equation in _plain(program).eqns:
        for leaf in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(leaf):
                yield from _programs(leaf)


def _plain(program: ClosedJaxpr | Jaxpr) -> Jaxpr:
    return program.jaxpr if isinstance(program, ClosedJaxpr) else program


def _is_program(leaf: Any) -> bool:
    return isinstance(leaf, ClosedJaxpr | Jaxpr)


def _constant(leaf: Any) -> str:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.ascontiguousarray(leaf)
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
