"""Sweeps: the declaration of which runs are compared.

What carries them out is `imbalance.running`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from imbalance.engine import Engine
from imbalance.optimizers import OPTIMIZERS, Optimizer, optimizer_named
from imbalance.probes import Probe, loss_by_bucket
from imbalance.problems import Problem
from imbalance.tasks import Objective


def half_decades(low: float, high: float) -> tuple[float, ...]:
    """Learning rates ``10^low, 10^(low + 1/2), ..., 10^high``; exponents are multiples of 1/2."""
    if (2 * low) % 1 or (2 * high) % 1 or high < low:
        raise ValueError(f"half_decades({low}, {high}): give multiples of 1/2 with low <= high.")
    return tuple(10 ** (k / 2) for k in range(round(2 * low), round(2 * high) + 1))


def linear_stops(steps: int, count: int) -> tuple[int, ...]:
    """About ``count`` evenly spaced stops from 0 to ``steps``, both included."""
    return tuple(
        np.unique(np.linspace(0, steps, min(count, steps + 1)).round().astype(int)).tolist()
    )


def log_stops(steps: int, per_decade: int = 12) -> tuple[int, ...]:
    """Stops 0, 1, ... ``steps``, evenly spaced in the logarithm."""
    count = 1 + math.ceil(per_decade * math.log10(max(steps, 1)))
    return (0, *np.unique(np.geomspace(1, steps, count).round().astype(int)).tolist())


def default_stops(steps: int) -> tuple[int, ...]:
    """Evenly spaced, at most 51 and at least eight steps apart: looking costs under a tenth."""
    return linear_stops(steps, 1 + max(1, min(50, steps // 8)))


@dataclass(frozen=True)
class Sweep:
    """Which runs are compared: a grid of learning rates for each optimizer, at several seeds.

    Attributes:
      problem: what is learned.
      learning_rates: optimizer name -> grid of rates.
      steps: how far every run goes.
      seeds: of the start and, where the problem says so, of the data.
      stops: steps at which losses are measured on the whole training set; None is `default_stops`.
      probes: more to measure; each at its own stops, or at these.
      weighting: train with class weights ``n_k^-weighting``: 0.5 is the paper's 1/√π, 1 its 1/π.
      l2: coefficient of the penalty ``(l2 / 2) ‖W‖²`` on weight matrices.
      batch_size: rows a step draws; None is full batch.
      in_order: take batches in the order of the data and not at random (A.5).
      microbatches: how many parts a step's gradient is accumulated over; measurements go over the
        data in parts of the same size.
      measured_rows: losses and probes are measured on so many rows, evenly spread over the training
        set; None is all of it.
      precision: of matrix products on accelerators, as `Engine.precision`.
      optimizers: where names are looked up; add yours with ``{**OPTIMIZERS, "mine": mine}``. Stored
        pieces are told apart by that name and the function's own: rename it when it changes.
      chunk: runs that share one vectorised program; None is as many as suits the device. It changes
        speed and memory, not results (beyond 1e-5 relative, as sums may be ordered otherwise).
    """

    problem: Problem
    learning_rates: Mapping[str, Sequence[float]]
    steps: int
    seeds: tuple[int, ...] = (0,)
    stops: tuple[int, ...] | None = None
    probes: tuple[Probe, ...] = ()
    weighting: float = 0.0
    l2: float = 0.0
    batch_size: int | None = None
    in_order: bool = False
    microbatches: int = 1
    measured_rows: int | None = None
    precision: str = "highest"
    optimizers: Mapping[str, Optimizer] = field(default_factory=lambda: OPTIMIZERS)
    chunk: int | None = None

    def __post_init__(self):
        name = self.problem.name
        if not self.learning_rates:
            raise ValueError(f"sweep of {name!r}: no optimizers; give {{name: learning rates}}.")
        for optimizer, rates in self.learning_rates.items():
            optimizer_named(optimizer, self.optimizers)
            _check_rates(f"sweep of {name!r}, optimizer {optimizer!r}", rates)
        whole = all(_is_whole(seed) and seed >= 0 for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(
                f"sweep of {name!r}: seeds {self.seeds}; "
                "give one or more, each once, whole and 0 or more."
            )
        for what, value in (("steps", self.steps), ("microbatches", self.microbatches)):
            _check_positive(f"sweep of {name!r}: {what}", value)
        for what in ("batch_size", "measured_rows", "chunk"):
            if getattr(self, what) is not None:
                _check_positive(f"sweep of {name!r}: {what}", getattr(self, what))
        if self.batch_size and self.batch_size % self.microbatches:
            raise ValueError(
                f"sweep of {name!r}: batch_size {self.batch_size} is not a multiple of the "
                f"{self.microbatches} microbatches; give one of the two another value."
            )
        for what, value in (("weighting", self.weighting), ("l2", self.l2)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"sweep of {name!r}: {what} {value}; give a finite number >= 0.")
        for stops in (self.stops, *(probe.stops for probe in self.probes)):
            if stops is not None and not (
                stops and all(_is_whole(stop) and 0 <= stop <= self.steps for stop in stops)
            ):
                raise ValueError(
                    f"sweep of {name!r}: stops {stops}; give whole steps from 0 to {self.steps}."
                )

    @cached_property
    def all_probes(self) -> tuple[Probe, ...]:
        """The loss by bucket, which is always measured, and the sweep's own probes."""
        return (loss_by_bucket(self.problem.task, self.problem.buckets), *self.probes)

    def stops_of(self, probe: Probe) -> tuple[int, ...]:
        """Where ``probe`` measures, in order."""
        stops = probe.stops or self.stops or default_stops(self.steps)
        return tuple(sorted({int(stop) for stop in stops}))

    def stacks_data(self, num_seeds: int) -> bool:
        """Whether a program of ``num_seeds`` takes data with a leading seed axis.

        One seed's data are shared by all its runs: a matrix product batched over a single seed
        would lay out the inputs anew at every step (measured 3 to 9 % slower on CPU).
        """
        return self.problem.data_by_seed and num_seeds > 1

    @property
    def microbatch_rows(self) -> int:
        """Rows that are worked on at once, when stepping and when measuring."""
        return math.ceil((self.batch_size or self.problem.num_rows) / self.microbatches)

    def engine(self, optimizer: str, num_seeds: int) -> Engine:
        """The program that runs ``optimizer`` for so many seeds at once."""
        return Engine(
            task=self.problem.task,
            optimizer=optimizer_named(optimizer, self.optimizers),
            batch_size=self.batch_size,
            in_order=self.in_order,
            data_by_seed=self.stacks_data(num_seeds),
            precision=self.precision,
        )

    def objective(self) -> Objective:
        """What training minimises."""
        class_weight = None
        if self.weighting:
            counts = np.asarray(self.problem.counts, np.float64)
            seen = np.where(counts > 0, counts, np.inf)  # classes without examples weigh nothing
            class_weight = jnp.asarray(seen**-self.weighting, jnp.float32)
        return Objective(class_weight, self.l2 or None)

    def settings(self, optimizer: str, seed: int) -> dict[str, Any]:
        """All that defines the numbers of one piece, JSON-able; what only changes speed is out."""
        made_by = optimizer_named(optimizer, self.optimizers)
        known = OPTIMIZERS.get(optimizer) is made_by
        settings = {
            "problem": {"name": self.problem.name, **self.problem.settings},
            "optimizer": optimizer if known else f"{optimizer} ({_qualified_name(made_by)})",
            "learning_rates": [float(rate) for rate in self.learning_rates[optimizer]],
            "seed": seed,
            "steps": self.steps,
            "probes": {
                probe.name: {
                    "stops": self.stops_of(probe),
                    **{name: np.asarray(labels).tolist() for name, labels in probe.coords.items()},
                }
                for probe in self.all_probes
            },
            "buckets": self.problem.bucket_thresholds or self.problem.num_buckets or "levels",
            "weighting": self.weighting,
            "l2": self.l2,
            "batch_size": self.batch_size,
            "in_order": self.in_order,
            "microbatches": self.microbatches,
            "measured_rows": self.measured_rows,
            "precision": self.precision,
        }
        return json.loads(json.dumps(settings))

    @property
    def flops_per_step(self) -> float:
        """Useful floating-point operations of a step of one run."""
        rows = self.problem.num_rows
        return self.problem.flops_per_step * (self.batch_size or rows) / rows

    def flops(self, optimizer: str) -> float:
        """Useful floating-point operations of one seed: the unit of progress."""
        return self.flops_per_step * self.steps * len(self.learning_rates[optimizer])


def _qualified_name(function: Any) -> str:
    options = ""
    if isinstance(function, partial):
        given = [*map(repr, function.args), *(f"{k}={v!r}" for k, v in function.keywords.items())]
        function, options = function.func, f"({', '.join(given)})"
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{function.__module__}.{name}{options}"


def _check_rates(what: str, rates: Sequence[float]) -> None:
    rates = list(rates)
    if not rates:
        raise ValueError(f"{what}: the grid of learning rates is empty; give at least one.")
    for rate in rates:
        number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
        if not (number and math.isfinite(rate) and rate > 0):
            raise ValueError(f"{what}: learning rate {rate!r}; give finite numbers above 0.")
    if len(set(rates)) != len(rates):
        raise ValueError(f"{what}: learning rates {rates} repeat; give each once.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_positive(what: str, value: Any) -> None:
    if not _is_whole(value) or value < 1:
        raise ValueError(f"{what} is {value!r}; give a whole number of at least 1.")
