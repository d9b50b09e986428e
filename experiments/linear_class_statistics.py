"""Gradient norm and Hessian trace of every class along the paths of gradient descent and Adam.

Claim (the paper's appendix, beside Figure 7): at the start the traces of all classes are alike, and
gradient norms do not follow frequency. After some steps both are lower for rarer classes, about in
proportion to their frequency. The third row for each path draws one against the other, as Figure 7.

Each point is a class, frequent ones first. Claims are about medians of frequency levels, the sets
of classes with equally many examples.

Run:    python experiments/linear_class_statistics.py
Draws:  figures/linear_class_statistics.png
"""

import numpy as np

from imbalance.analysis import FrequencyBuckets
from imbalance.analysis.block_measures import bucket_median, log_log_slope, spearman
from imbalance.probes import class_statistics
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, slug, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STOPS = (0, 1, 2, 5, 10, 20, 50, 100)
RATES = {  # as in independent NumPy runs at m = 8; the authors' at m = 11
    "smoke": {"gd": 1e-2, "adam": 1e-3},
    "laptop": {"gd": 1e-2, "adam": 1e-3},
    "paper": {"gd": 10**-2.5, "adam": 10**-3.5},
}


def sweeps(scale):
    """One learning rate for each optimizer, one seed."""
    problem = heavy_tailed_linear({"smoke": 4, "laptop": 8, "paper": 11}[scale])
    rates = {name: (rate,) for name, rate in RATES[scale].items()}
    probe = class_statistics(problem.task)
    return {"": Sweep(problem, rates, STOPS[-1], stops=STOPS, probes=(probe,))}


def paths(dataset):
    """Gradient norm and Hessian trace ``[step, class]`` for each optimizer."""
    for name, rate in RATES[dataset.attrs["scale"]].items():
        run = dataset.sel(optimizer=name, seed=0).sel(learning_rate=rate, method="nearest")
        yield name, rate, run["gradient_norm"].values, run["hessian_trace"].values


def levels(dataset):
    """Level of each class, and the share of the examples in one class of each level."""
    counts = dataset["class_count"].values.astype(int)
    level = FrequencyBuckets.levels(counts).bucket_of_class
    return level, bucket_median(counts / counts.sum(), level)


def draw(dataset):
    """Three rows for each path: norm by class, trace by class, trace by norm."""
    figure, axes = plots.panels(6, len(STOPS), width=1.5, height=1.45)
    level, _ = levels(dataset)
    ranks = np.arange(1.0, len(level) + 1)
    for three, (name, rate, gradient, trace) in zip(
        (axes[:3], axes[3:]), paths(dataset), strict=True
    ):
        for at, column in enumerate(three.T):
            plots.scatter_by_level(column[0], ranks, gradient[at], level)
            plots.scatter_by_level(column[1], ranks, trace[at], level)
            plots.scatter_by_level(column[2], gradient[at], trace[at], level)
        for row, slope in zip(three, (False, False, True), strict=True):
            plots.share_log_limits(row[None], slope=slope)
        path = f"{plots.label(name, dataset)}, η = {plots.exponent(rate)}"
        for axis, words in zip(
            three[:, 0], ("gradient norm", "Hessian trace", "Hessian trace"), strict=True
        ):
            axis.set_ylabel(f"{path}\n{words}")
        for row, words in zip(
            three, ("class, by rank", "class, by rank", "gradient norm"), strict=True
        ):
            row[0].set_xlabel(words)
    for step, axis in zip(STOPS, axes[0], strict=True):
        axis.set_title(f"step {step}")
    plots.bucket_bar(figure, axes[0, -1], int(level.max()) + 1)
    figure.suptitle("Gradient norm and Hessian trace of every class (dashed: slope 1)")
    return figure


def claims(dataset):
    """Both at the start and on the paths, and the slopes with which they follow frequency."""
    level, share = levels(dataset)
    rows, late = [], STOPS.index(5)
    at = f"at steps {', '.join(map(str, STOPS))}"
    for name, _, gradient, trace in paths(dataset):
        path = plots.label(name, dataset)
        if not rows:  # all paths start alike
            spread = trace[0].max() / trace[0].min()
            said = "At the start: largest Hessian trace of a class divided by the smallest"
            name_of = "traces-alike-at-start"
            rows.append(between(name_of, said, spread, high=4.0, fixed="before any run"))
        for what, values in (("gradient norm", gradient), ("Hessian trace", trace)):
            medians = bucket_median(values, level)  # [step, level]
            rank = [spearman(one, share) for one in medians]
            slope = [log_log_slope(share, one) for one in medians]
            short = f"{name}-path-{slug(what)}"
            rows.append(
                between(
                    f"{short}-follows-frequency",
                    f"{path} path from step 5: lowest rank correlation of the {what} with the "
                    "frequency of the level",
                    min(rank[late:]),
                    low=0.9,
                    fixed="before any run",
                )
            )
            words = ", ".join(f"{value:.2f}" for value in slope)
            said = f"{path} path: log-log slope of the {what} by frequency of the level {at}"
            rows.append(
                undecided(
                    f"{short}-slopes", said, "about 1 on the path", words, fixed="before any run"
                )
            )
    return rows


EXPERIMENT = Experiment("linear_class_statistics", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
