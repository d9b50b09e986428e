"""Predicted probability of the correct class over time, by frequency level.

Claim (the paper's appendix, in support of its Assumption 1): under Adam the probability of the
correct class rises from 1/c to order 1 on every frequency level, that is for classes of every
count. Under gradient descent it rises for frequent classes only, and for rare ones it first falls
below 1/c.

Run:    python experiments/linear_probability.py
Draws:  figures/linear_probability.png
"""

from dataclasses import replace

import numpy as np

from imbalance.analysis import FrequencyBuckets
from imbalance.probes import correct_class_probability
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, close
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STEPS = 100
STOPS = (0, 1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100)
RATES = {  # as in independent NumPy runs at m = 8; the authors' at m = 11
    "smoke": {"gd": 1e-2, "adam": 1e-3},
    "laptop": {"gd": 1e-2, "adam": 1e-3},
    "paper": {"gd": 10**-2.5, "adam": 10**-3.5},
}
REFERENCE = {  # NumPy, m = 8, one seed: median of each level at step 100
    "adam": (0.28, 0.22, 0.24, 0.40, 0.57, 0.84, 0.92, 0.93),
    "gd": (0.130, 0.067, 0.034, 0.017, 0.008, 0.0035, 0.0019, 0.0014),
}


def sweeps(scale):
    """One run of each optimizer, measured at twelve steps."""
    problem = heavy_tailed_linear({"smoke": 4, "laptop": 8, "paper": 11}[scale])
    levels = FrequencyBuckets.levels(problem.counts)
    probe = replace(correct_class_probability(problem.task, levels), stops=STOPS)
    rates = {name: (rate,) for name, rate in RATES[scale].items()}
    return {"": Sweep(problem, rates, STEPS, stops=STOPS, probes=(probe,))}


def probabilities(dataset, optimizer):
    """Probabilities of one run, ``[probability_step, level, quantile]``."""
    rate = RATES[dataset.attrs["scale"]][optimizer]
    run = dataset["probability"].sel(optimizer=optimizer).isel(seed=0)
    return run.sel(learning_rate=rate, method="nearest")


def draw(dataset):
    """Median and 5-95 % band of each level, log-log."""
    figure, axes = plots.panels(1, 2, width=3.2, height=2.6)
    colours = plots.bucket_colours(dataset.sizes["level"])
    for axis, optimizer in zip(axes[0], RATES["laptop"], strict=True):
        found = probabilities(dataset, optimizer)
        at = found["probability_step"] + 1
        for level, colour in enumerate(colours):
            low, middle, high = found.isel(level=level).transpose("quantile", ...)
            axis.plot(at, middle, color=colour)
            axis.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
        axis.axhline(0.5, color="gray", linestyle="--", linewidth=0.8)
        axis.axhline(1 / dataset.sizes["class"], color="gray", linestyle=":", linewidth=0.8)
        eta = plots.exponent(RATES[dataset.attrs["scale"]][optimizer])
        axis.set(xscale="log", yscale="log", xlabel="step + 1", ylim=(1e-4, 1.2))
        axis.set_title(f"{plots.label(optimizer, dataset)}, η = {eta}")
        axis.margins(x=0)
    axes[0, 0].set_ylabel("probability of the correct class")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["level"])
    figure.suptitle("Median and 5-95 % of examples, by level (dashed: 1/2, dotted: 1/c)")
    return figure


def claims(dataset):
    """The medians at the end, and those of the NumPy runs."""
    chance = 1 / dataset.sizes["class"]
    last = {
        name: probabilities(dataset, name).isel(probability_step=-1) for name in RATES["laptop"]
    }
    median = {name: found.sel(quantile=0.5).values for name, found in last.items()}
    rarest_gd = probabilities(dataset, "gd").sel(quantile=0.5).isel(level=-1)
    rows = [
        between(
            "adam-raises-every-level",
            f"Adam: median probability at step {STEPS} times c, smallest over levels",
            float(median["adam"].min() / chance),
            low=20,
            fixed="after a pilot",
        ),
        between(
            "gd-leaves-rarest-level",
            f"GD: median probability of the rarest level at step {STEPS} times c",
            float(median["gd"][-1] / chance),
            high=2,
            fixed="after a pilot",
        ),
        between(
            "gd-lowers-rarest-level-first",
            "GD: smallest median probability of the rarest level over all steps, times c",
            float(rarest_gd.min() / chance),
            high=1,
            fixed="before any run",
        ),
    ]
    if dataset.attrs["scale"] == "laptop":
        rows += [
            close(
                f"{name}-medians-of-levels",
                f"{plots.label(name, dataset)}, m = 8: log10 of the median probability of each "
                f"level at step {STEPS}",
                np.log10(median[name]),
                np.round(np.log10(expected), 4),
                atol=0.1,
                fixed="after a pilot",
            )
            for name, expected in REFERENCE.items()
        ]
    return rows


EXPERIMENT = Experiment("linear_probability", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
