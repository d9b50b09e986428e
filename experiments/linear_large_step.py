"""Does a larger learning rate help gradient descent? The loss explodes first, and ends at zero.

Claim (the paper's appendix): with a learning rate of 10^3 the loss rises ten-thousandfold and
oscillates, yet on these separable data it ends at zero, as it would for the perceptron; with 10^-1
it falls steadily. So the lowest final loss over an unbounded grid selects runs whose loss exploded:
see `linear_balanced`.

Run:    python experiments/linear_large_step.py
Draws:  figures/linear_large_step.png
"""

from imbalance.analysis.labelled import highest_loss
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

LARGE, SMALL = 1e3, 1e-1


def sweeps(scale):
    """Gradient descent at two learning rates; the paper has m = 7."""
    m, steps, seeds = (4, 50, (0,)) if scale == "smoke" else (7, 1000, (0, 1, 2))
    return {"": Sweep(heavy_tailed_linear(m), {"gd": (SMALL, LARGE)}, steps, seeds)}


def draw(dataset):
    """Training loss at every step, on a log scale."""
    figure, axes = plots.panels(1, 1, width=4.2, height=2.8)
    axis = axes[0, 0]
    for rate, colour in ((LARGE, "#BB5566"), (SMALL, "#000000")):
        losses = dataset["train_loss"].sel(optimizer="gd", learning_rate=rate)
        plots.seed_band(
            axis,
            losses["train_step"].values,
            losses,
            color=colour,
            label=f"{plots.label('gd', dataset)}, η = {plots.exponent(rate)}",
        )
    axis.set(yscale="log", ylim=(1e-2, 10**5.5), xlabel="step", ylabel="loss (nats)")
    axis.margins(x=0)
    axis.legend()
    figure.suptitle(
        "With too large a learning rate the loss explodes, then falls to zero\n"
        "(worst of all seeds, and their range)"
    )
    return figure


def claims(dataset):
    """The highest and the final loss at both learning rates."""
    last = int(dataset["step"][-1])
    highest = highest_loss(dataset, last).sel(optimizer="gd")
    final = dataset["loss"].sel(optimizer="gd", step=last)
    large, small = {"learning_rate": LARGE}, {"learning_rate": SMALL}
    return [
        between(
            "large-rate-explodes",
            "η = 10^3: highest loss, smallest over seeds",
            float(highest.sel(large).min()),
            low=1e4,
            fixed="after a pilot",
        ),
        between(
            "large-rate-explosion-bounded",
            "η = 10^3: highest loss, largest over seeds",
            float(highest.sel(large).max()),
            high=1e6,
            fixed="after a pilot",
        ),
        between(
            "large-rate-ends-at-zero",
            f"η = 10^3: loss at step {last}, worst seed",
            float(final.sel(large).max()),
            high=1e-3,
            fixed="after a pilot",
        ),
        between(
            "small-rate-stable",
            "η = 10^-1: highest loss divided by initial loss, worst seed",
            float(
                (highest.sel(small) / dataset["loss"].sel(optimizer="gd", step=0, **small)).max()
            ),
            high=1.5,
            fixed="after a pilot",
        ),
        between(
            "small-rate-final-loss",
            f"η = 10^-1: loss at step {last}, worst seed",
            float(final.sel(small).max()),
            0.2,
            0.5,
            fixed="after a pilot",
        ),
    ]


EXPERIMENT = Experiment("linear_large_step", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
