"""More optimizers, and reweighting, on digits with many rare barcoded classes.

Claims (the paper's appendix): on images too it is the sign that helps rare classes, not
normalisation or momentum. Training gradient descent with class weights 1/√π lowers its unweighted
loss. At laptop scale there are 4 bits, so 160 rare classes beside the ten digits, and 50 steps.

Run:    python experiments/vision_optimizers.py
Draws:  figures/vision_optimizers.png
"""

import numpy as np

from imbalance.analysis.labelled import at_best
from imbalance.data.folders import real_data
from imbalance.problems import vision
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid, sign_explains_adam, slug, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades, linear_stops

ROWS = {  # GD, Adam, normalized GD and sign descent
    "without momentum": ("gd", "adam_without_momentum", "normalized_gd", "sign"),
    "with momentum": ("gd+m", "adam", "normalized_gd+m", "sign+m"),
}
SIZES = {  # bits, channels, steps, microbatches
    "smoke": (1, (2, 4), 4, 1),
    "laptop": (4, (8, 16), 50, 4),
    "paper": (10, (32, 100), 400, 400),
}
GRIDS = {  # exponents of the first and last learning rate
    "smoke": {"gd": (-1, -1), "adam": (-2, -2), "gd+m": (-1, -1)},
    "laptop": {
        "gd": (-1.5, -0.5),
        "adam_without_momentum": (-3, -2),
        "normalized_gd": (-1, 0),
        "sign": (-3.5, -2.5),
        "gd+m": (-1.5, -0.5),
        "adam": (-2.5, -1.5),
        "normalized_gd+m": (-1, 0),
        "sign+m": (-4, -3),
    },
    "paper": {
        "gd": (-2, 0),
        "adam_without_momentum": (-4.5, -2),
        "normalized_gd": (-2, 0),
        "sign": (-5, -3),
        "gd+m": (-3, -1),
        "adam": (-4.5, -2),
        "normalized_gd+m": (-3, -1),
        "sign+m": (-6, -4),
    },
}
WEIGHTINGS = {0.0: "none", 0.5: "$1/\\sqrt{π}$", 1.0: "1/π"}


def sweeps(scale):
    """All optimizers on the unweighted loss, and GD with momentum on the weighted ones."""
    bits, channels, steps, microbatches = SIZES[scale]
    folder = real_data("mnist") if scale == "paper" else None
    digits = vision.mnist(folder) if folder else vision.rendered(min(5_000, 5 * 2**bits))
    problem = vision.imbalanced_digits(digits, bits, channels=channels)
    found = {}
    for weighting in WEIGHTINGS:
        names = GRIDS[scale] if weighting == 0 else ("gd+m",)
        found[weighting] = Sweep(
            problem,
            {name: half_decades(*GRIDS[scale][name]) for name in names},
            steps,
            stops=linear_stops(steps, 7),
            microbatches=microbatches,
            weighting=weighting,
        )
    return found


def best(dataset, weighting=0.0):
    """The runs at the best learning rates by the rule `stable`."""
    chosen = dataset.sel(weighting=weighting).dropna("optimizer", how="all", subset=["loss"])
    return at_best(chosen, int(dataset["step"][-1]))


def draw(dataset):
    """Overall losses and each optimizer by bucket, first without and then with momentum."""
    chosen = best(dataset)
    figure, axes = plots.panels(2, 6, width=2.1)
    rows = [[name for name in row if name in chosen["optimizer"]] for row in ROWS.values()]
    plots.in_rows(axes[:, :-1], chosen, rows, top=1.6 * np.log(dataset.sizes["class"]))
    weighted = axes[1, -1]
    for weighting, colour in zip(WEIGHTINGS, ("#000000", "#DDAA33", "#004488"), strict=True):
        one = best(dataset, weighting).sel(optimizer="gd+m").isel(seed=0)
        weighted.plot(one["step"], one["loss"], color=colour, label=WEIGHTINGS[weighting])
    weighted.set(title=f"{plots.label('gd+m', dataset)}, class weights", xlabel="step")
    weighted.legend(loc="lower left")
    axes[0, -1].set_axis_off()
    plots.bucket_bar(figure, axes[0, -2], 2)
    plots.headline(figure, chosen, "Digits and barcoded digits: frequent and rare half")
    return figure


def claims(dataset):
    """That the sign explains Adam, and the effect of class weights."""
    last, rows = int(dataset["step"][-1]), []
    losses = {
        weighting: best(dataset, weighting)["loss"].sel(step=last).isel(seed=0)
        for weighting in WEIGHTINGS
    }
    for words, names in ROWS.items():
        if not set(names) <= set(losses[0.0]["optimizer"].values):
            continue
        found = [float(losses[0.0].sel(optimizer=name)) for name in names]
        rows += sign_explains_adam(slug(words), found, words)
    plain, root, inverse = (
        float(losses[weighting].sel(optimizer="gd+m")) for weighting in WEIGHTINGS
    )
    said = f"Unweighted loss at step {last}: GD with weights 1/√π divided by unweighted GD"
    name = "root-weights-help-gd"
    rows.append(between(name, said, root / plain, high=1.0, fixed="before any run"))
    said = f"Unweighted loss at step {last}: GD with weights 1/π divided by unweighted GD"
    name, mixed = "full-weights-and-gd", "the paper: mixed, no threshold"
    rows.append(undecided(name, said, mixed, f"{inverse / plain:.4g}", fixed="before any run"))
    return [*rows, inside_grid(best(dataset))]


EXPERIMENT = Experiment("vision_optimizers", sweeps, draw, claims, over="weighting")

if __name__ == "__main__":
    main(EXPERIMENT)
