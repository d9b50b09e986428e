"""Reweighted loss: class weights 1/√π help gradient descent; with 1/π results are mixed.

Claim (the paper's appendix): gradient descent trained with class weights 1/√π, where π is the
frequency of the class, reaches a lower *unweighted* loss than gradient descent without weights,
sometimes close to Adam's.

All have momentum. At laptop scale: 896 examples, 127 classes, 300 steps. Learning rates are
searched on one seed for the unweighted loss, and the best by the rule `steady` run on three others.

Run:    python experiments/linear_reweighted.py
Draws:  figures/linear_reweighted.png
"""

from imbalance.analysis.selection import at_best
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, reported
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

WEIGHTINGS = {0.0: "unweighted", 0.5: "weights 1/√π", 1.0: "weights 1/π"}
DASHES = {0.0: "-", 0.5: "-.", 1.0: ":"}
GRIDS = {  # m, steps, exponents of learning rates: Adam, then GD with each weighting
    "smoke": (4, 16, (-3, -2), (-2, -1), (-2, -1), (-1, 0)),
    "laptop": (7, 300, (-3, -2), (-2, -1), (-1.5, -0.5), (-0.5, 0.5)),
    "paper": (11, 1000, (-5, -3), (-4, -1), (-3, 0), (-2, 1)),
}
STOPS = {"smoke": 51, "laptop": 51, "paper": 1_001}


def sweeps(scale):
    """One sweep for each weighting; Adam is trained on the unweighted loss only."""
    m, steps, adam, *gd = GRIDS[scale]
    problem = heavy_tailed_linear(m)
    swept = {}
    for weighting, grid in zip(WEIGHTINGS, gd, strict=True):
        rates = {"gd+m": half_decades(*grid)}
        if weighting == 0:
            rates["adam"] = half_decades(*adam)
        swept[weighting] = Sweep(
            problem,
            rates,
            steps,
            confirm=Confirm(),
            stops=linear_stops(steps, STOPS[scale]),
            weighting=weighting,
        )
    return swept


def best(dataset):
    """The runs at their best learning rates for the unweighted loss, by the rule `steady`."""
    return at_best(dataset, int(dataset["step"][-1]))


def draw(dataset):
    """Overall unweighted loss of all four runs, then each by bucket."""
    chosen = best(dataset)
    figure, axes = page.panels(1, 2 + len(WEIGHTINGS))
    adam = chosen.sel(weighting=0.0)
    plots.overall(axes[0, 0], adam, ["adam"])
    plots.by_bucket(axes[0, 1], adam.sel(optimizer="adam"))
    axes[0, 1].set_title(plots.optimizer_title("adam", adam))
    for axis, (weighting, words) in zip(axes[0, 2:], WEIGHTINGS.items(), strict=True):
        gd = chosen.sel(weighting=weighting, optimizer="gd+m")
        name = f"{plots.label('gd+m', dataset)}, {words}"
        look = plots.line_style("gd+m") | {"linestyle": DASHES[weighting], "label": name}
        plots.seed_band(axes[0, 0], gd["step"].values, gd["loss"], **look)
        plots.by_bucket(axis, gd)
        axis.set_title(f"GD, {words}\n{plots.rate(gd)}")
    for axis in axes[0]:
        axis.set_ylim(0, 1.4 * float(chosen["loss"].isel(step=0).max()))
    axes[0, 0].set_ylabel("unweighted loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    examples = int(dataset["class_count"].isel(weighting=0).sum())
    page.headline(
        figure,
        chosen,
        "Trained with class weights, gradient descent fits the rare classes too",
        f"{examples:,} examples, {dataset.sizes['class']:,} classes, full batch. Losses shown are "
        "unweighted.",
    )
    return figure


def claims(dataset):
    """The unweighted losses of GD with class weights, against GD without and Adam."""
    chosen = best(dataset)
    last = int(dataset["step"][-1])
    loss = chosen["loss"].sel(step=last)
    plain, root, full = (loss.sel(weighting=w, optimizer="gd+m") for w in WEIGHTINGS)
    adam = loss.sel(weighting=0.0, optimizer="adam")
    said = f"Unweighted loss at step {last}: GD with"
    return [
        between(
            "root-weights-help-gd",
            f"{said} weights 1/√π, as a share of unweighted GD's",
            root / plain,
            high=1.0,
            fixed="before any run",
            section="Appendix, reweighted loss",
            percent=True,
        ),
        reported(
            "full-weights-and-gd",
            f"{said} weights 1/π divided by unweighted GD's (the paper: mixed)",
            full / plain,
            section="Appendix, reweighted loss",
        ),
        reported(
            "root-weights-and-adam",
            f"{said} weights 1/√π divided by Adam's (the paper: sometimes close or better)",
            root / adam,
            section="Appendix, reweighted loss",
        ),
        inside_grid(chosen.sel(weighting=[0.0])),
        inside_grid(
            chosen.sel(weighting=[0.5, 1.0], optimizer=["gd+m"]), "weighted-rates-inside-grid"
        ),
    ]


EXPERIMENT = Experiment("linear_reweighted", sweeps, draw, claims, over="weighting")

if __name__ == "__main__":
    main(EXPERIMENT)
