"""Which part of an experiment is made: a scale, and what is taken of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from imbalance.training.precision import Precision
from imbalance.training.sweep import Sweep

Scale = Literal["smoke", "laptop", "paper"]
"""``smoke``: seconds, to see that it runs. ``laptop``: minutes on two CPU cores. ``paper``: the
paper's own size, for one GPU."""
NEAR = 0.01  # a rate so near to one of the grid is meant to be that one: 3.16e-4 is 10^-3.5


@dataclass(frozen=True)
class Part:
    """A scale, and what is taken of it.

    Whole experiments search learning rates and run the best on fresh seeds. With ``rates`` or
    ``seeds`` just these are run, and nothing follows. The runs are those of the whole: made once,
    neither makes them again.
    """

    scale: Scale = "laptop"
    """smoke: seconds; laptop: minutes on two CPU cores; paper: the paper's size, on one GPU."""
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPTIMIZER ...")] = ()
    """Run these optimizers only; the figure is drawn once none is missing."""
    rates: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPTIMIZER=RATE,... ...")] = ()
    """Run these learning rates, of these optimizers alone, and search none."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SEED ...")] = ()
    """Run the grid of learning rates on these seeds, and the best on no others."""
    precision: Precision = "float32"
    """Of matrix products; tensorfloat32 is for NVIDIA GPUs."""

    def __post_init__(self):
        self._rates_by_optimizer()

    @property
    def label(self) -> str:
        """The scale's name; of a part, or in another precision, one of its own."""
        part = "part" if self.rates or self.seeds else ""
        precision = self.precision if self.precision != "float32" else ""
        return "-".join(filter(None, (self.scale, part, precision)))

    def cut(self, sweep: Sweep) -> Sweep:
        """The part of a sweep that is asked for.

        Raises:
          ValueError: if it has none of the optimizers in ``rates``.
        """
        sweep = replace(sweep, precision=self.precision)
        if self.seeds:
            sweep = replace(sweep, seeds=self.seeds, confirm=None)
        if self.rates:
            rates = self._rates_of(sweep)
            if not rates:
                raise ValueError(
                    f"--rates {' '.join(self.rates)}: no such optimizer; known are "
                    f"{', '.join(sweep.learning_rates)}."
                )
            sweep = replace(sweep, learning_rates=rates, confirm=None)
        return sweep

    def _rates_of(self, sweep: Sweep) -> dict[str, tuple[float, ...]]:
        asked = self._rates_by_optimizer()
        return {
            name: tuple(_of_grid(rate, grid) for rate in asked[name])
            for name, grid in sweep.learning_rates.items()
            if name in asked
        }

    def _rates_by_optimizer(self) -> Mapping[str, tuple[float, ...]]:
        found = {}
        for text in self.rates:
            name, sign, rates = text.rpartition("=")
            try:
                numbers = tuple(map(float, rates.split(",")))
            except ValueError:
                numbers = (math.nan,)
            if not (name and sign and all(0 < rate < math.inf for rate in numbers)):
                raise ValueError(
                    f"--rates {text}: give OPTIMIZER=RATE,RATE with rates above 0, such as "
                    "adam=1e-3,3.16e-4."
                )
            found[name] = numbers
        return found


def _of_grid(rate: float, grid: Sequence[float]) -> float:
    """The rate of the grid that is meant, or else the rate itself."""
    return next((near for near in grid if abs(rate / near - 1) < NEAR), rate)
