"""A one-layer transformer in full batch: the gap is not due to noise, and the sign closes it.

Claims (the paper's appendix): with the whole training set in every step, gradient descent still
leaves rare tokens behind and Adam does not. Sign descent does as well as Adam; normalised
gradients, momentum and a line search do not.

At laptop scale the model has 64 features and learns 4,480 tokens of the docstrings of the Python
standard library. Paper scale has the paper's model, on PTB where ``IMBALANCE_DATA`` has a folder
``ptb``.

Run:    python experiments/language_one_layer.py
Draws:  figures/language_one_layer.png
"""

import numpy as np

from imbalance.analysis.block_measures import spearman
from imbalance.analysis.labelled import at_best
from imbalance.data.folders import real_data
from imbalance.models.transformer import post_norm
from imbalance.problems import language
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid, sign_explains_adam, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades, linear_stops

ROWS = {  # GD, Adam, normalized GD and sign descent; and others
    "without momentum": ("gd", "adam_without_momentum", "normalized_gd", "sign"),
    "with momentum": ("gd+m", "adam", "normalized_gd+m", "sign+m"),
    "others": ("scaled_sign+m", "adagrad", "armijo"),
}
SIZES = {  # training tokens, features, positions in a row, columns, steps, microbatches
    "smoke": (600, 16, 8, 8, 6, 1),
    "laptop": (4_480, 64, 35, 64, 100, 2),
    "paper": (71_680 + 1_024, 1_200, 35, 1_024, 500, 8),
}
GRIDS = {  # exponents of the first and last learning rate, at laptop and at paper scale
    "gd": ((-1, 0), (-2, 0)),
    "adam_without_momentum": ((-3, -2), (-5, -3)),
    "normalized_gd": ((-0.5, 0.5), (-1, 1)),
    "sign": ((-2.5, -1.5), (-4, -2)),
    "gd+m": ((-1.5, -0.5), (-3, -1)),
    "adam": ((-2.5, -1.5), (-4, -2)),
    "normalized_gd+m": ((-1, 0), (-2, 0)),
    "sign+m": ((-3.5, -2.5), (-5, -3)),
    "scaled_sign+m": ((-5, -4), (-9, -7)),
    "adagrad": ((-2, -1), (-4, -2)),
    "armijo": ((0, 0), (0, 0)),
}


def sweeps(scale):
    """All optimizers over their grids, in full batch."""
    tokens, width, length, columns, steps, microbatches = SIZES[scale]
    folder = real_data("ptb") if scale == "paper" else None
    corpus = language.text_folder(folder) if folder else language.docstrings(tokens)
    dropout = 0.2 if scale == "paper" else 0.0
    size = {"width": width, "mlp_width": width, "num_layers": 1, "num_heads": 1}
    model = post_norm(corpus.num_classes, **size, dropout=dropout, mlp_dropout=dropout)
    problem = language.next_token_problem(
        corpus, model, length, columns=columns, noisy_evaluation=dropout > 0
    )
    rates = {
        name: half_decades(first, first if scale == "smoke" else last)
        for name, grids in GRIDS.items()
        for first, last in (grids[scale == "paper"],)
    }
    stops = linear_stops(steps, 21)
    return {"": Sweep(problem, rates, steps, stops=stops, microbatches=microbatches)}


def best(dataset):
    """The runs at the best learning rates by the rule `stable`."""
    return at_best(dataset, int(dataset["step"][-1]))


def draw(dataset):
    """Overall losses and each optimizer by bucket: without momentum, with it, and the others."""
    chosen = best(dataset)
    figure, axes = plots.panels(len(ROWS), 5)
    plots.in_rows(axes, chosen, tuple(ROWS.values()), top=1.5 * np.log(dataset.sizes["class"]))
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    examples = int(dataset["class_count"].sum())
    plots.headline(figure, chosen, f"A one-layer transformer, {examples:,} tokens in every step")
    return figure


def claims(dataset):
    """The gap without and with momentum, and where the other optimizers stand."""
    chosen, start = best(dataset).isel(seed=0), dataset.isel(seed=0, step=0)
    last = chosen.isel(step=-1)
    loss = {str(name): float(last["loss"].sel(optimizer=name)) for name in last["optimizer"].values}
    rows = []
    for words in ("without momentum", "with momentum"):
        gd, adam, *_ = ROWS[words]
        begun = start["bucket_loss"].sel(optimizer=adam).max("learning_rate").values
        gd_last, adam_last = (last["bucket_loss"].sel(optimizer=o).values for o in (gd, adam))
        tests = [
            ("gap", "GD's overall loss minus Adam's, nats", loss[gd] - loss[adam], 1.0, np.inf),
            (
                "gd-leaves-rarest-bucket",
                "GD's loss in the rarest bucket divided by its initial value",
                gd_last[-1] / begun[-1],
                0.9,
                np.inf,
            ),
            (
                "gd-buckets-ordered-by-frequency",
                "rank correlation of GD's bucket losses with rarity",
                spearman(np.arange(len(gd_last)), gd_last),
                0.95,
                np.inf,
            ),
            (
                "adam-lowers-every-bucket",
                "Adam's bucket losses divided by their initial values: largest ratio",
                (adam_last / begun).max(),
                -np.inf,
                1.0,
            ),
        ]
        rows += [
            between(
                f"{slug(words)}-{name}",
                f"{words}: {said}",
                float(value),
                low,
                high,
                fixed="before any run",
            )
            for name, said, value, low, high in tests
        ]
        losses = [loss[optimizer] for optimizer in ROWS[words]]
        rows += sign_explains_adam(slug(words), losses, words)
    span = loss["gd"] - loss["adam_without_momentum"]
    for optimizer, name, words, limit in (
        (
            "armijo",
            "line-search-keeps-gap",
            "a line search does not close the gap",
            {"low": 0.5},
        ),
        (
            "scaled_sign+m",
            "scaled-sign-nearer-to-adam",
            "scaled sign descent with momentum is nearer to Adam than to GD",
            {"high": 0.5},
        ),
        (
            "adagrad",
            "adagrad-nearer-to-adam",
            "AdaGrad is nearer to Adam than to GD",
            {"high": 0.5},
        ),
    ):
        share = (loss[optimizer] - loss["adam_without_momentum"]) / span
        said = f"{words}: (its loss - Adam) / (GD - Adam), both without momentum"
        rows.append(between(name, said, share, **limit, fixed="before any run"))
    tuned = best(dataset).sel(optimizer=[name for name in GRIDS if name != "armijo"])
    return [*rows, inside_grid(tuned)]


EXPERIMENT = Experiment("language_one_layer", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
