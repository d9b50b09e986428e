"""Balanced control, and a finding of ours: the gap depends on the rule that selects learning rates.

Claim (section E.4): with balanced labels on the same inputs, gradient descent and Adam are on par.
Whether heavy-tailed labels then show a gap depends on which rates may win. Rule S admits only rates
whose loss never exceeds 1.5 times its start; rule F, which the authors' code uses, admits any rate
with a low final loss. Within 100 steps both rules show the gap. Within 300 steps only rule S does:
under rule F gradient descent with a step that first explodes solves this small separable problem.

Run:    python experiments/linear_balanced.py
Draws:  figures/linear_balanced.png
"""

import numpy as np

from imbalance import plots
from imbalance.analysis.labelled import RULES, at_best, best_learning_rate, highest_loss
from imbalance.claims import between, close
from imbalance.experiment import Experiment, main
from imbalance.problems import balanced_linear, heavy_tailed_linear
from imbalance.sweep import Sweep, half_decades, linear_stops

HORIZONS = {"smoke": (8, 16), "laptop": (100, 300), "paper": (100, 300)}
REFERENCE = {  # T12: labels, rule, horizon -> GD's and Adam's loss, worst of three seeds
    ("heavy-tailed", "stable", 100): (3.37, 0.787),
    ("heavy-tailed", "stable", 300): (2.04, 0.183),
    ("balanced", "stable", 100): (0.282, 0.186),
    ("balanced", "stable", 300): (0.052, 0.023),
    ("heavy-tailed", "final", 100): (3.37, 0.787),
    ("heavy-tailed", "final", 300): (0.000, 0.001),
    ("balanced", "final", 100): (0.015, 0.088),
    ("balanced", "final", 300): (0.000, 0.000),
}
SHORT = {"stable": "rule S", "final": "rule F"}


def sweeps(scale):
    """Equal grids on both kinds of labels; the specification's own size is m = 7."""
    m, seeds = (4, (0,)) if scale == "smoke" else (7, (0, 1, 2))
    rates = {"gd": half_decades(-1.5, 3), "adam": half_decades(-3.5, -1)}
    short, long = HORIZONS[scale]
    stops = (*linear_stops(short, 11), *linear_stops(long, 31))
    return {
        "heavy-tailed": Sweep(heavy_tailed_linear(m), rates, long, seeds, stops=stops),
        "balanced": Sweep(balanced_linear(m), rates, long, seeds, stops=stops),
    }


def draw(dataset):
    """A row a kind of labels: final loss by rate, what the rules select, and the buckets."""
    horizon = HORIZONS[dataset.attrs["scale"]][-1]
    figure, axes = plots.panels(2, 4)
    for row, labels in zip(axes, ("heavy-tailed", "balanced"), strict=True):
        one = dataset.sel(labels=labels)
        _final_by_rate(row[0], one, horizon)
        stable = at_best(one, horizon, "stable")
        for axis, optimizer in zip(row[2:], ("gd", "adam"), strict=True):
            plots.by_bucket(axis, stable.sel(optimizer=optimizer))
            eta = plots.exponent(stable["learning_rate"].sel(optimizer=optimizer).item())
            axis.set(title=f"{plots.label(optimizer)}, rule S: η = {eta}", ylim=(0, 7))
        _winners(row[1], one, horizon)
        row[0].set_ylabel(f"{labels} labels\nloss at step {horizon}")
    plots.bucket_bar(figure, axes[0, 3], dataset.sizes["bucket"])
    figure.suptitle(
        "The gap comes with heavy-tailed labels, and the rule of selection decides how long it "
        "lasts\nrule S: loss never above 1.5 times its start (filled dots); "
        "rule F: lowest final loss, whatever the path"
    )
    return figure


def _final_by_rate(axis, one, horizon):
    """Loss at the horizon, worst seed; hollow where the run had exploded on its way."""
    final = one["loss"].sel(step=horizon).max("seed", skipna=False)
    exploded = (highest_loss(one, horizon) > 1.5 * one["loss"].sel(step=0)).any("seed")
    for optimizer in ("gd", "adam"):
        colour = plots.line_style(optimizer)["color"]
        values, hollow = final.sel(optimizer=optimizer), exploded.sel(optimizer=optimizer).values
        rates = values["learning_rate"].values
        shown = np.clip(values.values, 1e-5, 30)
        axis.plot(rates, shown, color=colour, linewidth=0.8, label=plots.label(optimizer))
        faces = ["white" if h else colour for h in hollow]
        axis.scatter(rates, shown, c=faces, edgecolors=colour, s=18, zorder=3)
    axis.set(xscale="log", yscale="log", xlabel="learning rate", title="Loss by learning rate")
    axis.legend()


def _winners(axis, one, horizon):
    """Every step's loss of the gradient descent runs that the two rules select, in all seeds."""
    for rule, style in (("stable", "-"), ("final", ":")):
        run = at_best(one, horizon, rule).sel(optimizer="gd")
        losses = run["train_loss"].transpose("train_step", "seed").values
        eta = plots.exponent(run["learning_rate"].item())
        axis.plot(
            losses[:, 0],
            color="black",
            linestyle=style,
            linewidth=1,
            label=f"{SHORT[rule]}: η = {eta}",
        )
    axis.set(yscale="log", ylim=(1e-5, 1e6), xlabel="step", title="GD's best, every step")
    axis.margins(x=0)
    axis.legend()


def claims(dataset):
    """T12, and the gap under both rules."""
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
            labels: loss(labels, rule, horizon, "gd") - loss(labels, rule, horizon, "adam")
            for labels in ("heavy-tailed", "balanced")
        }
        rows.append(
            between(
                "E.4",
                f"{SHORT[rule]}, t = {horizon}: gap on heavy-tailed labels, nats",
                gaps["heavy-tailed"],
                low=1.0,
                fixed="before any run",
            )
        )
        rows.append(
            between(
                "E.4",
                f"{SHORT[rule]}, t = {horizon}: gap on balanced labels minus a third of the gap on "
                "heavy-tailed ones, nats",
                gaps["balanced"] - gaps["heavy-tailed"] / 3,
                high=0.0,
                fixed="before any run",
            )
        )
    if dataset.attrs["scale"] == "smoke":
        return rows
    for (labels, rule, horizon), expected in REFERENCE.items():
        for optimizer, reference in zip(("gd", "adam"), expected, strict=True):
            found = loss(labels, rule, horizon, optimizer)
            rate = best[rule, horizon]["learning_rate"].sel(labels=labels, optimizer=optimizer)
            text = (
                f"{labels}, {SHORT[rule]}, t = {horizon}: {plots.label(optimizer)}'s best loss"
                f" (at η = 10^{float(np.log10(rate)):.3g})"
            )
            if reference < 0.01:
                rows.append(between("T12", text, found, high=0.01, fixed="after a pilot"))
            else:
                rows.append(
                    close("T12", text, [found], [reference], rtol=0.15, fixed="after a pilot")
                )
    return rows


EXPERIMENT = Experiment("linear_balanced", sweeps, draw, claims, over="labels")

if __name__ == "__main__":
    main(EXPERIMENT)
