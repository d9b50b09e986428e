"""Spectra of the classes' Hessian blocks: equal at the start, different along the training path.

Claim (after Zhang et al. 2024, arXiv 2402.16788; here the blocks are rows of a softmax layer): Adam
can treat blocks with different spectra differently, and gradient descent cannot. Here spectra
differ in scale, in proportion to the frequency of the class, so that their mean Jensen-Shannon
distance grows with the exponent of the tail. Unlike in transformers, they do not differ at the
start, where the Hessian does not depend on frequencies.

Beyond α = 1 most classes have the minimum of one example and are alike again, and the distance
falls a little: that claim fails.

Spectra are densities of the logarithm of the eigenvalues, without the null space that all blocks
share.

Run:    python experiments/linear_block_spectra.py
Draws:  figures/linear_block_spectra.png
"""

import numpy as np

from imbalance.analysis.block_measures import (
    gradient_complexity,
    mean_jensen_shannon,
    parameter_complexity,
)
from imbalance.curvature.operators import Spectrum, density
from imbalance.probes import block_spectra, class_statistics
from imbalance.problems import power_law_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, undecided
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STOPS = (0, 10, 50, 100)
EXPONENTS = (0.0, 0.5, 1.0, 1.5)
SIZES = {  # m, exponents, Lanczos steps, starts
    "smoke": (4, (0.0, 1.0), 10, 1),
    "laptop": (6, EXPONENTS, 60, 2),
    "paper": (8, EXPONENTS, 100, 10),
}
RATE = 1e-3
WIDTH = 0.1  # decades
NULL = 1e-6  # times a block's largest eigenvalue: smaller ones are rounding errors
GRID = np.arange(-10, 2, WIDTH / 2)  # log10 of eigenvalues


def sweeps(scale):
    """Adam at one learning rate, for each exponent; blocks of at most 64 classes."""
    m, exponents, steps, starts = SIZES[scale]
    by_exponent = {}
    for alpha in exponents:
        problem = power_law_linear(m, alpha)
        num_classes = len(problem.counts)
        classes = np.linspace(0, num_classes - 1, min(num_classes, 64)).round().astype(int)
        probes = (
            block_spectra(problem.task, tuple(np.unique(classes)), steps=steps, starts=starts),
            class_statistics(problem.task),
        )
        sweep = Sweep(problem, {"adam": (RATE,)}, STOPS[-1], stops=STOPS, probes=probes)
        by_exponent[alpha] = sweep
    return by_exponent


def densities(dataset, alpha):
    """Spectral densities over decades for one exponent, ``[step, block, point]``."""
    run = dataset.sel(exponent=alpha).isel(optimizer=0, learning_rate=0, seed=0)
    values, weights = run["ritz_value"].values, run["ritz_weight"].values
    largest = values.max(axis=(-2, -1), keepdims=True)
    seen = values > NULL * largest
    nodes = np.log10(np.where(seen, values, largest))
    weights = np.where(seen, weights, 0)
    return np.array(
        [
            [density(Spectrum(*block), GRID, WIDTH) for block in zip(*step, strict=True)]
            for step in zip(nodes, weights, strict=True)
        ]
    )


def draw(dataset):
    """Densities of all blocks at the start and at the end, and their mean distance."""
    exponents = dataset["exponent"].values
    figure, axes = plots.panels(2, len(exponents) + 1, width=2.1, height=1.9)
    colours = plots.bucket_colours(dataset.sizes["block"])
    distance = {}
    for column, alpha in zip(axes.T, exponents, strict=False):
        found = densities(dataset, alpha)
        distance[alpha] = mean_jensen_shannon(found)
        for axis, at in zip(column, (0, -1), strict=True):
            for colour, one in reversed(list(zip(colours, found[at], strict=True))):
                axis.plot(GRID, one / one.max(), color=colour, lw=0.6)
            axis.set(xlim=(-7, 1.5), yticks=[], title=f"α = {alpha:g}, step {STOPS[at]}")
        column[1].set_xlabel("log10 eigenvalue")
    for axis in axes[:, 0]:
        axis.set_ylabel("density / its largest")
    steps, by_exponent = axes[:, -1]
    for alpha, colour in zip(exponents, plots.bucket_colours(len(exponents)), strict=True):
        steps.plot(STOPS, distance[alpha], "o-", color=colour, markersize=3, label=f"α = {alpha:g}")
    steps.set(xlabel="step", ylabel="mean distance", title="Distance of spectra")
    steps.set_ylim(0, 1.5 * max(one.max() for one in distance.values()))
    steps.legend(ncols=2, loc="upper center", handlelength=1)
    by_exponent.plot(exponents, [distance[a][-1] for a in exponents], "ko-", markersize=3)
    by_exponent.set(
        xlabel="exponent α", ylabel="mean distance", title=f"At step {STOPS[-1]}", ylim=0
    )
    plots.bucket_bar(figure, axes[0, -2], 10)
    figure.suptitle("Spectra of the classes' Hessian blocks along Adam's path")
    return figure


def claims(dataset):
    """The distance at the start and on the path, and two measures of the curvature of blocks."""
    exponents = dataset["exponent"].values
    distance = np.array([mean_jensen_shannon(densities(dataset, alpha)) for alpha in exponents])
    values = ", ".join(f"{value:.3f}" for value in distance[:, -1])
    rows = [
        between(
            "distance-grows-with-exponent",
            f"Mean Jensen-Shannon distance at step {STOPS[-1]} for α = "
            f"{', '.join(f'{a:g}' for a in exponents)} is {values}: smallest increase",
            float(np.diff(distance[:, -1]).min()),
            low=0.0,
            fixed="before any run",
        ),
        between(
            "distance-at-start-independent-of-exponent",
            "At the start the distance does not depend on the exponent, since the Hessian of a "
            "softmax model does not depend on labels: largest minus smallest",
            float(np.ptp(distance[:, 0])),
            high=1e-6,
            fixed="arithmetic",
        ),
    ]
    for alpha in exponents:
        run = dataset.sel(exponent=alpha).isel(optimizer=0, learning_rate=0, seed=0)
        curvature = run["ritz_value"].values.max(axis=(-2, -1))
        gradient = run["gradient_norm"].sel({"class": run["block"].values}).values
        ratio = gradient_complexity(gradient, curvature, "block") / parameter_complexity(
            np.ones_like(curvature), curvature, "block"
        )
        words = ", ".join(f"{value:.2f}" for value in np.atleast_1d(ratio))
        said = (
            f"α = {alpha:g}: Λ_G / Λ_P of Tomihari and Sato (arXiv 2502.00213) over classes at "
            f"steps {', '.join(map(str, STOPS))}"
        )
        name = f"complexity-ratio-exponent-{alpha:g}"
        rows.append(undecided(name, said, "grows with the tail", words, fixed="before any run"))
    return rows


EXPERIMENT = Experiment("linear_block_spectra", sweeps, draw, claims, over="exponent")

if __name__ == "__main__":
    main(EXPERIMENT)
