"""Linear bigram models under Zipf's law: gradient descent slows with the vocabulary, sign less.

Claims (Kunstner and Bach 2025, section H.1): with token frequencies 1/k^α over d tokens, the loss
of gradient descent is a function of t/d^α for α < 1, of log t / log d for α = 1, and of t alone for
α > 1; so ordinary text, α = 1, is the worst case, with d^(1-ε) steps to a relative loss ε. Sign
descent with the step that suits the horizon takes about √d steps. The same is counted on the pairs
of words in the docstrings of Python's standard library.

Run:    python experiments/theory_bigram.py
Draws:  figures/theory_bigram.png
"""

from collections import Counter
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from imbalance import plots, theory
from imbalance.claims import between, close, undecided
from imbalance.data.text import basic_english, standard_library_docstrings
from imbalance.experiment import Experiment, main
from imbalance.problems import Problem
from imbalance.sweep import Sweep, log_stops
from imbalance.tasks import Batch, Examples, Task

SIZES = {  # tokens of the engine's runs and their steps, and the vocabularies of the theory
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
    """Every context with the same sorted conditionals."""
    share = theory.zipf_probabilities(dimension)
    return theory.Bigrams(np.repeat(share, dimension), np.tile(share, dimension))


@lru_cache
def bigram_task(dimension):
    start = jnp.asarray(zipf_bigrams(dimension).start, jnp.float32)

    def per_example(params, batch, key):
        return Examples(params["distance"][batch.input] ** 2 / 2, batch.label, batch.weight)

    return Task(lambda key: {"distance": start}, per_example)


def bigram_problem(dimension):
    """The distances of all entries from their optimum, weighted by their context; class: context.

    Weights add up to d, by which the engine's mean divides: its rates are d times the model's.
    """
    weight = zipf_bigrams(dimension).context.astype(np.float32)
    entries = np.arange(dimension**2, dtype=np.int32)
    context = entries // dimension
    struct = jax.ShapeDtypeStruct
    return Problem(
        name="zipf_bigram",
        settings={"dimension": dimension},
        task=bigram_task(dimension),
        counts=theory.zipf_probabilities(dimension),
        make_batch=lambda seed: Batch(entries, context, weight),
        shapes=Batch(
            struct(entries.shape, jnp.int32),
            struct(entries.shape, jnp.int32),
            struct(entries.shape, jnp.float32),
        ),
        data_by_seed=False,
        flops_per_step=10.0 * dimension**2,
    )


def rates_of(dimension):
    return {"gd": dimension / theory.zipf_probabilities(dimension)[0], "sign": SIGN_STEP}


def sweeps(scale):
    """Gradient descent at 1/π_1 and sign descent, on a vocabulary that the engine can hold."""
    dimension, steps, _ = SIZES[scale]
    rates = {name: (float(rate),) for name, rate in rates_of(dimension).items()}
    return {"": Sweep(bigram_problem(dimension), rates, steps, stops=log_stops(steps, 8))}


def engine(dataset, name):
    """Steps and relative loss of the engine's run, and the closed form at the same steps."""
    run = dataset["loss"].sel(optimizer=name).isel(seed=0).dropna("learning_rate", how="all")
    run = run.isel(learning_rate=0)
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
    """Pairs of the docstrings' words; all but the d - 1 most frequent are one token."""
    words = basic_english(standard_library_docstrings())
    ids = {word: i for i, (word, _) in enumerate(Counter(words).most_common(dimension - 1))}
    return theory.bigrams_of(np.array([ids.get(word, dimension - 1) for word in words]))


@lru_cache
def text_steps(dimension, target):
    """The same on the text: exact dynamics, the best of 40 step sizes, an even number of steps."""
    bigrams = text_bigrams(dimension)

    def sign(half):
        if not half:
            return 1.0
        rates = np.geomspace(1 / dimension, 1, 40) * bigrams.start.max() / (2 * half)
        return min(theory.sign_relative_loss(bigrams, float(rate), 2 * half) for rate in rates)

    gd = theory.steps_to(lambda t: float(theory.gd_relative_loss(bigrams, t)[0]), target)
    return gd, 2 * theory.steps_to(sign, target)


def growth(sizes, counts):
    """Exponent of a power law through the numbers of steps."""
    return float(np.polyfit(np.log(sizes), np.log(counts), 1)[0])


def draw(dataset):
    """Rescaled curves of both, and steps to a loss against the vocabulary, by law and on text."""
    _, _, dimensions = SIZES[dataset.attrs["scale"]]
    figure, axes = plots.panels(2, 3, width=2.9, height=2.5)
    shades = plots.bucket_colours(len(dimensions) + 1)[:-1]
    names = {0.5: "$2t/d^α$", 1.0: "$\\log 2t / \\log d$", 1.5: "$t$"}
    for axis, alpha in zip(axes[0], names, strict=True):
        for dimension, colour in zip(dimensions, shades, strict=True):
            if alpha == 1:
                steps = dimension ** np.linspace(0.01, 1.1, 25) / 2
            else:
                top = 3 * dimension**alpha if alpha < 1 else 1e3
                steps = np.geomspace(1 if alpha > 1 else dimension**alpha / 100, top, 25)
            time = theory.zipf_gd_time(dimension, alpha, steps)
            loss = theory.zipf_gd(dimension, alpha, steps)
            axis.plot(time, loss, color=colour, label=f"d = {dimension:,}")
            axis.plot(time, theory.zipf_gd_limit(alpha, time), "k:", lw=1)
        axis.set(title=f"GD, α = {alpha:g}", xlabel=names[alpha], ylim=(0, 1))
        if alpha == 1.5:
            axis.set_xscale("log")
            axis.minorticks_off()
    steps, loss, _ = engine(dataset, "gd")
    time = theory.zipf_gd_time(dataset.sizes["class"], 1.0, steps[1:])
    said = f"engine, d = {dataset.sizes['class']}"
    axes[0, 1].scatter(time, loss[1:], s=9, color="#BB5566", label=said, zorder=3)
    axes[0, 1].legend()
    axes[0, 0].set_ylabel("relative loss")
    left, middle, right = axes[1]
    for dimension, colour in zip(dimensions, shades, strict=True):
        horizon = np.unique(np.geomspace(1, 2 * dimension**0.5, 25).astype(int))
        time = theory.zipf_sign_time(dimension, 1.0, horizon)
        loss = [theory.zipf_sign_best(dimension, 1.0, t)[0] for t in horizon]
        left.plot(time, loss, color=colour)
    smooth = np.linspace(1, 4, 50)
    left.plot(smooth, theory.zipf_sign_limit(1.0, smooth), "k:", lw=1, label="limit")
    left.set(title="Sign descent, α = 1", xlabel="$2T / \\sqrt{d}$", ylabel="relative loss")
    left.set(xlim=(0, 4), ylim=(0, 1))
    left.legend()
    scale = dataset.attrs["scale"]
    panels = ((middle, dimensions, zipf_steps, "α = 1"), (right, WORDS[scale], text_steps, "text"))
    for axis, sizes, count, words in panels:
        for target, dash in zip(TARGETS, ("-", "--"), strict=True):
            found = np.array([count(d, target) for d in sizes])
            for column, name in zip(found.T, ("gd", "sign"), strict=True):
                style = {"color": plots.line_style(name)["color"], "linestyle": dash}
                said = f"{plots.label(name)}, ε = {target:g}"
                axis.plot(sizes, column, marker="o", ms=3, label=said, **style)
        axis.set(xscale="log", yscale="log", xlabel="tokens d", title=f"Steps to a loss ε, {words}")
        axis.minorticks_off()
    middle.set_ylabel("steps")
    figure.legend(*middle.get_legend_handles_labels(), loc="outside lower right", ncols=4)
    figure.suptitle(
        "Linear bigram models: exact losses (lines) and limits for many tokens (dotted)"
    )
    return figure


def claims(dataset):
    """T25, the engine, the collapse, and how steps grow with the vocabulary."""
    rows = []
    for d, expected in GD_LOSS.items():
        said = f"GD, α = 1, d = {d}: relative loss at t = 1, 10, 100, 1000"
        found = theory.zipf_gd(d, 1.0, [1, 10, 100, 1000])
        rows.append(close("T25", said, found, expected, atol=1e-4, fixed="arithmetic"))
    for d, (horizons, expected) in SIGN_LOSS.items():
        said = (
            f"Sign descent at its best step, α = 1, d = {d}: at T = {', '.join(map(str, horizons))}"
        )
        found = [theory.zipf_sign_best(d, 1.0, t)[0] for t in horizons]
        rows.append(close("T25", said, found, expected, atol=1e-3, fixed="arithmetic"))
    for name in ("gd", "sign"):
        _, found, exact = engine(dataset, name)
        said = (
            f"The engine's {plots.label(name)} on d = {dataset.sizes['class']}, off the closed form"
        )
        worst = float(np.abs(found - exact).max())
        rows.append(between("H.1", said, worst, high=1e-3, fixed="before any run"))
    for alpha, high in ((0.5, 0.05), (1.0, 0.1)):
        curves = []
        for d in (10**4, 10**5):
            at = np.linspace(0.1, 1, 10)
            steps = d**at / 2 if alpha == 1 else 4 * at * d**alpha / 2
            curves.append(theory.zipf_gd(d, alpha, steps))
        said = f"GD, α = {alpha:g}: d = 10^4 and 10^5 at equal rescaled time, largest difference"
        worst = float(np.abs(curves[0] - curves[1]).max())
        rows.append(between("H.1", said, worst, high=high, fixed="before any run"))
    scale = dataset.attrs["scale"]
    for sizes, count, words in (
        (SIZES[scale][2], zipf_steps, "α = 1"),
        (WORDS[scale], text_steps, "the docstrings' words"),
    ):
        for target in TARGETS:
            found = np.array([count(d, target) for d in sizes])
            for column, name, law in zip(found.T, ("gd", "sign"), (1 - target, 0.5), strict=True):
                said = (
                    f"{plots.label(name)}, {words}: exponent of d in the steps to ε = {target:g} "
                    f"({', '.join(map(str, column))})"
                )
                value = growth(sizes, column)
                if words == "α = 1" and scale != "smoke":
                    rows.append(
                        close("H.1", said, [value], [law], atol=0.05, fixed="before any run")
                    )
                else:
                    rows.append(
                        undecided(
                            "H.1", said, f"{law:g} at α = 1", f"{value:.2f}", fixed="before any run"
                        )
                    )
    return rows


EXPERIMENT = Experiment("theory_bigram", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
