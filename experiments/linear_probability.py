"""Predicted probability of the correct class over time, by frequency level.

Claim (the paper's appendix, in support of its Assumption 1): under Adam the probability of the
correct class rises from 1/c to order 1 on every frequency level, that is for classes of every
count. Under gradient descent it rises for frequent classes only, and for rare ones it falls below
1/c. Under Adam too it falls first for rare ones, before it rises.

At laptop scale: 2,048 examples, 255 classes, three seeds, at the fixed learning rates of
independent NumPy runs.

Run:    python experiments/linear_probability.py
Draws:  figures/linear_probability.png
"""

import numpy as np

from imbalance.analysis import FrequencyBuckets
from imbalance.analysis.selection import at_fixed
from imbalance.probes import correct_class_probability
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, close, reported
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, linear_stops

STEPS = 100
STOPS = tuple(sorted({*range(11), *linear_stops(STEPS, 51)}))
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
    """One learning rate for each optimizer, three seeds."""
    problem = heavy_tailed_linear({"smoke": 4, "laptop": 8, "paper": 11}[scale])
    levels = FrequencyBuckets.levels(problem.counts)
    probes = (correct_class_probability(problem.task, levels),)
    rates = {name: (rate,) for name, rate in RATES[scale].items()}
    seeds = (1,) if scale == "smoke" else (1, 2, 3)
    return {"": Sweep(problem, rates, STEPS, seeds, stops=STOPS, probes=probes)}


def fixed(dataset):
    """The runs at the learning rates of the NumPy runs."""
    scale = dataset.attrs["scale"]
    why = "the authors'" if scale == "paper" else "as in independent NumPy runs"
    return at_fixed(dataset, RATES[scale], why)


def draw(dataset):
    """Median and 5-95 % band of each level, log-log."""
    chosen = fixed(dataset)
    figure, axes = page.panels(1, 2, height=2.2)
    at = chosen["step"] + 1
    for axis, optimizer in zip(axes[0], RATES["laptop"], strict=True):
        found = chosen["probability"].sel(optimizer=optimizer).mean("seed")
        for level, colour in enumerate(plots.bucket_colours(dataset.sizes["level"])):
            low, middle, high = found.isel(level=level).transpose("quantile", ...)
            axis.plot(at, middle, color=colour)
            axis.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
        axis.axhline(0.5, color="gray", linestyle="--", linewidth=0.8)
        axis.axhline(1 / dataset.sizes["class"], color="gray", linestyle=":", linewidth=0.8)
        axis.set(xscale="log", yscale="log", xlabel="step + 1", ylim=(1e-4, 1.2))
        axis.set_title(plots.optimizer_title(optimizer, chosen))
        axis.margins(x=0)
    axes[0, 0].set_ylabel("probability of the correct class")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["level"])
    examples, classes = int(dataset["class_count"].sum()), dataset.sizes["class"]
    seeds = ", ".join(map(str, dataset["seed"].values))
    page.headline(
        figure,
        None,
        "Under Adam the probability of the correct class rises on every level, under GD on "
        "frequent ones",
        f"{examples:,} examples, {classes:,} classes. Lines: median of the examples of a level, "
        f"bands: 5 to 95 % of them, means over seeds {seeds}. Dashed: 1/2, dotted: 1/c. Learning "
        f"rates: {chosen.attrs['selection']}.",
    )
    return figure


def claims(dataset):
    """The medians at the end, and those of the NumPy runs."""
    times_c = fixed(dataset)["probability"].sel(quantile=0.5) * dataset.sizes["class"]
    gd, adam = (times_c.sel(optimizer=name) for name in ("gd", "adam"))
    rarest_gd, rarest_adam = (one.isel(level=-1) for one in (gd, adam))
    rows = [
        between(
            "gd-lowers-rarest-level-first",
            "GD: smallest median probability of the rarest level at any step, times c",
            rarest_gd.min("step"),
            high=1,
            fixed="before any run",
            section="Appendix, predicted probabilities",
        ),
        between(
            "adam-raises-every-level",
            f"Adam: median probability at step {STEPS} times c, smallest over levels",
            adam.sel(step=STEPS).min("level"),
            low=20,
            fixed="after a pilot",
            section="Appendix, predicted probabilities",
        ),
        between(
            "gd-leaves-rarest-level",
            f"GD: median probability of the rarest level at step {STEPS} times c",
            rarest_gd.sel(step=STEPS),
            high=2,
            fixed="after a pilot",
            section="Appendix, predicted probabilities",
        ),
        reported(
            "adam-lowers-rarest-level-first",
            "Adam: smallest median probability of the rarest level at any step, times c",
            rarest_adam.min("step"),
        ),
    ]
    if dataset.attrs["scale"] == "laptop":
        median = times_c.sel(step=STEPS) / dataset.sizes["class"]
        rows += [
            close(
                f"{name}-medians-of-levels",
                f"{plots.label(name, dataset)}, m = 8: log10 of the median probability of each "
                f"level at step {STEPS}, mean of seeds",
                np.log10(median.sel(optimizer=name)).mean("seed"),
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
