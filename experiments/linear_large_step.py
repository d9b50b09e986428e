"""Does a larger learning rate help gradient descent? The loss explodes first, and ends at zero.

Claim (the paper's appendix): with a learning rate of 10^3 the loss rises ten-thousandfold and
oscillates, yet on these separable data it ends at zero, as it would for the perceptron; with 10^-1
it falls steadily. So the lowest final loss over an unbounded grid selects runs whose loss exploded:
see `linear_balanced`.

The picture shows the training loss at every step, on a log scale: mean and range of three seeds;
m = 7, the paper's size.

Run:    python experiments/linear_large_step.py
Draws:  figures/linear_large_step.png
"""

from typing import Any

import numpy as np

from imbalance.analysis.selection import highest_loss
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

SECTION = "Appendix, large steps"
LARGE, SMALL = 1e3, 1e-1


def sweeps(scale):
    """Gradient descent at two learning rates."""
    m, steps = (4, 50) if scale == "smoke" else (7, 1000)
    return {"": Sweep(heavy_tailed_linear(m), {"gd": (SMALL, LARGE)}, steps, seeds=(1, 2, 3))}


def draw(dataset):
    """Training loss at every step, on a log scale."""
    figure, axes = page.panels(1, 1, height=2.3)
    axis = axes[0, 0]
    gd = dataset["train_loss"].sel(optimizer="gd")
    steps = gd["train_step"].values
    for rate in (LARGE, SMALL):
        losses = gd.sel(learning_rate=rate)
        plots.seed_band(axis, steps, losses, color=plots.line_style("gd")["color"], lw=0.9)
        mean = losses.mean("seed").values
        at = int(np.argmax(mean)) if rate == LARGE else len(steps) - 1  # its peak, or its end
        axis.annotate(
            f"η = {plots.exponent(rate)}",
            (steps[at], mean[at]),
            (0, 5),
            textcoords="offset points",
            ha="left" if rate == LARGE else "right",
            va="bottom",
        )
    axis.set(yscale="log", ylim=(1e-2, 1e6), xlabel="step", ylabel="training loss (nats)")
    axis.margins(x=0)
    examples, classes = int(dataset["class_count"].sum()), dataset.sizes["class"]
    page.headline(
        figure,
        dataset.assign_attrs(selection="the paper's two"),
        "With a very large learning rate GD's loss explodes, then falls to zero",
        f"GD without momentum on {examples:,} examples of {classes} classes, full batch.",
    )
    return figure


def claims(dataset):
    """The highest and the final loss at both learning rates."""
    last = int(dataset["step"][-1])
    gd = dataset.sel(optimizer="gd")
    highest = highest_loss(gd, last)
    initial, final = gd["loss"].sel(step=0), gd["loss"].sel(step=last)
    large, small = {"learning_rate": LARGE}, {"learning_rate": SMALL}
    pilot: dict[str, Any] = {"fixed": "after a pilot", "section": SECTION}
    return [
        between(
            "large-rate-explodes",
            "η = 10^3: highest loss on the way, nats",
            highest.sel(large),
            low=1e4,
            high=1e6,
            **pilot,
        ),
        between(
            "large-rate-ends-at-zero",
            f"η = 10^3: loss at step {last:,}, nats",
            final.sel(large),
            high=1e-3,
            **pilot,
        ),
        between(
            "small-rate-stable",
            "η = 10^-1: highest loss on the way, as a multiple of the initial one",
            highest.sel(small) / initial.sel(small),
            high=1.5,
            **pilot,
        ),
        between(
            "small-rate-final-loss",
            f"η = 10^-1: loss at step {last:,}, nats",
            final.sel(small),
            0.2,
            0.5,
            **pilot,
        ),
    ]


EXPERIMENT = Experiment("linear_large_step", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
