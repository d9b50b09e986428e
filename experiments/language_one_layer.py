"""A one-layer transformer in full batch: the gap is not due to noise, and the sign closes it.

Claims (the paper's appendix): with the whole training set in every step, gradient descent still
leaves rare tokens behind and Adam does not. Sign descent does as well as Adam; normalised
gradients, momentum and a line search do not.

The picture shows eleven optimizers: overall losses at the left, then each by token frequency. At
laptop scale the model has 64 features and learns 4,480 tokens of the docstrings of the Python
standard library in 100 steps. Optimizers with momentum are judged at step 36, twice what Adam needs
to halve the loss: so short a text is fitted by normalised steps too, later than by Adam. Learning
rates are searched on one seed and the best by the rule `steady` run on two others. Paper scale has
the paper's model on TinyPTB, the validation text of PTB in the vocabulary of its training text.

Run:    python experiments/language_one_layer.py
Draws:  figures/language_one_layer.png
"""

from typing import Any

import numpy as np

from imbalance.analysis.block_measures import spearman
from imbalance.analysis.selection import at_best
from imbalance.data.folders import paper_data
from imbalance.models.transformer import post_norm
from imbalance.problems import language
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, sign_explains_adam, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops, quarter_decades

ROWS = {  # GD, Adam, normalized GD and sign descent; and others
    "without momentum": ("gd", "adam_without_momentum", "normalized_gd", "sign"),
    "with momentum": ("gd+m", "adam", "normalized_gd+m", "sign+m"),
    "others": ("adagrad", "armijo"),
    "scaled sign, with momentum": ("scaled_sign+m",),
}
EARLY = {"laptop": 36}  # the horizon of optimizers with momentum, where it is not the last step
SIZES = {  # training tokens, features, positions in a row, columns, steps, microbatches
    "smoke": (600, 16, 8, 8, 6, 1),
    "laptop": (4_480, 64, 35, 64, 100, 2),
    "paper": (0, 1_200, 35, 1_024, 500, 8),  # TinyPTB has its own number of tokens
}
GRIDS = {  # exponents of the first and last learning rate, at laptop and at paper scale
    "gd": ((-1, 0), (-2, 0)),
    "adam_without_momentum": ((-3, -2), (-5, -3)),
    "normalized_gd": ((-0.5, 0.5), (-1, 1)),
    "sign": ((-2.5, -1.5), (-4, -2)),
    "gd+m": ((-1.5, -0.5), (-3, -1)),
    "adam": ((-2.5, -1.5), (-4, -2)),
    "normalized_gd+m": ((-1, 0), (-2, 0)),
    "sign+m": ((-3.5, -2.5), (-6, -3)),
    "scaled_sign+m": ((-5.5, -4.5), (-9, -7)),
    "adagrad": ((-2, -1), (-4, -2)),
    "armijo": ((0, 0), (0, 0)),
}
SHARP = {("adam_without_momentum", "laptop")}
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}
STOPS = {"smoke": 51, "laptop": 51, "paper": 501}
SECTION = "Appendix, one-layer transformer"
SHORT = "on so short a text {} to fit rare tokens within these steps"


def sweeps(scale):
    """All optimizers over their grids, in full batch."""
    tokens, width, length, columns, steps, microbatches = SIZES[scale]
    if scale == "paper":
        corpus = language.tiny_folder(paper_data("ptb"))
    else:
        corpus = language.docstrings(tokens)
    rate = 0.2 if scale == "paper" else 0.0
    dropout = {"dropout": rate, "mlp_dropout": rate, "attention_dropout": rate}
    size = {"width": width, "mlp_width": width, "num_layers": 1, "num_heads": 1}
    problem = language.next_token_problem(
        corpus,
        post_norm(corpus.num_classes, **size, **dropout),
        length,
        columns=columns,
        noisy_evaluation=rate > 0,
    )
    rates = {
        name: spaced(name, scale)(first, first if scale == "smoke" else last)
        for name, grids in GRIDS.items()
        for first, last in (grids[scale == "paper"],)
    }
    stops = {*linear_stops(steps, STOPS[scale]), *range(EARLY.get(scale, 0) + 1)}
    return {
        "": Sweep(
            problem,
            rates,
            steps,
            confirm=Confirm(seeds=SEEDS[scale], steps=tuple({steps, EARLY.get(scale, steps)})),
            stops=tuple(sorted(stops)),
            microbatches=microbatches,
        )
    }


def spaced(name, scale):
    """How learning rates are spaced: closer where a rate that shakes stands next to the best."""
    return quarter_decades if (name, scale) in SHARP else half_decades


def best(dataset, words):
    """The runs of a row at the best learning rates by the rule `steady`, up to its horizon."""
    last = int(dataset["step"][-1])
    if "with momentum" in words:
        last = EARLY.get(dataset.attrs["scale"], last)
    return at_best(dataset.sel(optimizer=list(ROWS[words])), last).sel(step=slice(0, last))


def draw(dataset):
    """Overall losses and each optimizer by bucket: without momentum, with it, and the others."""
    top = 1.3 * np.log(dataset.sizes["class"])
    figure, axes = page.panels(len(ROWS), 5)
    for row, (words, names) in zip(axes, ROWS.items(), strict=True):
        chosen = best(dataset, words)
        last = int(chosen["step"][-1])
        drawn = linear_stops(last, min(last + 1, 51))  # evenly, up to each row's horizon
        plots.in_rows(row[None], chosen.sel(step=list(drawn)), [names], top)
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    examples, classes = int(dataset["class_count"].sum()), int((dataset["class_count"] > 0).sum())
    page.headline(
        figure,
        best(dataset, "without momentum"),
        "A transformer without noise: GD leaves rare tokens behind, and the sign fits them as "
        "Adam does",
        f"One layer, {examples:,} tokens of {classes:,} classes, full batch. Optimizers with "
        "momentum have a horizon of their own.",
    )
    return figure


def claims(dataset):
    """The gap without and with momentum, and where the other optimizers stand."""
    chosen = {words: best(dataset, words) for words in ROWS}
    loss = {
        name: chosen[words]["loss"].sel(optimizer=name).isel(step=-1)
        for words, names in ROWS.items()
        for name in names
    }
    rows = []
    for words in ("without momentum", "with momentum"):
        rows += _gap(chosen[words], words)
        rows += sign_explains_adam(
            slug(words),
            [loss[optimizer] for optimizer in ROWS[words]],
            words,
            SECTION,
            ("", SHORT.format("normalised steps are enough")),
        )
    plain, with_momentum = ROWS["without momentum"][:2], ROWS["with momentum"][:2]
    for optimizer, pair, name, words, limit in (
        (
            "armijo",
            plain,
            "line-search-keeps-gap",
            "a line search closes at most half of the gap between GD and Adam without momentum",
            {"high": 0.5},
        ),
        (
            "scaled_sign+m",
            with_momentum,
            "scaled-sign-nearer-to-adam",
            "scaled sign descent with momentum closes at least half of the gap between GD and Adam "
            "with momentum",
            {"low": 0.5},
        ),
        (
            "adagrad",
            plain,
            "adagrad-nearer-to-adam",
            "AdaGrad closes at least half of the gap between GD and Adam without momentum",
            {"low": 0.5},
        ),
    ):
        gd, adam = (loss[one] for one in pair)
        share = (gd - loss[optimizer]) / (gd - adam)
        test: dict[str, Any] = {"fixed": "before any run", "section": SECTION, "percent": True}
        rows.append(between(name, words, share, **limit, **test))
    grids = (inside_grid(one, f"{slug(w)}-best-rates-inside-grid") for w, one in chosen.items())
    return [*rows, *grids]


def _gap(chosen, words):
    """How far gradient descent and Adam get, overall and in the buckets."""
    last, start = chosen.isel(step=-1), chosen["bucket_loss"].isel(step=0)
    gd, adam = ROWS[words][:2]
    gd_last, adam_last = (last["bucket_loss"].sel(optimizer=name) for name in (gd, adam))
    ranks = np.arange(chosen.sizes["bucket"])
    test: dict[str, Any] = {"fixed": "before any run", "section": SECTION}
    return [
        between(
            f"{slug(words)}-gap",
            f"{words}: GD's overall loss minus Adam's, nats",
            last["loss"].sel(optimizer=gd) - last["loss"].sel(optimizer=adam),
            low=1.0,
            **test,
        ),
        between(
            f"{slug(words)}-gd-leaves-rarest-bucket",
            f"{words}: GD's loss in the rarest bucket, of its initial value",
            gd_last.isel(bucket=-1) / start.sel(optimizer=gd).isel(bucket=-1),
            low=0.9,
            percent=True,
            reason=SHORT.format("GD begins"),
            **test,
        ),
        between(
            f"{slug(words)}-gd-buckets-ordered-by-frequency",
            f"{words}: rank correlation of GD's bucket losses with rarity",
            [spearman(ranks, of_seed.values) for of_seed in gd_last],
            low=0.95,
            **test,
        ),
        between(
            f"{slug(words)}-adam-lowers-every-bucket",
            f"{words}: Adam's bucket losses, of their initial values: largest share",
            (adam_last / start.sel(optimizer=adam)).max("bucket"),
            high=1.0,
            percent=True,
            **test,
        ),
    ]


EXPERIMENT = Experiment("language_one_layer", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
