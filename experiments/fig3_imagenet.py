"""Figure 3: a residual network on images, with uniform and with heavy-tailed classes.

Claims (Figure 3): where classes are equally frequent, gradient descent and Adam train a ResNet18
about equally well. Resampled so that class k has a share of 1/k, the same images open a gap:
gradient descent lowers the loss of rare classes late, Adam that of all.

At laptop scale the images are glyphs, drawn characters of 16 x 16 pixels that need no file: 1,000
of them in 100 classes, ten of each or 1/k. The network has three stages of one block, 8 to 32
channels, and learns them in full batch. At 80 steps both optimizers have fitted the uniform ones;
half way gradient descent lags on these too, by less. Batch normalisation is over the 250 images of
a microbatch, in training and in evaluation. Paper scale has a ResNet18 on ImageNet, 224 x 224
pixels, in batches of 1,024: 10 images of each class, or 10,217 with shares of 1/k. It needs the
folder ``imagenet`` in ``IMBALANCE_DATA``.

Run:    python experiments/fig3_imagenet.py
Draws:  figures/fig3_imagenet.png
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
        "A residual network on images: GD catches up on uniform classes and lags on rare ones",
        f"{number:,} images of {classes:,} classes, uniform or with shares of 1/k; batch "
        "normalisation.",
    )


def claims(dataset):
    """What Figure 3 shows, in numbers."""
    return heavy_tail.claims(dataset, "Figure 3", {})


EXPERIMENT = Experiment("fig3_imagenet", sweeps, draw, claims, over="data")

if __name__ == "__main__":
    main(EXPERIMENT)
