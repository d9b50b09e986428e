"""Sweeps: the declaration of which runs are compared.

What carries them out is `imbalance.training.running`.
"""

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, get_args

import numpy as np

from imbalance.analysis.selection import RULES
from imbalance.probes import Probe
from imbalance.problems.problem import Problem
from imbalance.training.optimizers import OPTIMIZERS, Optimizer, Rule, optimizer_named
from imbalance.training.precision import Precision


def half_decades(low: float, high: float) -> tuple[float, ...]:
    """Learning rates ``10^low, 10^(low + 1/2), ..., 10^high``; exponents are multiples of 1/2.

    Example:
      >>> from imbalance import half_decades
      >>> [round(rate, 4) for rate in half_decades(-2, -1)]
      [0.01, 0.0316, 0.1]
    """
    if (2 * low) % 1 or (2 * high) % 1 or high < low:
        raise ValueError(f"half_decades({low}, {high}): give multiples of 1/2 with low <= high.")
    return tuple(10 ** (k / 2) for k in range(round(2 * low), round(2 * high) + 1))


def quarter_decades(low: float, high: float) -> tuple[float, ...]:
    """Learning rates ``10^low, 10^(low + 1/4), ..., 10^high``; exponents are multiples of 1/4.

    For where half a decade is too coarse: the best rate would stand next to one that shakes.

    Example:
      >>> from imbalance import quarter_decades
      >>> [round(rate, 4) for rate in quarter_decades(-1.5, -1)]
      [0.0316, 0.0562, 0.1]
    """
    if (4 * low) % 1 or (4 * high) % 1 or high < low:
        raise ValueError(f"quarter_decades({low}, {high}): give multiples of 1/4 with low <= high.")
    return tuple(10 ** (k / 4) for k in range(round(4 * low), round(4 * high) + 1))


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
class Confirm:
    """What is done with the best learning rates of a search: they are run again on fresh seeds.

    Attributes:
      seeds: fresh ones, which take part in choosing the rates by a veto only: one that explodes or
        shakes there gives way to the next.
      rules: by which the best rates are chosen, of `imbalance.analysis.selection.RULES`; the winner
        of each is confirmed.
      steps: horizons at which they are chosen; empty: the last step.
      growth: by how many rates a grid may grow at either end while the best stands there; the
        ratio of two neighbours stays the same.

    Example:
      >>> from imbalance import Confirm, Sweep, at_best, problems, run
      >>> linear = problems.heavy_tailed_linear(m=3, bucketing="levels")
      >>> confirm = Confirm(seeds=(1, 2), growth=1)
      >>> runs = run(Sweep(linear, {"adam": (0.01, 0.1)}, steps=30, confirm=confirm))
      >>> at_best(runs, step=30)["seed"].values
      array([1, 2])
    """

    seeds: tuple[int, ...] = (1, 2, 3)
    rules: tuple[str, ...] = ("steady",)
    steps: tuple[int, ...] = ()
    growth: int = 4


@dataclass(frozen=True)
class Sweep:
    """Which runs are compared: a grid of learning rates for each optimizer, at several seeds.

    Attributes:
      problem: what is learned.
      learning_rates: optimizer name -> grid of rates.
      steps: how far every run goes.
      seeds: of the start and, where the problem says so, of the data.
      confirm: search rates on these seeds, let grids grow where the best stands at an edge, and run
        the best again on fresh seeds. None: the grid as it is given, and no more.
      stops: steps at which losses are measured on the whole training set; None is `default_stops`.
      probes: more to measure; each at its own stops, or at these.
      weighting: train with class weights ``n_k^-weighting``: 0.5 is the paper's 1/√π, 1 its 1/π.
      l2: coefficient of the penalty ``(l2 / 2) ‖W‖²`` on weight matrices.
      batch_size: rows a step draws; None is full batch.
      in_order: take batches in the order of the data and not at random.
      microbatches: how many parts a step's gradient is accumulated over; measurements go over the
        data in parts of the same size.
      measured_rows: losses and probes are measured on so many rows, evenly spread over the training
        set; None is all of it.
      precision: of matrix products, see `imbalance.training.precision`.
      optimizers: where names are looked up; add yours with ``{**OPTIMIZERS, "mine": mine}``, an
        `Optimizer` or a bare rule.

    Example:
      >>> from imbalance import Sweep, half_decades, problems
      >>> sweep = Sweep(
      ...     problems.heavy_tailed_linear(m=3),
      ...     {"gd": half_decades(-2, 0), "adam": half_decades(-3, -1)},
      ...     steps=100,
      ...     seeds=(0, 1),
      ... )
      >>> sweep.settings()["learning_rates"]["gd"][0]
      0.01
    """

    problem: Problem
    learning_rates: Mapping[str, Sequence[float]]
    steps: int
    seeds: tuple[int, ...] = (0,)
    confirm: Confirm | None = None
    stops: tuple[int, ...] | None = None
    probes: tuple[Probe, ...] = ()
    weighting: float = 0.0
    l2: float = 0.0
    batch_size: int | None = None
    in_order: bool = False
    microbatches: int = 1
    measured_rows: int | None = None
    precision: Precision = "float32"
    optimizers: Mapping[str, Optimizer | Rule] = field(default_factory=lambda: OPTIMIZERS)

    def __post_init__(self):
        name = self.problem.name
        if not self.learning_rates:
            raise ValueError(f"sweep of {name!r}: no optimizers; give {{name: learning rates}}.")
        for optimizer, rates in self.learning_rates.items():
            optimizer_named(optimizer, self.optimizers)
            _check_rates(f"sweep of {name!r}, optimizer {optimizer!r}", rates)
        _check_seeds(f"sweep of {name!r}: seeds", self.seeds)
        if self.confirm is not None:
            self._check_confirm(self.confirm)
        for what, value in (("steps", self.steps), ("microbatches", self.microbatches)):
            _check_positive(f"sweep of {name!r}: {what}", value)
        for what in ("batch_size", "measured_rows"):
            if getattr(self, what) is not None:
                _check_positive(f"sweep of {name!r}: {what}", getattr(self, what))
        if self.batch_size and self.batch_size % self.microbatches:
            raise ValueError(
                f"sweep of {name!r}: batch_size {self.batch_size} is not a multiple of the "
                f"{self.microbatches} microbatches; give one of the two another value."
            )
        if self.precision not in get_args(Precision):
            raise ValueError(
                f"sweep of {name!r}: precision {self.precision!r}; known are "
                f"{', '.join(get_args(Precision))}."
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

    def _check_confirm(self, confirm: Confirm) -> None:
        what = f"sweep of {self.problem.name!r}: confirm"
        _check_seeds(f"{what}.seeds", confirm.seeds)
        if used := set(confirm.seeds) & set(self.seeds):
            raise ValueError(
                f"{what}.seeds: rates are searched on {sorted(used)} already; give fresh seeds."
            )
        if not confirm.rules or set(confirm.rules) - set(RULES):
            raise ValueError(f"{what}.rules {confirm.rules}; known are {', '.join(RULES)}.")
        stops = self.stops or default_stops(self.steps)
        judged = (0, *(confirm.steps or (self.steps,)))  # losses there are compared with the first
        if strange := [step for step in judged if step not in stops]:
            raise ValueError(
                f"{what}: rates are chosen by the losses at steps {judged}, and nothing is "
                f"measured at {strange}; stops are {stops}."
            )
        if not _is_whole(confirm.growth) or confirm.growth < 0:
            raise ValueError(f"{what}.growth {confirm.growth!r}; give a whole number of 0 or more.")

    def settings(self) -> dict[str, Any]:
        """What was run, in words and numbers for the people who read a result.

        A run is recognised by its key, in which none of this enters.
        """
        plain = ("steps", "seeds", "weighting", "l2", "batch_size", "in_order", "microbatches")
        settings = {
            "problem": {"name": self.problem.name, **self.problem.settings},
            "buckets": self.problem.bucketing,
            "learning_rates": {name: list(rates) for name, rates in self.learning_rates.items()},
            "own_optimizers": {
                name: _source(optimizer_named(name, self.optimizers).rule)
                for name in self.learning_rates
                if not _is_known(name, optimizer_named(name, self.optimizers))
            },
            "confirm": None if self.confirm is None else asdict(self.confirm),
            "stops": self.stops,
            "probes": [probe.name for probe in self.probes],
            **{name: getattr(self, name) for name in (*plain, "measured_rows", "precision")},
        }
        return json.loads(json.dumps(settings, default=str))

    @property
    def flops_per_step(self) -> float:
        """Useful floating-point operations of a step of one run."""
        rows = self.problem.num_rows
        return self.problem.flops_per_step * (self.batch_size or rows) / rows


def _is_known(name: str, optimizer: Optimizer) -> bool:
    return name in OPTIMIZERS and optimizer.rule is OPTIMIZERS[name].rule


def _source(rule: Rule) -> str:
    """The source of a user's own rule, as far as Python knows it; else its name."""
    while isinstance(rule, partial):
        rule = rule.func
    try:
        return inspect.getsource(rule if inspect.isroutine(rule) else type(rule))
    except (OSError, TypeError):
        return str(getattr(rule, "__qualname__", type(rule).__name__))


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


def _check_seeds(what: str, seeds: tuple[int, ...]) -> None:
    whole = all(_is_whole(seed) and 0 <= seed < 2**32 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) != len(seeds):
        raise ValueError(
            f"{what} {seeds}; give one or more, each once, whole, 0 or more and below 2^32."
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_positive(what: str, value: Any) -> None:
    if not _is_whole(value) or value < 1:
        raise ValueError(f"{what} is {value!r}; give a whole number of at least 1.")
