"""Does longer training help gradient descent? In the end, and the rare classes come last.

Claim (the paper's appendix): in 10,000 steps gradient descent fits all classes, but at every
horizon the losses are ordered by frequency, and that of the rarest classes stays above its initial
value for 1,000 steps. Classes with equally many examples are one frequency level.

Run:    python experiments/linear_long.py
Draws:  figures/linear_long.png
"""

import numpy as np

from imbalance.analysis.block_measures import spearman
from imbalance.analysis.labelled import at_fixed
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, close
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, linear_stops

RATE = 1e-2
HORIZONS = {
    "smoke": (10, 40),
    "laptop": (100, 1000, 3000, 10_000),
    "paper": (100, 1000, 3000, 10_000),
}
REFERENCE = {  # step: overall, then classes with 128, 64, ... 2 examples; one seed, NumPy
    100: (3.955, 1.90, 2.57, 3.27, 4.01, 4.80, 5.38, 5.76),
    1000: (3.17, 1.40, 1.89, 2.48, 3.09, 3.78, 4.42, 5.14),
    3000: (1.80, 0.83, 1.03, 1.31, 1.62, 2.09, 2.56, 3.18),
    10_000: (0.270, 0.22, 0.23, 0.25, 0.26, 0.29, 0.31, 0.34),
}
TOLERANCE = 0.15  # five seeds of the NumPy runs differ by 0.06


def sweeps(scale):
    """One long run at the paper's learning rate; the paper has m = 7."""
    m = 4 if scale == "smoke" else 7
    horizons = HORIZONS[scale]
    stops = tuple(stop for horizon in horizons for stop in linear_stops(horizon, 26))
    problem = heavy_tailed_linear(m, bucketing="levels")
    return {"": Sweep(problem, {"gd": (RATE,)}, horizons[-1], stops=stops)}


def draw(dataset):
    """The same run up to each horizon."""
    run = at_fixed(dataset, {"gd": RATE}).sel(optimizer="gd")
    horizons = HORIZONS[dataset.attrs["scale"]]
    figure, axes = plots.panels(1, len(horizons))
    for axis, horizon in zip(axes[0], horizons, strict=True):
        plots.by_bucket(axis, run.sel(step=slice(0, horizon)))
        axis.set(title=f"{horizon:,} steps", ylim=(0, 7))
    axes[0, 0].set_ylabel("loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    figure.suptitle(
        f"GD, η = {plots.exponent(RATE)}: in time all losses fall, those of rare classes last"
    )
    return figure


def claims(dataset):
    """The order of the levels at every horizon, and the losses of the NumPy runs."""
    run = at_fixed(dataset, {"gd": RATE}).sel(optimizer="gd").isel(seed=0)
    rows = []
    for step in HORIZONS[dataset.attrs["scale"]]:
        levels = run["bucket_loss"].sel(step=step)
        rows.append(
            between(
                f"step-{step}-levels-ordered-by-frequency",
                f"Rank correlation of the losses of the levels with rarity at step {step}",
                float(spearman(np.arange(levels.size), levels.values)),
                low=0.95,
                fixed="before any run",
            )
        )
        if step in REFERENCE and dataset.attrs["scale"] != "smoke":
            overall, *expected = REFERENCE[step]
            rows += [
                close(
                    f"step-{step}-losses-of-levels",
                    f"GD, η = 10^-2: loss of each level at step {step}",
                    levels.values,
                    expected,
                    atol=TOLERANCE,
                    fixed="after a pilot",
                ),
                close(
                    f"step-{step}-overall-loss",
                    f"GD, η = 10^-2: overall loss at step {step}",
                    [float(run["loss"].sel(step=step))],
                    [overall],
                    atol=TOLERANCE,
                    fixed="after a pilot",
                ),
            ]
    rarest = run["bucket_loss"].isel(bucket=-1)
    if 1000 in run["step"]:
        rows.append(
            between(
                "rarest-level-above-initial-loss",
                "Loss of the rarest level at step 1000 divided by its initial value",
                float(rarest.sel(step=1000) / rarest.sel(step=0)),
                low=1.0,
                fixed="after a pilot",
            )
        )
    return rows


EXPERIMENT = Experiment("linear_long", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
