"""Predicted probability of the correct class over time, by frequency level.

Claim (section E.2.18, Assumption 1): under Adam the probability of the correct class rises from 1/c
towards order 1 on every level; under gradient descent only frequent classes rise, and rare ones
fall below 1/c first.

Run:    python experiments/linear_probability.py
Draws:  figures/linear_probability.png
"""

import numpy as np

from imbalance import plots
from imbalance.analysis import FrequencyBuckets
from imbalance.claims import between, close
from imbalance.experiment import Experiment, main
from imbalance.probes import correct_class_probability
from imbalance.problems import heavy_tailed_linear
from imbalance.sweep import Sweep

STEPS = 100
STOPS = (0, 1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100)
RATES = {  # the specification's pilot at m = 8; the paper's rates at m = 11 (section G)
    "smoke": {"gd": 1e-2, "adam+m": 1e-3},
    "laptop": {"gd": 1e-2, "adam+m": 1e-3},
    "paper": {"gd": 10**-2.5, "adam+m": 10**-3.5},
}
REFERENCE = {  # m = 8, one seed: medians of each level at t = 100
    "adam+m": (0.28, 0.22, 0.24, 0.40, 0.57, 0.84, 0.92, 0.93),
    "gd": (0.130, 0.067, 0.034, 0.017, 0.008, 0.0035, 0.0019, 0.0014),
}


def sweeps(scale):
    """One run each, probed at twelve steps."""
    problem = heavy_tailed_linear({"smoke": 4, "laptop": 8, "paper": 11}[scale])
    levels = FrequencyBuckets.levels(problem.counts)
    probe = correct_class_probability(problem.task, levels)._replace(stops=STOPS)
    rates = {name: (rate,) for name, rate in RATES[scale].items()}
    return {"": Sweep(problem, rates, STEPS, stops=STOPS, probes=(probe,))}


def probabilities(dataset, optimizer):
    """Of the run: ``[probability_step, level, quantile]``."""
    rate = RATES[dataset.attrs["scale"]][optimizer]
    run = dataset["probability"].sel(optimizer=optimizer).isel(seed=0)
    return run.sel(learning_rate=rate, method="nearest")


def draw(dataset):
    """Median and 5-95 % band of every level, log-log."""
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
        axis.set_title(f"{plots.label(optimizer)}, η = {eta}")
        axis.margins(x=0)
    axes[0, 0].set_ylabel("probability of the correct class")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["level"])
    figure.suptitle("Median and 5-95 % of examples, by level (dashed: 1/2, dotted: 1/c)")
    return figure


def claims(dataset):
    """T23 and the pilot's medians."""
    chance = 1 / dataset.sizes["class"]
    last = {
        name: probabilities(dataset, name).isel(probability_step=-1) for name in RATES["laptop"]
    }
    median = {name: found.sel(quantile=0.5).values for name, found in last.items()}
    rarest_gd = probabilities(dataset, "gd").sel(quantile=0.5).isel(level=-1)
    rows = [
        between(
            "T23",
            f"Adam: median probability at t = {STEPS} times c, smallest over levels",
            float(median["adam+m"].min() / chance),
            low=20,
            fixed="after a pilot",
        ),
        between(
            "T23",
            f"GD: median probability of the rarest level at t = {STEPS} times c",
            float(median["gd"][-1] / chance),
            high=2,
            fixed="after a pilot",
        ),
        between(
            "E.2.18",
            "GD: the rarest level falls below 1/c: least median times c",
            float(rarest_gd.min() / chance),
            high=1,
            fixed="before any run",
        ),
    ]
    if dataset.attrs["scale"] == "laptop":
        rows += [
            close(
                "G.8",
                f"{plots.label(name)}, m = 8, t = {STEPS}: log10 of the median of each level",
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
