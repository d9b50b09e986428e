"""Step size times time: small steps only slow the same path down.

Claim (section E.2.13): with lr x steps held constant, gradient descent's losses by level nearly
coincide when drawn against lr x t (the gradient flow), as long as the step is stable. No step size
changes the order in which classes are fitted.

Run:    python experiments/linear_step_time.py
Draws:  figures/linear_step_time.png
"""

import numpy as np

from imbalance import plots
from imbalance.analysis.labelled import highest_loss
from imbalance.claims import between
from imbalance.experiment import Experiment, main
from imbalance.problems import heavy_tailed_linear
from imbalance.sweep import Sweep, linear_stops

# Exponents of the smallest step, which goes furthest; each later one is a half power larger.
SMALLEST = {"gd": -2.5, "adam": -4}
HORIZONS = {
    "smoke": (50, 16, 5),
    "laptop": (1000, 316, 100, 32, 10),
    "paper": (10_000, 3162, 1000, 316, 100),
}
STOPS = 26


def rate(optimizer, index):
    """Of the sweep that goes to the index-th horizon."""
    return 10 ** (SMALLEST[optimizer] + index / 2)


def sweeps(scale):
    """One sweep a horizon; the paper's own size is m = 7."""
    problem = heavy_tailed_linear(4 if scale == "smoke" else 7, num_buckets=None)
    return {
        steps: Sweep(
            problem,
            {optimizer: (rate(optimizer, i),) for optimizer in SMALLEST},
            steps,
            stops=linear_stops(steps, STOPS),
        )
        for i, steps in enumerate(HORIZONS[scale])
    }


def run_of(dataset, optimizer, index):
    """The run of one optimizer to the index-th horizon, at its own stops."""
    horizon = HORIZONS[dataset.attrs["scale"]][index]
    run = dataset.sel(optimizer=optimizer, horizon=horizon, step=list(linear_stops(horizon, STOPS)))
    return run.sel(learning_rate=rate(optimizer, index), method="nearest")


def draw(dataset):
    """A row an optimizer, a panel a step size, all against lr x t."""
    horizons = HORIZONS[dataset.attrs["scale"]]
    figure, axes = plots.panels(2, len(horizons), width=2.0, height=1.9)
    for row, optimizer in zip(axes, SMALLEST, strict=True):
        for i, axis in enumerate(row):
            run = run_of(dataset, optimizer, i)
            plots.by_bucket(axis, run, steps=rate(optimizer, i) * run["step"].values)
            eta = plots.exponent(rate(optimizer, i))
            axis.set(xlabel="learning rate × step", ylim=(0, 7))
            axis.set_title(f"η = {eta}, {horizons[i]:,} steps")
        row[0].set_ylabel(f"{plots.label(optimizer)}: loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    figure.suptitle(
        "The same learning rate × steps: one path at different speeds, while steps are stable"
    )
    return figure


def claims(dataset):
    """The statements of item 13, for two meanings of "stable"."""
    horizons = HORIZONS[dataset.attrs["scale"]]
    runs = [run_of(dataset, "gd", i).isel(seed=0) for i in range(len(horizons))]
    ends = np.array([run["bucket_loss"].isel(step=-1).values for run in runs])
    rates = [rate("gd", i) for i in range(len(horizons))]
    rule_s = [
        float(highest_loss(run, horizon) / run["loss"][0]) <= 1.5
        for run, horizon in zip(runs, horizons, strict=True)
    ]
    falling = [
        float(run["train_loss"].dropna("train_step").diff("train_step").max()) <= 1e-5
        for run in runs
    ]
    return [
        _spread_row("within rule S", ends, rates, rule_s, "before any run"),
        _spread_row("that never raise the loss", ends, rates, falling, "after a pilot"),
    ]


def _spread_row(which, ends, rates, kept, fixed):
    """How far the ends of the kept runs lie apart."""
    names = ", ".join(f"10^{np.log10(rates[i]):.3g}" for i in np.flatnonzero(kept))
    return between(
        "E.2.13",
        f"GD, lr x t constant, step sizes {which} ({names}): largest difference of a level's loss "
        "at the end, nats",
        float(np.ptp(ends[np.array(kept)], axis=0).max()),
        high=0.3,
        fixed=fixed,
    )


EXPERIMENT = Experiment("linear_step_time", sweeps, draw, claims, over="horizon")

if __name__ == "__main__":
    main(EXPERIMENT)
