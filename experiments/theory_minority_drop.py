"""Minority initial drop: gradient descent first makes rare classes worse, PCNGD does not.

Claims (section H.5, after Francazi, Baity-Jesi and Lucchi): at the start of training the gradients
of frequent classes dominate, and the loss of rare ones rises above that of a model that knows
nothing. Normalising the gradient of every class before adding them (PCNGD) takes that away.

PCNGD is an optimizer of one's own here: ``w ← w - η Σ_k g_k / ‖g_k‖``, with g_k the gradient of the
losses of class k, which it works out from the data that it is made with.

Run:    python experiments/theory_minority_drop.py
Draws:  figures/theory_minority_drop.png
"""

import jax
import jax.numpy as jnp
import optax

from imbalance import plots
from imbalance.analysis.labelled import at_best
from imbalance.claims import between, inside_grid
from imbalance.class_blocks import class_gradient_norms, fold_bias
from imbalance.experiment import Experiment, main
from imbalance.optimizers import OPTIMIZERS
from imbalance.problems import heavy_tailed_linear
from imbalance.sweep import Sweep, half_decades, linear_stops

NAMES = ("gd", "adam", "pcngd")
SIZES = {"smoke": (3, 20), "laptop": (6, 200), "paper": (8, 1_000)}  # m, steps
GRIDS = {
    "smoke": {"gd": (-1, -1), "adam": (-2, -2), "pcngd": (-2, -2)},
    "laptop": {"gd": (-2.5, 0), "adam": (-3, -1), "pcngd": (-2, 0.5)},
    "paper": {"gd": (-3, 0), "adam": (-4.5, -1.5), "pcngd": (-4.5, -1)},
}


def class_normalized(problem, seed=0):
    """PCNGD on the data of one seed: learning rate -> optax transformation."""
    batch = jax.tree.map(jnp.asarray, problem.batch(seed))

    def direction(params):
        head = fold_bias(problem.task.head(params, batch))
        norms = class_gradient_norms(head, batch.label, batch.weight)

        def loss(params):
            examples = problem.task.per_example(params, batch, None)
            share = examples.weight / batch.weight.sum()
            # A class that is fitted, or has no example, has no direction.
            return jnp.sum(share * examples.loss / jnp.maximum(norms, 1e-12)[examples.label])

        return jax.grad(loss)(params)

    def pcngd(learning_rate):
        def update(updates, params):
            del updates
            return jax.tree.map(lambda g: -learning_rate * g, direction(params))

        return optax.stateless(update)

    return pcngd


def sweeps(scale):
    """Gradient descent, Adam and PCNGD without momentum, over their grids; levels as buckets."""
    m, steps = SIZES[scale]
    problem = heavy_tailed_linear(m, num_buckets=None)
    rates = {name: half_decades(*grid) for name, grid in GRIDS[scale].items()}
    optimizers = {**OPTIMIZERS, "pcngd": class_normalized(problem)}
    return {"": Sweep(problem, rates, steps, stops=linear_stops(steps, 51), optimizers=optimizers)}


def best(dataset):
    """The runs at the best rates under rule S."""
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
        axis.set_title("PCNGD" if name == "pcngd" else plots.label(name))
    top = 1.05 * float(chosen["bucket_loss"].max())
    for axis in axes[0]:
        axis.set_ylim(0, top)
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    plots.headline(figure, chosen, "Loss by frequency level; dashed: the rarest level's start")
    return figure


def claims(dataset):
    """H.5: the rise of the rarest level's loss, and its absence."""
    chosen = best(dataset).isel(seed=0, bucket=-1)["bucket_loss"]
    rise = {
        name: float(chosen.sel(optimizer=name).max() / chosen.sel(optimizer=name)[0])
        for name in NAMES
    }
    rows = [
        between(
            "H.5",
            "GD: largest loss of the rarest level over its start",
            rise["gd"],
            low=1.05,
            fixed="before any run",
        ),
        between(
            "H.5",
            "PCNGD: largest loss of the rarest level over its start",
            rise["pcngd"],
            high=1.0,
            fixed="before any run",
        ),
    ]
    return [*rows, inside_grid(best(dataset))]


EXPERIMENT = Experiment("theory_minority_drop", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
