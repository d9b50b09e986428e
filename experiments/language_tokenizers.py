"""Words, byte pairs, unigram pieces: how heavy each tail is, and what it does to training.

Claims (the paper's Appendix A): counts of words fall as a power of their rank. Counts of sub-word
tokens have a heavy tail too, but a truncated one, without tokens that occur only once. Not in the
paper: the gap between stochastic gradient descent and Adam on each, with the same small transformer
of one layer.

A row of the picture is a kind of tokens: their counts, the overall loss, and both optimizers by
token frequency. At laptop scale there are the first 60,000 tokens of the docstrings of the Python
standard library and 2,000 sub-word tokens, and the model with 64 features goes five times over
them, in 150 batches of 2,048 tokens. Losses are measured on evenly spread rows of the text.
Learning rates are searched on one seed and the best by the rule `steady` run on two others. Paper
scale has 4,000 sub-word tokens, on PTB and WikiText-2.

Run:    python experiments/language_tokenizers.py
Draws:  figures/language_tokenizers.png
"""

from functools import lru_cache
from typing import Any

import numpy as np

from imbalance.analysis.block_measures import log_log_slope
from imbalance.analysis.selection import at_best
from imbalance.data.folders import paper_data
from imbalance.data.tokenizing import BytePairs, Unigram, Words
from imbalance.models.transformer import post_norm
from imbalance.problems import language
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.optimizers import ON_MINI_BATCHES
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

NAMES = ("gd+m", "adam")
SIZES = {  # training tokens, sub-word tokens, features, positions, rows in a batch, steps
    "smoke": (2_000, 300, 16, 8, 8, 6),
    "laptop": (60_000, 2_000, 64, 32, 64, 150),
    "paper": (None, 4_000, 1_000, 35, 512, 1_000),
}
MEASURED_ROWS = {"smoke": 128, "laptop": 128, "paper": 512}
GRIDS = {  # exponents of the first and last learning rate of SGD and of Adam
    "smoke": ((-1, -1), (-2.5, -2.5)),
    "laptop": ((-1, 0), (-3, -2)),
    "paper": ((-3, -1), (-5, -2)),
}
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}


@lru_cache
def corpora(scale):
    """By name: each text in each kind of tokens."""
    tokens, pieces, *_ = SIZES[scale]
    tokenizers = {"words": Words(), "BPE": BytePairs(pieces), "unigram": Unigram(pieces)}
    if scale == "paper":
        return {
            f"{name}, {kind}": language.text_folder(paper_data(name), tokenizer)
            for kind, tokenizer in tokenizers.items()
            for name in ("ptb", "wikitext-2")
        }
    return {
        f"docstrings, {kind}": language.docstrings(tokens, tokenizer)
        for kind, tokenizer in tokenizers.items()
    }


def sweeps(scale):
    """Both optimizers on every kind of tokens, in the order of the text."""
    _, _, width, length, rows, steps = SIZES[scale]
    gd, adam = (half_decades(*grid) for grid in GRIDS[scale])
    size = {"num_layers": 1, "num_heads": 1, "width": width, "mlp_width": width}
    found = {}
    for name, corpus in corpora(scale).items():
        model = post_norm(
            corpus.num_classes, **size, dropout=0.0, mlp_dropout=0.0, attention_dropout=0.0
        )
        problem = language.next_token_problem(corpus, model, length, columns=rows)
        found[name] = Sweep(
            problem,
            {"gd+m": gd, "adam": adam},
            steps,
            confirm=Confirm(seeds=SEEDS[scale]),
            stops=linear_stops(steps, 51),
            batch_size=rows,
            in_order=True,
            measured_rows=MEASURED_ROWS[scale],
            optimizers=ON_MINI_BATCHES,
        )
    return found


def best(dataset, text):
    """The runs on one kind of tokens at the best learning rates by the rule `steady`."""
    chosen = dataset.sel(text=text).dropna("class", how="all")
    return at_best(chosen, int(dataset["step"][-1]))


def draw(dataset):
    """For each kind of tokens: counts by rank, overall loss, and both optimizers by bucket."""
    texts = dataset["text"].values
    figure, axes = page.panels(len(texts), 4)
    sizes = []
    for row, text in zip(axes, texts, strict=True):
        chosen = best(dataset, text)
        plots.rank_frequency(row[0], chosen)
        row[0].set(ylabel=f"{text}\nexamples", xlim=(0.8, 10**4.5), ylim=(0.8, 10**5.5))
        sizes.append(int((chosen["class_count"] > 0).sum()))
        plots.in_rows(row[None, 1:], chosen, [NAMES], top=1.25 * np.log(sizes[-1]))
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    page.headline(
        figure,
        chosen,
        "Words, byte pairs, unigram pieces: each has a tail, and SGD falls behind Adam on each",
        f"{', '.join(f'{size:,}' for size in sizes)} classes, in mini-batches.",
    )
    return figure


def claims(dataset):
    """The tail of each kind of tokens, and the gap."""
    rows, once = [], {}
    for text in dataset["text"].values:
        chosen = best(dataset, text)
        counts = np.sort(chosen["class_count"].values)[::-1]
        counts = counts[counts > 0]
        once[text] = float(np.mean(counts == 1))
        rows += _tail(text, counts, once[text] / once[f"{text.split(',')[0]}, words"])
        rows += [_gap(text, chosen)]
        rows += [inside_grid(chosen, f"{slug(text)}-best-rates-inside-grid")]
    return rows


def _tail(text, counts, singles):
    """How counts of one kind of tokens fall; ``singles`` are those that occur once, of words'."""
    last = min(1_000, len(counts) // 4)  # before a truncated tail begins
    ranks = np.arange(min(10, last // 2), last)
    test: dict[str, Any] = {"fixed": "before any run", "section": "Appendix A"}
    rows = [
        between(
            f"{slug(text)}-zipf-slope",
            f"{text}: slope of log count by log rank, ranks {ranks[0]} to {last}",
            log_log_slope(ranks.astype(float), counts[ranks - 1]),
            -1.3,
            -0.7,
            **test,
        ),
        between(
            f"{slug(text)}-heavy-tail",
            f"{text}: largest count divided by the median one",
            counts[0] / np.median(counts),
            low=100,
            **test,
        ),
    ]
    if "words" not in text:
        rows.append(
            between(
                f"{slug(text)}-tail-truncated",
                f"{text}: share of tokens that occur once, of that share of words",
                singles,
                0.0,
                0.5,
                percent=True,
                **test,
            )
        )
    return rows


def _gap(text, chosen):
    """The gap between both optimizers on one kind of tokens."""
    last = chosen.isel(step=-1)
    gd, adam = (last["loss"].sel(optimizer=name) for name in NAMES)
    return between(
        f"{slug(text)}-gap",
        f"{text}, step {int(last['step'])}: SGD's loss minus Adam's, nats",
        gd - adam,
        low=0.5,
        fixed="before any run",
        reason="" if "words" in text else "fewer of these tokens are rare: less is left behind",
    )


EXPERIMENT = Experiment("language_tokenizers", sweeps, draw, claims, over="text")

if __name__ == "__main__":
    main(EXPERIMENT)
