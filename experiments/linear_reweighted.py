"""Reweighted loss: class weights 1/√π help gradient descent; with 1/π results are mixed.

Claim (the paper's appendix): gradient descent trained with class weights 1/√π, where π is the
frequency of the class, reaches a lower *unweighted* loss than gradient descent without weights,
sometimes close to Adam's.

Run:    python experiments/linear_reweighted.py
Draws:  figures/linear_reweighted.png
"""

from imbalance.analysis.labelled import at_best
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades

WEIGHTINGS = {0.0: "unweighted", 0.5: "weights 1/√π", 1.0: "weights 1/π"}
GRIDS = {  # m, steps, exponents of learning rates: Adam, then GD with each weighting
    "smoke": (4, 16, (-3, -2), (-2, -1), (-2, -1), (-1, 0)),
    "laptop": (7, 300, (-3.5, -1.5), (-2.5, -0.5), (-2, 0), (-1.5, 0.5)),
    "paper": (11, 1000, (-5, -3), (-3, -1), (-3, 0), (-2, 0)),
}


def sweeps(scale):
    """One sweep for each weighting; Adam is trained on the unweighted loss only."""
    m, steps, adam, *gd = GRIDS[scale]
    problem = heavy_tailed_linear(m)
    swept = {}
    for weighting, grid in zip(WEIGHTINGS, gd, strict=True):
        rates = {"gd+m": half_decades(*grid)}
        if weighting == 0:
            rates["adam"] = half_decades(*adam)
        swept[weighting] = Sweep(problem, rates, steps, weighting=weighting)
    return swept


def runs(dataset):
    """Label -> run at its best learning rate for the unweighted loss: Adam, then GD."""
    chosen = at_best(dataset, int(dataset["step"][-1]))
    gd, adam = (plots.label(name, dataset) for name in ("gd+m", "adam"))
    named = {
        f"{gd}, {words}": chosen.sel(weighting=weighting, optimizer="gd+m")
        for weighting, words in WEIGHTINGS.items()
    }
    return {adam: chosen.sel(weighting=0.0, optimizer="adam"), **named}


def draw(dataset):
    """Overall unweighted loss of all four runs, then each by bucket."""
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
    """The unweighted losses of GD with class weights, against GD without and Adam."""
    last = int(dataset["step"][-1])
    adam, plain, root, full = (
        float(run["loss"].sel(step=last).isel(seed=0)) for run in runs(dataset).values()
    )
    said = f"Unweighted loss at step {last}: GD with"
    return [
        between(
            "root-weights-help-gd",
            f"{said} weights 1/√π divided by unweighted GD",
            root / plain,
            high=1.0,
            fixed="before any run",
        ),
        undecided(
            "full-weights-and-gd",
            f"{said} weights 1/π divided by unweighted GD",
            "the paper: mixed, no threshold",
            f"{full / plain:.3g}",
            fixed="before any run",
        ),
        undecided(
            "root-weights-and-adam",
            f"{said} weights 1/√π divided by Adam",
            "the paper: sometimes close or better",
            f"{root / adam:.3g}",
            fixed="before any run",
        ),
        inside_grid(at_best(dataset, last).sel(optimizer="gd+m")),
    ]


EXPERIMENT = Experiment("linear_reweighted", sweeps, draw, claims, over="weighting")

if __name__ == "__main__":
    main(EXPERIMENT)
