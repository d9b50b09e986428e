"""L2 regularisation: a small penalty keeps the gap, a large one closes it by preventing the fit.

Claim (the paper's appendix): the penalty (λ/2)‖W‖² is added to the objective. For small λ Adam
keeps its lead; for large λ neither optimizer can fit the rare classes and the gap closes. The
paper's values of λ are not known to us; ours are 0 and powers of ten.

Run:    python experiments/linear_l2.py
Draws:  figures/linear_l2.png
"""

from imbalance.analysis.labelled import at_best
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades

GRIDS = {  # m, steps, penalties λ, exponents of GD's and Adam's learning rates
    "smoke": (4, 16, (0.0, 0.1), (-2, -1), (-3, -2)),
    "laptop": (7, 200, (0.0, 1e-4, 1e-3, 1e-2, 1e-1), (-2, -1), (-3, -2)),
    "paper": (11, 1000, (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1), (-3.5, -2), (-4.5, -3)),
}
OPTIMIZERS = ("gd+m", "adam")


def sweeps(scale):
    """One sweep for each penalty."""
    m, steps, penalties, gd, adam = GRIDS[scale]
    rates = {"gd+m": half_decades(*gd), "adam": half_decades(*adam)}
    return {l2: Sweep(heavy_tailed_linear(m), rates, steps, l2=l2) for l2 in penalties}


def draw(dataset):
    """One row for each optimizer, one panel for each penalty: the loss by bucket, unpenalised."""
    chosen = at_best(dataset, int(dataset["step"][-1]))
    penalties = chosen["l2"].values
    figure, axes = plots.panels(2, len(penalties), width=1.9, height=1.9)
    top = 1.4 * float(chosen["loss"].isel(step=0).max())
    for row, optimizer in zip(axes, OPTIMIZERS, strict=True):
        for axis, l2 in zip(row, penalties, strict=True):
            run = chosen.sel(optimizer=optimizer, l2=l2)
            plots.by_bucket(axis, run)
            axis.plot(run["step"], run["loss"].mean("seed"), color="#BB5566", linestyle=":")
            axis.set(title=f"{plots.label(optimizer, dataset)}, λ = {l2:g}", ylim=(0, top))
        row[0].set_ylabel("loss without penalty (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    plots.headline(figure, chosen, "L2 regularisation (dotted: overall loss)")
    return figure


def claims(dataset):
    """The gap with a small and with a large penalty."""
    last = int(dataset["step"][-1])
    chosen = at_best(dataset, last).sel(step=last).isel(seed=0)
    gap = chosen["loss"].sel(optimizer="gd+m") - chosen["loss"].sel(optimizer="adam")
    none, small, large = float(gap[0]), float(gap[1]), float(gap[-1])
    rarest = chosen["bucket_loss"].isel(bucket=-1, l2=-1)
    start = at_best(dataset, last)["bucket_loss"].isel(bucket=-1, l2=-1, step=0, seed=0)
    penalties = chosen["l2"].values
    return [
        between(
            "small-penalty-keeps-gap",
            f"Gap at λ = {penalties[1]:g} divided by the gap without penalty",
            small / none,
            low=0.5,
            fixed="before any run",
        ),
        between(
            "large-penalty-closes-gap",
            f"Gap at λ = {penalties[-1]:g} divided by the gap without penalty",
            large / none,
            high=0.1,
            fixed="before any run",
        ),
        between(
            "large-penalty-prevents-fit",
            f"Lowest loss in the rarest bucket at λ = {penalties[-1]:g} divided by its initial "
            "value",
            float((rarest / start).min()),
            low=0.9,
            fixed="before any run",
        ),
        inside_grid(at_best(dataset, last)),
    ]


EXPERIMENT = Experiment("linear_l2", sweeps, draw, claims, over="l2")

if __name__ == "__main__":
    main(EXPERIMENT)
