"""Figure 2: a convolutional network on digits, and what a heavy tail of classes does to it.

Claims (Figure 2; for the barcoded images alone the paper's appendix): on plain digits gradient
descent and Adam do equally well. Then as many images again are added in rare classes: digits with
one of many barcodes, five images in each class. Gradient descent hardly lowers the loss of the rare
half, while Adam fits both halves. Barcodes by themselves are not hard: on the barcoded images
alone, where all classes are equally rare, both optimizers do well.

At laptop scale there are rendered digits of 16 x 16 pixels, 6 bits (640 rare classes), fewer
channels and 60 steps, twice the steps in which Adam halves the loss of both halves (90 on barcoded
images alone and 200 on plain ones, until gradient descent fits them); the paper has MNIST, 10 bits
(10,240 rare classes) and 300 steps. With so few rare classes gradient descent begins to fit them
before the end, at rates at which its loss shakes on the way.
Where ``IMBALANCE_DATA`` has a folder ``mnist``, the digits are read from it; paper scale needs it.

Run:    python experiments/fig2_barcoded.py
Draws:  figures/fig2_barcoded.png
"""

from functools import lru_cache, partial

import numpy as np

from imbalance.analysis.selection import at_best
from imbalance.data import images
from imbalance.data.folders import paper_data, real_data
from imbalance.problems import vision
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops, quarter_decades

OPTIMIZERS = ("gd+m", "adam")
SIZES = {  # bits, channels, microbatches
    "smoke": (1, (2, 4), 1),
    "laptop": (6, (8, 16), 8),
    "paper": (10, (32, 100), 50),
}
STEPS = {
    "smoke": {"plain": 6, "barcoded": 6, "imbalanced": 6},
    "laptop": {"plain": 200, "barcoded": 90, "imbalanced": 60},
    "paper": {"plain": 300, "barcoded": 300, "imbalanced": 300},
}
GRIDS = {  # exponents of the first and last learning rate of GD and of Adam
    "smoke": {kind: ((-1, -1), (-2, -2)) for kind in ("plain", "barcoded", "imbalanced")},
    "laptop": {
        "plain": ((-2, -1.5), (-2.5, -1.5)),
        "barcoded": ((-1, 0), (-2.5, -1.5)),
        "imbalanced": ((-1, 0), (-2.5, -1.5)),
    },
    "paper": {
        "plain": ((-3, 0), (-4.5, -1.5)),
        "barcoded": ((-2, 2), (-3, -1)),
        "imbalanced": ((-5, 0), (-4, -1)),
    },
}
STOPS = {"smoke": 51, "laptop": 51, "paper": 301}
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}
WORDS = {
    "plain": "digits",
    "barcoded": "barcoded only",
    "imbalanced": "both",
}


@lru_cache
def digits(scale):
    """Plain digits, as many as there will be barcoded ones."""
    per_class = 5 * 2 ** SIZES[scale][0]
    folder = None
    if scale != "smoke":
        folder = paper_data("mnist") if scale == "paper" else real_data("mnist")
    if folder:
        found = vision.mnist(folder, min(50_000, 10 * per_class))
    else:
        found = vision.rendered(min(5_000, per_class))
    return vision.halved(found) if scale == "laptop" else found


def problems(scale):
    """The three data sets."""
    bits, channels, _ = SIZES[scale]
    return {
        "plain": vision.plain_digits(digits(scale), channels=channels),
        "barcoded": vision.barcoded_digits(digits(scale), bits, channels=channels),
        "imbalanced": vision.imbalanced_digits(digits(scale), bits, channels=channels),
    }


def sweeps(scale):
    """Both optimizers on each data set, full batch."""
    *_, microbatches = SIZES[scale]
    found = {}
    for kind, problem in problems(scale).items():
        gd, adam = GRIDS[scale][kind]
        steps = STEPS[scale][kind]
        found[kind] = Sweep(
            problem,
            {"gd+m": spaced(scale, kind)(*gd), "adam": half_decades(*adam)},
            steps,
            confirm=Confirm(seeds=SEEDS[scale]),
            stops=linear_stops(steps, STOPS[scale]),
            microbatches=microbatches,
        )
    return found


def spaced(scale, kind):
    """How GD's rates are spaced: closer on plain digits, where a large one soon shakes."""
    return quarter_decades if (scale, kind) == ("laptop", "plain") else half_decades


def best(dataset, kind):
    """The runs on one data set at the best learning rates by the rule `steady`."""
    last = STEPS[dataset.attrs["scale"]][kind]
    return at_best(dataset.sel(data=kind), last).sel(step=slice(0, last))


def start(dataset, kind):
    """The logarithm of the number of classes: the loss of a uniform prediction."""
    return float(np.log((dataset["class_count"].sel(data=kind) > 0).sum()))


def draw(dataset):
    """Example images; overall losses on the three data sets; both optimizers by bucket."""
    figure, axes = page.panels(2, 5)
    _examples(axes[0], dataset.attrs["scale"])
    for axis, (kind, words) in zip(axes[1], WORDS.items(), strict=False):
        chosen = best(dataset, kind)
        plots.overall(axis, chosen, OPTIMIZERS)
        axis.set(title=f"{words}\n{_rates(chosen)}", ylim=(0, 1.3 * start(dataset, kind)))
    axes[1, 0].set_ylabel("loss (nats)")
    chosen = best(dataset, "imbalanced")
    for axis, optimizer in zip(axes[1, 3:], OPTIMIZERS, strict=True):
        plots.by_bucket(axis, chosen.sel(optimizer=optimizer).dropna("bucket", how="all"))
        axis.set_title(f"{WORDS['imbalanced']}\n{plots.label(optimizer, dataset)}")
        axis.set_ylim(0, 1.6 * start(dataset, "imbalanced"))
    plots.bucket_bar(figure, axes[1, -1], 2)
    number, classes = (int(found) for found in _size(dataset))
    page.headline(
        figure,
        chosen,
        "A convolutional network on digits: GD leaves the rare half behind, Adam fits both",
        f"{number:,} images in {classes:,} classes, half of them rare; full batch.",
    )
    return figure


def _size(dataset):
    """Images and classes of the digits together with the barcoded ones."""
    counts = dataset["class_count"].sel(data="imbalanced")
    return counts.sum(), (counts > 0).sum()


def _rates(chosen):
    """Learning rates of both optimizers, as a panel's title has room for them."""
    return "η " + ", ".join(plots.exponent(rate) for rate in chosen["learning_rate"].values)


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
    steps, rows = STEPS[dataset.attrs["scale"]], []
    final = {kind: best(dataset, kind).sel(step=steps[kind]) for kind in WORDS}
    loss = {
        kind: {name: final[kind]["loss"].sel(optimizer=name) for name in OPTIMIZERS}
        for kind in WORDS
    }
    test = partial(between, fixed="before any run", section="Figure 2")
    for kind, most in (("plain", 0.05), ("barcoded", None)):
        limit = most or 0.5 * start(dataset, kind)
        said = "plain digits" if most else "barcoded digits alone (asked: half of ln c)"
        for optimizer, short in zip(OPTIMIZERS, ("gd", "adam"), strict=True):
            rows.append(
                test(
                    f"{short}-fits-{kind}-digits",
                    f"{said}: {plots.label(optimizer, dataset)}'s loss at step {steps[kind]}, nats",
                    loss[kind][optimizer],
                    high=limit,
                    reason="rates that fit sooner shake on some starts, which the rule refuses",
                )
            )
    chosen = final["imbalanced"]["bucket_loss"]
    uniform, (gd, adam) = start(dataset, "imbalanced"), OPTIMIZERS
    rare = {name: chosen.sel(optimizer=name, bucket=1) for name in OPTIMIZERS}
    gap = {kind: loss[kind][gd] - loss[kind][adam] for kind in WORDS}
    both = f"digits and barcoded digits, step {steps['imbalanced']}"
    rows += [
        test(
            "gd-leaves-rare-half",
            f"{both}: GD's loss in the rare half, of ln c",
            rare[gd] / uniform,
            low=0.9,
            headline=True,
            reason="640 rare classes of five images each are few: GD has begun to fit them",
            percent=True,
        ),
        test(
            "adam-fits-rare-half",
            f"{both}: Adam's loss in the rare half, of ln c",
            rare[adam] / uniform,
            high=0.3,
            headline=True,
            percent=True,
        ),
        test(
            "gd-fits-frequent-half",
            f"{both}: GD's loss in the frequent half, nats",
            chosen.sel(optimizer=gd, bucket=0),
            high=1.0,
            reason="at its best rate GD's loss shakes on the way, on some starts for longer",
        ),
        test(
            "adam-far-below-gd",
            f"{both}: Adam's overall loss, of GD's",
            loss["imbalanced"][adam] / loss["imbalanced"][gd],
            high=1 / 3,
            percent=True,
        ),
        test(
            "gap-exceeds-plain-digits",
            f"{both}: the gap, GD - Adam, less three times its size on plain digits, nats",
            gap["imbalanced"] - 3 * abs(gap["plain"]),
            low=0.0,
        ),
        test(
            "gap-exceeds-barcoded-only",
            f"{both}: the gap, GD - Adam, less that on barcoded digits alone, nats",
            gap["imbalanced"] - gap["barcoded"],
            low=0.0,
            reason="with so few rare classes GD has begun to fit them in the mixture too",
        ),
    ]
    grids = (inside_grid(best(dataset, kind), f"{kind}-best-rates-inside-grid") for kind in WORDS)
    return [*rows, *grids]


EXPERIMENT = Experiment("fig2_barcoded", sweeps, draw, claims, over="data")

if __name__ == "__main__":
    main(EXPERIMENT)
