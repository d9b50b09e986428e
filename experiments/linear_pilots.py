"""Reference runs: our engine against the specification's independent NumPy pilots (section E.1).

Claim: at the pilots' fixed, untuned rates, losses by frequency level agree within seed noise at
m = 5 and m = 7. This checks the pipeline; it is not a comparison of optimizers at their best.

Run:    python experiments/linear_pilots.py
Draws:  figures/linear_pilots.png
"""

import numpy as np

from imbalance import plots
from imbalance.analysis.labelled import at_fixed
from imbalance.claims import close
from imbalance.experiment import Experiment, main
from imbalance.problems import heavy_tailed_linear
from imbalance.sweep import Sweep, linear_stops

RATES = {5: {"gd+m": 1e-2, "adam+m": 1e-3}, 7: {"gd+m": 10**-2.5, "adam+m": 1e-3}}
REFERENCE = {  # (m, optimizer, step): loss of each level from frequent to rare; overall loss
    (5, "gd+m", 50): ((1.40, 1.93, 2.74, 3.27, 4.00), None),
    (5, "adam+m", 300): ((0.78, 0.88, 0.60, 0.43, 0.46), None),
    (7, "gd+m", 50): ((1.76, 2.51, 3.34, 3.88, 4.63, 5.41, 5.94), 3.92),
    (7, "gd+m", 150): (None, 3.64),
    (7, "adam+m", 50): ((1.82, 2.35, 2.59, 2.66, 1.97, 1.73, 2.28), 2.20),
    (7, "adam+m", 150): ((0.94, 1.13, 0.90, 0.54, 0.22, 0.14, 0.13), 0.571),
}


def sweeps(scale):
    """One problem a size, at the pilot's rates."""
    seeds = (0,) if scale == "smoke" else (0, 1, 2)
    sizes = (5,) if scale == "smoke" else (5, 7)
    return {
        m: Sweep(
            heavy_tailed_linear(m, num_buckets=None),
            {name: (rate,) for name, rate in RATES[m].items()},
            300,
            seeds,
            stops=linear_stops(300, 31),
        )
        for m in sizes
    }


def draw(dataset):
    """Losses by level, one row a size; dots are the pilots'."""
    sizes = dataset["m"].values.tolist()
    figure, axes = plots.panels(len(sizes), 2, width=3)
    for row, m in zip(axes, sizes, strict=True):
        chosen = at_fixed(dataset.sel(m=m, bucket=slice(0, m - 1)), RATES[m])
        for axis, (name, rate) in zip(row, RATES[m].items(), strict=True):
            plots.by_bucket(axis, chosen.sel(optimizer=name))
            axis.set_title(f"m = {m}, {plots.label(name)}, η = {plots.exponent(rate)}")
            axis.set_ylim(0, 7)
            for (size, optimizer, step), (levels, _) in REFERENCE.items():
                if (size, optimizer) == (m, name) and levels:
                    colours = plots.bucket_colours(m)
                    axis.scatter([step] * m, levels, c=colours, s=18, edgecolors="black", zorder=3)
        row[0].set_ylabel("loss (nats)")
    figure.suptitle("Mean over seeds by frequency level; dots: the specification's NumPy pilots")
    return figure


def claims(dataset):
    """Every number of the pilots, with the spread of our own seeds as tolerance."""
    rows = []
    for (m, optimizer, step), (levels, total) in REFERENCE.items():
        if m not in dataset["m"]:
            continue
        run = at_fixed(dataset.sel(m=m), RATES[m]).sel(optimizer=optimizer, step=step)
        where = f"m = {m}, {plots.label(optimizer)} at t = {step}"
        if levels:
            found = run["bucket_loss"].isel(bucket=slice(0, m))
            rows.append(_row(f"{where}: mean loss of each level", found, levels))
        if total:
            rows.append(_row(f"{where}: mean overall loss", run["loss"], [total]))
    return rows


def _row(statement, found, reference):
    """Single-seed references may differ from a mean over seeds by the spread of single seeds."""
    tolerance = (
        0.02 + 3 * float(found.std("seed", ddof=1).max()) if found.sizes["seed"] > 1 else 0.3
    )
    mean = np.atleast_1d(found.mean("seed").values)
    return close(
        "E.1",
        f"{statement} (± .02 + 3 standard deviations over seeds)",
        mean,
        reference,
        atol=tolerance,
        fixed="after a pilot",
    )


EXPERIMENT = Experiment("linear_pilots", sweeps, draw, claims, over="m")

if __name__ == "__main__":
    main(EXPERIMENT)
