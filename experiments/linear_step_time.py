"""Learning rate times steps: a smaller learning rate only slows down the same path.

Claim (the paper's appendix): with learning rate × steps held constant, the losses of gradient
descent on each frequency level nearly coincide when drawn against learning rate × step, as for
gradient flow, as long as the learning rate is stable. No learning rate changes the order in which
classes are fitted.

Stable means what the rule `steady` admits: the loss never exceeds 1.5 times its start and does not
oscillate. The rule `stable`, which admits shaking runs, was asked for before; at 10^-1 the loss
of gradient descent shakes from the start, which is no flow, and the difference there is reported.

At laptop scale: 896 examples, 127 classes, three seeds. The left panels lay the paths of all but
the two largest rates over each other, the smallest rate as the widest line; where one sees one
curve they coincide.

Run:    python experiments/linear_step_time.py
Draws:  figures/linear_step_time.png
"""

import numpy as np

from imbalance.analysis.selection import score
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, reported
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, linear_stops

# Exponents of the smallest learning rate, with most steps; each later one is larger by one half.
SMALLEST = {"gd": -2.5, "adam_without_momentum": -4}
HORIZONS = {
    "smoke": (50, 16, 5),
    "laptop": (1000, 316, 100, 32, 10),
    "paper": (10_000, 3162, 1000, 316, 100),
}
STOPS = 51
LINES = ((4.0, 0.3), (2.0, 0.5), (0.8, 1.0))  # that lie over each other: width, opacity


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
            seeds=(1,) if scale == "smoke" else (1, 2, 3),
            stops=linear_stops(steps, STOPS),
        )
        for i, steps in enumerate(HORIZONS[scale])
    }


def run_of(dataset, optimizer, index):
    """The runs of one optimizer with the index-th number of steps, at their own steps."""
    horizon = HORIZONS[dataset.attrs["scale"]][index]
    steps = {"step": list(linear_stops(horizon, STOPS)), "train_step": range(horizon)}
    run = dataset.sel(optimizer=optimizer, horizon=horizon, **steps)
    return run.sel(learning_rate=rate(optimizer, index), method="nearest")


def draw(dataset):
    """A row for each optimizer: its smaller rates over each other, then the two largest."""
    horizons = HORIZONS[dataset.attrs["scale"]]
    overlaid, alone = range(len(horizons) - 2), (len(horizons) - 2, len(horizons) - 1)
    figure, axes = page.panels(len(SMALLEST), 3)
    seed = int(dataset["seed"][0])
    for row, optimizer in zip(axes, SMALLEST, strict=True):
        etas = [plots.exponent(rate(optimizer, i)) for i in range(len(horizons))]
        for i, (width, alpha) in zip(overlaid, LINES, strict=False):
            run = run_of(dataset, optimizer, i)
            losses, at = run["bucket_loss"], rate(optimizer, i) * run["step"].values
            for bucket, colour in enumerate(plots.bucket_colours(dataset.sizes["bucket"])):
                look = {"color": colour, "lw": width, "alpha": alpha}
                plots.seed_band(row[0], at, losses.isel(bucket=bucket), **look)
        ends = dict.fromkeys((etas[overlaid[0]], etas[overlaid[-1]]))
        row[0].set_title(f"η = {' to '.join(ends)}")
        for axis, i in zip(row[1:], alone, strict=True):
            run = run_of(dataset, optimizer, i)
            plots.by_bucket(axis, run, seed=seed, steps=rate(optimizer, i) * run["step"].values)
            axis.set_title(f"η = {etas[i]}, {horizons[i]} steps")
        for axis in row:
            axis.set(xlabel="learning rate × step", ylim=(0, 7))
            axis.margins(x=0)
        row[0].set_ylabel(f"{plots.label(optimizer, dataset)}\nloss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    examples, classes = int(dataset["class_count"].isel(horizon=0).sum()), dataset.sizes["class"]
    steps = ", ".join(f"{horizons[i]:,}" for i in overlaid)
    seeds = ", ".join(map(str, dataset["seed"].values))
    page.headline(
        figure,
        None,
        "A smaller learning rate only slows down the same path, as long as the loss does not shake",
        f"{examples:,} examples, {classes:,} classes. Learning rates are fixed. Left: rates with "
        f"{steps} steps over each other, wide to narrow, mean and range of seeds {seeds}. Right: "
        f"seed {seed}.",
    )
    return figure


def claims(dataset):
    """How far the final losses differ, for two meanings of a stable learning rate."""
    said = "learning rate × steps constant, learning rates that the rule"
    largest = "largest difference of a level's final loss, nats"
    kept, spread = same_path(dataset, "gd", "steady")
    shaking, spread_shaking = same_path(dataset, "gd", "stable")
    kept_adam, spread_adam = same_path(dataset, "adam_without_momentum", "steady")
    return [
        between(
            "same-path-at-steady-rates",
            f"GD, {said} steady admits ({kept}): {largest}",
            spread,
            high=0.3,
            fixed="before any run",
            section="Appendix, step size and time",
        ),
        reported(
            "same-path-at-stable-rates",
            f"GD, {said} stable admits too ({shaking}): {largest}",
            spread_shaking,
        ),
        reported(
            "adam-same-path-at-steady-rates",
            f"Adam without momentum, {said} steady admits ({kept_adam}): {largest}",
            spread_adam,
        ),
    ]


def same_path(dataset, optimizer, rule):
    """The rates that a rule admits, in words, and for each seed how far their ends differ."""
    horizons = HORIZONS[dataset.attrs["scale"]]
    runs = [run_of(dataset, optimizer, i) for i in range(len(horizons))]
    kept = [
        i
        for i, (run, horizon) in enumerate(zip(runs, horizons, strict=True))
        if np.isfinite(score(run, horizon, rule))
    ]
    words = ", ".join(f"10^{SMALLEST[optimizer] + i / 2:g}" for i in kept)
    ends = [runs[i]["bucket_loss"].isel(step=-1).transpose("seed", "bucket") for i in kept]
    return words, np.ptp(ends, axis=0).max(1)


EXPERIMENT = Experiment("linear_step_time", sweeps, draw, claims, over="horizon")

if __name__ == "__main__":
    main(EXPERIMENT)
