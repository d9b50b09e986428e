"""Words, byte pairs, unigram pieces: how heavy each tail is, and what it does to training.

Claims (the paper's Appendix A): counts of words fall as a power of their rank. Counts of sub-word
tokens have a heavy tail too, but a truncated one, without tokens that occur only once. Not in the
paper: the gap between gradient descent and Adam on each, with the same small transformer.

At laptop scale there are the first 60,000 tokens of the docstrings of the Python standard library,
and 1,000 sub-word tokens. Paper scale has 4,000, on PTB and WikiText-2 where ``IMBALANCE_DATA`` has
folders ``ptb`` and ``wikitext-2``.

Run:    python experiments/language_tokenizers.py
Draws:  figures/language_tokenizers.png
"""

from functools import lru_cache

import numpy as np

from imbalance.analysis.block_measures import log_log_slope
from imbalance.analysis.labelled import at_best
from imbalance.data.folders import real_data
from imbalance.data.tokenizing import BytePairs, Unigram, Words
from imbalance.models.transformer import post_norm
from imbalance.problems import language
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd+m", "adam")
SIZES = {  # training tokens, sub-word tokens, features, positions, rows in a batch, steps
    "smoke": (2_000, 300, 16, 8, 8, 6),
    "laptop": (60_000, 1_000, 64, 32, 32, 300),
    "paper": (None, 4_000, 1_000, 35, 512, 1_000),
}
GRIDS = {  # exponents of the first and last learning rate of GD and of Adam
    "smoke": ((-1, -1), (-2.5, -2.5)),
    "laptop": ((-1, 0), (-3, -2)),
    "paper": ((-3, -1), (-5, -2)),
}


@lru_cache
def corpora(scale):
    """By name: each text in each kind of tokens."""
    tokens, pieces, *_ = SIZES[scale]
    tokenizers = {"words": Words(), "BPE": BytePairs(pieces), "unigram": Unigram(pieces)}
    folders = [real_data(name) for name in ("ptb", "wikitext-2")] if scale == "paper" else []
    found = {}
    for kind, tokenizer in tokenizers.items():
        for folder in filter(None, folders):
            found[f"{folder.name}, {kind}"] = language.text_folder(folder, tokenizer)
        if not any(folders):
            found[f"docstrings, {kind}"] = language.docstrings(tokens, tokenizer)
    return found


def sweeps(scale):
    """Both optimizers on every kind of tokens, in the order of the text."""
    _, _, width, length, rows, steps = SIZES[scale]
    gd, adam = (half_decades(*grid) for grid in GRIDS[scale])
    size = {"num_layers": 1, "num_heads": 1, "width": width, "mlp_width": width}
    found = {}
    for name, corpus in corpora(scale).items():
        model = post_norm(corpus.num_classes, **size, dropout=0.0, mlp_dropout=0.0)
        problem = language.next_token_problem(corpus, model, length, columns=rows)
        found[name] = Sweep(
            problem,
            {"gd+m": gd, "adam": adam},
            steps,
            stops=linear_stops(steps, 9),
            batch_size=rows,
            in_order=True,
            measured_rows=min(512, problem.num_rows),
        )
    return found


def best(dataset, text):
    """The runs on one kind of tokens at the best learning rates by the rule `stable`."""
    chosen = dataset.sel(text=text).dropna("class", how="all")
    return at_best(chosen, int(dataset["step"][-1]))


def draw(dataset):
    """For each kind of tokens: counts by rank, overall loss, and both optimizers by bucket."""
    texts = dataset["text"].values
    figure, axes = plots.panels(len(texts), 4)
    for row, text in zip(axes, texts, strict=True):
        chosen = best(dataset, text)
        plots.rank_frequency(row[0], chosen)
        row[0].set(ylabel=f"{text}\nexamples", xlim=(0.8, 10**4.5), ylim=(0.8, 10**5.5))
        top = 1.25 * float(np.log((chosen["class_count"] > 0).sum()))
        plots.in_rows(row[None, 1:], chosen, [OPTIMIZERS], top)
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    plots.headline(figure, chosen, "The same text in words, byte pairs and unigram pieces")
    return figure


def claims(dataset):
    """The tail of each kind of tokens, and the gap."""
    rows, last = [], int(dataset["step"][-1])
    once = {}
    for text in dataset["text"].values:
        chosen = best(dataset, text)
        loss = chosen["loss"].sel(step=last).isel(seed=0)
        counts = np.sort(chosen["class_count"].values)[::-1]
        counts = counts[counts > 0]
        once[text] = float(np.mean(counts == 1))
        last_rank = min(1_000, len(counts) // 4)  # before a truncated tail begins
        ranks = np.arange(min(10, last_rank // 2), last_rank)
        slope = float(log_log_slope(ranks.astype(float), counts[ranks - 1]))
        tests = [
            (
                "zipf-slope",
                f"slope of log count by log rank, ranks 10 to {last_rank}",
                slope,
                -1.3,
                -0.7,
            ),
            (
                "heavy-tail",
                "largest count divided by the median one",
                counts[0] / np.median(counts),
                100,
                np.inf,
            ),
        ]
        if "words" not in text:
            of_words = once[f"{text.split(',')[0]}, words"]
            ratio = once[text] / of_words
            tests.append(
                (
                    "tail-truncated",
                    "share of tokens that occur once, divided by that share of words",
                    ratio,
                    0.0,
                    0.5,
                )
            )
        gap = float(loss.sel(optimizer="gd+m") - loss.sel(optimizer="adam"))
        rows += [
            between(
                f"{slug(text)}-{name}",
                f"{text}: {said}",
                float(value),
                low,
                high,
                fixed="before any run",
            )
            for name, said, value, low, high in tests
        ]
        said = f"{text}, step {last}: GD's loss minus Adam's, nats"
        rows.append(between(f"{slug(text)}-gap", said, gap, low=0.5, fixed="before any run"))
        rows.append(inside_grid(chosen, f"{slug(text)}-best-rates-inside-grid"))
    return rows


EXPERIMENT = Experiment("language_tokenizers", sweeps, draw, claims, over="text")

if __name__ == "__main__":
    main(EXPERIMENT)
