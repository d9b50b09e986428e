"""The gap as a function of the tail: class counts n_k ∝ k^-α from balanced to steep.

Claims (an extension, not in the paper): with the numbers of examples and classes fixed, the gap
between gradient descent and Adam grows from about zero at α = 0 to its largest value near α = 1.
For larger α the frequent classes hold so many of the examples that the rare ones weigh little in
the overall loss.

The first column shows the class counts and the gap by α, for each rule that selects learning
rates; the others show both optimizers by bucket at some α, at the best rates by the rule `steady`.
m = 7: 896 examples, 127 classes. Rates are searched on one seed, and the best by each rule run on
three others.

Run:    python experiments/linear_exponent.py
Draws:  figures/linear_exponent.png
"""

import numpy as np

from imbalance.analysis.selection import RULES, at_best
from imbalance.problems import power_law_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, reported
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd", "adam_without_momentum")
GRIDS = {  # m, steps, values of α, then exponents of GD's and Adam's learning rates
    "smoke": (4, 16, (0.0, 1.0), (-1, 0), (-3, -2)),
    "laptop": (7, 100, (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5), (-2, 0.5), (-3, -1.5)),
    "paper": (8, 300, (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5), (-3, 0.5), (-4.5, -1.5)),
}
SHOWN = (0.0, 0.5, 1.0, 1.5)  # values of α
LINES = {"steady": ("o-", "#222222"), "stable": ("s--", "#777777"), "final": ("^:", "#AAAAAA")}
REASONS = {
    "final": "at some α this rule selects a rate at which GD's loss explodes first, and GD has "
    "solved the problem by the last step"
}


def sweeps(scale):
    """One sweep for each exponent α."""
    m, steps, exponents, gd, adam = GRIDS[scale]
    rates = {"gd": half_decades(*gd), "adam_without_momentum": half_decades(*adam)}
    more = {"confirm": Confirm(rules=tuple(RULES)), "stops": linear_stops(steps, 51)}
    return {alpha: Sweep(power_law_linear(m, alpha), rates, steps, **more) for alpha in exponents}


def gap(dataset, rule):
    """GD's final loss minus Adam's, for each exponent and seed."""
    last = int(dataset["step"][-1])
    loss = at_best(dataset, last, rule)["loss"].sel(step=last)
    return loss.sel(optimizer="gd") - loss.sel(optimizer="adam_without_momentum")


def draw(dataset):
    """Class counts and the gap by α; GD and Adam by bucket at some α."""
    chosen = at_best(dataset, int(dataset["step"][-1]))
    shown = [alpha for alpha in SHOWN if alpha in dataset["exponent"]]
    figure, axes = page.panels(2, 1 + len(shown), height=1.7)
    _counts(axes[0, 0], dataset, shown)
    _gaps(axes[1, 0], dataset)
    for row, optimizer in zip(axes, OPTIMIZERS, strict=True):
        for axis, alpha in zip(row[1:], shown, strict=True):
            one = chosen.sel(exponent=alpha, optimizer=optimizer)
            plots.by_bucket(axis, one)
            name = plots.label(optimizer, dataset).split(",")[0]
            axis.set(title=f"{name}, α = {alpha:g}\n{plots.rate(one)}", ylim=(0, 7))
        row[1].set_ylabel("loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    examples, classes = int(dataset["class_count"].isel(exponent=0).sum()), dataset.sizes["class"]
    page.headline(
        figure,
        chosen,
        "The gap between GD and Adam opens with the tail of the class frequencies, $n_k ∝ k^{-α}$",
        f"{examples:,} examples, {classes} classes, {int(dataset['step'][-1])} steps, full batch, "
        "no momentum.",
    )
    return figure


def _counts(axis, dataset, shown):
    """Examples of each class by rank, one line for each α shown."""
    ranks = np.arange(1, 1 + dataset.sizes["class"])
    for alpha in shown:
        counts = dataset["class_count"].sel(exponent=alpha).values
        axis.loglog(ranks, counts, color="#777777", lw=1)
        beside = {"textcoords": "offset points", "ha": "right", "va": "center"}
        axis.annotate(f"{alpha:g}", (1, counts[0]), (-2, 0), **beside)
    axis.set_xlim(left=0.3)
    axis.set(title="Class counts, by α", xlabel="class, by rank", ylabel="examples")


def _gaps(axis, dataset):
    """The gap by α for every rule."""
    for rule, (style, colour) in LINES.items():
        look = {"marker": style[0], "ls": style[1:], "color": colour, "markersize": 3}
        gaps = gap(dataset, rule)
        plots.seed_band(axis, gaps["exponent"].values, gaps, label=f"gap by rule {rule}", **look)
    axis.axhline(0, color="gray", lw=0.6)
    step = int(dataset["step"][-1])
    axis.set(title=f"Gap at step {step}", xlabel="exponent α", ylabel="GD − Adam (nats)")


def claims(dataset):
    """That the gap begins small and grows with α up to 1, and where it is largest."""
    asked = [alpha for alpha in (0.0, 0.5, 1.0) if alpha in dataset["exponent"]]
    rows = []
    for rule in LINES:
        gaps = gap(dataset, rule)
        means = ", ".join(f"{value:.3g}" for value in gaps.sel(exponent=asked).mean("seed").values)
        rows.append(
            between(
                f"{rule}-gap-grows-with-exponent",
                f"Rule {rule}: smallest increase of the gap between GD and Adam from one α to the "
                f"next of {', '.join(map(str, asked))}, nats (gaps {means})",
                gaps.sel(exponent=asked).diff("exponent").min("exponent"),
                low=0.0,
                fixed="before any run",
                reason=REASONS.get(rule, ""),
            )
        )
    gaps = gap(dataset, "steady")
    by_exponent = zip(gaps["exponent"].values, gaps.mean("seed").values, strict=True)
    return [
        *rows,
        between(
            "small-gap-without-a-tail",
            "Rule steady: the gap with equal classes (α = 0), as a share of the gap at α = 1",
            gaps.sel(exponent=0.0) / gaps.sel(exponent=1.0),
            high=1 / 3,
            fixed="before any run",
            percent=True,
        ),
        between(
            "gap-largest-near-one",
            "Rule steady: the α at which the gap is largest; near 1, to a step of the grid",
            gaps.idxmax("exponent"),
            low=0.75,
            high=1.25,
            fixed="after a pilot",
        ),
        reported(
            "gap-by-exponent",
            f"Rule steady: the gap at step {int(dataset['step'][-1])} by α, nats",
            ", ".join(f"{value:.3g} (α = {alpha:g})" for alpha, value in by_exponent),
        ),
        inside_grid(at_best(dataset, int(dataset["step"][-1]))),
    ]


EXPERIMENT = Experiment("linear_exponent", sweeps, draw, claims, over="exponent")

if __name__ == "__main__":
    main(EXPERIMENT)
