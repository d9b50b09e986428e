"""Entries of the Hessian between some classes and inputs: diagonal blocks stand out everywhere.

Claim (the paper's appendix, beside Figure 9): for the most frequent classes, for the rarest, and
for some of all frequencies, the entries of the Hessian inside the block of one class are far
larger than those between two classes, at all times along Adam's path.

Each pixel is an entry: rows and columns run over classes and, within a class, over some inputs. The
picture shows one seed, on one colour scale; claims are decided on three. At laptop scale there are
2,048 examples and 255 classes; the learning rate is fixed, that of independent NumPy runs.

Run:    python experiments/linear_hessian_entries.py
Draws:  figures/linear_hessian_entries.png
"""

import numpy as np

from imbalance.probes import hessian_entries
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STOPS = (0, 10, 50, 100)
SIZES = {"smoke": (4, 3, 6), "laptop": (8, 10, 6), "paper": (11, 10, 20)}  # m, classes, inputs
RATE = {"smoke": 1e-3, "laptop": 1e-3, "paper": 10**-3.5}
SUBSETS = {
    "top": "most frequent",
    "bot": "rarest",
    "lin": "evenly spaced by rank",
    "log": "evenly spaced by log rank",
}


def subsets(num_classes, number):
    """Classes of each subset: ``number`` of them, about twice as many for ``lin`` and ``log``."""
    spread = np.linspace(0, num_classes - 1, 2 * number)
    logarithmic = np.geomspace(1, num_classes, 2 * number) - 1
    return {
        "top": np.arange(number),
        "bot": np.arange(num_classes - number, num_classes),
        "lin": np.unique(spread.round().astype(int)),
        "log": np.unique(logarithmic.round().astype(int)),
    }


def sweeps(scale):
    """Adam at one learning rate, three seeds."""
    m, number, among = SIZES[scale]
    problem = heavy_tailed_linear(m)
    num_inputs = problem.shapes.input.shape[1]
    inputs = tuple(np.linspace(0, num_inputs - 1, among).round().astype(int))
    probes = tuple(
        hessian_entries(problem.task, name, tuple(classes), inputs)
        for name, classes in subsets(len(problem.counts), number).items()
    )
    rates, seeds = {"adam": (RATE[scale],)}, (1,) if scale == "smoke" else (1, 2, 3)
    return {"": Sweep(problem, rates, STOPS[-1], seeds, stops=STOPS, probes=probes)}


def entries(dataset, name):
    """``|entry| [seed, step, row, column]``, and which are inside a class's own block."""
    run = dataset[f"entry_{name}"].isel(optimizer=0, learning_rate=0)
    found = run.transpose("seed", "step", f"{name}_row", f"{name}_column").values
    classes = dataset[f"{name}_row"].values
    return np.abs(found), classes[:, None] == classes[None]


def draw(dataset):
    """log10 of the entries: one row for each subset, one column for each step."""
    figure, axes = page.panels(len(SUBSETS), len(STOPS))
    size = {name: np.log10(entries(dataset, name)[0][0] + 1e-30) for name in SUBSETS}
    every = np.concatenate([images.ravel() for images in size.values()])
    limits = {"vmin": np.quantile(every, 0.02), "vmax": every.max()}
    for row, (name, words) in zip(axes, SUBSETS.items(), strict=True):
        for axis, image in zip(row, size[name], strict=True):
            drawn = axis.imshow(image, cmap="YlOrBr", interpolation="nearest", **limits)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        number = len(np.unique(dataset[f"{name}_row"]))
        row[0].set_ylabel(f"{number} classes,\n{words}")
    for step, top, bottom in zip(STOPS, axes[0], axes[-1], strict=True):
        top.set_title(f"step {step}")
        bottom.set_xlabel("class, and input")
    figure.colorbar(drawn, ax=axes, label="log10 |entry|", shrink=0.5)
    examples, classes = int(dataset["class_count"].sum()), dataset.sizes["class"]
    inputs = len(dataset["top_row"]) // len(np.unique(dataset["top_row"]))
    rate = plots.exponent(RATE[dataset.attrs["scale"]])
    page.headline(
        figure,
        None,
        "Among frequent, rare and mixed classes, Hessian entries inside a class's block stand out",
        f"{inputs} inputs of each class; {examples:,} examples, {classes:,} classes, seed "
        f"{dataset['seed'].values[0]}. Adam, learning rate {rate}, fixed.",
    )
    return figure


def claims(dataset):
    """That diagonal blocks stand out in each subset."""
    rows = []
    for name, words in SUBSETS.items():
        found, own = entries(dataset, name)
        ratio = np.median(found[..., own], -1) / np.median(found[..., ~own], -1)  # [seed, step]
        rows.append(
            between(
                f"{slug(words)}-diagonal-blocks-stand-out",
                f"Classes {words}: median entry inside blocks of one class divided by that between "
                f"classes, smallest ratio at steps {', '.join(map(str, STOPS))}",
                ratio.min(1),
                low=10.0,
                fixed="before any run",
                section="Appendix, entries of the Hessian",
            )
        )
    return rows


EXPERIMENT = Experiment("linear_hessian_entries", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
