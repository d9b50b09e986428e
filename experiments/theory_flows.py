"""Theorem 3: gradient flow takes time proportional to 1/π_k, sign flow does not.

Claims (Theorem 3): with one input for each class and class weights π_k, the loss of class k under
gradient flow is the same function of π_k t for all classes, and is ``Θ(1 / (π_k t))``. Under sign
flow it is ``log(1 + (c - 1) e^-2t)`` for every π_k. Runs of gradient descent and sign descent with
small learning rates lie on these curves.

The paper states the rate ``e^-ct`` for sign flow; here the slope is -2 (docs/method.md, errata).

In the picture lines are the flows and points the runs: at the left a curve for each class, in the
middle the same against π_k t, at the right sign flow, where the points of all classes lie on one
another. At laptop scale there are 100 classes and 10,000 steps. Nothing is random, so there is one
run of each.

Run:    python experiments/theory_flows.py
Draws:  figures/theory_flows.png
"""

from typing import Any

import numpy as np

from imbalance import theory
from imbalance.analysis.selection import at_only
from imbalance.probes import loss_by_class
from imbalance.problems import simple_imbalanced
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, close, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, log_stops

SIZES = {"smoke": (10, 100), "laptop": (100, 10_000), "paper": (1_000, 100_000)}  # c, steps
RATES = {"gd": 0.1, "sign": 0.005}
SIGN_STEPS = 1_000
TABLE = [  # computed independently of this code: c, π, t, margin u, loss ℓ
    (2, 0.5, 10, 2.177325, 0.107368),
    (3, 0.2, 100, 3.971372, 0.037002),
    (10, 0.1, 50, 3.128620, 0.332180),
    (100, 0.19, 100, 7.089370, 0.079327),
    (100, 0.0019, 100, 0.189808, 4.417450),
    (1000, 1.3e-4, 1e6, 11.681245, 0.008407),
]


def sweeps(scale):
    """Gradient and sign descent with small learning rates, with class weights π_k ∝ 1/k."""
    num_classes, steps = SIZES[scale]
    problem = simple_imbalanced(theory.zipf_probabilities(num_classes))
    probe = loss_by_class(problem.task, num_classes)
    rates = {name: (rate,) for name, rate in RATES.items()}
    return {"": Sweep(problem, rates, steps, stops=log_stops(steps, 6), probes=(probe,))}


def found(dataset, name):
    """Time ``[step]``, ``π [class]`` and loss ``[step, class]`` of a run, from step 1."""
    run = at_only(dataset).sel(optimizer=name).squeeze("seed").isel(step=slice(1, None))
    if name == "sign":  # later the loss is zero in float32
        run = run.sel(step=slice(None, SIGN_STEPS))
    probability = theory.zipf_probabilities(dataset.sizes["class"])
    return RATES[name] * run["step"].values, probability, run["class_loss"].values


def exact(dataset, name):
    """Losses of the flow at the same times, ``[step, class]``."""
    time, probability, _ = found(dataset, name)
    num_classes = len(probability)
    if name == "gd":
        return theory.gradient_flow_loss(probability, time, num_classes)
    return np.repeat(theory.sign_flow_loss(time, num_classes)[:, None], num_classes, 1)


def draw(dataset):
    """Loss by class against t, against π t, and under sign flow: lines are flows, points runs."""
    figure, axes = page.panels(1, 3)
    time, probability, loss = found(dataset, "gd")
    num_classes = len(probability)
    shown = np.unique(np.geomspace(1, num_classes, 8).round().astype(int)) - 1
    colours = plots.bucket_colours(len(shown))
    smooth = np.geomspace(time[0], time[-1], 200)
    for k, colour in zip(shown, colours, strict=True):
        curve = theory.gradient_flow_loss(probability[[k]], smooth, num_classes)[:, 0]
        for axis, scale in ((axes[0, 0], 1.0), (axes[0, 1], probability[k])):
            axis.plot(scale * smooth, curve, color=colour, label=f"k = {k + 1}")
            axis.scatter(scale * time[::3], loss[::3, k], color=colour, s=9)
    sign_time, _, sign_loss = found(dataset, "sign")
    smooth = np.linspace(0, sign_time[-1], 200)
    axes[0, 2].plot(smooth, theory.sign_flow_loss(smooth, num_classes), color="gray", lw=0.8)
    sizes = np.linspace(60, 4, len(shown))  # smaller ones upon larger ones: all are seen
    for k, colour, size in zip(shown, colours, sizes, strict=True):
        axes[0, 2].scatter(sign_time[::2], sign_loss[::2, k], color=colour, s=size, lw=0, zorder=2)
    words = ("time t = η × step", "scaled time $π_k t$", "time t = η × step")
    for axis, said in zip(axes[0], words, strict=True):
        axis.set(xscale="log" if axis is not axes[0, 2] else "linear", yscale="log", xlabel=said)
        axis.minorticks_off()
    axes[0, 0].set(title="Gradient flow", ylabel="loss of class k (nats)")
    axes[0, 1].set(title="Gradient flow against $π_k t$")
    axes[0, 2].set(title="Sign flow")
    page.headline(
        figure,
        None,
        "Gradient flow takes time in proportion to a class's rarity, sign flow does not",
        f"{num_classes:,} classes of weight $π_k ∝ 1/k$; lines: theory, points: training runs. "
        "Nothing is random.",
    )
    return figure


def claims(dataset):
    """The closed forms against independent values, and the runs against the closed forms."""
    rows = []
    for c, p, t, u, loss in TABLE:
        margin = float(theory.gradient_flow_margin(p * t, c))
        values = (margin, float(theory.loss_of_margin(margin, c)))
        said = f"gradient flow, c = {c}, π = {p:g}, t = {t:g}: margin and loss"
        name = f"gradient-flow-c{c}-time-{p * t:g}"
        rows.append(close(name, said, values, (u, loss), atol=1e-6, fixed="arithmetic"))
    test: dict[str, Any] = {"fixed": "before any run", "section": "Theorem 3"}
    for name, words in (("gd", "gradient descent"), ("sign", "sign descent")):
        _, _, loss = found(dataset, name)
        rows.append(
            between(
                f"{name}-run-follows-flow",
                f"loss of every class under {words}, η = {RATES[name]:g}: largest deviation from "
                "that of the flow, of the latter",
                np.abs(loss / exact(dataset, name) - 1).max(),
                high=0.01,
                headline=name == "sign",
                percent=True,
                **test,
            )
        )
    time, probability, loss = found(dataset, "gd")
    num_classes = len(probability)
    tau = np.geomspace(max(1, probability[-1] * time[0]), probability[-1] * time[-1] / 2, 5)
    tau = tau if tau[-1] > tau[0] else np.array([probability[-1] * time[-1] / 2])
    curves = [
        np.interp(np.log(tau), np.log(probability[k] * time), np.log(loss[:, k]))
        for k in range(0, num_classes, max(1, num_classes // 10))
    ]
    rows.append(
        between(
            "one-curve-for-all-classes",
            "gradient descent: losses of ten classes at equal π t, interpolated between stops: "
            "largest logarithm of their ratio",
            np.ptp(curves, axis=0).max(),
            high=0.05,
            headline=True,
            **test,
        )
    )
    sign_time, _, sign_loss = found(dataset, "sign")
    late = sign_time > 0.6 * sign_time[-1]
    slope = float(np.polyfit(sign_time[late], np.log(sign_loss[late, -1]), 1)[0])
    said = "sign descent: late slope of the log loss of the rarest class in t; the paper states -c"
    name = "sign-flow-rate-is-two"
    if sign_time[-1] < 3:  # the slope is reached once the margin 2t exceeds log c
        rows.append(undecided(name, said, "-2", f"{slope:.3g}", fixed="arithmetic"))
    else:
        rows.append(close(name, said, [slope], [-2.0], rtol=0.02, fixed="arithmetic"))
    return rows


EXPERIMENT = Experiment("theory_flows", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
