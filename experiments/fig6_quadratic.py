"""Figure 6: even a diagonal quadratic with weights 1/k separates gradient descent from Adam.

Claim (Figure 6): minimising Σ π_k w_k² with π_k ∝ 1/k, gradient descent needs a number of steps
proportional to the rank of the class, while Adam and sign descent move all classes alike. Sign
descent with a constant learning rate ends in a cycle of two points (.3, -.4, .3, ...): it does not
converge unless the learning rate decays.

The picture shows 1,000 classes in ten buckets of equal weight, for 49 steps at the paper's learning
rates. Nothing is random, so there is one run of each optimizer.

Run:    python experiments/fig6_quadratic.py
Draws:  figures/fig6_quadratic.png
"""

import numpy as np

from imbalance import theory
from imbalance.analysis.selection import at_fixed
from imbalance.problems import weighted_quadratic
from imbalance.reporting import plots
from imbalance.reporting.claims import between, close
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

NUM_CLASSES, STEPS = 1000, 49
PROBABILITY = theory.zipf_probabilities(NUM_CLASSES)
RATES = {"gd": 0.5 / PROBABILITY[0], "adam": 0.70, "sign": 0.70}
AT = (0, 1, 2, 3, 5, 10, 25, 49)
REFERENCE = {  # computed in NumPy, independently of this code
    "gd": (1, 0.8205, 0.7380, 0.6884, 0.6248, 0.5362, 0.4177, 0.3316),
    "adam": (1, 0.0900, 0.0894, 0.3855, 0.2419, 0.1964, 0.0297, 0.0038),
    "sign": (1, 0.09, 0.16, 0.09, 0.09, 0.16, 0.09, 0.09),
}
GD_BUCKETS = (0, 0, 0, 0.0032, 0.0588, 0.2489, 0.5089, 0.7244, 0.8578, 0.9298)


def sweeps(scale):
    """The same problem at every scale: it takes some seconds."""
    rates = {optimizer: (float(rate),) for optimizer, rate in RATES.items()}
    stops = tuple(range(STEPS + 1))
    return {"": Sweep(weighted_quadratic(NUM_CLASSES), rates, STEPS, stops=stops)}


def relative(dataset):
    """Losses as the figure plots them: Σ π_k w_k², the objective divided by its initial 1/2."""
    chosen = at_fixed(dataset, RATES, "the paper's")
    chosen["loss"], chosen["bucket_loss"] = 2 * chosen["loss"], 2 * chosen["bucket_loss"]
    return chosen


def draw(dataset):
    """Weights of the classes, overall loss, and each optimizer by bucket."""
    figure = plots.fan(
        [relative(dataset)],
        tuple(RATES),
        top=1,
        title="A weighted quadratic: GD leaves light classes behind, Adam and sign descent do not",
        more=f"{NUM_CLASSES:,} classes of weight $π_k ∝ 1/k$; nothing is random.",
    )
    weights, overall = figure.axes[:2]
    weights.set(title="Weights", ylabel="weight $π_k$")
    overall.set_ylabel("loss / initial loss")
    return figure


def claims(dataset):
    """The losses of Figure 6 against independent values and the closed form."""
    chosen = relative(dataset).squeeze("seed")
    rows = [
        close(
            f"{name}-total-loss",
            f"{plots.label(name, dataset)}: total loss, as a share of the initial one, at steps "
            f"{', '.join(map(str, AT))}",
            chosen["loss"].sel(optimizer=name, step=list(AT)).values,
            expected,
            atol=1e-4,
            fixed="arithmetic",
        )
        for name, expected in REFERENCE.items()
    ]
    last = chosen["bucket_loss"].sel(step=STEPS)
    steps = chosen["step"].values
    exact = theory.quadratic_gd(PROBABILITY, RATES["gd"], steps) ** 2 @ PROBABILITY
    spread = last.max("bucket") - last.min("bucket")
    return [
        between(
            "adam-moves-all-classes-alike",
            f"Adam: largest minus smallest loss of its ten buckets at step {STEPS}, as shares of "
            f"the initial loss (GD: {float(spread.sel(optimizer='gd')):.2f})",
            spread.sel(optimizer="adam"),
            high=1e-4,
            fixed="after a pilot",
            section="Figure 6",
            headline=True,
        ),
        *rows,
        close(
            "gd-bucket-losses",
            f"GD: losses of the ten buckets at step {STEPS}, frequent to rare, as shares of the "
            "initial one",
            last.sel(optimizer="gd").values,
            GD_BUCKETS,
            atol=1e-4,
            fixed="arithmetic",
        ),
        between(
            "gd-follows-closed-form",
            "GD in float32 against the closed form (1 - η π_k)^t: largest difference of the loss",
            np.abs(chosen["loss"].sel(optimizer="gd").values - exact).max(),
            high=1e-5,
            fixed="arithmetic",
        ),
    ]


EXPERIMENT = Experiment("fig6_quadratic", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
