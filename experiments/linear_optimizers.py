"""More optimizers on the linear problem: which part of Adam helps the rare classes?

Claim (the paper's appendix): normalising the gradient or adding momentum helps a little. Taking the
sign of the gradient helps most, and sign descent behaves like Adam. A line search does not close
the gap.

Run:    python experiments/linear_optimizers.py
Draws:  figures/linear_optimizers.png
"""

from imbalance.analysis.labelled import at_best
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades

GRIDS = {  # exponents of learning rates at laptop scale, and at the paper's m = 11
    "gd": ((-2, 0), (-3, -1)),
    "adam_without_momentum": ((-3.5, -1.5), (-5, -3)),
    "normalized_gd": ((-1, 1), (-3, -1)),
    "sign": ((-4.5, -2.5), (-6, -4)),
    "gd+m": ((-2.5, -0.5), (-3, -1)),
    "adam": ((-3.5, -1.5), (-5, -3)),
    "normalized_gd+m": ((-2, 0), (-3, -1)),
    "sign+m": ((-5, -3), (-6, -4)),
    "scaled_sign": ((-7, -5), (-9, -7)),
    "scaled_sign+m": ((-7, -5), (-9, -7)),
    "adagrad": ((-2.5, -0.5), (-5, -2)),
    "armijo": ((0, 0), (0, 0)),
    "lion": ((-4, -2), (-6, -4)),
    "muon": ((-1.5, 0.5), (-3, -1)),
}
ROWS = {
    "without momentum": ("gd", "adam_without_momentum", "normalized_gd", "sign"),
    "with momentum": ("gd+m", "adam", "normalized_gd+m", "sign+m"),
    "others": ("scaled_sign", "scaled_sign+m", "adagrad", "armijo"),
    "newer": ("lion", "muon"),
}


def sweeps(scale):
    """All optimizers over their grids."""
    m, steps = {"smoke": (4, 16), "laptop": (7, 150), "paper": (11, 500)}[scale]
    grids = {name: half_decades(*grid[scale == "paper"]) for name, grid in GRIDS.items()}
    return {"": Sweep(heavy_tailed_linear(m), grids, steps)}


def draw(dataset):
    """One row without momentum, one with it, and two of others; the first panel compares."""
    chosen = at_best(dataset, int(dataset["step"][-1]))
    top = 1.4 * float(chosen["loss"].isel(step=0).max())
    figure, axes = plots.panels(4, 5)
    plots.in_rows(axes, chosen, tuple(ROWS.values()), top)
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    plots.headline(figure, chosen, "More optimizers on random heavy-tailed labels")
    return figure


def claims(dataset):
    """Where each optimizer stands between GD and Adam."""
    last = int(dataset["step"][-1])
    chosen = at_best(dataset, last)
    loss = chosen["loss"].sel(step=last).isel(seed=0)
    value = {name: float(loss.sel(optimizer=name)) for name in GRIDS}
    rows = []
    for words in ("without momentum", "with momentum"):
        gd, adam, normalized, sign = (value[name] for name in ROWS[words])
        rows += [
            between(
                f"{slug(words)}-sign-near-adam",
                f"Sign descent does as well as Adam, {words}: (sign - Adam) / (GD - Adam)",
                (sign - adam) / (gd - adam),
                high=0.2,
                fixed="before any run",
            ),
            between(
                f"{slug(words)}-normalized-gd-near-gd",
                f"Normalized GD is nearer to GD than to Adam, {words}: "
                "(normalized - Adam) / (GD - Adam)",
                (normalized - adam) / (gd - adam),
                low=0.5,
                fixed="before any run",
            ),
        ]
    span = value["gd"] - value["adam_without_momentum"]
    rows.append(
        between(
            "line-search-keeps-gap",
            "A line search does not close the gap: (line search - Adam) / (GD - Adam), "
            "both without momentum",
            (value["armijo"] - value["adam_without_momentum"]) / span,
            low=0.5,
            fixed="before any run",
        )
    )
    for name in ("scaled_sign", "adagrad"):
        rows.append(
            between(
                f"{slug(name)}-nearer-to-adam",
                f"{plots.label(name, dataset)} is nearer to Adam than to GD: (its loss - Adam) / "
                "(GD - Adam), both without momentum",
                (value[name] - value["adam_without_momentum"]) / span,
                high=0.5,
                fixed="before any run",
            )
        )
    tuned = chosen.sel(optimizer=[name for name in GRIDS if name != "armijo"])
    return [*rows, inside_grid(tuned)]


EXPERIMENT = Experiment("linear_optimizers", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
