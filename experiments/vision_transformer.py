"""A vision transformer on images: all of them, a small sample, and a heavy-tailed one.

Claims (the paper's appendix): a vision transformer on ImageNet is trained about equally well by
gradient descent and Adam, and so it is on a small sample with ten images of each class. On as many
images with heavy-tailed classes there is a gap, as in ``fig3_imagenet``.

At laptop scale the images are glyphs of 16 x 16 pixels in 50 classes: 1,000 of them; 500; and 500
with shares of 1/k; all in full batch. The transformer has one block of 32 features. At paper scale
it has 12 blocks of 384 features; the samples have 224 x 224 pixels, cut into 14 x 14 patches. All
of ImageNet is taken at 64 x 64 pixels, cut into 16 x 16 patches, as it would not fit a GPU
otherwise. It needs the folder ``imagenet`` in ``IMBALANCE_DATA``.

Run:    python experiments/vision_transformer.py
Draws:  figures/vision_transformer.png
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

WORDS = {"full": "all images", "uniform": "small sample", "heavy_tailed": "heavy-tailed"}
SUBSETS: dict[str, Subset] = {  # of ImageNet
    "full": "full",
    "uniform": "small",
    "heavy_tailed": "heavy_tailed",
}
SIDES = {"full": 64, "uniform": 224, "heavy_tailed": 224}  # of ImageNet's images
PATCHES = {"full": 4, "uniform": 16, "heavy_tailed": 16}
GLYPHS = {"smoke": (12, 60, 8), "laptop": (50, 500, 16)}  # classes, images, pixels a side
MORE = 2  # times as many glyphs are all of them
MODELS = {
    "smoke": {"patch": 4, "width": 8, "num_layers": 1, "num_heads": 2},
    "laptop": {"patch": 4, "width": 32, "num_layers": 1, "num_heads": 2},
    "paper": {"dtype": "bfloat16"},
}
STEPS = {
    "smoke": {"full": 4, "uniform": 4, "heavy_tailed": 4},
    "laptop": {"full": 250, "uniform": 250, "heavy_tailed": 250},
    "paper": {"full": 10_000, "uniform": 1_500, "heavy_tailed": 1_500},
}
STOPS = {"smoke": 5, "laptop": 26, "paper": 101}
ROWS = {"smoke": 60, "laptop": 1_000, "paper": 1_024}  # of a step
MEASURED = {"smoke": 60, "laptop": 1_000, "paper": 51_200}  # at most
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}
GRIDS = {  # exponents of the first and last learning rate
    "smoke": {"gd+m": (-1, -1), "adam": (-2, -2)},
    "laptop": {"gd+m": (-0.5, 0.5), "adam": (-2.5, -1.5)},
    "paper": {"gd+m": (-3, 0), "adam": (-5, -2)},
}

REASONS = {
    "gap-is-of-the-tail-and-not-of-full": "on twice the images, at the rate that is left by the "
    "rule, GD has hardly begun by this step; on the small sample it takes four fifths of the steps",
}


@lru_cache
def data(scale, kind):
    """Glyphs, or at paper scale ImageNet."""
    if scale == "paper":
        return pictures.imagenet(paper_data("imagenet"), SUBSETS[kind], SIDES[kind])
    classes, number, side = GLYPHS[scale]
    if kind == "heavy_tailed":
        return pictures.glyphs(zipf.power_law_counts(number, classes, 1.0), side)
    number *= MORE if kind == "full" else 1
    return pictures.glyphs(zipf.uniform_counts(number, classes), side)


def problem(scale, kind):
    """The transformer on one set of images."""
    size = MODELS[scale]
    if scale == "paper":
        size = size | {"patch": PATCHES[kind]}
    bucketing = 4 if scale == "smoke" else 10
    return pictures.transformer_problem(data(scale, kind), bucketing=bucketing, **size)


def sweeps(scale):
    """Both optimizers on each set of images."""
    found = {}
    for kind in WORDS:
        one, steps = problem(scale, kind), STEPS[scale][kind]
        whole = one.num_rows <= ROWS[scale]
        found[kind] = Sweep(
            one,
            {name: half_decades(*grid) for name, grid in GRIDS[scale].items()},
            steps,
            confirm=Confirm(seeds=SEEDS[scale]),
            stops=linear_stops(steps, STOPS[scale]),
            batch_size=None if whole else ROWS[scale],
            measured_rows=MEASURED[scale] if one.num_rows > MEASURED[scale] else None,
            optimizers=OPTIMIZERS if scale != "paper" else ON_MINI_BATCHES,
        )
    return found


def draw(dataset):
    """Overall losses on the three sets, and both optimizers by bucket on heavy-tailed classes."""
    number = int(dataset["class_count"].sel(data="heavy_tailed").sum())
    return heavy_tail.draw(
        dataset,
        WORDS,
        "A vision transformer on images, with uniform and with heavy-tailed classes",
        f"The samples have {number:,} images of {dataset.sizes['class']:,} classes.",
    )


def claims(dataset):
    """That the gap is one of heavy-tailed classes, for a transformer."""
    return heavy_tail.claims(dataset, "Appendix, vision transformer", REASONS)


EXPERIMENT = Experiment("vision_transformer", sweeps, draw, claims, over="data")

if __name__ == "__main__":
    main(EXPERIMENT)
