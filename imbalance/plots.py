"""Stored results to matplotlib figures, in one style (section E of the specification).

Every function takes labelled data and never runs training. Axes are given or made; nothing is shown
or saved here.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

COLOURS = {
    "gd": "#000000",
    "adam": "#BB5566",
    "normalized_gd": "#DDAA33",
    "sign": "#004488",
    "scaled_sign": "#33BBEE",
    "adagrad": "#EE7733",
    "armijo": "#777777",
    "lion": "#009988",
    "muon": "#AA3377",
    "block_normalized_gd": "#997700",
}
NAMES = {
    "gd": "GD",
    "adam": "Adam",
    "adamw": "AdamW",
    "normalized_gd": "normalized GD",
    "block_normalized_gd": "block-normalized GD",
    "sign": "sign descent",
    "scaled_sign": "scaled sign",
    "adagrad": "AdaGrad",
    "armijo": "GD, line search",
    "lion": "Lion",
    "muon": "Muon",
    "sign_of_momentum": "sign of momentum",
}
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.8,
    "figure.titlesize": 9,
    "lines.linewidth": 1.4,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
}


def panels(
    rows: int, columns: int, *, width: float = 2.4, height: float = 2.1
) -> tuple[Figure, np.ndarray]:
    """A figure of ``rows x columns`` axes in our style; axes come as an array of that shape."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.locator_params(nbins=4)  # small panels: few labels, which also take most time to draw
    return figure, axes


def label(optimizer: str) -> str:
    """How an optimizer is called in legends: momentum is named by ``+m``."""
    base, momentum, _ = optimizer.partition("+m")
    return NAMES.get(base, base) + (" +m" if momentum else "")


def line_style(optimizer: str) -> dict[str, str]:
    """Colour by kind; solid with momentum, dashed without."""
    base, suffix, _ = optimizer.partition("+m")
    momentum = suffix or base in ("lion", "muon", "sign_of_momentum")
    return {"color": COLOURS.get(base, "#888888"), "linestyle": "-" if momentum else "--"}


def bucket_colours(num_buckets: int) -> np.ndarray:
    """Viridis from purple, the most frequent bucket, to yellow, the rarest."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 1, num_buckets))


def exponent(rate: float) -> str:
    """A learning rate as the field writes half powers of ten, such as ``10^{-5/2}``."""
    halves = 2 * np.log10(rate)
    if not (np.isfinite(halves) and np.isclose(halves, round(halves), atol=1e-6)):
        return f"{rate:.3g}"
    halves = round(halves)
    return f"$10^{{{halves // 2}}}$" if halves % 2 == 0 else f"$10^{{{halves}/2}}$"


def rank_frequency(axes: Axes, dataset: xr.Dataset) -> None:
    """Examples of each class against its rank, coloured by bucket, log-log."""
    classes = dataset[["class_count", "bucket_of_class"]].dropna("class")
    counts, bucket = classes["class_count"].values, classes["bucket_of_class"].values.astype(int)
    order = np.argsort(-counts, kind="stable")
    colours = bucket_colours(dataset.sizes["bucket"])
    axes.scatter(np.arange(1, len(counts) + 1), counts[order], c=colours[bucket[order]], s=5)
    axes.set(xscale="log", yscale="log", xlabel="class, by rank", ylabel="examples")
    axes.set_title("Class frequencies")


def seed_band(axes: Axes, steps: np.ndarray, values: xr.DataArray, **line) -> None:
    """The worst seed as a line over the band of all seeds, as the paper draws it."""
    lowest, highest = values.min("seed"), values.max("seed")
    axes.plot(steps, highest, **line)
    if values.sizes["seed"] > 1:
        axes.fill_between(steps, lowest, highest, color=line["color"], alpha=0.2, lw=0)


def overall(axes: Axes, chosen: xr.Dataset, optimizers: Sequence[str]) -> None:
    """Mean loss of each optimizer against the step; ``chosen`` has one learning rate each."""
    for optimizer in optimizers:
        one = chosen.sel(optimizer=optimizer)
        edge = f" ({one['edge'].item()})" if "edge" in one.coords and one["edge"].item() else ""
        rate = f", η = {exponent(one['learning_rate'].item())}{edge}"
        seed_band(
            axes,
            one["step"].values,
            one["loss"],
            label=label(optimizer) + rate,
            **line_style(optimizer),
        )
    axes.set(xlabel="step", title="Overall loss")
    axes.margins(x=0)
    axes.legend()


def by_bucket(axes: Axes, one: xr.Dataset, *, seed: int | None = None, steps=None) -> None:
    """Loss of every bucket against the step, for one optimizer at one learning rate.

    Seeds are averaged unless one is named. ``steps`` rescales the horizontal axis.
    """
    losses = one["bucket_loss"]
    losses = losses.mean("seed") if seed is None else losses.sel(seed=seed)
    at = one["step"].values if steps is None else steps
    colours = bucket_colours(one.sizes["bucket"])
    for bucket in range(one.sizes["bucket"]):
        axes.plot(at, losses.isel(bucket=bucket), color=colours[bucket])
    axes.margins(x=0)
    axes.set(xlabel="step")


def fan(
    selections: Sequence[xr.Dataset], optimizers: Sequence[str], *, top: float, title: str
) -> Figure:
    """The paper's main layout: class frequencies, overall loss, and each optimizer by bucket.

    Every selection of learning rates is a row, with its ``attrs["selection"]`` written beside it.
    """
    figure, axes = panels(len(selections), 2 + len(optimizers))
    rank_frequency(axes[0, 0], selections[0])
    for axis, chosen in zip(axes[1:, 0], selections[1:], strict=True):
        words = textwrap.fill(f"learning rates: {chosen.attrs['selection']}", 28)
        middle = {"ha": "center", "va": "center", "transform": axis.transAxes}
        axis.text(0.5, 0.5, words, fontsize=9, **middle)
        axis.set_axis_off()
    for row, chosen in zip(axes, selections, strict=True):
        overall(row[1], chosen, optimizers)
        row[1].set_ylabel("loss (nats)")
        for axis, optimizer in zip(row[2:], optimizers, strict=True):
            by_bucket(axis, chosen.sel(optimizer=optimizer))
            axis.set_title(label(optimizer))
        for axis in row[1:]:
            axis.set_ylim(0, top)
    bucket_bar(figure, axes[0, -1], selections[0].sizes["bucket"])
    headline(figure, selections[0], title)
    return figure


def bucket_bar(figure: Figure, axes: Axes, num_buckets: int) -> None:
    """A colour bar that says which end is frequent."""
    colours = ListedColormap(bucket_colours(num_buckets))
    scale = ScalarMappable(Normalize(0, num_buckets), colours)
    bar = figure.colorbar(scale, ax=axes, ticks=[0.5, num_buckets - 0.5])
    bar.ax.set_yticklabels(["frequent", "rare"], fontsize=7)
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)


def headline(figure: Figure, chosen: xr.Dataset, title: str) -> None:
    """The title, and under it how learning rates were chosen."""
    figure.suptitle(f"{title}\nlearning rates: {chosen.attrs.get('selection', 'as shown')}")
