"""Linear bigram models under Zipf's law: gradient descent slows with the vocabulary, sign less.

Claims (Kunstner and Bach 2025, arXiv 2505.19227): with token frequencies proportional to 1/k^α over
d tokens, the loss of gradient descent is a function of t/d^α for α < 1, of log t / log d for α = 1,
and of t alone for α > 1. So ordinary text, with α = 1, is the worst case: a relative loss ε takes
d^(1-ε) steps. Sign descent, with the best learning rate for the number of steps, takes about √d
steps. The same is computed for the pairs of words in the docstrings of Python's standard library,
where the law does not hold in every context and the exponents are other ones: these are reported.

Above, the picture shows the loss of gradient descent against rescaled time, for three exponents;
below, sign descent's, and the steps to a relative loss ε against the number of tokens, in theory
and on text. All of it is computed in closed form, but for one training run of each optimizer on 100
tokens, which lies on it. Nothing is random.

Run:    python experiments/theory_bigram.py
Draws:  figures/theory_bigram.png
"""

from collections import Counter
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from imbalance import theory
from imbalance.analysis.selection import at_only
from imbalance.data.text import basic_english, standard_library_docstrings
from imbalance.problems import Problem
from imbalance.problems.tasks import Examples, Task
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, close, reported, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, log_stops

SIZES = {  # tokens and steps of the training runs, and the vocabularies of the theory
    "smoke": (20, 64, (100, 1000)),
    "laptop": (100, 400, (10**3, 10**4, 10**5)),
    "paper": (100, 400, (10**3, 10**4, 10**5, 10**6)),
}
WORDS = {"smoke": (100, 300), "laptop": (300, 1000, 3000, 10000), "paper": (300, 1000, 3000, 10000)}
TARGETS = (0.5, 0.25)
SIGN_STEP = 0.003
GD_LOSS = {10**3: (0.7214, 0.4449, 0.1631, 0.0065), 10**4: (0.7867, 0.5736, 0.3425, 0.1249)}
SIGN_LOSS = {10**4: ((10, 32, 100, 316), (0.795, 0.453, 0.1235, 0.0152))}


def zipf_bigrams(dimension):
    """The bigrams of the theory: every context has the same sorted conditional frequencies."""
    share = theory.zipf_probabilities(dimension)
    return theory.Bigrams(np.repeat(share, dimension), np.tile(share, dimension))


def bigram_problem(dimension):
    """The distances of all entries from their optimum; each context is a class, with its weight.

    Training divides by the sum of the weights, which is d: its learning rates are d times the
    model's.
    """
    bigrams = zipf_bigrams(dimension)
    start = jnp.asarray(bigrams.start, jnp.float32)

    def per_example(params, batch, key):
        return Examples(params["distance"][batch.input] ** 2 / 2, batch.label, batch.weight)

    entries = np.arange(dimension**2, dtype=np.int32)
    return Problem.from_arrays(
        "zipf_bigram",
        Task(lambda key: {"distance": start}, per_example),
        entries,
        entries // dimension,
        bigrams.context,
        counts=theory.zipf_probabilities(dimension),
        flops_per_step=10.0 * dimension**2,
        settings={"dimension": dimension},
    )


def rates_of(dimension):
    return {"gd": dimension / theory.zipf_probabilities(dimension)[0], "sign": SIGN_STEP}


def sweeps(scale):
    """Gradient descent at 1/π_1 and sign descent, on a vocabulary small enough to train on."""
    dimension, steps, _ = SIZES[scale]
    rates = {name: (float(rate),) for name, rate in rates_of(dimension).items()}
    return {"": Sweep(bigram_problem(dimension), rates, steps, stops=log_stops(steps, 8))}


def trained(dataset, name):
    """Steps and relative loss of a training run, and the closed form at the same steps."""
    run = at_only(dataset)["loss"].sel(optimizer=name).squeeze("seed")
    steps, dimension = run["step"].values, dataset.sizes["class"]
    if name == "gd":
        exact = theory.zipf_gd(dimension, 1.0, steps)
    else:
        entries = zipf_bigrams(dimension)
        exact = np.array([theory.sign_relative_loss(entries, SIGN_STEP, int(t)) for t in steps])
    return steps, run.values / run.values[0], exact


@lru_cache
def zipf_steps(dimension, target):
    """Steps of gradient and of sign descent to a relative loss, at α = 1."""
    gd = theory.steps_to(lambda t: float(theory.zipf_gd(dimension, 1.0, t)[0]), target)
    sign = theory.steps_to(
        lambda t: theory.zipf_sign_best(dimension, 1.0, t)[0] if t else 1.0, target
    )
    return gd, sign


@lru_cache
def text_bigrams(dimension):
    """Pairs of words in the docstrings; all but the d - 1 most frequent words are one token."""
    words = basic_english(standard_library_docstrings())
    ids = {word: i for i, (word, _) in enumerate(Counter(words).most_common(dimension - 1))}
    return theory.bigrams_of(np.array([ids.get(word, dimension - 1) for word in words]))


@lru_cache
def text_steps(dimension, target):
    """The same on text: exact dynamics, best of 40 learning rates, an even number of steps."""
    bigrams = text_bigrams(dimension)

    def sign(half):
        if not half:
            return 1.0
        rates = np.geomspace(1 / dimension, 1, 40) * bigrams.start.max() / (2 * half)
        return min(theory.sign_relative_loss(bigrams, float(rate), 2 * half) for rate in rates)

    gd = theory.steps_to(lambda t: float(theory.gd_relative_loss(bigrams, t)[0]), target)
    return gd, 2 * theory.steps_to(sign, target)


def growth(sizes, counts):
    """Exponent of the power law fitted to the numbers of steps."""
    return float(np.polyfit(np.log(sizes), np.log(counts), 1)[0])


def draw(dataset):
    """Losses against rescaled time, and steps to a loss against d, in theory and on text."""
    scale = dataset.attrs["scale"]
    dimensions = SIZES[scale][2]
    figure, axes = page.panels(2, 3)
    greys = dict(zip(dimensions, map(str, np.linspace(0.8, 0.4, len(dimensions))), strict=True))
    _gd_losses(axes[0], greys)
    dimension, (steps, loss, _) = dataset.sizes["class"], trained(dataset, "gd")
    time = theory.zipf_gd_time(dimension, 1.0, steps[1:])
    look = {"s": 9, "facecolors": "none", "edgecolors": "black", "lw": 0.7, "zorder": 3}
    axes[0, 1].scatter(time, loss[1:], label=f"training run, d = {dimension}", **look)
    _sign_losses(axes[1, 0], greys)
    for axis, sizes, count, words in (
        (axes[1, 1], dimensions, zipf_steps, "Zipf's law, α = 1"),
        (axes[1, 2], WORDS[scale], text_steps, "text"),
    ):
        for target, line in zip(TARGETS, ("-", ":"), strict=True):
            found = np.array([count(d, target) for d in sizes])
            for column, name in zip(found.T, ("gd", "sign"), strict=True):
                style = {"color": plots.line_style(name)["color"], "linestyle": line}
                said = f"{plots.label(name, dataset)}, ε = {target:g}"
                axis.plot(sizes, column, marker="o", ms=3, label=said, **style)
        axis.set(xscale="log", yscale="log", xlabel="tokens d", title=words)
        axis.minorticks_off()
    axes[0, 0].set_ylabel("relative loss")
    axes[1, 0].set_ylabel("relative loss")
    axes[1, 1].set_ylabel("steps to loss ε")
    page.headline(
        figure,
        None,
        "Linear bigram models: to a small loss, steps of GD grow fastest with the vocabulary",
        "d tokens of frequency ∝ $1/k^α$; GD after t steps, sign descent after T at its best "
        "learning rate. Lines: exact losses. Nothing is random.",
    )
    return figure


def _gd_losses(axes, greys):
    """Loss of gradient descent against rescaled time, and its limit, for three exponents."""
    names = {0.5: "$2t/d^α$", 1.0: "$\\log 2t / \\log d$", 1.5: "step t"}
    for axis, (alpha, words) in zip(axes, names.items(), strict=True):
        for dimension, grey in greys.items():
            if alpha == 1:
                steps = dimension ** np.linspace(0.01, 1.1, 25) / 2
            else:
                top = 3 * dimension**alpha if alpha < 1 else 1e3
                steps = np.geomspace(1 if alpha > 1 else dimension**alpha / 100, top, 25)
            time = theory.zipf_gd_time(dimension, alpha, steps)
            loss = theory.zipf_gd(dimension, alpha, steps)
            axis.plot(time, loss, color=grey, label=f"d = {dimension:,}")
        axis.plot(time, theory.zipf_gd_limit(alpha, time), "k:", lw=1, label="limit")
        axis.set(title=f"GD, α = {alpha:g}", xlabel=words, ylim=(0, 1))
        if alpha == 1.5:
            axis.set_xscale("log")
            axis.minorticks_off()


def _sign_losses(axis, greys):
    """Loss of sign descent at its best learning rate against rescaled time, and its limit."""
    for dimension, grey in greys.items():
        horizon = np.unique(np.geomspace(1, 2 * dimension**0.5, 25).astype(int))
        time = theory.zipf_sign_time(dimension, 1.0, horizon)
        loss = [theory.zipf_sign_best(dimension, 1.0, t)[0] for t in horizon]
        axis.plot(time, loss, color=grey, label=f"d = {dimension:,}")
    smooth = np.linspace(1, 4, 50)
    axis.plot(smooth, theory.zipf_sign_limit(1.0, smooth), "k:", lw=1, label="limit")
    axis.set(title="sign descent, α = 1", xlabel="$2T / \\sqrt{d}$", xlim=(0, 4), ylim=(0, 1))


def claims(dataset):
    """The closed forms, the training runs, the collapse, and the growth of steps with d."""
    rows = []
    for d, expected in GD_LOSS.items():
        said = f"GD, α = 1, d = {d}: relative loss at steps 1, 10, 100, 1000"
        found = theory.zipf_gd(d, 1.0, [1, 10, 100, 1000])
        name = f"gd-relative-loss-d{d}"
        rows.append(close(name, said, found, expected, atol=1e-4, fixed="arithmetic"))
    for d, (horizons, expected) in SIGN_LOSS.items():
        said = (
            f"sign descent at its best learning rate, α = 1, d = {d}: relative loss after "
            f"{', '.join(map(str, horizons))} steps"
        )
        found = [theory.zipf_sign_best(d, 1.0, t)[0] for t in horizons]
        name = f"sign-relative-loss-d{d}"
        rows.append(close(name, said, found, expected, atol=1e-3, fixed="arithmetic"))
    for name in ("gd", "sign"):
        _, found, exact = trained(dataset, name)
        said = (
            f"{plots.label(name, dataset)}, training run with d = {dataset.sizes['class']}: "
            "largest difference of its relative loss from the closed form"
        )
        worst = np.abs(found - exact).max()
        name_of = f"{name}-run-follows-closed-form"
        rows.append(between(name_of, said, worst, high=1e-3, fixed="before any run"))
    for alpha, high in ((0.5, 0.05), (1.0, 0.1)):
        curves = []
        for d in (10**4, 10**5):
            at = np.linspace(0.1, 1, 10)
            steps = d**at / 2 if alpha == 1 else 4 * at * d**alpha / 2
            curves.append(theory.zipf_gd(d, alpha, steps))
        said = (
            f"GD, α = {alpha:g}: largest difference of relative losses with d = 10^4 and 10^5 at "
            "equal rescaled time"
        )
        worst = np.abs(curves[0] - curves[1]).max()
        name = f"gd-curves-collapse-exponent-{alpha:g}"
        rows.append(between(name, said, worst, high=high, fixed="before any run"))
    return [*rows, *_growth_rows(dataset)]


def _growth_rows(dataset):
    """How steps grow with d: by the law in theory; on text it is reported."""
    rows, scale = [], dataset.attrs["scale"]
    for sizes, count, short, words in (
        (SIZES[scale][2], zipf_steps, "zipf", "Zipf's law with α = 1"),
        (WORDS[scale], text_steps, "text", "words of the docstrings"),
    ):
        for target in TARGETS:
            found = np.array([count(d, target) for d in sizes])
            for column, name, law in zip(found.T, ("gd", "sign"), (1 - target, 0.5), strict=True):
                said = (
                    f"{plots.label(name, dataset)}, {words}: exponent of d in the steps to a "
                    f"relative loss of {target:g} ({', '.join(map(str, column))} steps at d = "
                    f"{', '.join(map(str, sizes))})"
                )
                name, value = f"{name}-{short}-steps-to-{target:g}", growth(sizes, column)
                if short == "text":
                    said += f"; by Zipf's law with α = 1 it were {law:g}"
                    rows.append(reported(name, said, round(value, 2) + 0.0))  # not -0
                elif scale == "smoke":
                    test: dict[str, Any] = {"fixed": "before any run"}
                    rows.append(undecided(name, said, f"{law:g}", f"{value:.2f}", **test))
                else:
                    test: dict[str, Any] = {"atol": 0.05, "fixed": "before any run"}
                    rows.append(close(name, said, [value], [law], **test))
    return rows


EXPERIMENT = Experiment("theory_bigram", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
