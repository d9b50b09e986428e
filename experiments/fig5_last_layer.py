"""Figure 5: which part of Adam matters, on the last layer of a transformer.

Claim (Figure 5): all other layers are frozen, so that what is left is a linear model on features of
real text. Normalising the gradient, or adding momentum to gradient descent, helps a little. What
helps the rare classes is to take the sign of the gradient: sign descent behaves like Adam.

Learning rates are searched on one seed and the best by the rule `steady` run on two others. Without
momentum gradient descent shakes at larger rates, which this rule does not admit.

The text is the docstrings of the Python standard library; at paper scale it is TinyPTB, the
validation text of PTB in the vocabulary of its training text.

Run:    python experiments/fig5_last_layer.py
Draws:  figures/fig5_last_layer.png
"""

from functools import partial

import numpy as np

from imbalance.analysis.block_measures import spearman
from imbalance.analysis.selection import at_best
from imbalance.data.folders import paper_data
from imbalance.problems import language
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, sign_explains_adam, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

ROWS = {  # without and with momentum: GD, Adam, normalized GD and sign descent
    "without momentum": ("gd", "adam_without_momentum", "normalized_gd", "sign"),
    "with momentum": ("gd+m", "adam", "normalized_gd+m", "sign+m"),
}
GRIDS = {  # exponents of the first and last learning rate
    "smoke": {
        "gd": (0, 0), "adam_without_momentum": (-2, -2),
        "normalized_gd": (-1, -1), "sign": (-2, -2),
        "gd+m": (0, 0), "adam": (-2, -2),
        "normalized_gd+m": (-1, -1), "sign+m": (-2, -2),
    },
    "laptop": {
        "gd": (-1, 0), "adam_without_momentum": (-2.5, -1.5),
        "normalized_gd": (-1, 0), "sign": (-2.5, -1.5),
        "gd+m": (-1, 0), "adam": (-2, -1),
        "normalized_gd+m": (-1, 0), "sign+m": (-3, -2),
    },
    "paper": {
        "gd": (-2, 0), "adam_without_momentum": (-4, -2),
        "normalized_gd": (-3, 0), "sign": (-5, -3),
        "gd+m": (-2, 0), "adam": (-4, -2),
        "normalized_gd+m": (-3, 0), "sign+m": (-5, -3),
    },
}  # fmt: skip
SIZES = {  # tokens, features, positions in a row, columns, steps, microbatches
    "smoke": (600, 16, 35, 8, 10, 1),
    "laptop": (4_480, 128, 35, 64, 100, 2),
    "paper": (0, 1_200, 35, 1_024, 1_000, 8),  # TinyPTB has its own number of tokens
}
SEEDS = {"smoke": (1, 2), "laptop": (1, 2), "paper": (1, 2, 3)}
STOPS = {"smoke": 51, "laptop": 51, "paper": 1_001}


def sweeps(scale):
    """All four without and with momentum, over their grids, in full batch."""
    tokens, width, length, columns, steps, microbatches = SIZES[scale]
    if scale == "paper":
        corpus = language.tiny_folder(paper_data("ptb"))
    else:
        corpus = language.docstrings(tokens)
    problem = language.last_layer_problem(corpus, width, length, columns=columns)
    rates = {name: half_decades(*grid) for name, grid in GRIDS[scale].items()}
    return {
        "": Sweep(
            problem,
            rates,
            steps,
            confirm=Confirm(seeds=SEEDS[scale]),
            stops=linear_stops(steps, STOPS[scale]),
            microbatches=microbatches,
        )
    }


def best(dataset):
    """The runs at the best learning rates by the rule `steady`."""
    return at_best(dataset, int(dataset["step"][-1]))


def draw(dataset):
    """Overall losses and each optimizer by bucket, first without and then with momentum."""
    chosen = best(dataset)
    figure, axes = page.panels(2, 5)
    plots.in_rows(axes, chosen, tuple(ROWS.values()), top=1.3 * np.log(dataset.sizes["class"]))
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    classes, examples = dataset.sizes["class"], int(dataset["class_count"].sum())
    page.headline(
        figure,
        chosen,
        "Last layer of a frozen transformer: what helps the rare words is the sign",
        f"{examples:,} tokens, {classes:,} classes, full batch.",
    )
    return figure


def claims(dataset):
    """What Figure 5 shows, in numbers."""
    chosen = best(dataset)
    final, start = chosen.isel(step=-1), chosen["bucket_loss"].isel(step=0)
    test = partial(between, fixed="before any run", section="Figure 5")
    rows = []
    for words, optimizers in ROWS.items():
        losses = [final["loss"].sel(optimizer=name) for name in optimizers]
        buckets = [final["bucket_loss"].sel(optimizer=name) for name in optimizers]
        gd, adam, normalized, sign = (one.isel(bucket=-1) for one in buckets)
        ranks = np.arange(dataset.sizes["bucket"])
        rows += [
            test(
                f"{slug(words)}-gd-buckets-ordered-by-frequency",
                f"{words}: rank correlation of GD's bucket losses with rarity",
                [spearman(ranks, of_seed.values) for of_seed in buckets[0]],
                low=0.95,
            ),
            test(
                f"{slug(words)}-adam-lowers-every-bucket",
                f"{words}: Adam's bucket losses divided by their initial values: largest ratio",
                (buckets[1] / start.sel(optimizer=optimizers[1])).max("bucket"),
                high=1.0,
            ),
            *sign_explains_adam(
                slug(words), losses, words, "Figure 5", headline=words == "with momentum"
            ),
            test(
                f"{slug(words)}-rarest-bucket-gap",
                f"{words}: rarest bucket, the lower loss of GD and normalized GD minus the higher "
                "of Adam and sign descent, nats",
                np.minimum(gd, normalized) - np.maximum(adam, sign),
                low=2.0,
            ),
        ]
    return [*rows, inside_grid(best(dataset))]


EXPERIMENT = Experiment("fig5_last_layer", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
