"""More optimizers on the linear problem: which part of Adam helps the rare classes?

Claim (the paper's appendix): normalising the gradient or adding momentum helps a little. Taking the
sign of the gradient helps most, and sign descent behaves like Adam. A line search does not close
the gap.

The first two rows are optimizers without and with momentum, the third is others of the paper, the
last newer ones; the first column compares those of its row. All are at their best rates by the rule
`steady`, searched on one seed and run on three others. At laptop scale m = 7 (896 examples, 127
classes) and 300 steps; the paper has m = 11 and 500. Those with momentum are judged at step 60,
twice what Adam needs to bring the loss below half: at m = 7 momentum alone fits everything later.

Run:    python experiments/linear_optimizers.py
Draws:  figures/linear_optimizers.png
"""

from math import inf

from imbalance.analysis.selection import at_best
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, reported, sign_explains_adam, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

SECTION = "Appendix, more optimizers"
GRIDS = {  # exponents of learning rates at laptop scale, and at the paper's m = 11
    "gd": ((-2.5, -1), (-3, -1)),
    "adam_without_momentum": ((-3.5, -2), (-5, -3)),
    "normalized_gd": ((-2, -0.5), (-3, 0)),
    "sign": ((-4.5, -3), (-6, -4)),
    "gd+m": ((-2.5, -1), (-4, -1)),
    "adam": ((-3.5, -2), (-5, -3)),
    "normalized_gd+m": ((-2.5, -1), (-3, -1)),
    "sign+m": ((-5, -3.5), (-6, -4)),
    "scaled_sign": ((-6.5, -5), (-9, -7)),
    "scaled_sign+m": ((-6, -4.5), (-9, -7)),
    "adagrad": ((-2.5, -1), (-5, -2)),
    "armijo": ((0, 0), (0, 0)),
    "lion": ((-4, -2.5), (-6, -4)),
    "muon": ((-2, -0.5), (-3, -1)),
}
REASONS = (
    "",
    "with momentum steps of one length too fit so small a problem, on some starts",
)
HORIZONS = {"smoke": (16, 16), "laptop": (300, 60), "paper": (500, 500)}  # without, with momentum
ROWS = {
    "without momentum": ("gd", "adam_without_momentum", "normalized_gd", "sign"),
    "with momentum": ("gd+m", "adam", "normalized_gd+m", "sign+m"),
    "others": ("scaled_sign", "scaled_sign+m", "adagrad", "armijo"),
    "newer": ("lion", "muon"),
}


def sweeps(scale):
    """All optimizers over their grids."""
    m, (steps, early) = {"smoke": 4, "laptop": 7, "paper": 11}[scale], HORIZONS[scale]
    grids = {name: half_decades(*grid[scale == "paper"]) for name, grid in GRIDS.items()}
    # Every row has points enough up to its own horizon.
    every = 501 if scale == "paper" else 51
    stops = tuple(sorted({*linear_stops(steps, every), *linear_stops(early, min(early + 1, 51))}))
    confirm = Confirm(steps=tuple({steps, early}))
    return {"": Sweep(heavy_tailed_linear(m), grids, steps, confirm=confirm, stops=stops)}


def best(dataset, words):
    """The runs at the best learning rates of a row, and its horizon."""
    horizons = HORIZONS[dataset.attrs["scale"]]
    horizon = horizons[words in ("with momentum", "newer")]
    return at_best(dataset, horizon), horizon


def draw(dataset):
    """One row without momentum, one with it, and two of others; the first panel compares."""
    top = 1.4 * float(dataset["loss"].isel(step=0).max())
    figure, axes = page.panels(4, 5, height=1.5)
    for row, (words, names) in zip(axes, ROWS.items(), strict=True):
        chosen, horizon = best(dataset, words)
        drawn = linear_stops(horizon, min(horizon + 1, 51))  # evenly, up to each row's horizon
        plots.in_rows(row[None], chosen.sel(step=list(drawn)), [names], top)
        row[0].set_title(f"Overall,\n{words}")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    examples, classes = int(dataset["class_count"].sum()), dataset.sizes["class"]
    page.headline(
        figure,
        best(dataset, "without momentum")[0],
        "Without momentum the sign closes most of the gap to Adam, norm or line search do not",
        f"{examples:,} examples, {classes:,} classes, full batch. The second and the last row have "
        f"a horizon of their own, step {best(dataset, 'with momentum')[1]}.",
    )
    return figure


def claims(dataset):
    """Where each optimizer stands between GD and Adam."""
    loss, grids = {}, []
    for words, names in ROWS.items():
        chosen, horizon = best(dataset, words)
        loss |= {name: chosen["loss"].sel(step=horizon, optimizer=name) for name in names}
        tuned = chosen.sel(optimizer=[name for name in names if name != "armijo"])
        grids.append(inside_grid(tuned, f"{slug(words)}-best-rates-inside-grid"))

    def closed(name, gd, adam):
        return (loss[gd] - loss[name]) / (loss[gd] - loss[adam])

    rows = []
    for words in ("without momentum", "with momentum"):
        losses = [loss[name] for name in ROWS[words]]
        rows += sign_explains_adam(slug(words), losses, words.capitalize(), SECTION, REASONS)
    plain = ("gd", "adam_without_momentum")
    for name, claim, most, low, high in (
        ("armijo", "line-search-keeps-gap", "at most", -inf, 0.5),
        ("scaled_sign", "scaled-sign-nearer-to-adam", "at least", 0.5, inf),
        ("adagrad", "adagrad-nearer-to-adam", "at least", 0.5, inf),
    ):
        rows.append(
            between(
                claim,
                f"Without momentum: {plots.label(name, dataset)} closes {most} half of the gap "
                "between GD and Adam",
                closed(name, *plain),
                low,
                high,
                fixed="before any run",
                section=SECTION,
                percent=True,
            )
        )
    for name in ROWS["newer"]:
        rows.append(
            reported(
                f"{name}-share-of-the-gap",
                f"{plots.label(name, dataset)}: share of the gap between GD and Adam, both with "
                "momentum, that it closes, per cent",
                100 * closed(name, "gd+m", "adam"),
            )
        )
    return [*rows, *grids]


EXPERIMENT = Experiment("linear_optimizers", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
