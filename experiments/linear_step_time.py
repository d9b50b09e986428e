"""Learning rate times steps: a smaller learning rate only slows down the same path.

Claim (the paper's appendix): with learning rate × steps held constant, the losses of gradient
descent on each frequency level nearly coincide when drawn against learning rate × step, as for
gradient flow, as long as the learning rate is stable. No learning rate changes the order in which
classes are fitted.

Run:    python experiments/linear_step_time.py
Draws:  figures/linear_step_time.png
"""

import numpy as np

from imbalance.analysis.labelled import highest_loss
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, linear_stops

# Exponents of the smallest learning rate, with most steps; each later one is larger by one half.
SMALLEST = {"gd": -2.5, "adam_without_momentum": -4}
HORIZONS = {
    "smoke": (50, 16, 5),
    "laptop": (1000, 316, 100, 32, 10),
    "paper": (10_000, 3162, 1000, 316, 100),
}
STOPS = 26


def rate(optimizer, index):
    """Learning rate of the sweep with the index-th number of steps."""
    return 10 ** (SMALLEST[optimizer] + index / 2)


def sweeps(scale):
    """One sweep for each number of steps; the paper has m = 7."""
    problem = heavy_tailed_linear(4 if scale == "smoke" else 7, bucketing="levels")
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
    """The run of one optimizer with the index-th number of steps, at its own stops."""
    horizon = HORIZONS[dataset.attrs["scale"]][index]
    run = dataset.sel(optimizer=optimizer, horizon=horizon, step=list(linear_stops(horizon, STOPS)))
    return run.sel(learning_rate=rate(optimizer, index), method="nearest")


def draw(dataset):
    """One row for each optimizer, one panel for each rate, against learning rate × step."""
    horizons = HORIZONS[dataset.attrs["scale"]]
    figure, axes = plots.panels(2, len(horizons), width=2.0, height=1.9)
    for row, optimizer in zip(axes, SMALLEST, strict=True):
        for i, axis in enumerate(row):
            run = run_of(dataset, optimizer, i)
            plots.by_bucket(axis, run, steps=rate(optimizer, i) * run["step"].values)
            eta = plots.exponent(rate(optimizer, i))
            axis.set(xlabel="learning rate × step", ylim=(0, 7))
            axis.set_title(f"η = {eta}, {horizons[i]:,} steps")
        row[0].set_ylabel(f"{plots.label(optimizer, dataset)}: loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    figure.suptitle(
        "The same learning rate × steps: one path at different speeds, while rates are stable"
    )
    return figure


def claims(dataset):
    """How far the final losses differ, for two meanings of a stable learning rate."""
    horizons = HORIZONS[dataset.attrs["scale"]]
    runs = [run_of(dataset, "gd", i).isel(seed=0) for i in range(len(horizons))]
    ends = np.array([run["bucket_loss"].isel(step=-1).values for run in runs])
    rates = [rate("gd", i) for i in range(len(horizons))]
    stable = [
        float(highest_loss(run, horizon) / run["loss"][0]) <= 1.5
        for run, horizon in zip(runs, horizons, strict=True)
    ]
    falling = [
        float(run["train_loss"].dropna("train_step").diff("train_step").max()) <= 1e-5
        for run in runs
    ]
    return [
        _spread_row(
            "same-path-at-stable-rates",
            "that the rule stable admits",
            ends,
            rates,
            stable,
            "before any run",
        ),
        _spread_row(
            "same-path-at-descending-rates",
            "that never raise the loss",
            ends,
            rates,
            falling,
            "after a pilot",
        ),
    ]


def _spread_row(name, which, ends, rates, kept, fixed):
    """How far the final losses of the kept runs differ."""
    admitted = ", ".join(f"10^{np.log10(rates[i]):.3g}" for i in np.flatnonzero(kept))
    return between(
        name,
        f"GD, learning rate × steps constant, learning rates {which} ({admitted}): largest "
        "difference of a level's final loss, nats",
        float(np.ptp(ends[np.array(kept)], axis=0).max()),
        high=0.3,
        fixed=fixed,
    )


EXPERIMENT = Experiment("linear_step_time", sweeps, draw, claims, over="horizon")

if __name__ == "__main__":
    main(EXPERIMENT)
