"""Minority initial drop: gradient descent first makes rare classes worse, PCNGD does not.

Claims (Francazi, Baity-Jesi and Lucchi, arXiv 2207.00391): at the start of training the gradients
of frequent classes dominate, and the loss of rare classes rises above its initial value. It does
not if the gradient of each class is normalised before all are added, as in per-class normalised
gradient descent (PCNGD).

PCNGD is also an example of a user's own optimizer: ``w ← w - η Σ_k g_k / ‖g_k‖``, where g_k is the
gradient of the losses of class k. It computes g_k from the data that it was made with.

Run:    python experiments/theory_minority_drop.py
Draws:  figures/theory_minority_drop.png
"""

import jax
import jax.numpy as jnp
import optax

from imbalance.analysis.labelled import at_best
from imbalance.curvature.class_blocks import class_gradient_norms, fold_bias
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.optimizers import OPTIMIZERS, Optimizer
from imbalance.training.sweep import Sweep, half_decades, linear_stops

NAMES = ("gd", "adam_without_momentum", "pcngd")
SIZES = {"smoke": (3, 20), "laptop": (6, 200), "paper": (8, 1_000)}  # m, steps
GRIDS = {
    "smoke": {"gd": (-1, -1), "adam_without_momentum": (-2, -2), "pcngd": (-2, -2)},
    "laptop": {"gd": (-2.5, 0), "adam_without_momentum": (-3, -1), "pcngd": (-2, 0.5)},
    "paper": {"gd": (-3, 0), "adam_without_momentum": (-4.5, -1.5), "pcngd": (-4.5, -1)},
}


def class_normalized(problem, seed=0):
    """PCNGD on the data of one seed: a rule, from a learning rate to an optax transformation."""
    batch = jax.tree.map(jnp.asarray, problem.batch(seed))

    def direction(params):
        head = fold_bias(problem.task.head(params, batch))
        norms = class_gradient_norms(head, batch.label, batch.weight)

        def loss(params):
            examples = problem.task.per_example(params, batch, None)
            share = examples.weight / batch.weight.sum()
            # A class that is fitted, or has no examples, has no direction.
            return jnp.sum(share * examples.loss / jnp.maximum(norms, 1e-12)[examples.label])

        return jax.grad(loss)(params)

    def pcngd(learning_rate):
        def update(updates, params):
            del updates
            return jax.tree.map(lambda g: -learning_rate * g, direction(params))

        return optax.stateless(update)

    return pcngd


def sweeps(scale):
    """Gradient descent, Adam and PCNGD without momentum; one bucket for each frequency level."""
    m, steps = SIZES[scale]
    problem = heavy_tailed_linear(m, bucketing="levels")
    rates = {name: half_decades(*grid) for name, grid in GRIDS[scale].items()}
    pcngd = Optimizer(class_normalized(problem), label="PCNGD", momentum=False)
    optimizers = {**OPTIMIZERS, "pcngd": pcngd}
    return {"": Sweep(problem, rates, steps, stops=linear_stops(steps, 51), optimizers=optimizers)}


def best(dataset):
    """The runs at the best learning rates by the rule `stable`."""
    return at_best(dataset, int(dataset["step"][-1]))


def draw(dataset):
    """Overall loss, and each optimizer by frequency level."""
    chosen = best(dataset)
    figure, axes = plots.panels(1, 1 + len(NAMES))
    plots.overall(axes[0, 0], chosen, NAMES)
    axes[0, 0].set_ylabel("loss (nats)")
    for axis, name in zip(axes[0, 1:], NAMES, strict=True):
        one = chosen.sel(optimizer=name)
        plots.by_bucket(axis, one)
        start = float(one["bucket_loss"].isel(step=0, bucket=-1, seed=0))
        axis.axhline(start, color="gray", lw=0.6, ls="--")
        axis.set_title(plots.label(name, dataset))
    top = 1.05 * float(chosen["bucket_loss"].max())
    for axis in axes[0]:
        axis.set_ylim(0, top)
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    plots.headline(
        figure, chosen, "Loss by frequency level; dashed: initial loss of the rarest level"
    )
    return figure


def claims(dataset):
    """The rise of the loss of the rarest level under GD, and its absence under PCNGD."""
    chosen = best(dataset).isel(seed=0, bucket=-1)["bucket_loss"]
    rise = {
        name: float(chosen.sel(optimizer=name).max() / chosen.sel(optimizer=name)[0])
        for name in NAMES
    }
    rows = [
        between(
            "gd-raises-rarest-level",
            "GD: largest loss of the rarest level divided by its initial value",
            rise["gd"],
            low=1.05,
            fixed="before any run",
        ),
        between(
            "pcngd-does-not-raise-rarest-level",
            "PCNGD: largest loss of the rarest level divided by its initial value",
            rise["pcngd"],
            high=1.0,
            fixed="before any run",
        ),
    ]
    return [*rows, inside_grid(best(dataset))]


EXPERIMENT = Experiment("theory_minority_drop", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
