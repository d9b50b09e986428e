"""Figure 5: which part of Adam matters, on the last layer of a transformer.

Claim: with all other parts frozen, so that what is left is a linear model on the features of real
text, normalising the gradient or adding momentum to gradient descent helps some, but what helps the
rare classes is the change of direction to the sign. Sign descent behaves like Adam.

The text is the docstrings of the Python standard library; with ``IMBALANCE_DATA`` set and a folder
``ptb`` in it, at paper scale PTB's.

Run:    python experiments/fig5_last_layer.py
Draws:  figures/fig5_last_layer.png
"""

import numpy as np

from imbalance import language, plots
from imbalance.analysis.labelled import at_best
from imbalance.claims import between, inside_grid, sign_explains_adam, spearman
from imbalance.data.folders import real_data
from imbalance.experiment import Experiment, main
from imbalance.sweep import Sweep, half_decades, linear_stops

KINDS = ("gd", "adam", "normalized_gd", "sign")
GRIDS = {  # exponents of the first and last rate, without and with momentum
    "smoke": {
        "gd": (0, 0), "adam": (-2, -2), "normalized_gd": (-1, -1), "sign": (-2, -2),
        "gd+m": (0, 0), "adam+m": (-2, -2), "normalized_gd+m": (-1, -1), "sign+m": (-2, -2),
    },
    "laptop": {
        "gd": (-0.5, 0.5), "adam": (-2.5, -1.5), "normalized_gd": (-0.5, 0.5), "sign": (-2.5, -1.5),
        "gd+m": (-1, 0), "adam+m": (-1.5, -0.5), "normalized_gd+m": (-1, 0), "sign+m": (-3, -2),
    },
    "paper": {
        "gd": (-2, 1), "adam": (-4.5, -1.5), "normalized_gd": (-2, 1), "sign": (-5, -2),
        "gd+m": (-3, 0), "adam+m": (-4.5, -1.5), "normalized_gd+m": (-3, 0), "sign+m": (-6, -3),
    },
}  # fmt: skip
SIZES = {  # tokens, features, positions of a row, columns, steps, microbatches
    "smoke": (600, 16, 35, 8, 10, 1),
    "laptop": (4_480, 128, 35, 64, 100, 2),
    "paper": (71_680 + 1_024, 1_200, 35, 1_024, 1_000, 8),
}


def sweeps(scale):
    """All four, without and with momentum, over their grids; full batch."""
    tokens, width, length, columns, steps, microbatches = SIZES[scale]
    folder = real_data("ptb") if scale == "paper" else None
    corpus = language.text_folder(folder) if folder else language.docstrings(tokens)
    problem = language.last_layer_problem(corpus, width, length, columns=columns)
    rates = {name: half_decades(*grid) for name, grid in GRIDS[scale].items()}
    stops = linear_stops(steps, 21)
    return {"": Sweep(problem, rates, steps, stops=stops, microbatches=microbatches, chunk=1)}


def best(dataset):
    """The runs at the best rates under rule S."""
    return at_best(dataset, int(dataset["step"][-1]))


def draw(dataset):
    """Overall losses, and each optimizer by bucket: a row without momentum and one with it."""
    chosen = best(dataset)
    figure, axes = plots.panels(2, 1 + len(KINDS))
    rows = [[kind + suffix for kind in KINDS] for suffix in ("", "+m")]
    plots.in_rows(axes, chosen, rows, top=1.3 * np.log(dataset.sizes["class"]))
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    classes, examples = dataset.sizes["class"], int(dataset["class_count"].sum())
    title = f"Last layer of a frozen transformer: {examples:,} tokens, {classes:,} classes"
    plots.headline(figure, chosen, title)
    return figure


def claims(dataset):
    """T13, T17 and the check on rare classes."""
    chosen = best(dataset).isel(seed=0, step=-1)
    start = dataset["bucket_loss"].isel(seed=0, step=0)
    rows = []
    for suffix, words in (("", "without momentum"), ("+m", "with momentum")):
        loss = {kind: float(chosen["loss"].sel(optimizer=kind + suffix)) for kind in KINDS}
        by_bucket = {k: chosen["bucket_loss"].sel(optimizer=k + suffix).values for k in KINDS}
        at_start = start.sel(optimizer="adam" + suffix).max("learning_rate").values
        rows += [
            between(
                "T13",
                f"{words}: GD's bucket losses are ordered by frequency: rank correlation",
                spearman(by_bucket["gd"]),
                low=0.95,
                fixed="before any run",
            ),
            between(
                "T13",
                f"{words}: Adam's buckets are all below their start: largest ratio",
                float((by_bucket["adam"] / at_start).max()),
                high=1.0,
                fixed="before any run",
            ),
            *sign_explains_adam("T17", loss, words),
            between(
                "Fig. 5",
                f"{words}: rarest bucket, the lower of GD and normalized GD above the higher of "
                "Adam and sign descent, nats",
                min(by_bucket[k][-1] for k in ("gd", "normalized_gd"))
                - max(by_bucket[k][-1] for k in ("adam", "sign")),
                low=2.0,
                fixed="before any run",
            ),
        ]
    return [*rows, inside_grid(best(dataset))]


EXPERIMENT = Experiment("fig5_last_layer", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
