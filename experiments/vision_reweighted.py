"""Reweighted loss on images: class weights 1/√π help gradient descent on heavy-tailed classes.

Claim (the paper's appendix): on heavy-tailed ImageNet, gradient descent trained with class weights
1/√π, where π is the frequency of the class, reaches a lower *unweighted* loss than without; with
1/π results are mixed.

Images, network and steps are those of ``fig3_imagenet``, whose runs without weights are
taken over where they are stored: at laptop scale 1,000 glyphs of 100 classes, at paper scale
ImageNet, which needs the folder ``imagenet`` in ``IMBALANCE_DATA``. Rates are chosen by the
unweighted loss.

Run:    python experiments/vision_reweighted.py
Draws:  figures/vision_reweighted.png
"""

from imbalance.analysis.selection import at_best
from imbalance.data import zipf
from imbalance.data.folders import paper_data
from imbalance.problems import pictures
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, reported
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.optimizers import ON_MINI_BATCHES, OPTIMIZERS
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

WEIGHTINGS = {0.0: "no weights", 0.5: "weights $1/\\sqrt{π}$", 1.0: "weights 1/π"}
DASHES = {0.0: "-", 0.5: "--", 1.0: ":"}
GLYPHS = {"smoke": (12, 60, 8), "laptop": (100, 1_000, 16)}  # classes, images, pixels a side
MODELS = {
    "smoke": {"width": 2, "blocks": (1,), "stem": "16"},
    "laptop": {"width": 8, "blocks": (1, 1, 1), "stem": "16"},
    "paper": {"dtype": "bfloat16"},
}
STEPS = {"smoke": 4, "laptop": 80, "paper": 1_500}
STOPS = {"smoke": 5, "laptop": 41, "paper": 151}
BATCHES = {  # rows of a step, microbatches
    "smoke": (None, 1),
    "laptop": (None, 4),
    "paper": (1_024, 1),
}
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}
GRIDS = {  # exponents of the first and last learning rate
    "smoke": {"gd+m": (-1, -1), "adam": (-2, -2)},
    "laptop": {"gd+m": (-0.5, 0.5), "adam": (-2.5, -1.5)},
    "paper": {"gd+m": (-3, 0), "adam": (-4.5, -1.5)},
}
SECTION = "Appendix, reweighted loss"


def problem(scale):
    """Heavy-tailed images, and the network of Figure 3."""
    if scale == "paper":
        data = pictures.imagenet(paper_data("imagenet"), "heavy_tailed")
    else:
        classes, number, side = GLYPHS[scale]
        data = pictures.glyphs(zipf.power_law_counts(number, classes, 1.0), side)
    bucketing = 4 if scale == "smoke" else 10
    return pictures.resnet_problem(data, bucketing=bucketing, **MODELS[scale])


def sweeps(scale):
    """One sweep for each weighting; Adam is trained on the unweighted loss only."""
    learnt, (rows, microbatches) = problem(scale), BATCHES[scale]
    found = {}
    for weighting in WEIGHTINGS:
        names = GRIDS[scale] if weighting == 0 else ("gd+m",)
        found[weighting] = Sweep(
            learnt,
            {name: half_decades(*GRIDS[scale][name]) for name in names},
            STEPS[scale],
            confirm=Confirm(seeds=SEEDS[scale]),
            stops=linear_stops(STEPS[scale], STOPS[scale]),
            batch_size=rows,
            microbatches=microbatches,
            weighting=weighting,
            optimizers=ON_MINI_BATCHES if rows else OPTIMIZERS,
        )
    return found


def best(dataset, weighting):
    """The runs at the best learning rates by the rule `steady`."""
    one = dataset.sel(weighting=weighting).dropna("optimizer", how="all", subset=["loss"])
    return at_best(one, int(dataset["step"][-1]))


def draw(dataset):
    """Overall unweighted losses of all four, then each by bucket."""
    figure, axes = page.panels(1, 2 + len(WEIGHTINGS))
    together, first, *others = axes[0]
    plain = best(dataset, 0.0)
    plots.overall(together, plain, ["adam"])
    plots.by_bucket(first, plain.sel(optimizer="adam"))
    first.set_title(plots.optimizer_title("adam", plain))
    for axis, (weighting, words) in zip(others, WEIGHTINGS.items(), strict=True):
        one = best(dataset, weighting).sel(optimizer="gd+m")
        name = f"{plots.label('gd+m', dataset)}, {words}"
        look = plots.line_style("gd+m") | {"linestyle": DASHES[weighting], "label": name}
        plots.seed_band(together, one["step"].values, one["loss"], **look)
        plots.by_bucket(axis, one)
        axis.set_title(f"{words}\n{plots.rate(one)}")
    for axis in axes[0]:
        axis.set_ylim(0, 1.45 * float(plain["loss"].isel(step=0).max()))
    together.set_ylabel("unweighted loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    number, classes = int(plain["class_count"].sum()), dataset.sizes["class"]
    page.headline(
        figure,
        plain,
        "On images too, class weights help gradient descent with the rare classes",
        f"{number:,} images of {classes:,} classes with shares of 1/k. Losses are unweighted.",
    )
    return figure


def claims(dataset):
    """The unweighted losses of GD with class weights, against GD without and Adam."""
    last = int(dataset["step"][-1])
    ends = {w: best(dataset, w)["loss"].sel(step=last) for w in WEIGHTINGS}
    plain, root, full = (ends[w].sel(optimizer="gd+m") for w in WEIGHTINGS)
    said = f"unweighted loss at step {last}: GD with weights"
    return [
        between(
            "root-weights-help-gd",
            f"{said} 1/√π, of that without",
            root / plain,
            high=1.0,
            fixed="before any run",
            section=SECTION,
            percent=True,
        ),
        reported(
            "full-weights-and-gd",
            f"{said} 1/π, as a multiple of that without (the paper: mixed)",
            full / plain,
            section=SECTION,
        ),
        reported(
            "root-weights-and-adam",
            f"{said} 1/√π, as a multiple of Adam's (the paper: sometimes close or better)",
            root / ends[0.0].sel(optimizer="adam"),
            section=SECTION,
        ),
        *(
            inside_grid(best(dataset, weighting), f"weights-{weighting:g}-best-rates-inside-grid")
            for weighting in WEIGHTINGS
        ),
    ]


EXPERIMENT = Experiment("vision_reweighted", sweeps, draw, claims, over="weighting")

if __name__ == "__main__":
    main(EXPERIMENT)
