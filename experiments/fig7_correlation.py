"""Figure 7: gradient norms and Hessian traces of the classes become correlated during training.

Claims (Figure 7, Proposition 2): at the start the Hessian block of a class does not depend on its
frequency. After a few steps both the trace of the block and the gradient norm of the class are
proportional to the frequency, so that the size of the gradient tells the curvature. This is a
property of the training path, not of the model: at the parameters with opposite sign, where the
model is confidently wrong on frequent classes, the correlation is negative (the paper's appendix).

Each point of the picture is a class of one seed. Claims are decided on three seeds, at the fixed
learning rates of independent NumPy runs; at laptop scale there are 2,048 examples and 255 classes.
The test statistic is computed on the medians of frequency levels, the sets of classes with equally
many examples: over all classes, noise within the rarest level correlates too.

Run:    python experiments/fig7_correlation.py
Draws:  figures/fig7_correlation.png
"""

from functools import partial

import numpy as np

from imbalance.analysis import FrequencyBuckets
from imbalance.analysis.block_measures import bucket_median, log_log_slope, spearman
from imbalance.analysis.selection import at_fixed
from imbalance.probes import class_statistics
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, reported, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STEPS = 100
STOPS = (0, 1, 5, 10, 20, 50, 100)
DRAWN = (0, 1, 5, 10, 100)
RATES = {  # as in independent NumPy runs at m = 8; the authors' at m = 11
    "smoke": {"adam": 1e-3, "gd": 1e-2},
    "laptop": {"adam": 1e-3, "gd": 1e-2},
    "paper": {"adam": 10**-3.5, "gd": 10**-2.5},
}
SIDES = {"": "", "flipped_": ", opposite sign"}  # prefix of what is measured, and words for it
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
    rates = {name: (rate,) for name, rate in RATES[scale].items()}
    seeds = (1,) if scale == "smoke" else (1, 2, 3)
    probes = (class_statistics(problem.task),)
    return {"": Sweep(problem, rates, STEPS, seeds, stops=STOPS, probes=probes)}


def path(dataset, name, prefix=""):
    """Gradient norm and Hessian trace ``[seed, step, class]`` along the path of an optimizer."""
    run = at_fixed(dataset, RATES[dataset.attrs["scale"]]).sel(optimizer=name)
    return (
        run[prefix + variable].transpose("seed", "step", "class").values
        for variable in ("gradient_norm", "hessian_trace")
    )


def levels(dataset):
    """Frequency level of each class."""
    return FrequencyBuckets.levels(dataset["class_count"].values.astype(int)).bucket_of_class


def draw(dataset):
    """Five steps of both paths, as they are and with opposite sign."""
    rates, level = RATES[dataset.attrs["scale"]], levels(dataset)
    figure, axes = page.panels(2 * len(rates), len(DRAWN), height=1.4)
    for rows, (prefix, where) in zip((axes[:2], axes[2:]), SIDES.items(), strict=True):
        for row, name in zip(rows, rates, strict=True):
            gradient, trace = path(dataset, name, prefix)
            for axis, step in zip(row, DRAWN, strict=True):
                at = STOPS.index(step)
                plots.scatter_by_level(axis, gradient[0, at], trace[0, at], level)
            row[0].set_ylabel(f"{plots.label(name, dataset)}{where}\nHessian trace")
        plots.share_log_limits(rows, slope=not prefix)
        for axis in rows[-1]:
            axis.set_xlabel("gradient norm")
    for axis in axes[2:].flat:
        x, y = (np.sqrt(np.prod(limits)) for limits in (axis.get_xlim(), axis.get_ylim()))
        axis.axline((x, y), (10 * x, y / 10), color="gray", ls="--", lw=0.8, zorder=0)
    for step, axis in zip(DRAWN, axes[0], strict=True):
        axis.set_title(f"step {step}")
    plots.bucket_bar(figure, axes[0, -1], int(level.max()) + 1)
    words = ", ".join(
        f"{plots.label(name, dataset)} {plots.exponent(rate)}" for name, rate in rates.items()
    )
    examples, classes = int(dataset["class_count"].sum()), dataset.sizes["class"]
    page.headline(
        figure,
        None,
        "On the way, the gradient of a class tells its curvature; at the opposite parameters it "
        "does not",
        f"A point is a class, at most 100 a level, of seed {dataset['seed'].values[0]}; "
        f"{examples:,} examples, {classes:,} classes. Dashed: slope 1 above, -1 below. Learning "
        f"rates, fixed: {words}.",
    )
    return figure


def claims(dataset):
    """The correlations on both paths, and the slopes beside those of the NumPy runs."""
    level, rows, late = levels(dataset), [], STOPS.index(5)
    at = f"at steps {', '.join(map(str, STOPS))}"
    for prefix, where in SIDES.items():
        for name in RATES["laptop"]:
            gradient, trace = path(dataset, name, prefix)
            medians = [bucket_median(values, level) for values in (gradient, trace)]
            rank, slope = spearman(*medians), log_log_slope(*medians)  # [seed, step]
            words = f"{plots.label(name, dataset)} path{where}"
            short = f"{slug(prefix + name)}-path"
            if prefix:
                rows.append(_flipped(short, words, rank[:, late:]))
            elif name == "adam":
                rows += _along_adam(short, words, rank[:, late:], slope[:, late:], slope[:, 0])
            said = f"{words}: rank correlation over all classes, mean of seeds, {at}"
            every = spearman(gradient, trace).mean(0)
            rows.append(reported(f"{short}-all-classes", said, _words(every)))
            if prefix:
                said = f"{words}: slope of the medians, mean of seeds, {at}"
                rows.append(reported(f"{short}-slopes", said, _words(slope.mean(0))))
            elif dataset.attrs["scale"] == "laptop":
                low, high = np.array(SLOPES[name])
                outside = np.maximum(0, np.maximum(low - slope, slope - high)).max(0)
                said = f"{words}: distance of slopes from the range of the NumPy runs, worst seed"
                rows.append(
                    reported(f"{short}-slopes-against-numpy", f"{said}, {at}", _words(outside))
                )
    return rows


def _along_adam(short, words, rank, slope, slope_at_start):
    """What Figure 7 shows, of arrays ``[seed, step]``."""
    test = partial(between, fixed="after a pilot", section="Figure 7")
    said = f"{words}, gradient norm and Hessian trace, medians of levels from step 5"
    return [
        test(
            f"{short}-correlated",
            f"{said}: lowest rank correlation",
            rank.min(1),
            low=0.9,
            headline=True,
        ),
        test(f"{short}-slope-not-small", f"{said}: smallest slope", slope.min(1), low=0.7),
        test(f"{short}-slope-not-large", f"{said}: largest slope", slope.max(1), high=1.6),
        test(
            "no-correlation-at-start",
            "At the start: |slope| of the medians of levels",
            np.abs(slope_at_start),
            high=0.2,
        ),
    ]


def _flipped(short, words, rank):
    """The correlation at the parameters with opposite sign, of ``[seed, step]``."""
    return between(
        f"{short}-negatively-correlated",
        f"{words}, gradient norm and Hessian trace, medians of levels from step 5: highest rank "
        "correlation",
        rank.max(1),
        high=-0.8,
        reason="on one start of three some of the eight frequency levels change places",
        fixed="after a pilot",
        section="Appendix, path of opposite sign",
    )


def _words(values):
    return ", ".join(f"{value:.2f}" for value in values)


EXPERIMENT = Experiment("fig7_correlation", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
