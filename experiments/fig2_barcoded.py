"""Figure 2: a convolutional network on digits, and what a heavy tail of classes does to it.

Claims (Figure 2, appendix item 10): on plain digits gradient descent and Adam are alike. With as
many images again in rare classes, digits that bear one of many barcodes with five images each,
gradient descent hardly moves the rare half while Adam fits both. The barcodes themselves are not
what is hard: on the barcoded images alone, all classes equally rare, both get far.

Laptop scale has rendered digits, 6 bits (640 rare classes), fewer channels and 40 steps; the paper
has MNIST, 10 bits (10,240) and 300 steps. With ``IMBALANCE_DATA`` set, MNIST is read from its
folder ``mnist``.

Run:    python experiments/fig2_barcoded.py
Draws:  figures/fig2_barcoded.png
"""

from functools import lru_cache

import numpy as np

from imbalance import plots, vision
from imbalance.analysis.labelled import at_best
from imbalance.claims import between, inside_grid
from imbalance.data import images
from imbalance.data.folders import real_data
from imbalance.experiment import Experiment, main
from imbalance.sweep import Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd+m", "adam+m")
SIZES = {  # bits, channels, steps, microbatches
    "smoke": (1, (2, 4), 6, 1),
    "laptop": (6, (6, 12), 40, 16),
    "paper": (10, (32, 100), 300, 50),
}
GRIDS = {  # exponents of the first and last rate of GD and of Adam
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
    """As many plain digits as there are barcoded ones."""
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
        rates = {"gd+m": gd, "adam+m": adam}
        stops = linear_stops(steps, 11)
        found[kind] = Sweep(problem, rates, steps, stops=stops, microbatches=microbatches, chunk=1)
    return found


def best(dataset, kind):
    """The runs on one data set at the best rates under rule S."""
    return at_best(dataset.sel(data=kind), int(dataset["step"][-1]))


def start(dataset, kind):
    """The logarithm of the number of classes: what a model loses that knows nothing."""
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
        axis.set(title=f"{plots.label(optimizer)}, {WORDS['imbalanced']}")
        axis.set_ylim(0, 1.6 * start(dataset, "imbalanced"))
    plots.bucket_bar(figure, axes[1, -1], 2)
    number = int(dataset["class_count"].sel(data="imbalanced").sum())
    plots.headline(
        figure, chosen, f"A convolutional network on {number:,} digits, half of them rare"
    )
    return figure


def _examples(axes, scale):
    """Two plain digits, and three with barcodes."""
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
    """T15, T22 and the checks of Figure 2."""
    last, rows = int(dataset["step"][-1]), []
    loss = {
        kind: {
            name: float(best(dataset, kind)["loss"].sel(optimizer=name, step=last).isel(seed=0))
            for name in OPTIMIZERS
        }
        for kind in WORDS
    }
    for kind, id, most in (("plain", "T15", 0.05), ("barcoded", "T22", None)):
        limit = most or 0.5 * start(dataset, kind)
        said = "below .05 on plain digits" if most else "below half of ln c on barcoded ones"
        for name in OPTIMIZERS:
            said_of = f"{plots.label(name)}'s loss at t = {last} is {said}"
            rows.append(between(id, said_of, loss[kind][name], high=limit, fixed="before any run"))
    chosen = best(dataset, "imbalanced").isel(seed=0).sel(step=last)["bucket_loss"]
    frequent, rare = (
        {name: float(chosen.sel(optimizer=name)[bucket]) for name in OPTIMIZERS}
        for bucket in (0, 1)
    )
    unknowing, (gd, adam) = start(dataset, "imbalanced"), OPTIMIZERS
    gap = {kind: loss[kind][gd] - loss[kind][adam] for kind in WORDS}
    ratio = loss["imbalanced"][adam] / loss["imbalanced"][gd]
    beyond_plain = gap["imbalanced"] - 3 * abs(gap["plain"])
    beyond_barcodes = gap["imbalanced"] - gap["barcoded"]
    tests = [
        ("T15", "GD's rare half over ln c", rare[gd] / unknowing, 0.9, np.inf),
        ("T15", "Adam's rare half over ln c", rare[adam] / unknowing, -np.inf, 0.3),
        ("Fig. 2", "GD's frequent half, nats", frequent[gd], -np.inf, 1.0),
        ("Fig. 2", "Adam's overall loss over GD's", ratio, -np.inf, 1 / 3),
        ("C2", "the gap less three times that on plain digits, nats", beyond_plain, 0.0, np.inf),
        ("C4", "the gap less that on barcoded ones alone, nats", beyond_barcodes, 0.0, np.inf),
    ]
    for id, said, *numbers in tests:
        said = f"Digits and barcoded at t = {last}: {said}"
        rows.append(between(id, said, *numbers, fixed="before any run"))
    return [*rows, *(inside_grid(best(dataset, kind)) for kind in WORDS)]


EXPERIMENT = Experiment("fig2_barcoded", sweeps, draw, claims, over="data")

if __name__ == "__main__":
    main(EXPERIMENT)
