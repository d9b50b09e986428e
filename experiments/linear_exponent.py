"""The gap as a function of the tail: class counts n_k ∝ k^-α from balanced to steep.

Claim (an extension, not in the paper): with the numbers of examples and classes fixed, the gap
between gradient descent and Adam grows from about zero at α = 0 to its largest value near α = 1.

Run:    python experiments/linear_exponent.py
Draws:  figures/linear_exponent.png
"""

import numpy as np

from imbalance.analysis.labelled import RULES, at_best, best_learning_rate
from imbalance.problems import power_law_linear
from imbalance.reporting import plots
from imbalance.reporting.claims import between, inside_grid
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Sweep, half_decades

GRIDS = {  # m, steps, values of α, then exponents of GD's and Adam's learning rates
    "smoke": (4, 16, (0.0, 1.0), (-1, 0), (-3, -2)),
    "laptop": (7, 100, (0.0, 0.5, 0.75, 1.0, 1.25, 1.5), (-2, 0.5), (-3, -1.5)),
    "paper": (8, 300, (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5), (-3, 0.5), (-4.5, -1.5)),
}


def sweeps(scale):
    """One sweep for each exponent α."""
    m, steps, exponents, gd, adam = GRIDS[scale]
    rates = {"gd": half_decades(*gd), "adam_without_momentum": half_decades(*adam)}
    return {alpha: Sweep(power_law_linear(m, alpha), rates, steps) for alpha in exponents}


def gap(dataset, rule):
    """GD's final loss minus Adam's, for each exponent."""
    loss = best_learning_rate(dataset, int(dataset["step"][-1]), rule)["loss"]
    return loss.sel(optimizer="gd") - loss.sel(optimizer="adam_without_momentum")


def draw(dataset):
    """Class counts, the gap by both rules, and GD by bucket at three exponents."""
    last = int(dataset["step"][-1])
    exponents = dataset["exponent"].values
    shown = [alpha for alpha in (0.0, 0.5, 1.0) if alpha in exponents]
    figure, axes = plots.panels(1, 2 + len(shown))
    colours = plots.bucket_colours(len(exponents))
    for alpha, colour in zip(exponents, colours, strict=True):
        counts = dataset["class_count"].sel(exponent=alpha).values
        axes[0, 0].loglog(
            np.arange(1, len(counts) + 1), counts, color=colour, label=f"α = {alpha:g}"
        )
    axes[0, 0].set(title="Class frequencies", xlabel="class, by rank", ylabel="examples")
    axes[0, 0].legend(fontsize=5, loc="lower left", handlelength=1)
    for rule, marker in (("stable", "o-"), ("final", "s:")):
        look = {"color": "black", "label": f"rule {rule}", "markersize": 4}
        axes[0, 1].plot(exponents, gap(dataset, rule), marker, **look)
    axes[0, 1].axhline(0, color="gray", linewidth=0.6)
    axes[0, 1].set(title=f"GD - Adam at step {last}", xlabel="exponent α", ylabel="gap (nats)")
    axes[0, 1].legend()
    chosen = at_best(dataset, last)
    for axis, alpha in zip(axes[0, 2:], shown, strict=True):
        plots.by_bucket(axis, chosen.sel(exponent=alpha, optimizer="gd"))
        axis.set(title=f"GD, α = {alpha:g}", ylim=(0, 7))
    axes[0, 2].set_ylabel("loss (nats)")
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    plots.headline(figure, chosen, "The gap by the exponent of the tail, $n_k ∝ k^{-α}$")
    return figure


def claims(dataset):
    """That the gap grows with α up to 1, by both rules."""
    rows = []
    asked = [alpha for alpha in (0.0, 0.5, 1.0) if alpha in dataset["exponent"]]
    for rule, text in RULES.items():
        gaps = gap(dataset, rule)
        values = [float(gaps.sel(exponent=alpha)) for alpha in asked]
        rows.append(
            between(
                f"{rule}-gap-grows-with-exponent",
                f"Gap at α = {asked} is {np.round(values, 3).tolist()}: smallest increase ({text})",
                float(np.diff(values).min()),
                low=0.0,
                fixed="before any run",
            )
        )
    rows.append(inside_grid(at_best(dataset, int(dataset["step"][-1]))))
    return rows


EXPERIMENT = Experiment("linear_exponent", sweeps, draw, claims, over="exponent")

if __name__ == "__main__":
    main(EXPERIMENT)
