"""Figure 8 on images: gradient and curvature by class in the last layers of vision models.

Claim (Figure 8 says it of text): along Adam's path, gradient norms and Hessian traces of the
classes become correlated in the last layer, where features are learned as well. This is the
statistic of ``fig8_transformer_head``, for a residual network with batch normalisation, one with
layer normalisation, and a vision transformer, on heavy-tailed images in full batch.

Each point of the picture is a class of one seed. Classes whose counts lie between the same powers
of two are one frequency level. Learning rates are fixed, and the claims are decided on two seeds.
Images and residual networks are those of ``fig3_imagenet`` and ``vision_layernorm``: at laptop
scale 1,000 glyphs of 100 classes, with a transformer of two blocks; at paper scale ImageNet, with
that of ``vision_transformer``. It needs the folder ``imagenet`` in ``IMBALANCE_DATA``.

Run:    python experiments/vision_last_layer.py
Draws:  figures/vision_last_layer.png
"""

from imbalance.analysis import FrequencyBuckets
from imbalance.analysis.block_measures import bucket_median, log_log_slope, spearman
from imbalance.data import zipf
from imbalance.data.folders import paper_data
from imbalance.probes import class_statistics
from imbalance.problems import pictures
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, reported
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

WORDS = {"batch": "ResNet,\nbatch norm", "layer": "ResNet,\nlayer norm", "transformer": "ViT"}
STOPS = (0, 1, 5, 10, 20, 50)
DRAWN = (0, 1, 5, 20, 50)
GLYPHS = {"smoke": (12, 60, 8), "laptop": (100, 1_000, 16)}  # classes, images, pixels a side
RESNETS = {
    "smoke": {"width": 2, "blocks": (1,), "stem": "16"},
    "laptop": {"width": 8, "blocks": (1, 1, 1), "stem": "16"},
    "paper": {},
}
TRANSFORMERS = {
    "smoke": {"patch": 4, "width": 8, "num_layers": 1, "num_heads": 2},
    "laptop": {"patch": 4, "width": 32, "num_layers": 2, "num_heads": 4},
    "paper": {},
}
RATES = {
    "smoke": {"batch": 1e-2, "layer": 1e-2, "transformer": 1e-2},
    "laptop": {"batch": 1e-2, "layer": 1e-2, "transformer": 1e-2},
    "paper": {"batch": 1e-3, "layer": 1e-3, "transformer": 10**-3.5},
}
MICROBATCHES = {"smoke": 1, "laptop": 4, "paper": 40}
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}
FEW = "there are seven levels, of which the three most frequent hold six classes: few decide"
REASONS = {
    "batch": "at step 50 the rarest classes are fitted, and their traces have collapsed",
    "layer": FEW,
    "transformer": FEW,
}


def sweeps(scale):
    """Adam at one learning rate, in full batch, for each model."""
    if scale == "paper":
        data = pictures.imagenet(paper_data("imagenet"), "heavy_tailed")
    else:
        classes, number, side = GLYPHS[scale]
        data = pictures.glyphs(zipf.power_law_counts(number, classes, 1.0), side)
    problems = {
        norm: pictures.resnet_problem(data, bucketing=4, norm=norm, **RESNETS[scale])
        for norm in ("batch", "layer")
    }
    problems["transformer"] = pictures.transformer_problem(data, bucketing=4, **TRANSFORMERS[scale])
    return {
        model: Sweep(
            problem,
            {"adam": (RATES[scale][model],)},
            STOPS[-1],
            seeds=SEEDS[scale],
            stops=STOPS,
            probes=(class_statistics(problem.task),),
            microbatches=MICROBATCHES[scale],
        )
        for model, problem in problems.items()
    }


def statistics(dataset, model):
    """Gradient norm and Hessian trace ``[seed, step, class]``, and the level of each class."""
    run = dataset.sel(model=model, optimizer="adam")
    run = run.sel(learning_rate=RATES[dataset.attrs["scale"]][model], method="nearest")
    counts = run["class_count"].values.astype(int)
    found = (
        run[name].transpose("seed", "step", "class").values
        for name in ("gradient_norm", "hessian_trace")
    )
    return *found, FrequencyBuckets.log2(counts).bucket_of_class


def draw(dataset):
    """A row for each model, five steps of the path."""
    figure, axes = page.panels(len(WORDS), len(DRAWN), height=1.5)
    for row, (model, words) in zip(axes, WORDS.items(), strict=True):
        gradient, trace, level = statistics(dataset, model)
        for axis, step in zip(row, DRAWN, strict=True):
            at = STOPS.index(step)
            plots.scatter_by_level(axis, gradient[0, at], trace[0, at], level)
        row[0].set_ylabel(f"{words}\nHessian trace")
    plots.share_log_limits(axes)
    for axis, step in zip(axes[0], DRAWN, strict=True):
        axis.set_title(f"step {step}")
    for axis in axes[-1]:
        axis.set_xlabel("gradient norm")
    plots.bucket_bar(figure, axes[:, -1], int(level.max()) + 1)
    number = int(dataset["class_count"].isel(model=0).sum())
    page.headline(
        figure,
        None,
        "In the last layers of vision models too, gradient and curvature of classes go together",
        f"A point is a class of seed {dataset['seed'].values[0]}; {number:,} images of "
        f"{len(level):,} classes with shares of 1/k. Dashed: slope 1. Adam, learning rates fixed.",
    )
    return figure


def claims(dataset):
    """The statistic of Figures 7 and 8 for each model; the threshold is the one used there."""
    rows, at = [], f"mean of seeds, at steps {', '.join(map(str, STOPS))}"
    for model, words in WORDS.items():
        words = words.replace("\n", " ")
        gradient, trace, level = statistics(dataset, model)
        medians = [bucket_median(values, level) for values in (gradient, trace)]
        rank, slope = spearman(*medians), log_log_slope(*medians)  # [seed, step]
        rows.append(
            between(
                f"{model}-adam-path-correlated",
                f"{words}, Adam path, gradient norm and Hessian trace, medians of levels from step "
                "5: lowest rank correlation",
                rank[:, STOPS.index(5) :].min(1),
                low=0.9,
                reason=REASONS[model],
                fixed="before any run",
                section="Figure 8",
            )
        )
        for name, said, values in (
            ("rank-correlations-of-medians", "medians of levels: rank correlation", rank),
            ("slopes-of-medians", "medians of levels: slope", slope),
            ("rank-correlations-of-classes", "all classes: correlation", spearman(gradient, trace)),
        ):
            found = ", ".join(f"{value:.2f}" for value in values.mean(0))
            rows.append(reported(f"{model}-{name}", f"{words}, {said}, {at}", found))
    return rows


EXPERIMENT = Experiment("vision_last_layer", sweeps, draw, claims, over="model")

if __name__ == "__main__":
    main(EXPERIMENT)
