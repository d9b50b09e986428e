"""Figure 8: the correlation of Figure 7 in the last layer of a transformer.

Claim (Figure 8): along Adam's path, gradient norms and Hessian traces of the classes become
correlated not only in a linear model but also in the last layer of a transformer on text, where
features are learned as well. We could not establish what exactly the paper's figure shows. This
is the statistic of Figure 7 for the one-layer transformer, in full batch and without dropout.

Each point is a token. Tokens whose counts lie between the same powers of two are one frequency
level.

Run:    python experiments/fig8_transformer_head.py
Draws:  figures/fig8_transformer_head.png
"""

import numpy as np

from imbalance.analysis import FrequencyBuckets
from imbalance.analysis.block_measures import bucket_median, log_log_slope, spearman
from imbalance.models.transformer import post_norm
from imbalance.probes import class_statistics
from imbalance.problems import language
from imbalance.reporting import plots
from imbalance.reporting.claims import between, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STOPS = (0, 1, 5, 10, 50, 100)
SIZES = {  # tokens, features, positions in a row, microbatches
    "smoke": (500, 8, 16, 1),
    "laptop": (8_192, 64, 32, 2),
    "paper": (72_704, 1_200, 35, 8),
}
RATE = {"smoke": 1e-2, "laptop": 1e-2, "paper": 1e-3}


def sweeps(scale):
    """Adam at one learning rate, in full batch."""
    tokens, width, length, microbatches = SIZES[scale]
    corpus = language.docstrings(tokens)
    size = {"width": width, "mlp_width": width, "num_layers": 1, "num_heads": 1}
    model = post_norm(corpus.num_classes, **size, dropout=0.0, mlp_dropout=0.0)
    problem = language.next_token_problem(corpus, model, length)
    probe = class_statistics(problem.task)
    rates = {"adam": (RATE[scale],)}
    return {
        "": Sweep(
            problem, rates, STOPS[-1], stops=STOPS, probes=(probe,), microbatches=microbatches
        )
    }


def statistics(dataset):
    """Gradient norm and Hessian trace ``[step, class]`` and levels of the tokens that occur."""
    occurs = dataset["class_count"].values > 0
    run = dataset.isel(optimizer=0, learning_rate=0, seed=0)
    counts = dataset["class_count"].values[occurs].astype(int)
    level = FrequencyBuckets.log2(counts).bucket_of_class
    return *(run[v].values[:, occurs] for v in ("gradient_norm", "hessian_trace")), level


def draw(dataset):
    """Six steps of the path."""
    figure, axes = plots.panels(1, len(STOPS), width=1.9, height=2.1)
    gradient, trace, level = statistics(dataset)
    for at, (axis, step) in enumerate(zip(axes[0], STOPS, strict=True)):
        plots.scatter_by_level(axis, gradient[at], trace[at], level)
        axis.set(title=f"step {step}", xlabel="gradient norm")
    plots.share_log_limits(axes)
    axes[0, 0].set_ylabel("Hessian trace")
    plots.bucket_bar(figure, axes[0, -1], int(level.max()) + 1)
    figure.suptitle(
        "Rows of a one-layer transformer's last layer, Adam, η = "
        f"{plots.exponent(RATE[dataset.attrs['scale']])} (dashed: slope 1)"
    )
    return figure


def claims(dataset):
    """The statistic of Figure 7; the threshold is the one used there."""
    gradient, trace, level = statistics(dataset)
    medians = [bucket_median(values, level) for values in (gradient, trace)]
    rank, slope = spearman(*medians), log_log_slope(*medians)
    rows = [
        between(
            "adam-path-correlated",
            "Medians of levels from step 5: lowest rank correlation of gradient norm and Hessian "
            "trace",
            float(rank[STOPS.index(5) :].min()),
            low=0.9,
            fixed="before any run",
        )
    ]
    at = f"at steps {', '.join(map(str, STOPS))}"
    for name, words, values in (
        ("rank-correlations-of-medians", f"Medians of levels: rank correlation {at}", rank),
        ("slopes-of-medians", f"Medians of levels: slope {at}", slope),
        (
            "rank-correlations-of-all-tokens",
            f"All tokens: rank correlation {at}",
            spearman(gradient, trace),
        ),
    ):
        found = ", ".join(f"{value:.2f}" for value in np.atleast_1d(values))
        rows.append(undecided(name, words, "reported", found, fixed="before any run"))
    return rows


EXPERIMENT = Experiment("fig8_transformer_head", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
