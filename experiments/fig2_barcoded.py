"""Figure 2: a convolutional network on digits, and what a heavy tail of classes does to it.

Claims (Figure 2; for the barcoded images alone the paper's appendix): on plain digits gradient
descent and Adam do equally well. Then as many images again are added in rare classes: digits with
one of many barcodes, five images in each class. Gradient descent hardly lowers the loss of the rare
half, while Adam fits both halves. Barcodes by themselves are not hard: on the barcoded images
alone, where all classes are equally rare, both optimizers do well.

At laptop scale there are rendered digits, 6 bits (640 rare classes), fewer channels and 40 steps;
the paper has MNIST, 10 bits (10,240 rare classes) and 300 steps. Where ``IMBALANCE_DATA`` has a
folder ``mnist``, the digits are read from it.

Run:    python experiments/fig2_barcoded.py
Draws:  figures/fig2_barcoded.png
"""

from functools import lru_cache

import numpy as np

from imbalance.analysis.labelled import at_best
from imbalance.data import images
from imbalance.data.folders import real_data
from imbalance.problems import vision
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd+m", "adam")
SIZES = {  # bits, channels, steps, microbatches
    "smoke": (1, (2, 4), 6, 1),
    "laptop": (6, (6, 12), 40, 16),
    "paper": (10, (32, 100), 300, 50),
}
GRIDS = {  # exponents of the first and last learning rate of GD and of Adam
    "smoke": {kind: ((-1, -1), (-2, -2)) for kind in ("plain", "barcoded", "imbalanced")},
    "laptop": {
        "plain": ((-1.5, -0.5), (-2.5, -1.5)),
        "barcoded": ((-1, 0), (-2, -1)),
        "imbalanced": ((-1.5, -0.5), (-2, -1)),
    },
    "paper": {
        "plain": ((-3, 0), (-4.5, -1.5)),
        "barcoded": ((-2, 2), (-4.5, -1.5)),
        "imbalanced": ((-3, 0), (-4.5, -1.5)),
    },
}
WORDS = {
    "plain": "digits",
    "barcoded": "barcoded only",
    "imbalanced": "digits and barcoded",
}


@lru_cache
def digits(scale):
    """Plain digits, as many as there will be barcoded ones."""
    per_class = 5 * 2 ** SIZES[scale][0]
    folder = real_data("mnist") if scale != "smoke" else None
    if folder:
        return vision.mnist(folder, min(50_000, 10 * per_class))
    return vision.rendered(min(5_000, per_class))


def problems(scale):
    """The three data sets."""
    bits, channels, *_ = SIZES[scale]
    return {
        "plain": vision.plain_digits(digits(scale), channels=channels),
        "barcoded": vision.barcoded_digits(digits(scale), bits, channels=channels),
        "imbalanced": vision.imbalanced_digits(digits(scale), bits, channels=channels),
    }


def sweeps(scale):
    """Both optimizers on each data set, full batch."""
    _, _, steps, microbatches = SIZES[scale]
    found = {}
    for kind, problem in problems(scale).items():
        gd, adam = (half_decades(*grid) for grid in GRIDS[scale][kind])
        rates = {"gd+m": gd, "adam": adam}
        stops = linear_stops(steps, 11)
        found[kind] = Sweep(problem, rates, steps, stops=stops, microbatches=microbatches)
    return found


def best(dataset, kind):
    """The runs on one data set at the best learning rates by the rule `stable`."""
    return at_best(dataset.sel(data=kind), int(dataset["step"][-1]))


def start(dataset, kind):
    """The logarithm of the number of classes: the loss of a uniform prediction."""
    return float(np.log((dataset["class_count"].sel(data=kind) > 0).sum()))


def draw(dataset):
    """Example images; overall losses on the three data sets; both optimizers by bucket."""
    figure, axes = plots.panels(2, 5, width=2.2, height=2.0)
    _examples(axes[0], dataset.attrs["scale"])
    for axis, (kind, words) in zip(axes[1], WORDS.items(), strict=False):
        chosen = best(dataset, kind)
        plots.overall(axis, chosen, OPTIMIZERS)
        axis.legend(fontsize=5)
        axis.set(title=words, ylim=(0, 1.3 * start(dataset, kind)))
    axes[1, 0].set_ylabel("loss (nats)")
    chosen = best(dataset, "imbalanced")
    for axis, optimizer in zip(axes[1, 3:], OPTIMIZERS, strict=True):
        plots.by_bucket(axis, chosen.sel(optimizer=optimizer).dropna("bucket", how="all"))
        axis.set(title=f"{plots.label(optimizer, dataset)}, {WORDS['imbalanced']}")
        axis.set_ylim(0, 1.6 * start(dataset, "imbalanced"))
    plots.bucket_bar(figure, axes[1, -1], 2)
    number = int(dataset["class_count"].sel(data="imbalanced").sum())
    plots.headline(
        figure, chosen, f"A convolutional network on {number:,} digits, half of them rare"
    )
    return figure


def _examples(axes, scale):
    """Two plain digits and three with barcodes."""
    found = images.combined(digits(scale).split, SIZES[scale][0]).train
    first = int(np.argmax(found.label >= 10))
    rare = len(found.label) - first
    rows = [first // 3, first // 2, *(first + int(part * rare) for part in (0.33, 0.68, 0.95))]
    for axis, row in zip(axes, rows, strict=True):
        axis.imshow(found.image[row], cmap="gray_r", interpolation="nearest")
        axis.set(xticks=[], yticks=[], title=f"class {found.label[row]}")
        axis.spines[:].set_visible(False)
    axes[0].set_ylabel(digits(scale).name)


def claims(dataset):
    """What Figure 2 shows, in numbers."""
    last, rows = int(dataset["step"][-1]), []
    loss = {
        kind: {
            name: float(best(dataset, kind)["loss"].sel(optimizer=name, step=last).isel(seed=0))
            for name in OPTIMIZERS
        }
        for kind in WORDS
    }
    for kind, most in (("plain", 0.05), ("barcoded", None)):
        limit = most or 0.5 * start(dataset, kind)
        said = "below .05 on plain digits" if most else "below half of ln c on barcoded ones"
        for optimizer, short in zip(OPTIMIZERS, ("gd", "adam"), strict=True):
            said_of = f"{plots.label(optimizer, dataset)}: loss at step {last} is {said}"
            value = loss[kind][optimizer]
            name = f"{short}-fits-{kind}-digits"
            rows.append(between(name, said_of, value, high=limit, fixed="before any run"))
    chosen = best(dataset, "imbalanced").isel(seed=0).sel(step=last)["bucket_loss"]
    frequent, rare = (
        {name: float(chosen.sel(optimizer=name)[bucket]) for name in OPTIMIZERS}
        for bucket in (0, 1)
    )
    uniform, (gd, adam) = start(dataset, "imbalanced"), OPTIMIZERS
    gap = {kind: loss[kind][gd] - loss[kind][adam] for kind in WORDS}
    ratio = loss["imbalanced"][adam] / loss["imbalanced"][gd]
    beyond_plain = gap["imbalanced"] - 3 * abs(gap["plain"])
    beyond_barcodes = gap["imbalanced"] - gap["barcoded"]
    tests = [
        (
            "gd-leaves-rare-half",
            "GD's loss in the rare half divided by ln c",
            rare[gd] / uniform,
            0.9,
            np.inf,
        ),
        (
            "adam-fits-rare-half",
            "Adam's loss in the rare half divided by ln c",
            rare[adam] / uniform,
            -np.inf,
            0.3,
        ),
        ("gd-fits-frequent-half", "GD's loss in the frequent half", frequent[gd], -np.inf, 1.0),
        ("adam-far-below-gd", "Adam's overall loss divided by GD's", ratio, -np.inf, 1 / 3),
        (
            "gap-exceeds-plain-digits",
            "the gap, GD - Adam, minus three times its size on plain digits, nats",
            beyond_plain,
            0.0,
            np.inf,
        ),
        (
            "gap-exceeds-barcoded-only",
            "the gap, GD - Adam, minus that on barcoded digits only, nats",
            beyond_barcodes,
            0.0,
            np.inf,
        ),
    ]
    for name, said, *numbers in tests:
        said = f"Digits and barcoded digits, step {last}: {said}"
        rows.append(between(name, said, *numbers, fixed="before any run"))
    grids = (inside_grid(best(dataset, kind), f"{kind}-best-rates-inside-grid") for kind in WORDS)
    return [*rows, *grids]


EXPERIMENT = Experiment("fig2_barcoded", sweeps, draw, claims, over="data")

if __name__ == "__main__":
    main(EXPERIMENT)
