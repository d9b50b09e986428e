"""L2 regularisation: a small penalty keeps the gap, a large one closes it by preventing the fit.

Claim (the paper's appendix): the penalty (λ/2)‖W‖² is added to the objective. For small λ Adam
keeps its lead; for large λ neither optimizer can fit the rare classes and the gap closes. The
paper's values of λ are not known to us; ours are 0 and powers of ten.

Losses are shown without the penalty, at the best rates by the rule `steady`. The first column says
how they and the gap depend on λ, the others show both optimizers by bucket at some λ. At laptop
scale m = 7: 896 examples, 127 classes. Rates are searched on one seed and the best run on three
others.

Run:    python experiments/linear_l2.py
Draws:  figures/linear_l2.png
"""

from typing import Any

import numpy as np

from imbalance.analysis.selection import at_best
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

SECTION = "Appendix, L2 regularisation"
GRIDS = {  # m, steps, penalties λ, exponents of GD's and Adam's learning rates
    "smoke": (4, 16, (0.0, 0.1), (-2, -1), (-3, -2)),
    "laptop": (7, 200, (0.0, 1e-4, 1e-3, 1e-2, 1e-1), (-2.5, -1), (-3, -2)),
    "paper": (11, 1000, (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1), (-3.5, -2), (-4.5, -3)),
}
OPTIMIZERS = ("gd+m", "adam")


def sweeps(scale):
    """One sweep for each penalty."""
    m, steps, penalties, gd, adam = GRIDS[scale]
    rates = {"gd+m": half_decades(*gd), "adam": half_decades(*adam)}
    more = {"confirm": Confirm(), "stops": linear_stops(steps, 51)}
    return {l2: Sweep(heavy_tailed_linear(m), rates, steps, l2=l2, **more) for l2 in penalties}


def gap(final):
    """GD's loss minus Adam's, for each penalty and seed."""
    return final["loss"].sel(optimizer="gd+m") - final["loss"].sel(optimizer="adam")


def draw(dataset):
    """Final loss and gap by penalty; each optimizer by bucket at some penalties."""
    last = int(dataset["step"][-1])
    chosen = at_best(dataset, last)
    penalties = chosen["l2"].values
    number = len(penalties)
    shown = sorted({0, 1, number - 2, number - 1})
    figure, axes = page.panels(2, 1 + len(shown), height=1.7)
    _by_penalty(axes[:, 0], chosen.sel(step=last))
    top = 1.4 * float(chosen["loss"].isel(step=0).max())
    for row, optimizer in zip(axes, OPTIMIZERS, strict=True):
        name = plots.label(optimizer, dataset)
        for axis, place in zip(row[1:], shown, strict=True):
            run = chosen.sel(optimizer=optimizer).isel(l2=place)
            plots.by_bucket(axis, run)
            title = f"{name}, λ = {_power(penalties[place])}\n{plots.rate(run)}"
            axis.set(title=title, ylim=(0, top))
        row[1].set_ylabel("loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    examples, classes = int(dataset["class_count"].isel(l2=0).sum()), dataset.sizes["class"]
    page.headline(
        figure,
        chosen,
        "A small penalty leaves the gap; a large one closes it, as neither fits the rare classes",
        f"{examples:,} examples, {classes:,} classes, {last} steps, full batch. The penalty "
        "(λ/2)‖W‖² is not part of the losses shown.",
    )
    return figure


def _by_penalty(column, final):
    """The final loss of both optimizers, and below it the gap between them."""
    overall, gaps = column
    penalties, look = final["l2"].values, {"marker": "o", "markersize": 3}
    places = np.arange(len(penalties))
    for optimizer in OPTIMIZERS:
        style = {**plots.line_style(optimizer), **look, "label": plots.label(optimizer, final)}
        plots.seed_band(overall, places, final["loss"].sel(optimizer=optimizer), **style)
    plots.seed_band(gaps, places, gap(final), color="#777777", **look)
    gaps.axhline(0, color="gray", lw=0.6)
    for axis in column:
        labels = ["" if i % 2 else _power(penalty) for i, penalty in enumerate(penalties)]
        axis.set_xticks(places, labels)  # there is room for every second
        axis.set(xlabel="penalty λ")
    step = final["step"].item()
    overall.set(title=f"Overall, step {step}", ylabel="loss (nats)")
    gaps.set(title=f"Gap, step {step}", ylabel="GD − Adam (nats)")


def _power(penalty):
    """A penalty as the ticks name it."""
    return plots.exponent(penalty) if penalty else "0"


def claims(dataset):
    """The gap with a small and with a large penalty."""
    last = int(dataset["step"][-1])
    chosen = at_best(dataset, last)
    penalties = chosen["l2"].values
    gaps = gap(chosen.sel(step=last))
    rarest = chosen["bucket_loss"].isel(bucket=-1, l2=-1)
    test: dict[str, Any] = {"fixed": "before any run", "section": SECTION, "percent": True}
    return [
        between(
            "small-penalty-keeps-gap",
            f"The gap between GD and Adam at λ = {penalties[1]:g}, as a share of the gap without "
            "penalty",
            gaps.isel(l2=1) / gaps.isel(l2=0),
            low=0.5,
            **test,
        ),
        between(
            "large-penalty-closes-gap",
            f"The gap between GD and Adam at λ = {penalties[-1]:g}, as a share of the gap without "
            "penalty",
            gaps.isel(l2=-1) / gaps.isel(l2=0),
            high=0.1,
            **test,
        ),
        between(
            "large-penalty-prevents-fit",
            f"The loss in the rarest bucket at λ = {penalties[-1]:g} and step {last}, as a share "
            "of the initial one: the better of GD and Adam",
            (rarest.sel(step=last) / rarest.sel(step=0)).min("optimizer", skipna=False),
            low=0.9,
            **test,
        ),
        inside_grid(chosen),
    ]


EXPERIMENT = Experiment("linear_l2", sweeps, draw, claims, over="l2")

if __name__ == "__main__":
    main(EXPERIMENT)
