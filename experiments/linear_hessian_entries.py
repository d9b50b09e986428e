"""Entries of the Hessian between some classes and inputs: diagonal blocks stand out everywhere.

Claim (the paper's appendix, beside Figure 9): for the most frequent classes, for the rarest, and
for some of all frequencies, the entries of the Hessian inside the block of one class are far
larger than those between two classes, at all times along Adam's path.

Each pixel is an entry: rows and columns run over classes and, within a class, over some inputs.

Run:    python experiments/linear_hessian_entries.py
Draws:  figures/linear_hessian_entries.png
"""

import numpy as np

from imbalance.probes import hessian_entries
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STOPS = (0, 10, 50, 100)
SIZES = {"smoke": (4, 3), "laptop": (8, 10), "paper": (11, 10)}  # m, classes
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
    """Adam at one learning rate."""
    m, number = SIZES[scale]
    problem = heavy_tailed_linear(m)
    num_inputs = problem.shapes.input.shape[1]
    inputs = tuple(np.linspace(0, num_inputs - 1, 2 * number).round().astype(int))
    probes = tuple(
        hessian_entries(problem.task, name, tuple(classes), inputs)
        for name, classes in subsets(len(problem.counts), number).items()
    )
    return {"": Sweep(problem, {"adam": (RATE[scale],)}, STOPS[-1], stops=STOPS, probes=probes)}


def sizes(dataset, name):
    """``|entry| [step, row, column]``, and which entries are inside a class's own block."""
    entries = np.abs(dataset[f"entry_{name}"].isel(optimizer=0, learning_rate=0, seed=0).values)
    classes = dataset[f"{name}_row"].values
    return entries, classes[:, None] == classes[None]


def draw(dataset):
    """log10 of the entries: one row for each subset, one column for each step."""
    figure, axes = plots.panels(len(SUBSETS), len(STOPS), width=2.0, height=1.9)
    for row, (name, words) in zip(axes, SUBSETS.items(), strict=True):
        entries, _ = sizes(dataset, name)
        size = np.log10(entries + 1e-30)
        limits = {"vmin": np.quantile(size, 0.02), "vmax": size.max()}
        for axis, image in zip(row, size, strict=True):
            drawn = axis.imshow(image, cmap="YlOrBr", interpolation="nearest", **limits)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        number = len(np.unique(dataset[f"{name}_row"]))
        row[0].set_ylabel(f"{number} classes\n{words}")
        figure.colorbar(drawn, ax=row[-1], label="log10 |entry|")
    for step, axis in zip(STOPS, axes[0], strict=True):
        axis.set_title(f"step {step}")
    rate = plots.exponent(RATE[dataset.attrs["scale"]])
    figure.suptitle(f"Entries of the Hessian along Adam's path, η = {rate}")
    return figure


def claims(dataset):
    """That diagonal blocks stand out in each subset."""
    rows = []
    for name, words in SUBSETS.items():
        entries, own = sizes(dataset, name)
        ratio = [np.median(one[own]) / np.median(one[~own]) for one in entries]
        rows.append(
            between(
                f"{slug(words)}-diagonal-blocks-stand-out",
                f"Classes {words}: smallest ratio over steps {', '.join(map(str, STOPS))} of the "
                "median entry inside blocks of one class to that between classes",
                min(ratio),
                low=10.0,
                fixed="before any run",
            )
        )
    return rows


EXPERIMENT = Experiment("linear_hessian_entries", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
