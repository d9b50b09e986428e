"""Figure 1: a transformer on text. Gradient descent leaves rare tokens behind, Adam does not.

Claims (Figure 1; for held-out text the paper's appendix): token counts fall as a power of their
rank. Adam lowers the loss of tokens of every frequency; under gradient descent the loss of rare
tokens hardly falls, or falls last. The same holds on held-out text.

At laptop scale the model is the paper's two-layer transformer with 128 features. In 100 steps of
4,096 tokens it goes four times over 100,000 tokens of the docstrings of the Python standard
library; later Adam begins to know the text by heart, and its loss on held-out text rises. Then the
same on a synthetic stream whose frequencies are exactly proportional to 1/k and whose lowest loss
in each bucket is known. Losses are measured on evenly spread rows of the text. Where
``IMBALANCE_DATA`` has a folder ``wikitext-2``, it learns that too. At paper scale the model is
GPT-2 small, the text is ``wikitext-103`` in 50,000 pieces, losses are measured with dropout as the
authors measured them, and AdamW is drawn too (docs/paper.md).

GD takes mini-batches here, as in the paper; it is stochastic gradient descent with momentum.

Run:    python experiments/fig1_language.py
Draws:  figures/fig1_language.png
"""

from functools import lru_cache

import numpy as np

from imbalance.analysis.block_measures import log_log_slope, spearman
from imbalance.analysis.selection import at_best
from imbalance.data import zipf
from imbalance.data.folders import paper_data, real_data
from imbalance.data.tokenizing import SentencePieces
from imbalance.data.tokens import SyntheticTokens
from imbalance.models.transformer import gpt2, post_norm
from imbalance.probes import validation_loss_by_bucket
from imbalance.problems import language
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.optimizers import ON_MINI_BATCHES
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

COMPARED = ("gd+m", "adam")
PREDICTABLE = 0.9
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2)}
HELD_OUT = {"smoke": 200, "laptop": 5_000, "paper": None}  # tokens
MEASURED_ROWS = {"smoke": None, "laptop": 256, "paper": 5_120}  # 5,242,880 tokens
STOPS = {"smoke": 51, "laptop": 51, "paper": 151}
VOCABULARY = 50_000  # pieces at paper scale
SIZES = {  # training tokens, synthetic classes, positions in a row, rows in a batch, steps
    "smoke": (800, 60, 8, 8, 8),
    "laptop": (100_000, 3_000, 32, 128, 100),
    "paper": (None, 0, 1_024, 512, 15_000),
}
GRIDS = {  # exponents of the first and last learning rate
    "smoke": {"gd+m": (-1, -1), "adam": (-2.5, -2.5)},
    "laptop": {"gd+m": (-1.5, -0.5), "adam": (-3, -2)},
    "paper": {"gd+m": (-4, -1), "adam": (-7, -4), "adamw": (-5, -3)},
}


@lru_cache
def corpora(scale):
    """By name: the docstrings or a published corpus, and a synthetic stream of the same length."""
    tokens, classes, *_ = SIZES[scale]
    found = {}
    if scale == "paper":
        folder = paper_data("wikitext-103")
        return {"wikitext-103": language.text_folder(folder, SentencePieces(VOCABULARY))}
    found["docstrings"] = language.docstrings(tokens, validation_tokens=HELD_OUT[scale])
    if scale == "laptop" and (folder := real_data("wikitext-2")):
        found["wikitext-2"] = language.text_folder(
            folder, max_tokens=tokens, validation_tokens=HELD_OUT[scale]
        )
    counts = zipf.power_law_counts(tokens, classes, 1.0)
    found["synthetic"] = language.synthetic(
        counts, PREDICTABLE, tokens, validation_tokens=HELD_OUT[scale]
    )
    return found


def model(scale, num_classes):
    """GPT-2 small at paper scale, otherwise the two-layer model without dropout."""
    if scale == "paper":
        return gpt2(num_classes, dtype="bfloat16", remat=True)
    width = {"smoke": 16, "laptop": 128}[scale]
    size = {"width": width, "mlp_width": width, "num_heads": 4}
    return post_norm(num_classes, **size, dropout=0.0, mlp_dropout=0.0, attention_dropout=0.0)


def sweeps(scale):
    """The optimizers on each text, with batches in the order of the text."""
    _, _, length, rows, steps = SIZES[scale]
    rates = {name: half_decades(*grid) for name, grid in GRIDS[scale].items()}
    found = {}
    for name, corpus in corpora(scale).items():
        problem = language.next_token_problem(
            corpus,
            model(scale, corpus.num_classes),
            length,
            columns=None if scale == "paper" else rows,
            noisy_evaluation=scale == "paper",
        )
        found[name] = Sweep(
            problem,
            rates,
            steps,
            confirm=Confirm(seeds=SEEDS[scale]),
            stops=linear_stops(steps, STOPS[scale]),
            probes=(validation_loss_by_bucket(problem.task, problem.validation_buckets),),
            batch_size=rows,
            in_order=True,
            optimizers=ON_MINI_BATCHES,
            microbatches=64 if scale == "paper" else 1,
            measured_rows=MEASURED_ROWS[scale],
        )
    return found


def best(dataset, text):
    """The runs on one text at the best learning rates by the rule `steady`."""
    return at_best(dataset.sel(text=text).dropna("class", how="all"), int(dataset["step"][-1]))


def draw(dataset):
    """One row for each text: token counts, losses overall and by bucket, and held-out losses."""
    texts = dataset["text"].values
    figure, axes = page.panels(len(texts), 5)
    for row, text in zip(axes, texts, strict=True):
        chosen = best(dataset, text)
        plots.rank_frequency(row[0], chosen)
        row[0].set_ylabel(f"{text}\nexamples")
        plots.overall(row[1], chosen, tuple(chosen["optimizer"].values))
        row[1].set_ylabel("loss (nats)")
        for axis, name in zip(row[2:4], COMPARED, strict=True):
            one = chosen.sel(optimizer=name)
            plots.by_bucket(axis, one)
            axis.set_title(plots.optimizer_title(name, chosen))
            if text == "synthetic":
                _lowest(axis, one, dataset.attrs["scale"])
            steps, held = one["step"].values, one["validation_loss"]
            plots.seed_band(row[4], steps, held, **plots.line_style(name))
        row[4].set(title="Held-out text", xlabel="step")
        row[4].margins(x=0)
        for axis in row[1:]:
            axis.set_ylim(0, 1.25 * np.log((chosen["class_count"] > 0).sum()))
    plots.bucket_bar(figure, axes[:, -1], dataset.sizes["bucket"])
    chosen = best(dataset, texts[0])
    classes = [int((dataset["class_count"].sel(text=text) > 0).sum()) for text in texts]
    sizes = " and ".join(f"{number:,}" for number in classes)
    page.headline(
        figure,
        chosen,
        "A transformer on text: SGD fits frequent tokens first and rare ones last, Adam lowers all",
        f"{int(chosen['class_count'].sum()):,} tokens of {sizes} classes. Bars: the entropy of the "
        "stream's law, which no model can beat on new text.",
    )
    return figure


def _lowest(axis, one, scale):
    """Bars at the right: in each bucket, the loss of the distribution that made the stream."""
    corpus = corpora(scale)["synthetic"]
    tokens, classes, *_ = SIZES[scale]
    law = SyntheticTokens(zipf.power_law_counts(tokens, classes, 1.0), PREDICTABLE)
    loss = law.losses(corpus.train[:-1], corpus.train[1:])
    bucket = one["bucket_of_class"].values[corpus.train[1:]]
    buckets = np.arange(one.sizes["bucket"])
    lowest = [loss[bucket == b].mean() if np.any(bucket == b) else np.nan for b in buckets]
    last = float(one["step"][-1])
    for value, colour in zip(lowest, plots.bucket_colours(len(lowest)), strict=True):
        axis.plot([0.94 * last, last], [value, value], color=colour, lw=2.5)


def claims(dataset):
    """What Figure 1 shows, in numbers, for each text."""
    return [row for text in dataset["text"].values for row in _claims_of(dataset, text)]


def _claims_of(dataset, text):
    chosen, last = best(dataset, text), int(dataset["step"][-1])
    counts = np.sort(chosen["class_count"].values)[::-1]
    ranks = np.arange(10, min(1_000, int((counts > 0).sum()) + 1))
    gd, adam = (chosen.sel(optimizer=name, step=last) for name in COMPARED)
    start = chosen["bucket_loss"].sel(step=0)
    buckets = np.arange(dataset.sizes["bucket"])
    rarest = gd["bucket_loss"].isel(bucket=-1), adam["bucket_loss"].isel(bucket=-1)
    tests = [
        (
            "zipf-slope",
            "slope of log count by log rank, ranks 10 to 1000",
            log_log_slope(ranks.astype(float), counts[ranks - 1]),
            (-1.3, -0.7),
        ),
        ("gap", "SGD's overall loss minus Adam's, nats", gd["loss"] - adam["loss"], (1.0,)),
        (
            "gd-buckets-ordered-by-frequency",
            "rank correlation of SGD's bucket losses with rarity",
            [spearman(buckets, of_seed.values) for of_seed in gd["bucket_loss"]],
            (0.95,),
        ),
        (
            "adam-lowers-every-bucket",
            "Adam's bucket losses divided by their initial values: largest ratio",
            (adam["bucket_loss"] / start.sel(optimizer="adam")).max("bucket"),
            (-np.inf, 1.0),
        ),
        (
            "gd-leaves-rarest-bucket",
            "SGD's loss in the rarest bucket, of its initial value",
            rarest[0] / start.sel(optimizer="gd+m").isel(bucket=-1),
            (0.9,),
        ),
        (
            "rarest-bucket-gap",
            "SGD's loss in the rarest bucket minus Adam's, nats",
            rarest[0] - rarest[1],
            (2.0,),
        ),
        (
            "held-out-gap",
            "held-out text: SGD's loss minus Adam's, nats",
            gd["validation_loss"] - adam["validation_loss"],
            (0.0,),
        ),
    ]
    main_claims = ("gap", "gd-leaves-rarest-bucket") if text != "synthetic" else ()
    rows = [
        between(
            f"{slug(text)}-{name}",
            f"{text}, step {last}: {said}",
            value,
            *limits,
            fixed="before any run",
            section="Appendix, held-out text" if name.startswith("held-out") else "Figure 1",
            headline=name in main_claims,
            percent=name == "gd-leaves-rarest-bucket",
        )
        for name, said, value, limits in tests
    ]
    return [*rows, inside_grid(chosen, f"{slug(text)}-best-rates-inside-grid")]


EXPERIMENT = Experiment("fig1_language", sweeps, draw, claims, over="text")

if __name__ == "__main__":
    main(EXPERIMENT)
