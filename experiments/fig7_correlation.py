"""Figure 7: gradient norms and Hessian traces of the classes become correlated during training.

Claims (Figure 7, Proposition 2): at the start the Hessian block of a class does not depend on its
frequency. After a few steps both the trace of the block and the gradient norm of the class are
proportional to the frequency, so that the size of the gradient tells the curvature. This is a
property of the training path, not of the model: at the parameters with opposite sign, where the
model is confidently wrong on frequent classes, the correlation is negative (the paper's appendix).

Each point is a class. The test statistic is computed on the medians of frequency levels, the sets
of classes with equally many examples: over all classes, noise within the rarest level correlates
too.

Run:    python experiments/fig7_correlation.py
Draws:  figures/fig7_correlation.png
"""

from dataclasses import replace

import numpy as np

from imbalance.analysis import FrequencyBuckets
from imbalance.analysis.block_measures import bucket_median, log_log_slope, spearman
from imbalance.probes import class_statistics
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, slug, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STEPS = 100
STOPS = (0, 1, 5, 10, 20, 50, 100)
DRAWN = (0, 1, 5, 10, 50, 100)
RATES = {  # as in independent NumPy runs at m = 8; the authors' at m = 11
    "smoke": {"adam": 1e-3, "gd": 1e-2},
    "laptop": {"adam": 1e-3, "gd": 1e-2},
    "paper": {"adam": 10**-3.5, "gd": 10**-2.5},
}
# m = 8, three seeds of the NumPy runs: lowest and highest slopes at the stops.
SLOPES = {
    "adam": (
        (-0.03, 0.42, 1.11, 0.81, 0.94, 1.26, 1.32),
        (0, 0.47, 1.16, 0.96, 1.05, 1.51, 1.32),
    ),
    "gd": ((-0.03, 0.10, 0.55, 0.69, 1.06, 2.1, 2.15), (0, 0.13, 0.61, 0.81, 1.19, 2.2, 2.15)),
}


def sweeps(scale):
    """One learning rate for each optimizer, three seeds."""
    problem = heavy_tailed_linear({"smoke": 4, "laptop": 8, "paper": 11}[scale])
    probe = replace(class_statistics(problem.task), stops=STOPS)
    rates = {name: (rate,) for name, rate in RATES[scale].items()}
    seeds = (0,) if scale == "smoke" else (0, 1, 2)
    return {"": Sweep(problem, rates, STEPS, seeds=seeds, stops=STOPS, probes=(probe,))}


def paths(dataset, prefix=""):
    """Gradient norm and Hessian trace ``[seed, step, class]`` for each optimizer."""
    for name, rate in RATES[dataset.attrs["scale"]].items():
        run = dataset.sel(optimizer=name).sel(learning_rate=rate, method="nearest")
        arrays = [run[prefix + v] for v in ("gradient_norm", "hessian_trace")]
        yield name, rate, *(array.transpose("seed", ..., "class").values for array in arrays)


def levels(dataset):
    """Frequency level of each class."""
    return FrequencyBuckets.levels(dataset["class_count"].values.astype(int)).bucket_of_class


def draw(dataset):
    """Six steps of both paths, as they are and with opposite sign; at most 100 classes a level."""
    figure, axes = plots.panels(4, len(DRAWN), width=1.7, height=1.8)
    level = levels(dataset)
    for both, prefix, where in ((axes[:2], "", ""), (axes[2:], "flipped_", ", at -W")):
        for row, (name, _, gradient, trace) in zip(both, paths(dataset, prefix), strict=True):
            for axis, step in zip(row, DRAWN, strict=True):
                at = STOPS.index(step)
                plots.scatter_by_level(axis, gradient[0, at], trace[0, at], level)
            row[0].set_ylabel(f"{plots.label(name, dataset)}{where}\nHessian trace")
        plots.share_log_limits(both)
    for step, top, bottom in zip(DRAWN, axes[0], axes[-1], strict=True):
        top.set_title(f"step {step}")
        bottom.set_xlabel("gradient norm")
    plots.bucket_bar(figure, axes[0, -1], int(level.max()) + 1)
    rates = ", ".join(
        f"{plots.label(name, dataset)} {plots.exponent(rate)}" for name, rate, *_ in paths(dataset)
    )
    figure.suptitle(
        f"Gradient norm and Hessian trace of each class (dashed: slope 1); learning rates: {rates}"
    )
    return figure


def claims(dataset):
    """The correlations on both paths, and the slopes beside those of the NumPy runs."""
    level, rows, late = levels(dataset), [], STOPS.index(5)
    at = f"at steps {', '.join(map(str, STOPS))}"

    def reported(name, statement, values, expected="reported beside the medians'"):
        words = ", ".join(f"{value:.2f}" for value in values)
        rows.append(undecided(name, f"{statement} {at}", expected, words, fixed="after a pilot"))

    for prefix, where in (("", "path"), ("flipped_", "path with opposite sign")):
        for name, _, gradient, trace in paths(dataset, prefix):
            medians = [bucket_median(values, level) for values in (gradient, trace)]
            rank, slope = spearman(*medians), log_log_slope(*medians)  # [seed, step]
            path = f"{plots.label(name, dataset)} {where}"
            short = f"{slug(prefix + name)}-path"
            tests = []
            if prefix:
                tests = [
                    (
                        "negatively-correlated",
                        "highest rank correlation",
                        rank[:, late:].max(),
                        -np.inf,
                        -0.8,
                    )
                ]
            elif name == "adam":
                tests = [
                    ("correlated", "lowest rank correlation", rank[:, late:].min(), 0.9, np.inf),
                    ("slope-not-small", "smallest slope", slope[:, late:].min(), 0.7, np.inf),
                    ("slope-not-large", "largest slope", slope[:, late:].max(), -np.inf, 1.6),
                ]
                said = "At the start: largest |slope| of the medians of levels"
                start = np.abs(slope[:, 0]).max()
                rows.append(
                    between("no-correlation-at-start", said, start, high=0.2, fixed="after a pilot")
                )
            rows += [
                between(
                    f"{short}-{ending}",
                    f"{path}, medians of levels from step 5: {what}",
                    *numbers,
                    fixed="after a pilot",
                )
                for ending, what, *numbers in tests
            ]
            every = spearman(gradient, trace).mean(0)
            said = f"{path}: rank correlation over all classes, mean of seeds,"
            reported(f"{short}-all-classes", said, every)
            if prefix:
                said = f"{path}: slope of the medians, mean of seeds,"
                reported(f"{short}-slopes", said, slope.mean(0))
            elif dataset.attrs["scale"] == "laptop":
                low, high = np.array(SLOPES[name])
                outside = np.maximum(0, np.maximum(low - slope, slope - high)).max(0)
                said = f"{path}: distance of slopes from the range of the NumPy runs, worst seed,"
                reported(f"{short}-slopes-against-numpy", said, outside, "no tolerance is given")
    return rows


EXPERIMENT = Experiment("fig7_correlation", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
