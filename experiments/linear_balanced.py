"""A balanced control, and how the gap depends on the rule that selects learning rates.

Claims (a control that is not in the paper): with balanced labels on the same inputs, gradient
descent and Adam do equally well. Whether heavy-tailed labels show a gap depends on the learning
rates that are admitted (docs/method.md, selection rules). The rule `stable` admits only those whose
loss never exceeds 1.5 times its initial value. The rule `final`, which the authors' code uses,
admits all and takes the lowest final loss. Within 100 steps both rules show the gap. Within 300
steps only `stable` does: with a learning rate at which the loss first explodes, gradient descent
solves this small separable problem.

Run:    python experiments/linear_balanced.py
Draws:  figures/linear_balanced.png
"""

import numpy as np

from imbalance.analysis.labelled import RULES, at_best, best_learning_rate, highest_loss
from imbalance.problems import balanced_linear, heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, close
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd", "adam_without_momentum")
HORIZONS = {"smoke": (8, 16), "laptop": (100, 300), "paper": (100, 300)}
REFERENCE = {  # NumPy: labels, rule, horizon -> GD's and Adam's loss, worst of three seeds
    ("heavy-tailed", "stable", 100): (3.37, 0.787),
    ("heavy-tailed", "stable", 300): (2.04, 0.183),
    ("balanced", "stable", 100): (0.282, 0.186),
    ("balanced", "stable", 300): (0.052, 0.023),
    ("heavy-tailed", "final", 100): (3.37, 0.787),
    ("heavy-tailed", "final", 300): (0.000, 0.001),
    ("balanced", "final", 100): (0.015, 0.088),
    ("balanced", "final", 300): (0.000, 0.000),
}


def sweeps(scale):
    """Equal grids on both kinds of labels; the NumPy runs have m = 7."""
    m, seeds = (4, (0,)) if scale == "smoke" else (7, (0, 1, 2))
    rates = {"gd": half_decades(-1.5, 3), "adam_without_momentum": half_decades(-3.5, -1)}
    short, long = HORIZONS[scale]
    stops = (*linear_stops(short, 11), *linear_stops(long, 31))
    return {
        "heavy-tailed": Sweep(heavy_tailed_linear(m), rates, long, seeds, stops=stops),
        "balanced": Sweep(balanced_linear(m), rates, long, seeds, stops=stops),
    }


def draw(dataset):
    """For both kinds of labels: final loss by learning rate, the selected runs, and buckets."""
    horizon = HORIZONS[dataset.attrs["scale"]][-1]
    figure, axes = plots.panels(2, 4)
    for row, labels in zip(axes, ("heavy-tailed", "balanced"), strict=True):
        one = dataset.sel(labels=labels)
        _final_by_rate(row[0], one, horizon)
        stable = at_best(one, horizon, "stable")
        for axis, optimizer in zip(row[2:], OPTIMIZERS, strict=True):
            plots.by_bucket(axis, stable.sel(optimizer=optimizer))
            eta = plots.exponent(stable["learning_rate"].sel(optimizer=optimizer).item())
            axis.set(title=f"{plots.label(optimizer, dataset)}, η = {eta}", ylim=(0, 7))
        _winners(row[1], one, horizon)
        row[0].set_ylabel(f"{labels} labels\nloss at step {horizon}")
    plots.bucket_bar(figure, axes[0, 3], dataset.sizes["bucket"])
    figure.suptitle(
        "The gap comes with heavy-tailed labels, and the selection rule decides how long it lasts\n"
        "rule stable: loss never above 1.5 times its initial value (filled dots, columns 3 and 4); "
        "rule final: lowest final loss"
    )
    return figure


def _final_by_rate(axis, one, horizon):
    """Loss at the horizon, worst seed; dots are hollow where the loss exploded before."""
    final = one["loss"].sel(step=horizon).max("seed", skipna=False)
    exploded = (highest_loss(one, horizon) > 1.5 * one["loss"].sel(step=0)).any("seed")
    for optimizer in OPTIMIZERS:
        colour = plots.line_style(optimizer)["color"]
        values, hollow = final.sel(optimizer=optimizer), exploded.sel(optimizer=optimizer).values
        rates = values["learning_rate"].values
        shown = np.clip(values.values, 1e-5, 30)
        axis.plot(rates, shown, color=colour, linewidth=0.8, label=plots.label(optimizer, one))
        faces = ["white" if h else colour for h in hollow]
        axis.scatter(rates, shown, c=faces, edgecolors=colour, s=18, zorder=3)
    axis.set(xscale="log", yscale="log", xlabel="learning rate", title="Loss by learning rate")
    axis.legend()


def _winners(axis, one, horizon):
    """Loss at every step of the runs of gradient descent that the two rules select, first seed."""
    for rule, style in (("stable", "-"), ("final", ":")):
        run = at_best(one, horizon, rule).sel(optimizer="gd")
        losses = run["train_loss"].transpose("train_step", "seed").values
        eta = plots.exponent(run["learning_rate"].item())
        axis.plot(
            losses[:, 0],
            color="black",
            linestyle=style,
            linewidth=1,
            label=f"rule {rule}: η = {eta}",
        )
    axis.set(yscale="log", ylim=(1e-5, 1e6), xlabel="step", title="GD's best run, every step")
    axis.margins(x=0)
    axis.legend()


def claims(dataset):
    """The gap by both rules, and the losses against those of the NumPy runs."""
    best = {
        (rule, horizon): best_learning_rate(dataset, horizon, rule)
        for rule in RULES
        for horizon in HORIZONS[dataset.attrs["scale"]]
    }

    def loss(labels, rule, horizon, optimizer):
        return float(best[rule, horizon]["loss"].sel(labels=labels, optimizer=optimizer))

    rows = []
    for rule, horizon in best:
        gaps = {
            labels: loss(labels, rule, horizon, "gd")
            - loss(labels, rule, horizon, "adam_without_momentum")
            for labels in ("heavy-tailed", "balanced")
        }
        rows.append(
            between(
                f"{rule}-step-{horizon}-heavy-tailed-gap",
                f"Rule {rule}, step {horizon}: GD's loss minus Adam's on heavy-tailed labels, nats",
                gaps["heavy-tailed"],
                low=1.0,
                fixed="before any run",
            )
        )
        rows.append(
            between(
                f"{rule}-step-{horizon}-balanced-gap-smaller",
                f"Rule {rule}, step {horizon}: the gap on balanced labels minus a third of the gap "
                "on heavy-tailed ones, nats",
                gaps["balanced"] - gaps["heavy-tailed"] / 3,
                high=0.0,
                fixed="before any run",
            )
        )
    if dataset.attrs["scale"] == "smoke":
        return rows
    for (labels, rule, horizon), expected in REFERENCE.items():
        for optimizer, short, reference in zip(OPTIMIZERS, ("gd", "adam"), expected, strict=True):
            found = loss(labels, rule, horizon, optimizer)
            rate = best[rule, horizon]["learning_rate"].sel(labels=labels, optimizer=optimizer)
            text = (
                f"{labels} labels, rule {rule}, step {horizon}, {plots.label(optimizer, dataset)}: "
                f"best loss (at η = 10^{float(np.log10(rate)):.3g})"
            )
            name = f"{rule}-step-{horizon}-{labels}-{short}-loss"
            if reference < 0.01:
                rows.append(between(name, text, found, high=0.01, fixed="after a pilot"))
            else:
                rows.append(
                    close(name, text, [found], [reference], rtol=0.15, fixed="after a pilot")
                )
    return rows


EXPERIMENT = Experiment("linear_balanced", sweeps, draw, claims, over="labels")

if __name__ == "__main__":
    main(EXPERIMENT)
