"""A one-layer transformer in full batch: the gap is not noise, and it is the sign that closes it.

Claims (appendix items 6 and 7; C6): with the whole training set in every step gradient descent
still leaves rare words behind and Adam does not. Sign descent does as Adam; normalising the
gradient, momentum and a line search do not.

Laptop scale has 64 features and some thousand words of the docstrings of the Python standard
library, in two microbatches. Paper scale has TinyPTB's size, on PTB where ``IMBALANCE_DATA`` has
it.

Run:    python experiments/language_one_layer.py
Draws:  figures/language_one_layer.png
"""

import numpy as np

from imbalance import language, plots
from imbalance.analysis.labelled import at_best
from imbalance.claims import between, inside_grid, sign_explains_adam, spearman
from imbalance.data.folders import real_data
from imbalance.experiment import Experiment, main
from imbalance.models.transformer import post_norm
from imbalance.sweep import Sweep, half_decades, linear_stops

KINDS = ("gd", "adam", "normalized_gd", "sign")
ROWS = (
    KINDS,
    tuple(f"{kind}+m" for kind in KINDS),
    ("scaled_sign+m", "adagrad", "armijo"),
)
SIZES = {  # training tokens, features, positions of a row, columns, steps, microbatches
    "smoke": (600, 16, 8, 8, 6, 1),
    "laptop": (4_480, 64, 35, 64, 100, 2),
    "paper": (71_680 + 1_024, 1_200, 35, 1_024, 500, 8),
}
GRIDS = {  # exponents of the first and last rate, at laptop and at paper scale (C.3)
    "gd": ((-1, 0), (-2, 0)),
    "adam": ((-3, -2), (-5, -3)),
    "normalized_gd": ((-0.5, 0.5), (-1, 1)),
    "sign": ((-2.5, -1.5), (-4, -2)),
    "gd+m": ((-1.5, -0.5), (-3, -1)),
    "adam+m": ((-2.5, -1.5), (-4, -2)),
    "normalized_gd+m": ((-1, 0), (-2, 0)),
    "sign+m": ((-3.5, -2.5), (-5, -3)),
    "scaled_sign+m": ((-5, -4), (-9, -7)),
    "adagrad": ((-2, -1), (-4, -2)),
    "armijo": ((0, 0), (0, 0)),
}


def sweeps(scale):
    """All optimizers over their grids, full batch."""
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
    return {"": Sweep(problem, rates, steps, stops=stops, microbatches=microbatches, chunk=1)}


def best(dataset):
    """The runs at the best rates under rule S."""
    return at_best(dataset, int(dataset["step"][-1]))


def draw(dataset):
    """Overall losses, and each optimizer by bucket: without momentum, with it, and the others."""
    chosen = best(dataset)
    figure, axes = plots.panels(len(ROWS), 1 + len(KINDS))
    plots.in_rows(axes, chosen, ROWS, top=1.5 * np.log(dataset.sizes["class"]))
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    examples = int(dataset["class_count"].sum())
    plots.headline(figure, chosen, f"A one-layer transformer, {examples:,} tokens in every step")
    return figure


def claims(dataset):
    """T13, T17 and the checks of items 6 and 7."""
    chosen, start = best(dataset).isel(seed=0), dataset.isel(seed=0, step=0)
    last = chosen.isel(step=-1)
    loss = {str(name): float(last["loss"].sel(optimizer=name)) for name in last["optimizer"].values}
    rows = []
    for suffix, words in (("", "without momentum"), ("+m", "with momentum")):
        gd, adam = "gd" + suffix, "adam" + suffix
        begun = start["bucket_loss"].sel(optimizer=adam).max("learning_rate").values
        gd_last, adam_last = (last["bucket_loss"].sel(optimizer=o).values for o in (gd, adam))
        tests = [
            ("E.2.6", "GD's overall loss above Adam's, nats", loss[gd] - loss[adam], 1.0, np.inf),
            ("E.2.6", "GD's rarest bucket over its start", gd_last[-1] / begun[-1], 0.9, np.inf),
            ("T13", "GD's buckets: rank correlation", spearman(gd_last), 0.95, np.inf),
            ("T13", "Adam's over their start: largest", (adam_last / begun).max(), -np.inf, 1.0),
        ]
        rows += [
            between(id, f"{words}: {said}", float(value), low, high, fixed="before any run")
            for id, said, value, low, high in tests
        ]
        rows += sign_explains_adam("E.2.7", {kind: loss[kind + suffix] for kind in KINDS}, words)
    span = loss["gd"] - loss["adam"]
    for name, words, limit in (
        ("armijo", "a line search does not close the gap", {"low": 0.5}),
        ("scaled_sign+m", "scaled sign descent is nearer to Adam", {"high": 0.5}),
        ("adagrad", "AdaGrad is nearer to Adam", {"high": 0.5}),
    ):
        share = (loss[name] - loss["adam"]) / span
        said = f"{words}: (its loss - Adam) / (GD - Adam), without momentum"
        rows.append(between("E.2.7", said, share, **limit, fixed="before any run"))
    tuned = best(dataset).sel(optimizer=[name for name in GRIDS if name != "armijo"])
    return [*rows, inside_grid(tuned)]


EXPERIMENT = Experiment("language_one_layer", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
