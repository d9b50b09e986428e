"""Figure 8: the correlation of Figure 7 in the last layer of a transformer.

Claim (Figure 8): along Adam's path, gradient norms and Hessian traces of the classes become
correlated not only in a linear model but also in the last layer of a transformer on text, where
features are learned as well. We could not establish what exactly the paper's figure shows. This
is the statistic of Figure 7 for the one-layer transformer, in full batch and without dropout.

Each point of the picture is a token of one seed. Tokens whose counts lie between the same powers of
two are one frequency level. At laptop scale the text is 8,192 words of docstrings, the learning
rate is fixed, and the claim is decided on two seeds. Paper scale has TinyPTB, the validation text
of PTB, and the authors' rate for this model.

Run:    python experiments/fig8_transformer_head.py
Draws:  figures/fig8_transformer_head.png
"""

from imbalance.analysis import FrequencyBuckets
from imbalance.analysis.block_measures import bucket_median, log_log_slope, spearman
from imbalance.data.folders import paper_data
from imbalance.models.transformer import post_norm
from imbalance.probes import class_statistics
from imbalance.problems import language
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, reported
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STOPS = (0, 1, 5, 10, 50, 100)
DRAWN = (0, 1, 5, 10, 100)
SIZES = {  # tokens, features, positions in a row, microbatches
    "smoke": (500, 8, 16, 1),
    "laptop": (8_192, 64, 32, 2),
    "paper": (0, 1_200, 35, 8),  # TinyPTB has its own number of tokens
}
RATE = {"smoke": 1e-2, "laptop": 1e-2, "paper": 10**-3.5}
SEEDS = {"smoke": (1,), "laptop": (1, 2), "paper": (1, 2, 3)}
COLUMNS = {"smoke": None, "laptop": None, "paper": 1_024}
NOISELESS = {"dropout": 0.0, "mlp_dropout": 0.0, "attention_dropout": 0.0}


def sweeps(scale):
    """Adam at one learning rate, in full batch."""
    tokens, width, length, microbatches = SIZES[scale]
    if scale == "paper":
        corpus = language.tiny_folder(paper_data("ptb"))
    else:
        corpus = language.docstrings(tokens)
    size = {"width": width, "mlp_width": width, "num_layers": 1, "num_heads": 1}
    model = post_norm(corpus.num_classes, **size, **NOISELESS)
    problem = language.next_token_problem(corpus, model, length, columns=COLUMNS[scale])
    return {
        "": Sweep(
            problem,
            {"adam": (RATE[scale],)},
            STOPS[-1],
            seeds=SEEDS[scale],
            stops=STOPS,
            probes=(class_statistics(problem.task),),
            microbatches=microbatches,
        )
    }


def statistics(dataset):
    """Gradient norm and Hessian trace ``[seed, step, class]`` and levels of tokens that occur."""
    occurs = dataset["class_count"].values > 0
    run = dataset.isel(optimizer=0, learning_rate=0)
    counts = dataset["class_count"].values[occurs].astype(int)
    gradient, trace = (
        run[variable].transpose("seed", "step", "class").values[..., occurs]
        for variable in ("gradient_norm", "hessian_trace")
    )
    return gradient, trace, FrequencyBuckets.log2(counts).bucket_of_class


def draw(dataset):
    """Five steps of the path."""
    figure, axes = page.panels(1, len(DRAWN))
    gradient, trace, level = statistics(dataset)
    for axis, step in zip(axes[0], DRAWN, strict=True):
        at = STOPS.index(step)
        plots.scatter_by_level(axis, gradient[0, at], trace[0, at], level)
        axis.set(title=f"step {step}", xlabel="gradient norm")
    plots.share_log_limits(axes)
    axes[0, 0].set_ylabel("Hessian trace")
    plots.bucket_bar(figure, axes[0, -1], int(level.max()) + 1)
    tokens, rate = int(dataset["class_count"].sum()), RATE[dataset.attrs["scale"]]
    page.headline(
        figure,
        None,
        "In the last layer of a transformer too, the gradient of a token tells its curvature",
        f"A point is a token of the vocabulary, at most 100 a level, of seed "
        f"{dataset['seed'].values[0]}; {tokens:,} tokens of text, {len(level):,} classes. Dashed: "
        f"slope 1. Adam, learning rate {plots.exponent(rate)}, fixed.",
    )
    return figure


def claims(dataset):
    """The statistic of Figure 7; the threshold is the one used there."""
    gradient, trace, level = statistics(dataset)
    medians = [bucket_median(values, level) for values in (gradient, trace)]
    rank, slope = spearman(*medians), log_log_slope(*medians)  # [seed, step]
    rows = [
        between(
            "adam-path-correlated",
            "Adam path, gradient norm and Hessian trace, medians of levels from step 5: lowest "
            "rank correlation",
            rank[:, STOPS.index(5) :].min(1),
            low=0.9,
            fixed="before any run",
            section="Figure 8",
        )
    ]
    at = f"mean of seeds, at steps {', '.join(map(str, STOPS))}"
    for name, words, values in (
        ("rank-correlations-of-medians", "Medians of levels: rank correlation", rank),
        ("slopes-of-medians", "Medians of levels: slope", slope),
        (
            "rank-correlations-of-all-tokens",
            "All tokens: rank correlation",
            spearman(gradient, trace),
        ),
    ):
        found = ", ".join(f"{value:.2f}" for value in values.mean(0))
        rows.append(reported(name, f"{words}, {at}", found))
    return rows


EXPERIMENT = Experiment("fig8_transformer_head", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
