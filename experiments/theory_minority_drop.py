"""Minority initial drop: gradient descent first makes rare classes worse, PCNGD does not.

Claims (Francazi, Baity-Jesi and Lucchi, arXiv 2207.00391): at the start of training the gradients
of frequent classes dominate, and the loss of rare classes rises above its initial value. It does
not if the gradient of each class is normalised before all are added, as in per-class normalised
gradient descent (PCNGD).

PCNGD is also an example of a user's own optimizer: ``w ← w - η Σ_k g_k / ‖g_k‖``, where g_k is the
gradient of the losses of class k. It computes g_k from the data that it was made with; so the data
are the same for all seeds here, which change the start.

The picture shows the loss of each frequency level; the dotted line is where the rarest one starts.
At laptop scale m = 6 (384 examples, 63 classes) and there are 200 steps. Learning rates are
searched on one seed and the best by the rule `steady` run on three others.

Run:    python experiments/theory_minority_drop.py
Draws:  figures/theory_minority_drop.png
"""

from dataclasses import replace
from math import inf

import jax
import jax.numpy as jnp
import optax

from imbalance.analysis.selection import at_best
from imbalance.curvature.class_blocks import class_gradient_norms, fold_bias
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.optimizers import OPTIMIZERS, Optimizer
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

NAMES = ("gd", "adam_without_momentum", "pcngd")
SIZES = {"smoke": (3, 20), "laptop": (6, 200), "paper": (8, 1_000)}  # m, steps
GRIDS = {
    "smoke": {"gd": (-1, -1), "adam_without_momentum": (-2, -2), "pcngd": (-2, -2)},
    "laptop": {"gd": (-2, -0.5), "adam_without_momentum": (-2.5, -1.5), "pcngd": (-2, -0.5)},
    "paper": {"gd": (-3, 0), "adam_without_momentum": (-4.5, -1.5), "pcngd": (-4.5, -1)},
}


def class_normalized(problem):
    """PCNGD on a problem's data: a rule, from a learning rate to an optax transformation."""
    batch = jax.tree.map(jnp.asarray, problem.batch(0))

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
    problem = replace(heavy_tailed_linear(m, bucketing="levels"), data_by_seed=False)
    rates = {name: half_decades(*grid) for name, grid in GRIDS[scale].items()}
    pcngd = Optimizer(class_normalized(problem), label="PCNGD", momentum=False)
    return {
        "": Sweep(
            problem,
            rates,
            steps,
            confirm=Confirm(),
            stops=linear_stops(steps, 51),
            optimizers={**OPTIMIZERS, "pcngd": pcngd},
        )
    }


def best(dataset):
    """The runs at the best learning rates by the rule `steady`."""
    return at_best(dataset, int(dataset["step"][-1]))


def draw(dataset):
    """Overall loss, and each optimizer by frequency level."""
    chosen = best(dataset)
    figure, axes = page.panels(1, 1 + len(NAMES))
    plots.overall(axes[0, 0], chosen, NAMES)
    axes[0, 0].set_ylabel("loss (nats)")
    for axis, name in zip(axes[0, 1:], NAMES, strict=True):
        one = chosen.sel(optimizer=name)
        plots.by_bucket(axis, one)
        start = float(one["bucket_loss"].isel(step=0, bucket=-1).mean())
        axis.axhline(start, color="black", lw=0.8, ls=":", label="initial loss, rarest level")
        axis.set_title(plots.optimizer_title(name, chosen))
    top = 1.05 * float(chosen["bucket_loss"].max())
    for axis in axes[0]:
        axis.set_ylim(0, top)
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    examples, classes = int(dataset["class_count"].sum()), dataset.sizes["class"]
    page.headline(
        figure,
        chosen,
        "GD first makes rare classes worse; normalised class by class it does not",
        f"{examples:,} examples, {classes:,} classes, full batch.",
    )
    return figure


def claims(dataset):
    """The rise of the loss of the rarest level under GD, and its absence under PCNGD."""
    chosen = best(dataset)
    rarest = chosen["bucket_loss"].isel(bucket=-1)
    rise = rarest.max("step") / rarest.isel(step=0)
    return [
        *(
            between(
                name,
                f"{plots.label(optimizer, dataset)}: largest loss of the rarest level, of its "
                "initial value",
                rise.sel(optimizer=optimizer),
                *limits,
                fixed="before any run",
                percent=True,
            )
            for name, optimizer, *limits in (
                ("gd-raises-rarest-level", "gd", 1.05, inf),
                ("pcngd-does-not-raise-rarest-level", "pcngd", -inf, 1.0),
            )
        ),
        inside_grid(chosen),
    ]


EXPERIMENT = Experiment("theory_minority_drop", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
