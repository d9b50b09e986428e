"""What the precision of matrix products does to a curve: runs in float32 beside the same in others.

Both start from the same parameters and walk over the same data. Told are the largest difference of
the overall loss at any stop, that of any bucket, and both final losses; and how much longer or
shorter the steps take, which on a CPU says little of a GPU. Rates are steady ones, and one at which
gradient descent shakes: there a rounding grows until the runs part.

Run:     python benchmarks/precision.py     (some minutes on two cores)
Writes:  a section of benchmarks/RESULTS.md, with --write
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import numpy as np
import tyro
import xarray as xr
from report import table, write_section

from imbalance.analysis.selection import at_only
from imbalance.data import zipf
from imbalance.models.transformer import post_norm
from imbalance.problems import heavy_tailed_linear, language, vision
from imbalance.training.precision import Precision
from imbalance.training.running import run
from imbalance.training.sweep import Sweep, linear_stops


@dataclass(frozen=True)
class Settings:
    """What is compared."""

    m: int = 8
    """Size of the linear problem."""
    steps: int = 100
    precisions: tuple[Precision, ...] = ("bfloat16",)
    """Beside float32; on an NVIDIA GPU tensorfloat32 as well."""
    write: bool = False
    """Write the section of RESULTS.md."""


def tasks(settings: Settings) -> dict[str, Callable[[], Sweep]]:
    """Name -> two runs to compare."""
    stops = linear_stops(settings.steps, 51)

    def of(problem, gd: float, adam: float, **options) -> Sweep:
        rates = {"gd+m": (10.0**gd,), "adam": (10.0**adam,)}
        return Sweep(problem, rates, settings.steps, stops=stops, **options)

    linear = heavy_tailed_linear(settings.m)

    def digits() -> Sweep:
        found = vision.halved(vision.rendered(160))
        return of(vision.imbalanced_digits(found, 5, channels=(8, 16)), -1.5, -2.5, microbatches=4)

    def text() -> Sweep:
        corpus = language.synthetic(zipf.power_law_counts(20_000, 1000, 1.0), 0.9, 20_000)
        size = post_norm(1000, width=64, mlp_width=64, num_heads=4, dropout=0.0, mlp_dropout=0.0)
        problem = language.next_token_problem(corpus, size, 32)
        return of(problem, -1, -2.5, batch_size=128, in_order=True)

    return {
        f"linear, m = {settings.m}": lambda: of(linear, -2, -3),
        f"linear, m = {settings.m}, GD shakes": lambda: of(linear, -1.5, -2.5),
        "CNN, digits and barcoded digits": digits,
        "two-layer transformer, synthetic stream": text,
    }


def compared(name: str, sweep: Sweep, precision: Precision) -> list[list[str]]:
    """A row for each optimizer."""
    exact, other = run(sweep), run(replace(sweep, precision=precision))
    ratio = other.attrs["wall_seconds"] / exact.attrs["wall_seconds"]
    return [
        [name, precision, label, *differences(one, two), f"{ratio:.2f}"]
        for optimizer in sweep.learning_rates
        for one, two in [[alone(found, optimizer) for found in (exact, other)]]
        for label in [str(one["label"].item())]
    ]


def alone(found: xr.Dataset, optimizer: str) -> xr.Dataset:
    """The one run of an optimizer."""
    return at_only(found).sel(optimizer=optimizer).isel(seed=0)


def differences(one: xr.Dataset, two: xr.Dataset) -> list[str]:
    """Largest differences of the overall loss and of a bucket's, and the final losses."""
    largest = [float(np.abs(one[name] - two[name]).max()) for name in ("loss", "bucket_loss")]
    finals = [float(found["loss"][-1]) for found in (one, two)]
    return [*(f"{value:.4f}" for value in largest), *(f"{value:.4f}" for value in finals)]


def main(settings: Settings) -> None:
    command = shlex.join(["python", "benchmarks/precision.py", *sys.argv[1:]])
    head = ["task", "precision", "optimizer", "overall, at most", "a bucket, at most"]
    head += ["final, float32", "final", "time, of float32's"]
    rows = []
    for name, sweep in tasks(settings).items():
        for precision in settings.precisions:
            rows += compared(name, sweep(), precision)
            print(rows[-2], rows[-1], flush=True)
    text = (
        f"`{command}` on {jax.devices()[0].device_kind}, jax {jax.__version__}; {settings.steps} "
        f"steps, losses and their differences in nats.\n\n{table(head, rows)}"
    )
    print(f"\n{text}")
    if settings.write:
        write_section(f"Precision, {jax.default_backend()}", text)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
