"""Associative memory: signs of coordinates depend on the coordinates, Muon does not.

Claims (section H.3, after Wang et al. 2025): a linear memory of facts, a fifth of which holds four
fifths of the weight. When the best fact is learned to probability .9, gradient descent has hardly
begun with the rare ones; sign descent has learned all alike if every fact has coordinates of its
own, and not if the same embeddings are rotated; Muon, which evens out singular values in place of
entries, has learned all alike in both cases.

Gaps are those after one step from zero, in closed form; curves are the engine's runs of many steps.

Run:    python experiments/theory_memory.py
Draws:  figures/theory_memory.png
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from imbalance import plots, theory
from imbalance.claims import between
from imbalance.experiment import Experiment, main
from imbalance.optimizers import OPTIMIZERS
from imbalance.probes import loss_by_class
from imbalance.problems import Problem
from imbalance.sweep import Sweep
from imbalance.tasks import Batch, Examples, Task

FACTS = {"smoke": 15, "laptop": 120, "paper": 999}
STEPS = {"smoke": 8, "laptop": 40, "paper": 60}
NAMES = {"gd": "GD", "sign": "sign descent", "muon": "Muon"}
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


def memory(kind, num_facts):
    """The memory as a problem: a fact is an example, of weight p_k, and a class of its own."""
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

    label, weight = np.arange(num_facts, dtype=np.int32), probability.astype(np.float32)
    struct = jax.ShapeDtypeStruct
    return Problem(
        name="associative_memory",
        settings={"embeddings": kind, "num_facts": num_facts},
        task=Task(init, per_example),
        counts=probability,
        make_batch=lambda seed: Batch(None, label, weight),
        shapes=Batch(None, struct(label.shape, jnp.int32), struct(weight.shape, jnp.float32)),
        data_by_seed=False,
        flops_per_step=12.0 * num_facts**3,
        num_buckets=1,
    )


def sweeps(scale):
    """Each rule at one rate, on both kinds of embeddings."""
    num_facts, steps = FACTS[scale], STEPS[scale]
    # So that the best fact arrives at about a third of the way: see `one_step` of each rule.
    rates = {"gd": (2.0 * num_facts,), "sign": (0.2,), "muon": (0.4,)}
    found = {}
    for kind in EMBEDDINGS:
        problem = memory(kind, num_facts)
        probe = loss_by_class(problem.task, num_facts)
        optimizers = {**OPTIMIZERS, "muon": muon}
        stops = tuple(range(steps + 1))
        found[kind] = Sweep(
            problem, rates, steps, stops=stops, probes=(probe,), optimizers=optimizers
        )
    return found


def probabilities(dataset, kind, name):
    """Of each fact's own value along the run, ``[step, fact]``."""
    run = dataset["class_loss"].sel(embeddings=kind, optimizer=name, seed=0)
    return np.exp(-run.dropna("learning_rate", how="all").isel(learning_rate=0).values)


def draw(dataset):
    """Probability of frequent and rare facts along the runs: mean, and band of worst and best."""
    figure, axes = plots.panels(2, len(NAMES), width=2.6)
    frequent = theory.fact_probabilities(dataset.sizes["class"]) > 1 / dataset.sizes["class"]
    for row, kind in zip(axes, EMBEDDINGS, strict=True):
        for axis, (name, words) in zip(row, NAMES.items(), strict=True):
            found = probabilities(dataset, kind, name)
            for group, colour, label in (
                (frequent, plots.bucket_colours(2)[0], "frequent facts"),
                (~frequent, plots.bucket_colours(3)[1], "rare facts"),
            ):
                part = found[:, group]
                steps = dataset["step"].values
                axis.plot(steps, part.mean(1), color=colour, label=label)
                axis.fill_between(steps, part.min(1), part.max(1), color=colour, alpha=0.2, lw=0)
            axis.set(title=f"{words}, {kind}", ylim=(0, 1.02), xlabel="step")
            axis.margins(x=0)
        row[0].set_ylabel("probability of the value")
    axes[0, 0].legend()
    figure.suptitle(
        f"Associative memory of {dataset.sizes['class']} facts, a fifth of which has four fifths "
        "of the weight"
    )
    return figure


def claims(dataset):
    """H.3: the gap between best and worst fact after one step, and the engine beside it."""
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
        said = f"{NAMES[name]}, {kind}: best less worst fact after the step that has the best at .9"
        rows.append(between("H.3", said, float(np.ptp(one)), *between_these, fixed="after a pilot"))
        found = probabilities(dataset, kind, name)
        best = found.max(1)
        if best.max() >= 0.9:
            gap = float(np.ptp(found[int(np.argmax(best >= 0.9))]))
            said = f"{NAMES[name]}, {kind}: the same along the engine's run of many steps"
            rows.append(between("H.3", said, gap, *between_these, fixed="before any run"))
    return rows


EXPERIMENT = Experiment("theory_memory", sweeps, draw, claims, over="embeddings")

if __name__ == "__main__":
    main(EXPERIMENT)
