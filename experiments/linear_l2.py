"""L2 regularisation: a small penalty leaves the gap, a large one closes it by forbidding the fit.

Claim (section E.2.15): the objective gets (λ/2)‖W‖². For small λ Adam keeps its lead; for large λ
the rare classes cannot be fitted by either optimizer and the gap closes. The paper's λ grid is
unknown; ours is 0 and powers of ten.

Run:    python experiments/linear_l2.py
Draws:  figures/linear_l2.png
"""

from imbalance import plots
from imbalance.analysis.labelled import at_best
from imbalance.claims import between, inside_grid
from imbalance.experiment import Experiment, main
from imbalance.problems import heavy_tailed_linear
from imbalance.sweep import Sweep, half_decades

GRIDS = {  # m, steps, penalties, exponents of GD's and Adam's rates
    "smoke": (4, 16, (0.0, 0.1), (-2, -1), (-3, -2)),
    "laptop": (7, 200, (0.0, 1e-4, 1e-3, 1e-2, 1e-1), (-2, -1), (-3, -2)),
    "paper": (11, 1000, (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1), (-3.5, -2), (-4.5, -3)),
}
OPTIMIZERS = ("gd+m", "adam+m")


def sweeps(scale):
    """One sweep a penalty."""
    m, steps, penalties, gd, adam = GRIDS[scale]
    rates = {"gd+m": half_decades(*gd), "adam+m": half_decades(*adam)}
    return {l2: Sweep(heavy_tailed_linear(m), rates, steps, l2=l2) for l2 in penalties}


def draw(dataset):
    """A row an optimizer, a panel a penalty; the unpenalised loss by bucket."""
    chosen = at_best(dataset, int(dataset["step"][-1]))
    penalties = chosen["l2"].values
    figure, axes = plots.panels(2, len(penalties), width=1.9, height=1.9)
    top = 1.4 * float(chosen["loss"].isel(step=0).max())
    for row, optimizer in zip(axes, OPTIMIZERS, strict=True):
        for axis, l2 in zip(row, penalties, strict=True):
            run = chosen.sel(optimizer=optimizer, l2=l2)
            plots.by_bucket(axis, run)
            axis.plot(run["step"], run["loss"].mean("seed"), color="#BB5566", linestyle=":")
            axis.set(title=f"{plots.label(optimizer)}, λ = {l2:g}", ylim=(0, top))
        row[0].set_ylabel("loss without penalty (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    plots.headline(figure, chosen, "L2 regularisation (dotted: overall loss)")
    return figure


def claims(dataset):
    """The statements of item 15."""
    last = int(dataset["step"][-1])
    chosen = at_best(dataset, last).sel(step=last).isel(seed=0)
    gap = chosen["loss"].sel(optimizer="gd+m") - chosen["loss"].sel(optimizer="adam+m")
    none, small, large = float(gap[0]), float(gap[1]), float(gap[-1])
    rarest = chosen["bucket_loss"].isel(bucket=-1, l2=-1)
    start = at_best(dataset, last)["bucket_loss"].isel(bucket=-1, l2=-1, step=0, seed=0)
    penalties = chosen["l2"].values
    return [
        between(
            "C11",
            f"Gap at λ = {penalties[1]:g} over the gap without penalty",
            small / none,
            low=0.5,
            fixed="before any run",
        ),
        between(
            "C11",
            f"Gap at λ = {penalties[-1]:g} over the gap without penalty",
            large / none,
            high=0.1,
            fixed="before any run",
        ),
        between(
            "C11",
            f"At λ = {penalties[-1]:g} no optimizer fits the rarest bucket: least loss over "
            "its start",
            float((rarest / start).min()),
            low=0.9,
            fixed="before any run",
        ),
        inside_grid(at_best(dataset, last)),
    ]


EXPERIMENT = Experiment("linear_l2", sweeps, draw, claims, over="l2")

if __name__ == "__main__":
    main(EXPERIMENT)
