"""Two implementations: this code against independent NumPy runs, the pilots, made before it.

Claim: at the fixed, untuned learning rates of those runs, the losses of all frequency levels agree
within the noise between seeds at m = 5 and m = 7. This checks the code; it is not a comparison of
optimizers at their best learning rates, and its picture is no figure of the paper.

Means over three seeds are compared with NumPy runs of one seed.

Run:    python experiments/linear_pilots.py
Draws:  figures/linear_pilots.png
"""

import numpy as np

from imbalance.analysis.selection import at_fixed
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import close
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, linear_stops

SHORT = {"gd+m": "gd", "adam": "adam"}  # in names of claims
RATES = {5: {"gd+m": 1e-2, "adam": 1e-3}, 7: {"gd+m": 10**-2.5, "adam": 1e-3}}
STEPS = 300
REFERENCE = {  # (m, optimizer, step): loss of each level, frequent to rare; overall loss
    (5, "gd+m", 50): ((1.40, 1.93, 2.74, 3.27, 4.00), None),
    (5, "adam", 300): ((0.78, 0.88, 0.60, 0.43, 0.46), None),
    (7, "gd+m", 50): ((1.76, 2.51, 3.34, 3.88, 4.63, 5.41, 5.94), 3.92),
    (7, "gd+m", 150): (None, 3.64),
    (7, "adam", 50): ((1.82, 2.35, 2.59, 2.66, 1.97, 1.73, 2.28), 2.20),
    (7, "adam", 150): ((0.94, 1.13, 0.90, 0.54, 0.22, 0.14, 0.13), 0.571),
}


def sweeps(scale):
    """One sweep for each size, at the learning rates of the NumPy runs."""
    return {
        m: Sweep(
            heavy_tailed_linear(m, bucketing="levels"),
            {name: (rate,) for name, rate in RATES[m].items()},
            STEPS,
            seeds=(1,) if scale == "smoke" else (1, 2, 3),
            stops=linear_stops(STEPS, 61),
        )
        for m in ((5,) if scale == "smoke" else (5, 7))
    }


def of_size(dataset, m):
    """The runs of size m, which has m levels."""
    return at_fixed(dataset.sel(m=m, bucket=slice(0, m - 1)), RATES[m], "those of the NumPy runs")


def draw(dataset):
    """Losses by level, one row for each size; dots are the NumPy runs."""
    sizes = dataset["m"].values.tolist()
    figure, axes = page.panels(len(sizes), len(SHORT))
    for row, m in zip(axes, sizes, strict=True):
        chosen = of_size(dataset, m)
        for axis, name in zip(row, SHORT, strict=True):
            plots.by_bucket(axis, chosen.sel(optimizer=name))
            axis.set_title(f"m = {m}, {plots.label(name, dataset)}")
            axis.set_ylim(0, 7)
            for (size, optimizer, step), (levels, _) in REFERENCE.items():
                if (size, optimizer) == (m, name) and levels:
                    colours = plots.bucket_colours(m)
                    look = {"s": 18, "edgecolors": "black", "zorder": 3, "clip_on": False}
                    axis.scatter([step] * m, levels, c=colours, **look)
        row[0].set_ylabel("loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], max(sizes))
    page.headline(
        figure,
        chosen,
        "This code and independent NumPy runs (dots) agree on the loss of every frequency level",
    )
    return figure


def claims(dataset):
    """Every number of the NumPy runs, with the spread of our seeds as tolerance."""
    rows = []
    for (m, optimizer, step), (levels, total) in REFERENCE.items():
        if m not in dataset["m"]:
            continue
        run = of_size(dataset, m).sel(optimizer=optimizer, step=step)
        where = f"m = {m}, {plots.label(optimizer, dataset)} at step {step}"
        name = f"m{m}-{SHORT[optimizer]}-step-{step}"
        if levels:
            said = f"{where}: mean loss of each level, nats"
            rows.append(_row(f"{name}-losses-of-levels", said, run["bucket_loss"], levels))
        if total:
            said = f"{where}: mean overall loss, nats"
            rows.append(_row(f"{name}-overall-loss", said, run["loss"], [total]))
    return rows


def _row(name, statement, found, reference):
    """A reference of one seed may differ from a mean over seeds by the spread of single seeds."""
    tolerance = (
        0.02 + 3 * float(found.std("seed", ddof=1).max()) if found.sizes["seed"] > 1 else 0.3
    )
    return close(
        name,
        f"{statement} (± .02 + 3 standard deviations over seeds)",
        np.atleast_1d(found.mean("seed").values),
        reference,
        atol=tolerance,
        fixed="after a pilot",
    )


EXPERIMENT = Experiment("linear_pilots", sweeps, draw, claims, over="m")

if __name__ == "__main__":
    main(EXPERIMENT)
