"""Spectra of the classes' Hessian blocks: equal at the start, different along the training path.

Claim (after Zhang et al. 2024, arXiv 2402.16788; here the blocks are rows of a softmax layer): Adam
can treat blocks with different spectra differently, and gradient descent cannot. Here spectra
differ in scale, in proportion to the frequency of the class, so that their mean Jensen-Shannon
distance grows with the exponent of the tail. Unlike in transformers, frequency makes no difference
at the start, where the Hessian does not depend on labels.

The claim is about exponents from 0 (balanced) to 1 (Zipf's law). Beyond, most classes have the
minimum of one example and are alike again, so that a larger exponent is no greater imbalance among
them: the distance at 1.5 is reported. (An earlier version asked growth up to 1.5.)

Spectra are densities of the logarithm of the eigenvalues, without the null space that all blocks
share. At laptop scale: 384 examples, 63 classes of which 32 evenly spaced by rank are measured,
Adam at a fixed learning rate. The picture shows one seed, its last panel and the claims three.

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
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, reported
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep

STOPS = (0, 10, 50, 100)
EXPONENTS = (0.0, 0.5, 1.0, 1.5)
SIZES = {  # m, exponents, Lanczos steps, starts
    "smoke": (4, (0.0, 1.0), 10, 1),
    "laptop": (6, EXPONENTS, 60, 2),
    "paper": (8, EXPONENTS, 100, 10),
}
MEASURED = 32  # classes
RATE = 1e-3
WIDTH = 0.1  # decades
NULL = 1e-6  # times a block's largest eigenvalue: smaller ones are rounding errors
GRID = np.arange(-10, 2, WIDTH / 2)  # log10 of eigenvalues


def sweeps(scale):
    """Adam at one learning rate, for each exponent."""
    m, exponents, steps, starts = SIZES[scale]
    by_exponent = {}
    for alpha in exponents:
        problem = power_law_linear(m, alpha)
        last = len(problem.counts) - 1
        classes = np.unique(np.linspace(0, last, min(last + 1, MEASURED)).round().astype(int))
        by_exponent[alpha] = Sweep(
            problem,
            {"adam": (RATE,)},
            STOPS[-1],
            seeds=(1,) if scale == "smoke" else (1, 2, 3),
            stops=STOPS,
            probes=(
                block_spectra(problem.task, tuple(classes), steps=steps, starts=starts),
                class_statistics(problem.task),
            ),
        )
    return by_exponent


def densities(dataset, alpha):
    """Spectral densities over decades for one exponent, ``[seed, step, block, point]``."""
    run = dataset.sel(exponent=alpha).isel(optimizer=0, learning_rate=0)
    values, weights = (
        run[name].transpose("seed", "step", "block", "start", "lanczos").values
        for name in ("ritz_value", "ritz_weight")
    )
    largest = values.max(axis=(-2, -1), keepdims=True)
    seen = values > NULL * largest
    nodes = np.log10(np.where(seen, values, largest))
    weights = np.where(seen, weights, 0)
    found = [
        density(Spectrum(node, weight), GRID, WIDTH)
        for node, weight in zip(
            nodes.reshape(-1, *nodes.shape[-2:]),
            weights.reshape(-1, *nodes.shape[-2:]),
            strict=True,
        )
    ]
    return np.reshape(found, (*nodes.shape[:3], len(GRID)))


def draw(dataset):
    """Densities of all blocks at the start and, for each exponent, at the end; their distance."""
    exponents = dataset["exponent"].values
    found = {alpha: densities(dataset, alpha) for alpha in exponents}
    figure, axes = page.panels(2, 3)
    shown = [("Start, for any α", exponents[0], 0)]
    shown += [(f"α = {alpha:g}, step {STOPS[-1]}", alpha, -1) for alpha in exponents]
    colours = plots.bucket_colours(dataset.sizes["block"])
    for axis, (title, alpha, at) in zip(axes.flat, shown, strict=False):
        for colour, one in reversed(list(zip(colours, found[alpha][0, at], strict=True))):
            axis.plot(GRID, one / one.max(), color=colour, lw=0.6)
        axis.set(xlim=(-7, 1.5), yticks=[], title=title, xlabel="log10 eigenvalue")
    for axis in axes[:, 0]:
        axis.set_ylabel("density / its largest")
    summary, *unused = axes.flat[len(shown) :]
    for axis in unused:
        axis.set_axis_off()
    distance = np.array([mean_jensen_shannon(found[alpha]) for alpha in exponents])
    for i, (step, grey) in enumerate(zip(STOPS, (0.35, 0.5, 0.7, 1.0), strict=True)):
        line = {"color": str(round(1 - grey, 2)), "label": f"step {step}"}
        means = distance[..., i].mean(1)
        ends = np.abs(np.stack([distance[..., i].min(1), distance[..., i].max(1)]) - means)
        summary.errorbar(exponents, means, ends, marker="o", markersize=3, **line)
    summary.set(
        xlabel="exponent α",
        ylabel="mean distance",
        title="Distance of two blocks",
        ylim=(0, 1.1 * distance.max()),
    )
    plots.bucket_bar(figure, axes[0, -1], 10)
    examples, classes = int(dataset["class_count"].isel(exponent=0).sum()), dataset.sizes["class"]
    seeds = ", ".join(map(str, dataset["seed"].values))
    page.headline(
        figure,
        None,
        "Spectra of the classes' Hessian blocks come apart on the way where the tail is heavy",
        f"A curve is the block of a class, of seed {dataset['seed'].values[0]}; {examples:,} "
        f"examples, {classes:,} classes. Last panel: mean Jensen-Shannon distance, mean and range "
        f"of seeds {seeds}. Learning rate {plots.exponent(RATE)}, fixed.",
    )
    return figure


def claims(dataset):
    """The distance at the start and on the path, and two measures of the curvature of blocks."""
    exponents = dataset["exponent"].values
    distance = np.array([mean_jensen_shannon(densities(dataset, alpha)) for alpha in exponents])
    last, heavy = distance[..., -1], exponents <= 1  # [exponent, seed]
    up_to = ", ".join(f"{alpha:g}" for alpha in exponents[heavy])
    rows = [
        between(
            "distance-grows-with-exponent",
            f"Mean Jensen-Shannon distance at step {STOPS[-1]} for α = {up_to}: smallest increase",
            np.diff(last[heavy], axis=0).min(0),
            low=0.0,
            fixed="before any run",
        ),
        between(
            "distance-at-start-independent-of-exponent",
            "At the start the distance does not depend on the exponent, since the Hessian of a "
            "softmax model does not depend on labels: largest minus smallest",
            np.ptp(distance[..., 0], axis=0),
            high=1e-6,
            fixed="arithmetic",
        ),
    ]
    for alpha, found in zip(exponents, last, strict=True):
        said = f"α = {alpha:g}: mean Jensen-Shannon distance at step {STOPS[-1]}"
        rows.append(reported(f"distance-exponent-{alpha:g}", said, found))
    for alpha in exponents:
        run = dataset.sel(exponent=alpha).isel(optimizer=0, learning_rate=0)
        curvature = run["ritz_value"].max(["start", "lanczos"])
        gradient = (
            run["gradient_norm"].sel({"class": run["block"].values}).rename({"class": "block"})
        )
        ratio = gradient_complexity(gradient, curvature) / parameter_complexity(
            curvature * 0 + 1, curvature
        )
        words = ", ".join(f"{value:.2f}" for value in ratio.mean("seed").values)
        said = (
            f"α = {alpha:g}: Λ_G / Λ_P of Tomihari and Sato (arXiv 2502.00213) over classes, mean "
            f"of seeds, at steps {', '.join(map(str, STOPS))}"
        )
        rows.append(reported(f"complexity-ratio-exponent-{alpha:g}", said, words))
    return rows


EXPERIMENT = Experiment("linear_block_spectra", sweeps, draw, claims, over="exponent")

if __name__ == "__main__":
    main(EXPERIMENT)
