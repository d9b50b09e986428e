"""More optimizers on the linear problem: which part of Adam helps the rare classes?

Claim (C6, section E.2.7): normalising the gradient or adding momentum helps a little; taking its
sign helps most, and sign descent behaves like Adam. A line search does not close the gap.

Run:    python experiments/linear_optimizers.py
Draws:  figures/linear_optimizers.png
"""

from imbalance import plots
from imbalance.analysis.labelled import at_best
from imbalance.claims import between, inside_grid
from imbalance.experiment import Experiment, main
from imbalance.problems import heavy_tailed_linear
from imbalance.sweep import Sweep, half_decades

GRIDS = {  # exponents of ten at laptop scale, and at the paper's m = 11 (section C.3)
    "gd": ((-2, 0), (-3, -1)),
    "adam": ((-3.5, -1.5), (-5, -3)),
    "normalized_gd": ((-1, 1), (-3, -1)),
    "sign": ((-4.5, -2.5), (-6, -4)),
    "gd+m": ((-2.5, -0.5), (-3, -1)),
    "adam+m": ((-3.5, -1.5), (-5, -3)),
    "normalized_gd+m": ((-2, 0), (-3, -1)),
    "sign+m": ((-5, -3), (-6, -4)),
    "scaled_sign": ((-7, -5), (-9, -7)),
    "scaled_sign+m": ((-7, -5), (-9, -7)),
    "adagrad": ((-2.5, -0.5), (-5, -2)),
    "armijo": ((0, 0), (0, 0)),
    "lion": ((-4, -2), (-6, -4)),
    "muon": ((-1.5, 0.5), (-3, -1)),
}
ROWS = (
    ("gd", "adam", "normalized_gd", "sign"),
    ("gd+m", "adam+m", "normalized_gd+m", "sign+m"),
    ("scaled_sign", "scaled_sign+m", "adagrad", "armijo"),
)
MODERN = ("lion", "muon")


def sweeps(scale):
    """All optimizers over half-power grids."""
    m, steps = {"smoke": (4, 16), "laptop": (7, 150), "paper": (11, 500)}[scale]
    grids = {name: half_decades(*grid[scale == "paper"]) for name, grid in GRIDS.items()}
    return {"": Sweep(heavy_tailed_linear(m), grids, steps)}


def draw(dataset):
    """A row without momentum, a row with it, and the others; the first panel compares."""
    chosen = at_best(dataset, int(dataset["step"][-1]))
    top = 1.4 * float(chosen["loss"].isel(step=0).max())
    figure, axes = plots.panels(4, 5)
    plots.in_rows(axes, chosen, (*ROWS, MODERN), top)
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    plots.headline(figure, chosen, "More optimizers on random heavy-tailed labels")
    return figure


def claims(dataset):
    """T17's statement on this problem, and the other statements of item 7."""
    last = int(dataset["step"][-1])
    chosen = at_best(dataset, last)
    loss = chosen["loss"].sel(step=last).isel(seed=0)
    value = {name: float(loss.sel(optimizer=name)) for name in GRIDS}
    rows = []
    for suffix, words in (("", "without momentum"), ("+m", "with momentum")):
        gd, adam, normalized, sign = (
            value[name + suffix] for name in ("gd", "adam", "normalized_gd", "sign")
        )
        rows += [
            between(
                "C6",
                f"Sign descent does as well as Adam, {words}: (sign - Adam) / (GD - Adam)",
                (sign - adam) / (gd - adam),
                high=0.2,
                fixed="before any run",
            ),
            between(
                "C6",
                f"Normalized GD is nearer to GD than to Adam, {words}: "
                "(normalized - Adam) / (GD - Adam)",
                (normalized - adam) / (gd - adam),
                low=0.5,
                fixed="before any run",
            ),
        ]
    span = value["gd"] - value["adam"]
    rows.append(
        between(
            "E.2.7",
            "A line search does not close the gap: (line search - Adam) / (GD - Adam)",
            (value["armijo"] - value["adam"]) / span,
            low=0.5,
            fixed="before any run",
        )
    )
    for name in ("scaled_sign", "adagrad"):
        rows.append(
            between(
                "E.2.7",
                f"{plots.label(name)} is nearer to Adam than to GD: "
                "its (loss - Adam) / (GD - Adam)",
                (value[name] - value["adam"]) / span,
                high=0.5,
                fixed="before any run",
            )
        )
    tuned = chosen.sel(optimizer=[name for name in GRIDS if name != "armijo"])
    return [*rows, inside_grid(tuned)]


EXPERIMENT = Experiment("linear_optimizers", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
