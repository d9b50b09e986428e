"""The gap of Figure 4 as the problem grows, and the rates to expect at the paper's size.

Claim (ours, on Figure 4): the linear problem of size m has 2^m - 1 classes. As m grows towards the
paper's 11, gradient descent with momentum falls further behind Adam in the same number of steps,
overall and in the rarest bucket, and both best learning rates fall, by about a constant factor a
size. So lines through their logarithms say which rates to expect at m = 11, before it is run:
``fig4_linear --scale paper`` will confirm or refute them. Gradient descent's losses are continued
as shares of ln c, the loss of a uniform prediction: the share rises with m and must level off, so
that of the largest size is the least to be expected at m = 11.

Each optimizer's rates are searched on one seed; the best by the rule `steady` at step 100 is run on
two others. Sizes are m = 5 to 9 at laptop scale and 8 to 10 at the paper's.

Run:    python experiments/linear_size.py
Draws:  figures/linear_size.png
"""

import numpy as np

from imbalance.analysis.selection import at_best
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting import page, plots
from imbalance.reporting.claims import between, inside_grid, reported, slug
from imbalance.reporting.experiment import Experiment, main
from imbalance.training.sweep import Confirm, Sweep, half_decades, linear_stops

OPTIMIZERS = ("gd+m", "adam")
SIZES = {"smoke": (3, 4), "laptop": (5, 6, 7, 8, 9), "paper": (8, 9, 10)}
STEPS = {"smoke": 20, "laptop": 100, "paper": 150}
PAPER_SIZE = 11


def sweeps(scale):
    """One sweep for each size; grids begin about where the best rates of smaller sizes were."""
    steps = STEPS[scale]
    rates = {"gd+m": half_decades(-2.5, -1.5), "adam": half_decades(-3, -2)}
    return {
        m: Sweep(
            heavy_tailed_linear(m),
            rates,
            steps,
            confirm=Confirm(seeds=(1, 2)),
            stops=linear_stops(steps, 51),
        )
        for m in SIZES[scale]
    }


def measured(dataset):
    """By name: a number by size and seed of what grows, ``{name: {m: [seed]}}``, and best rates."""
    found = {"gap": {}, "rarest-bucket-gap": {}}
    rates = {optimizer: {} for optimizer in OPTIMIZERS}
    for m in dataset["m"].values.tolist():
        chosen = of_size(dataset, m)
        last = chosen.isel(step=-1)
        gd, adam = (last.sel(optimizer=optimizer) for optimizer in OPTIMIZERS)
        found["gap"][m] = (gd["loss"] - adam["loss"]).values
        rarest = gd["bucket_loss"].isel(bucket=-1) - adam["bucket_loss"].isel(bucket=-1)
        found["rarest-bucket-gap"][m] = rarest.values
        for optimizer in OPTIMIZERS:
            rates[optimizer][m] = chosen["learning_rate"].sel(optimizer=optimizer).item()
    return found, rates


def of_size(dataset, m):
    """The runs of one size at the best learning rates."""
    one = dataset.sel(m=m).dropna("class", how="all")
    return at_best(one, int(dataset["step"][-1]))


def share_of_uniform(dataset, m, variable):
    """Gradient descent's final loss, overall or in the rarest bucket, of ln c; mean over seeds."""
    last = of_size(dataset, m).isel(step=-1).sel(optimizer="gd+m")
    loss = last["loss"] if variable == "loss" else last["bucket_loss"].isel(bucket=-1)
    return float(loss.mean("seed")) / np.log(2**m - 1)


def expected(by_size):
    """The best learning rate at the paper's size by the line through its logarithms at others."""
    slope, start = np.polyfit(list(by_size), np.log10(list(by_size.values())), 1)
    return 10 ** (slope * PAPER_SIZE + start), slope


def draw(dataset):
    """Gap, rarest bucket and best learning rates against the size."""
    found, rates = measured(dataset)
    figure, axes = page.panels(1, 3, height=1.9)
    words = {"gap": "all classes", "rarest-bucket-gap": "rarest bucket"}
    for axis, (name, by_size) in zip(axes[0], found.items(), strict=False):
        for m, values in by_size.items():
            axis.plot(np.full(len(values), m), values, "o", color="black", ms=3)
        means = [values.mean() for values in by_size.values()]
        axis.plot(list(by_size), means, ":", color="gray", lw=1)
        axis.set(title=f"GD's loss minus Adam's,\n{words[name]}", ylabel="nats", xticks=[*by_size])
    for optimizer, by_size in rates.items():
        look = plots.line_style(optimizer)
        axes[0, 2].plot(
            list(by_size), list(by_size.values()), "o", ms=3, label=plots.label(optimizer), **look
        )
        look = {"color": look["color"], "mfc": "white", "ms": 4}
        axes[0, 2].plot([PAPER_SIZE], [expected(by_size)[0]], "s", **look)
    axes[0, 2].set(yscale="log", title="Best learning rate", ylabel="learning rate η")
    axes[0, 2].set_xticks([*rates["adam"], PAPER_SIZE])
    for axis in axes[0]:
        axis.set_xlabel("size m (2$^m$ - 1 classes)")
    page.headline(
        figure,
        of_size(dataset, dataset["m"].values[-1]),
        "The larger the linear problem, the further GD falls behind in the same steps",
        f"Step {int(dataset['step'][-1])}, full batch. Squares: what is to be expected at the "
        "paper's m = 11, by lines through the logarithms.",
    )
    return figure


def claims(dataset):
    """How both gaps grow with the size, and what is to be expected at the paper's."""
    found, rates = measured(dataset)
    sizes = dataset["m"].values.tolist()
    rows = []
    for name, words in (
        ("gap", "overall loss"),
        ("rarest-bucket-gap", "loss in the rarest bucket"),
    ):
        by_size = found[name]
        rows += [
            between(
                f"{name}-grows-with-size",
                f"GD's {words} minus Adam's: growth from m = {sizes[0]} to {sizes[-1]}, nats",
                by_size[sizes[-1]] - by_size[sizes[0]],
                low=0.0,
                fixed="before any run",
            ),
            *(
                reported(f"{name}-m{m}", f"m = {m}: GD's {words} minus Adam's, nats", values)
                for m, values in by_size.items()
            ),
        ]
    for optimizer, by_size in rates.items():
        value, slope = expected(by_size)
        rows.append(
            reported(
                f"{'gd' if optimizer == 'gd+m' else optimizer}-best-rate-expected-at-paper-size",
                f"{plots.label(optimizer)}: best learning rates at m = "
                f"{', '.join(map(str, sizes))}; at m = {PAPER_SIZE} by the line through their "
                "logarithms, and its slope in decades per m",
                ", ".join(f"{rate:.2g}" for rate in by_size.values())
                + f"; {value:.1e}, {slope:.2f}",
            )
        )
    for variable, words in (("loss", "overall loss"), ("rarest", "loss in the rarest bucket")):
        shares = {m: share_of_uniform(dataset, m, variable) for m in sizes}
        rows.append(
            reported(
                f"gd-{slug(words)}-expected-at-paper-size",
                f"GD's {words} as a share of ln c at m = {', '.join(map(str, sizes))}; at m = "
                f"{PAPER_SIZE} by the last of them, nats",
                ", ".join(f"{share:.2f}" for share in shares.values())
                + f"; {shares[sizes[-1]] * np.log(2**PAPER_SIZE - 1):.2f}",
            )
        )
    grids = [inside_grid(of_size(dataset, m), f"m{m}-best-rates-inside-grid") for m in sizes]
    return [*rows, *grids]


EXPERIMENT = Experiment("linear_size", sweeps, draw, claims, over="m")

if __name__ == "__main__":
    main(EXPERIMENT)
