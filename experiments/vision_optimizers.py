"""More optimizers, and reweighting, on digits with many rare barcoded classes.

Claims (the paper's appendix): on images too it is the sign that helps rare classes, not
normalisation or momentum. Training gradient descent with class weights 1/√π lowers its unweighted
loss. At laptop scale the digits have 16 x 16 pixels and 5 bits, so there are 320 rare classes
beside the ten digits, and 80 steps. Learning rates are searched on one seed and the best by the
rule `steady` run on two others. Paper scale has MNIST with 10 bits and 400 steps.

Run:    python experiments/vision_optimizers.py
Draws:  figures/vision_optimizers.png
"""

import numpy as np

from imbalance.analysis.selection import at_best
from imbalance.data.folders import paper_data
from imbalance.problems import vision
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, reported, sign_explains_adam, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops, quarter_decades

ROWS = {  # GD, Adam, normalized GD and sign descent
    "without momentum": ("gd", "adam_without_momentum", "normalized_gd", "sign"),
    "with momentum": ("gd+m", "adam", "normalized_gd+m", "sign+m"),
}
SIZES = {  # bits, channels, steps, microbatches
    "smoke": (1, (2, 4), 4, 1),
    "laptop": (5, (8, 16), 80, 4),
    "paper": (10, (32, 100), 400, 50),
}
GRIDS = {  # exponents of the first and last learning rate
    "smoke": {"gd": (-1, -1), "adam": (-2, -2), "gd+m": (-1, -1)},
    "laptop": {
        "gd": (-1.5, -0.5),
        "adam_without_momentum": (-2.75, -2),
        "normalized_gd": (-1.5, -0.5),
        "sign": (-3.25, -2.5),
        "gd+m": (-1.5, -0.75),
        "adam": (-2.5, -1.5),
        "normalized_gd+m": (-1.5, -0.5),
        "sign+m": (-4, -3),
    },
    "paper": {
        "gd": (-5, 0),
        "adam_without_momentum": (-4, -1),
        "normalized_gd": (-1, 1),
        "sign": (-3, -1),
        "gd+m": (-5, 0),
        "adam": (-4, -1),
        "normalized_gd+m": (-1, 1),
        "sign+m": (-4, -2),
    },
}
SHARP = ("adam_without_momentum", "sign", "gd+m")  # at laptop scale, by quarters of a decade
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}
STOPS = {"smoke": 51, "laptop": 51, "paper": 401}
SECTION = "Appendix, more optimizers"
REASONS = {
    "without momentum": (
        "without momentum sign descent has fitted neither half of the images by this step",
        "",
    ),
    "with momentum": (
        "on one start GD gets far into the rare half by itself, and little of a gap is left",
        "320 rare classes of five images are few: steps of one length fit them too",
    ),
}
WEIGHTINGS = {0.0: "no weights", 0.5: "weights $1/\\sqrt{π}$", 1.0: "weights 1/π"}
DASHES = {0.0: "-", 0.5: "--", 1.0: ":"}


def sweeps(scale):
    """All optimizers on the unweighted loss, and GD with momentum on the weighted ones."""
    bits, channels, steps, microbatches = SIZES[scale]
    if scale == "paper":
        digits = vision.mnist(paper_data("mnist"))
    else:
        digits = vision.rendered(min(5_000, 5 * 2**bits))
    if scale == "laptop":
        digits = vision.halved(digits)
    problem = vision.imbalanced_digits(digits, bits, channels=channels)
    found = {}
    for weighting in WEIGHTINGS:
        names = GRIDS[scale] if weighting == 0 else ("gd+m",)
        found[weighting] = Sweep(
            problem,
            {name: rates(scale, name) for name in names},
            steps,
            confirm=Confirm(seeds=SEEDS[scale]),
            stops=linear_stops(steps, STOPS[scale]),
            microbatches=microbatches,
            weighting=weighting,
        )
    return found


def rates(scale, name):
    """Learning rates; closer where a rate that shakes stands next to the best."""
    spaced = quarter_decades if scale == "laptop" and name in SHARP else half_decades
    return spaced(*GRIDS[scale][name])


def best(dataset, weighting=0.0):
    """The runs at the best learning rates by the rule `steady`."""
    chosen = dataset.sel(weighting=weighting).dropna("optimizer", how="all", subset=["loss"])
    return at_best(chosen, int(dataset["step"][-1]))


def draw(dataset):
    """Optimizers without and with momentum, and class weights: overall losses, and by half."""
    # Without momentum losses swing from step to step: even and odd steps in turn look like a comb.
    dataset = dataset.sel(step=dataset["step"] % 2 == 0)
    chosen = best(dataset)
    top = 1.6 * np.log(dataset.sizes["class"])
    figure, axes = page.panels(3, 5)
    rows = [[name for name in row if name in chosen["optimizer"]] for row in ROWS.values()]
    plots.in_rows(axes[:2], chosen, rows, top)
    together, *others, unused = axes[2]
    for axis, (weighting, words) in zip(others, WEIGHTINGS.items(), strict=True):
        one = best(dataset, weighting).sel(optimizer="gd+m")
        steps = one["step"].values
        look = {"color": plots.line_style("gd+m")["color"], "linestyle": DASHES[weighting]}
        plots.seed_band(together, steps, one["loss"], label=f"GD +m, {words}", **look)
        plots.by_bucket(axis, one)
        axis.set(title=f"{words}\n{plots.rate(one)}", ylim=(0, top))
    together.set(title="GD +m, class weights", xlabel="step", ylabel="loss (nats)", ylim=(0, top))
    together.margins(x=0)
    unused.set_axis_off()
    plots.bucket_bar(figure, axes[0, -1], 2)
    number, classes = int(chosen["class_count"].sum()), dataset.sizes["class"]
    page.headline(
        figure,
        chosen,
        "On images, sign descent nears Adam with momentum, and lags behind it without",
        f"A convolutional network on {number:,} digits of {classes} classes, half of the images in "
        "rare classes; full batch; losses at even steps.",
    )
    return figure


def claims(dataset):
    """That the sign explains Adam, and the effect of class weights."""
    last, rows = int(dataset["step"][-1]), []
    losses = {
        weighting: best(dataset, weighting)["loss"].sel(step=last) for weighting in WEIGHTINGS
    }
    for words, names in ROWS.items():
        if set(names) <= set(losses[0.0]["optimizer"].values):
            found = [losses[0.0].sel(optimizer=name) for name in names]
            rows += sign_explains_adam(slug(words), found, words, SECTION, REASONS[words])
    plain, root, inverse = (losses[weighting].sel(optimizer="gd+m") for weighting in WEIGHTINGS)
    said = f"unweighted loss at step {last}: GD +m trained with weights"
    return [
        *rows,
        between(
            "root-weights-help-gd",
            f"{said} 1/√π, of that without",
            root / plain,
            high=1.0,
            reason="with weights the faster rates shake on some start, and the rule leaves a slow "
            "one",
            fixed="before any run",
            section=SECTION,
            percent=True,
        ),
        reported(
            "full-weights-and-gd", f"{said} 1/π, as a multiple of that without", inverse / plain
        ),
        inside_grid(best(dataset)),
        *(
            inside_grid(best(dataset, weighting), f"weights-{weighting:g}-best-rates-inside-grid")
            for weighting in (0.5, 1.0)
        ),
    ]


EXPERIMENT = Experiment("vision_optimizers", sweeps, draw, claims, over="weighting")

if __name__ == "__main__":
    main(EXPERIMENT)
