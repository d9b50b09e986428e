"""Reweighted loss: weighting classes by 1/√π helps gradient descent; 1/π is mixed.

Claim (C10, section E.2.16): gradient descent trained with class weights 1/√π reaches a lower
*unweighted* loss than plain gradient descent, sometimes close to Adam's.

Run:    python experiments/linear_reweighted.py
Draws:  figures/linear_reweighted.png
"""

from imbalance import plots
from imbalance.analysis.labelled import at_best
from imbalance.claims import between, inside_grid, undecided
from imbalance.experiment import Experiment, main
from imbalance.problems import heavy_tailed_linear
from imbalance.sweep import Sweep, half_decades

WEIGHTINGS = {0.0: "unweighted", 0.5: "weights 1/√π", 1.0: "weights 1/π"}
GRIDS = {  # m, steps, then exponents of rates: Adam, GD, GD 1/√π, GD 1/π
    "smoke": (4, 16, (-3, -2), (-2, -1), (-2, -1), (-1, 0)),
    "laptop": (7, 300, (-3.5, -1.5), (-2.5, -0.5), (-2, 0), (-1.5, 0.5)),
    "paper": (11, 1000, (-5, -3), (-3, -1), (-3, 0), (-2, 0)),
}


def sweeps(scale):
    """One sweep a weighting; Adam is trained on the unweighted loss only."""
    m, steps, adam, *gd = GRIDS[scale]
    problem = heavy_tailed_linear(m)
    swept = {}
    for weighting, grid in zip(WEIGHTINGS, gd, strict=True):
        rates = {"gd+m": half_decades(*grid)}
        if weighting == 0:
            rates["adam+m"] = half_decades(*adam)
        swept[weighting] = Sweep(problem, rates, steps, weighting=weighting)
    return swept


def runs(dataset):
    """Name -> the run at its best rate, judged by the unweighted loss."""
    chosen = at_best(dataset, int(dataset["step"][-1]))
    named = {
        f"GD +m, {words}": chosen.sel(weighting=weighting, optimizer="gd+m")
        for weighting, words in WEIGHTINGS.items()
    }
    return {"Adam +m": chosen.sel(weighting=0.0, optimizer="adam+m"), **named}


def draw(dataset):
    """Overall unweighted loss of all four, then each by bucket."""
    named = runs(dataset)
    figure, axes = plots.panels(1, 1 + len(named))
    lines = (("#BB5566", "-"), ("#000000", "-"), ("#DDAA33", "--"), ("#004488", "--"))
    top = 1.4 * float(dataset["loss"].isel(step=0).max())
    for (name, run), axis, (colour, style) in zip(named.items(), axes[0, 1:], lines, strict=True):
        eta = plots.exponent(run["learning_rate"].item())
        axes[0, 0].plot(
            run["step"],
            run["loss"].mean("seed"),
            color=colour,
            linestyle=style,
            label=f"{name}, η = {eta}",
        )
        plots.by_bucket(axis, run)
        axis.set_title(name)
    for axis in axes[0]:
        axis.set_ylim(0, top)
    axes[0, 0].set(xlabel="step", ylabel="unweighted loss (nats)", title="Overall loss")
    axes[0, 0].margins(x=0)
    axes[0, 0].legend()
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    selection = at_best(dataset, int(dataset["step"][-1])).attrs["selection"]
    figure.suptitle(f"Training on a reweighted loss\nlearning rates: {selection}")
    return figure


def claims(dataset):
    """T21 on the linear problem."""
    last = int(dataset["step"][-1])
    final = {
        name: float(run["loss"].sel(step=last).isel(seed=0)) for name, run in runs(dataset).items()
    }
    plain, root, full = (final[f"GD +m, {words}"] for words in WEIGHTINGS.values())
    return [
        between(
            "T21",
            f"Unweighted loss at t = {last}: GD +m with 1/√π over plain GD +m",
            root / plain,
            high=1.0,
            fixed="before any run",
        ),
        undecided(
            "C10",
            f"1/π over plain GD +m at t = {last}",
            "the paper: mixed, no threshold",
            f"{full / plain:.3g}",
            fixed="before any run",
        ),
        undecided(
            "C10",
            f"1/√π over Adam +m at t = {last}",
            "the paper: sometimes close or better",
            f"{root / final['Adam +m']:.3g}",
            fixed="before any run",
        ),
        inside_grid(at_best(dataset, last).sel(optimizer="gd+m")),
    ]


EXPERIMENT = Experiment("linear_reweighted", sweeps, draw, claims, over="weighting")

if __name__ == "__main__":
    main(EXPERIMENT)
