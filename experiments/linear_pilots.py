"""Two implementations: this code against independent NumPy runs, the pilots, made before it.

Claim: at the fixed, untuned learning rates of those runs, the losses of all frequency levels agree
within the noise between seeds at m = 5 and m = 7. This checks the code; it is not a comparison of
optimizers at their best learning rates.

Run:    python experiments/linear_pilots.py
Draws:  figures/linear_pilots.png
"""

import numpy as np

from imbalance.analysis.labelled import at_fixed
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import close
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, linear_stops

SHORT = {"gd+m": "gd", "adam": "adam"}  # in names of claims
RATES = {5: {"gd+m": 1e-2, "adam": 1e-3}, 7: {"gd+m": 10**-2.5, "adam": 1e-3}}
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
    seeds = (0,) if scale == "smoke" else (0, 1, 2)
    sizes = (5,) if scale == "smoke" else (5, 7)
    return {
        m: Sweep(
            heavy_tailed_linear(m, bucketing="levels"),
            {name: (rate,) for name, rate in RATES[m].items()},
            300,
            seeds,
            stops=linear_stops(300, 31),
        )
        for m in sizes
    }


def draw(dataset):
    """Losses by level, one row for each size; dots are the NumPy runs."""
    sizes = dataset["m"].values.tolist()
    figure, axes = plots.panels(len(sizes), 2, width=3)
    for row, m in zip(axes, sizes, strict=True):
        chosen = at_fixed(dataset.sel(m=m, bucket=slice(0, m - 1)), RATES[m])
        for axis, (name, rate) in zip(row, RATES[m].items(), strict=True):
            plots.by_bucket(axis, chosen.sel(optimizer=name))
            axis.set_title(f"m = {m}, {plots.label(name, dataset)}, η = {plots.exponent(rate)}")
            axis.set_ylim(0, 7)
            for (size, optimizer, step), (levels, _) in REFERENCE.items():
                if (size, optimizer) == (m, name) and levels:
                    colours = plots.bucket_colours(m)
                    axis.scatter([step] * m, levels, c=colours, s=18, edgecolors="black", zorder=3)
        row[0].set_ylabel("loss (nats)")
    figure.suptitle("Mean over seeds by frequency level; dots: independent NumPy runs")
    return figure


def claims(dataset):
    """Every number of the NumPy runs, with the spread of our seeds as tolerance."""
    rows = []
    for (m, optimizer, step), (levels, total) in REFERENCE.items():
        if m not in dataset["m"]:
            continue
        run = at_fixed(dataset.sel(m=m), RATES[m]).sel(optimizer=optimizer, step=step)
        where = f"m = {m}, {plots.label(optimizer, dataset)} at step {step}"
        name = f"m{m}-{SHORT[optimizer]}-step-{step}"
        if levels:
            found = run["bucket_loss"].isel(bucket=slice(0, m))
            said = f"{where}: mean loss of each level"
            rows.append(_row(f"{name}-losses-of-levels", said, found, levels))
        if total:
            said = f"{where}: mean overall loss"
            rows.append(_row(f"{name}-overall-loss", said, run["loss"], [total]))
    return rows


def _row(name, statement, found, reference):
    """A reference of one seed may differ from a mean over seeds by the spread of single seeds."""
    tolerance = (
        0.02 + 3 * float(found.std("seed", ddof=1).max()) if found.sizes["seed"] > 1 else 0.3
    )
    mean = np.atleast_1d(found.mean("seed").values)
    return close(
        name,
        f"{statement} (± .02 + 3 standard deviations over seeds)",
        mean,
        reference,
        atol=tolerance,
        fixed="after a pilot",
    )


EXPERIMENT = Experiment("linear_pilots", sweeps, draw, claims, over="m")

if __name__ == "__main__":
    main(EXPERIMENT)
