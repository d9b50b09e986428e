"""Associative memory: sign descent depends on the choice of coordinates, Muon does not.

Claims (Wang et al. 2025, arXiv 2509.26030): a linear memory holds facts, of which one fifth has
four fifths of the weight. When the best fact is learned to probability .9, gradient descent has
hardly begun to learn the rare ones. Sign descent has learned all equally well if every fact has its
own coordinates, and not if the same embeddings are rotated. Muon, which equalises singular values
instead of entries, has learned all equally well in both cases.

Gaps are computed in closed form after one step from zero; curves are training runs of many steps.

Run:    python experiments/theory_memory.py
Draws:  figures/theory_memory.png
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from imbalance import theory
from imbalance.probes import loss_by_class
from imbalance.problems import Problem
from imbalance.problems.tasks import Examples, Task
from imbalance.reporting import plots
from imbalance.reporting.claims import between
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.optimizers import OPTIMIZERS, Optimizer
from imbalance.training.sweep import Sweep

FACTS = {"smoke": 15, "laptop": 120, "paper": 999}
STEPS = {"smoke": 8, "laptop": 40, "paper": 60}
NAMES = ("gd", "sign", "muon")
EMBEDDINGS = {
    "decoupled": theory.decoupled_embeddings,
    "coupled": theory.coupled_embeddings,
}


def muon(learning_rate):
    """``W + η U Vᵀ``: Muon with exact singular vectors and no momentum."""

    def direction(gradient):
        left, _, right = jnp.linalg.svd(gradient, full_matrices=False)
        return -learning_rate * left @ right

    return optax.stateless(lambda updates, params: jax.tree.map(direction, updates))


EXACT_MUON = Optimizer(muon, label="Muon", colour=OPTIMIZERS["muon"].colour, momentum=False)


def memory(kind, num_facts):
    """The memory as a problem: each fact is an example with weight p_k and a class of its own."""
    embeddings = EMBEDDINGS[kind](num_facts)
    probability = theory.fact_probabilities(num_facts)
    keys, values = (jnp.asarray(columns, jnp.float32) for columns in embeddings)

    def init(key):
        del key
        return {"weight": jnp.zeros((len(values), len(keys)))}

    def per_example(params, batch, key):
        del key
        logits = values.T @ params["weight"] @ keys[:, batch.label]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label, axis=0)
        return Examples(loss, batch.label, batch.weight)

    return Problem.from_arrays(
        "associative_memory",
        Task(init, per_example),
        None,
        np.arange(num_facts),
        probability,
        counts=probability,
        bucketing=1,
        flops_per_step=12.0 * num_facts**3,
        settings={"embeddings": kind, "num_facts": num_facts},
    )


def sweeps(scale):
    """Each optimizer at one learning rate, on both kinds of embeddings."""
    num_facts, steps = FACTS[scale], STEPS[scale]
    # With these the best fact is learned after about a third of the steps.
    rates = {"gd": (2.0 * num_facts,), "sign": (0.2,), "muon": (0.4,)}
    found = {}
    for kind in EMBEDDINGS:
        problem = memory(kind, num_facts)
        probe = loss_by_class(problem.task, num_facts)
        optimizers = {**OPTIMIZERS, "muon": EXACT_MUON}
        stops = tuple(range(steps + 1))
        found[kind] = Sweep(
            problem, rates, steps, stops=stops, probes=(probe,), optimizers=optimizers
        )
    return found


def probabilities(dataset, kind, name):
    """Probability of the value of each fact along the run, ``[step, fact]``."""
    run = dataset["class_loss"].sel(embeddings=kind, optimizer=name, seed=0)
    return np.exp(-run.dropna("learning_rate", how="all").isel(learning_rate=0).values)


def draw(dataset):
    """Probability of frequent and of rare facts along the runs: mean, lowest and highest."""
    figure, axes = plots.panels(2, len(NAMES), width=2.6)
    frequent = theory.fact_probabilities(dataset.sizes["class"]) > 1 / dataset.sizes["class"]
    for row, kind in zip(axes, EMBEDDINGS, strict=True):
        for axis, name in zip(row, NAMES, strict=True):
            found = probabilities(dataset, kind, name)
            for group, colour, label in (
                (frequent, plots.bucket_colours(2)[0], "frequent facts"),
                (~frequent, plots.bucket_colours(3)[1], "rare facts"),
            ):
                part = found[:, group]
                steps = dataset["step"].values
                axis.plot(steps, part.mean(1), color=colour, label=label)
                axis.fill_between(steps, part.min(1), part.max(1), color=colour, alpha=0.2, lw=0)
            axis.set(title=f"{plots.label(name, dataset)}, {kind}", ylim=(0, 1.02), xlabel="step")
            axis.margins(x=0)
        row[0].set_ylabel("probability of the value")
    axes[0, 0].legend()
    figure.suptitle(
        f"Associative memory of {dataset.sizes['class']} facts, of which one fifth has four "
        "fifths of the weight"
    )
    return figure


def claims(dataset):
    """The gap between the best and the worst fact, after one step and along the runs."""
    num_facts, rows = dataset.sizes["class"], []
    probability = theory.fact_probabilities(num_facts)
    limits = {
        ("decoupled", "gd"): (0.5, np.inf),
        ("coupled", "gd"): (0.5, np.inf),
        ("decoupled", "sign"): (-np.inf, 0.05),
        ("coupled", "sign"): (0.5, np.inf),
        ("decoupled", "muon"): (-np.inf, 0.05),
        ("coupled", "muon"): (-np.inf, 0.05),
    }
    for (kind, name), between_these in limits.items():
        one = theory.one_step(EMBEDDINGS[kind](num_facts), probability, name)
        short, label = f"{kind}-{name}-gap", f"{plots.label(name, dataset)}, {kind} embeddings"
        said = (
            f"{label}: probability of the best minus the worst fact after one step, the best at .9"
        )
        gap = float(np.ptp(one))
        rows.append(
            between(f"{short}-after-one-step", said, gap, *between_these, fixed="after a pilot")
        )
        found = probabilities(dataset, kind, name)
        best = found.max(1)
        if best.max() >= 0.9:
            gap = float(np.ptp(found[int(np.argmax(best >= 0.9))]))
            said = f"{label}: the same in a training run, at the step where the best reaches .9"
            rows.append(
                between(f"{short}-in-training", said, gap, *between_these, fixed="before any run")
            )
    return rows


EXPERIMENT = Experiment("theory_memory", sweeps, draw, claims, over="embeddings")

if __name__ == "__main__":
    main(EXPERIMENT)
