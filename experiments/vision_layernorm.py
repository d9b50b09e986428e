"""A residual network with layer normalisation on heavy-tailed images: the gap is not batch norm's.

Claims (the paper's appendix): Figure 3 does not depend on batch normalisation. Where each image is
normalised by itself, gradient descent and Adam again do equally well on uniform classes, and on
heavy-tailed ones gradient descent lowers the loss of rare classes late.

Images and network are those of ``fig3_imagenet``: at laptop scale 1,000 glyphs of 100 classes and
three stages of one block, which without batch normalisation take 120 steps to fit the uniform ones;
at paper scale a ResNet18 on ImageNet, which needs the folder ``imagenet`` in ``IMBALANCE_DATA``.
The normalisation is over all pixels and channels of an image, as the authors have it.

Run:    python experiments/vision_layernorm.py
Draws:  figures/vision_layernorm.png
"""

from functools import lru_cache

from imbalance.data import zipf
from imbalance.data.folders import paper_data
from imbalance.data.imagenet import Subset
from imbalance.problems import pictures
from imbalance.reporting import heavy_tail
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.optimizers import ON_MINI_BATCHES, OPTIMIZERS
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

WORDS = {"uniform": "uniform classes", "heavy_tailed": "heavy-tailed classes"}
SUBSETS: dict[str, Subset] = {"uniform": "small", "heavy_tailed": "heavy_tailed"}  # of ImageNet
GLYPHS = {"smoke": (12, 60, 8), "laptop": (100, 1_000, 16)}  # classes, images, pixels a side
MODELS = {
    "smoke": {"width": 2, "blocks": (1,), "stem": "16", "norm": "layer"},
    "laptop": {"width": 8, "blocks": (1, 1, 1), "stem": "16", "norm": "layer"},
    "paper": {"dtype": "bfloat16", "norm": "layer"},
}
STEPS = {"smoke": 4, "laptop": 120, "paper": 1_500}
STOPS = {"smoke": 5, "laptop": 41, "paper": 151}
BATCHES = {  # rows of a step, microbatches
    "smoke": (None, 1),
    "laptop": (None, 4),
    "paper": (1_024, 1),
}
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}
GRIDS = {  # exponents of the first and last learning rate
    "smoke": {"gd+m": (-1, -1), "adam": (-2, -2)},
    "laptop": {"gd+m": (-1, 0), "adam": (-2.5, -1.5)},
    "paper": {"gd+m": (-3, 0), "adam": (-4.5, -1.5)},
}

REASONS = {
    "gd-halves-the-rarest-bucket-late": "GD never halves it, and Adam takes more than half of the "
    "steps that were run, so that twice its time lies beyond them",
}


@lru_cache
def data(scale, kind):
    """Glyphs, or at paper scale ImageNet, with one of the two laws of classes."""
    if scale == "paper":
        return pictures.imagenet(paper_data("imagenet"), SUBSETS[kind])
    classes, number, side = GLYPHS[scale]
    if kind == "uniform":
        return pictures.glyphs(zipf.uniform_counts(number, classes), side)
    return pictures.glyphs(zipf.power_law_counts(number, classes, 1.0), side)


def sweeps(scale):
    """Both optimizers on both sets of images."""
    rows, microbatches = BATCHES[scale]
    return {
        kind: Sweep(
            pictures.resnet_problem(
                data(scale, kind), bucketing=4 if scale == "smoke" else 10, **MODELS[scale]
            ),
            {name: half_decades(*grid) for name, grid in GRIDS[scale].items()},
            STEPS[scale],
            confirm=Confirm(seeds=SEEDS[scale]),
            stops=linear_stops(STEPS[scale], STOPS[scale]),
            batch_size=rows,
            microbatches=microbatches,
            optimizers=ON_MINI_BATCHES if rows else OPTIMIZERS,
        )
        for kind in WORDS
    }


def draw(dataset):
    """Overall losses on both sets, and both optimizers by bucket on heavy-tailed classes."""
    number, classes = int(dataset["class_count"].isel(data=1).sum()), dataset.sizes["class"]
    return heavy_tail.draw(
        dataset,
        WORDS,
        "With layer normalisation too, GD is slow on rare classes of images",
        f"{number:,} images of {classes:,} classes, uniform or with shares of 1/k; each image is "
        "normalised by itself.",
    )


def claims(dataset):
    """What Figure 3 shows, in numbers, with the other normalisation."""
    return heavy_tail.claims(dataset, "Appendix, layer normalisation", REASONS)


EXPERIMENT = Experiment("vision_layernorm", sweeps, draw, claims, over="data")

if __name__ == "__main__":
    main(EXPERIMENT)
