"""Gradient norm and Hessian trace of every class along the paths of gradient descent and Adam.

Claim (the paper's appendix, beside Figure 7): at the start the traces of all classes are alike, and
gradient norms do not follow frequency. After some steps both are lower for rarer classes, about in
proportion to their frequency. Figure 7 draws one against the other; here each is drawn by the rank
of the class.

On the path of gradient descent this is asked of the traces only. There frequent classes are fitted
first and their gradients shrink, while rare classes keep theirs: the assumption on which
Proposition 2 rests holds along Adam's path. The rank correlations of the gradients are reported.

At the start traces differ by the random initial logits, whose standard deviation between classes is
1/√12 here. Among c of them the largest and the smallest are at most 2 √(2 ln c) standard deviations
apart, on average, which is what the ratio of traces is compared with: 6.8 for 255 classes. (An
earlier bound of 4 for any number of classes took no account of that.)

Runs, sizes and seeds are those of `fig7_correlation`, which are made once. Claims are about medians
of frequency levels, the sets of classes with equally many examples.

Run:    python experiments/linear_class_statistics.py
Draws:  figures/linear_class_statistics.png
"""

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
RATES = {  # as in independent NumPy runs at m = 8; the authors' at m = 11
    "smoke": {"adam": 1e-3, "gd": 1e-2},
    "laptop": {"adam": 1e-3, "gd": 1e-2},
    "paper": {"adam": 10**-3.5, "gd": 10**-2.5},
}
DRAWN = (("adam", 0), ("adam", 10), ("adam", 100), ("gd", 10), ("gd", 100))  # all start alike
MEASURED = {"gradient_norm": "gradient norm", "hessian_trace": "Hessian trace"}


def sweeps(scale):
    """One learning rate for each optimizer, three seeds, as `fig7_correlation`."""
    problem = heavy_tailed_linear({"smoke": 4, "laptop": 8, "paper": 11}[scale])
    rates = {name: (rate,) for name, rate in RATES[scale].items()}
    seeds = (1,) if scale == "smoke" else (1, 2, 3)
    probes = (class_statistics(problem.task),)
    return {"": Sweep(problem, rates, STEPS, seeds, stops=STOPS, probes=probes)}


def measured(dataset, variable):
    """Optimizer -> what was measured along its path, ``[seed, step, class]``."""
    chosen = at_fixed(dataset, RATES[dataset.attrs["scale"]])[variable]
    return {
        name: chosen.sel(optimizer=name).transpose("seed", "step", "class").values
        for name in RATES["laptop"]
    }


def levels(dataset):
    """Level of each class, and the share of the examples in one class of each level."""
    counts = dataset["class_count"].values.astype(int)
    level = FrequencyBuckets.levels(counts).bucket_of_class
    return level, bucket_median(counts / counts.sum(), level)


def draw(dataset):
    """Both by the rank of the class: at the start, and at two steps of either path."""
    figure, axes = page.panels(len(MEASURED), len(DRAWN))
    level, share = levels(dataset)
    ranks = np.arange(1.0, len(level) + 1)
    for row, (variable, words) in zip(axes, MEASURED.items(), strict=True):
        found = measured(dataset, variable)
        for axis, (name, step) in zip(row, DRAWN, strict=True):
            values = found[name][0, STOPS.index(step)]
            plots.scatter_by_level(axis, ranks, values, level)
            if step:
                axis.plot(ranks, values[0] * (share / share[0])[level], "--", color="gray", lw=0.8)
        row[0].set_ylabel(words)
        plots.share_log_limits(row[None], slope=False)
    for (name, step), top, bottom in zip(DRAWN, *axes, strict=True):
        top.set_title(f"{plots.label(name, dataset)}\nstep {step}" if step else "start")
        top.tick_params(labelbottom=False)
        bottom.set_xlabel("class, by rank")
    plots.bucket_bar(figure, axes[0, -1], len(share))
    words = ", ".join(
        f"{plots.label(name, dataset)} {plots.exponent(rate)}"
        for name, rate in RATES[dataset.attrs["scale"]].items()
    )
    examples = int(dataset["class_count"].sum())
    page.headline(
        figure,
        None,
        "Both the gradient and the curvature of a class come to follow its frequency",
        f"A point is a class, at most 100 a level, of seed {dataset['seed'].values[0]}; "
        f"{examples:,} examples, {len(level):,} classes. Dashed: in proportion to frequency. "
        f"Learning rates, fixed: {words}.",
    )
    return figure


def claims(dataset):
    """Both at the start and on the paths, and the slopes with which they follow frequency."""
    level, share = levels(dataset)
    late, at = STOPS.index(5), f"mean of seeds, at steps {', '.join(map(str, STOPS))}"
    rows = []
    for variable, what in MEASURED.items():
        for name, values in measured(dataset, variable).items():
            path, short = f"{plots.label(name, dataset)} path", f"{name}-path-{slug(what)}"
            medians = bucket_median(values, level)  # [seed, step, level]
            rank, slope = spearman(medians, share), log_log_slope(share, medians)
            said = f"rank correlation of the {what} with frequency, medians of levels"
            if (name, variable) == ("gd", "gradient_norm"):
                rows.append(
                    reported(
                        f"{short}-and-frequency", f"{path}: {said}, {at}", _words(rank.mean(0))
                    )
                )
            else:
                rows.append(
                    between(
                        f"{short}-follows-frequency",
                        f"{path} from step 5: lowest {said}",
                        rank[:, late:].min(1),
                        low=0.9,
                        fixed="before any run",
                        section="Appendix, gradient and Hessian by class",
                    )
                )
            said = f"{path}: log-log slope of the {what} by frequency of the level, {at}"
            rows.append(reported(f"{short}-slopes", said, _words(slope.mean(0))))
    start = measured(dataset, "hessian_trace")["adam"][:, 0]
    deviations = 2 * np.sqrt(2 * np.log(len(level)))
    rows.append(
        between(
            "traces-alike-at-start",
            "At the start: largest Hessian trace of a class divided by the smallest; asked is what "
            "the random initial logits allow",
            start.max(1) / start.min(1),
            high=np.exp(deviations / np.sqrt(12)),
            fixed="arithmetic",
            section="Appendix, gradient and Hessian by class",
        )
    )
    return rows


def _words(values):
    return ", ".join(f"{value:.2f}" for value in values)


EXPERIMENT = Experiment("linear_class_statistics", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
