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
    "laptop": (3162, 1000, 316, 100, 32),
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
            axis.set_title(f"{plots.label(optimizer)}, η = {eta}, {horizons[i]:,} steps")
        row[0].set_ylabel("loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    figure.suptitle("The same learning rate × steps: one path, walked at five speeds")
    return figure


def claims(dataset):
    """The statements of item 13."""
    horizons = HORIZONS[dataset.attrs["scale"]]
    ends, stable = [], []
    for i, horizon in enumerate(horizons):
        run = run_of(dataset, "gd", i)
        ends.append(run["bucket_loss"].isel(step=-1, seed=0).values)
        highest = highest_loss(run, horizon) / run["loss"].isel(step=0)
        stable.append(float(highest.max()) <= 1.5)
    kept = np.array(ends)[stable]
    unstable = [plots.exponent(rate("gd", i)) for i, ok in enumerate(stable) if not ok]
    left_out = f" (left out as unstable: {', '.join(unstable)})" if unstable else ""
    return [
        between(
            "E.2.13",
            f"GD at the end of {len(kept)} stable step sizes, lr x t constant: largest difference "
            f"of a level's loss, nats{left_out}",
            float(np.ptp(kept, axis=0).max()),
            high=0.3,
            fixed="before any run",
        )
    ]


EXPERIMENT = Experiment("linear_step_time", sweeps, draw, claims, over="horizon")

if __name__ == "__main__":
    main(EXPERIMENT)
