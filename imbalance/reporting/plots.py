"""Stored results and records to matplotlib figures, in one style.

Every function takes labelled data and never runs training. Axes are given or made; nothing is shown
or saved here.
"""

import textwrap
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from imbalance.analysis.selection import DIVERGED, DIVERGED_FACTOR, at_only
from imbalance.reporting.page import STYLE, WIDTH, finish, headline, panels

# In turn, for optimizers that have no colour.
OTHER_COLOURS = ("#888888", "#6699CC", "#117733", "#EE99AA", "#882255")


class Looks(NamedTuple):
    """How an optimizer is named and drawn."""

    label: str
    colour: str | None
    momentum: bool


def _known() -> dict[str, Looks]:
    """Looks of the optimizers of the laboratory; without it records have their names alone."""
    try:
        from imbalance.training.optimizers import OPTIMIZERS
    except ModuleNotFoundError:  # no JAX: the extra `lab` is not installed
        return {}
    return {name: Looks(o.label, o.colour, o.momentum) for name, o in OPTIMIZERS.items()}


def looks(optimizer: str, dataset: xr.Dataset | None = None) -> Looks:
    """The looks of an optimizer: as its dataset says, else as `OPTIMIZERS` says."""
    if dataset is None or "label" not in dataset.coords:
        return _known().get(optimizer, Looks(optimizer, None, True))
    one = dataset[["label", "colour", "momentum"]]
    if "optimizer" in one.dims:
        one = one.sel(optimizer=optimizer)
    return Looks(one["label"].item(), one["colour"].item() or None, bool(one["momentum"].item()))


def label(optimizer: str, dataset: xr.Dataset | None = None) -> str:
    """An optimizer as figures name it."""
    return looks(optimizer, dataset).label


def line_style(
    optimizer: str, among: Sequence[str] = (), dataset: xr.Dataset | None = None
) -> dict[str, str]:
    """Colour by kind; solid with momentum, dashed without.

    Optimizers that have no colour of their own get different ones ``among`` those drawn.
    """
    _, colour, momentum = looks(optimizer, dataset)
    if not colour:
        others = [o for o in dict.fromkeys((*among, optimizer)) if not looks(o, dataset).colour]
        colour = OTHER_COLOURS[others.index(optimizer) % len(OTHER_COLOURS)]
    return {"color": colour, "linestyle": "-" if momentum else "--"}


def bucket_colours(num_buckets: int) -> np.ndarray:
    """Viridis from purple, the most frequent bucket, to yellow, the rarest."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 1, num_buckets))


def exponent(rate: float) -> str:
    """A learning rate as the field writes it, such as ``10^{-5/2}``, or ``10^{-7/4}``."""
    quarters = 4 * np.log10(rate)
    if not (np.isfinite(quarters) and np.isclose(quarters, round(quarters), atol=1e-6)):
        return f"{rate:.3g}"
    return f"$10^{{{Fraction(round(quarters), 4)}}}$"


def rank_frequency(axes: Axes, dataset: xr.Dataset) -> None:
    """Examples of each class against its rank, coloured by bucket, log-log."""
    classes = dataset[["class_count", "bucket_of_class"]].dropna("class")
    counts, bucket = classes["class_count"].values, classes["bucket_of_class"].values.astype(int)
    order = np.argsort(-counts, kind="stable")
    colours = bucket_colours(dataset.sizes["bucket"])
    axes.scatter(np.arange(1, len(counts) + 1), counts[order], c=colours[bucket[order]], s=5)
    axes.set(xscale="log", yscale="log", xlabel="class, by rank", ylabel="examples")
    for axis in (axes.xaxis, axes.yaxis):  # only within a decade is there room for more
        axis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(0.9, 0.4)))
    axes.set_title("Class frequencies")


def seed_band(axes: Axes, steps: np.ndarray, values: xr.DataArray, **line) -> None:
    """The mean over seeds as a line, over the band of their range."""
    mean = values.mean("seed", skipna=False)
    measured = mean.notnull().values  # runs that are joined may have different steps
    axes.plot(steps[measured], mean[measured], **line)
    if values.sizes["seed"] > 1:
        ends = values.min("seed")[measured], values.max("seed")[measured]
        axes.fill_between(steps[measured], *ends, color=line["color"], alpha=0.25, lw=0)


def rate(one: xr.Dataset) -> str:
    """The learning rate of the runs of one optimizer, as panels name it; empty if unknown."""
    if "learning_rate" not in one.coords or one["learning_rate"].ndim:
        return ""
    value = one["learning_rate"].item()
    edge = one["edge"].item() if "edge" in one.coords else ""
    if np.isnan(value):
        return edge
    return f"η = {exponent(value)}" + (f" ({edge})" if edge else "")


def overall(axes: Axes, chosen: xr.Dataset, optimizers: Sequence[str]) -> None:
    """Mean loss of each optimizer against the step; ``chosen`` has one learning rate each."""
    for optimizer in optimizers:
        one = chosen.sel(optimizer=optimizer)
        seed_band(
            axes,
            one["step"].values,
            one["loss"],
            label=label(optimizer, chosen),
            **line_style(optimizer, optimizers, chosen),
        )
    axes.set(xlabel="step", title="Overall loss")
    axes.margins(x=0)


def by_bucket(axes: Axes, one: xr.Dataset, *, seed: int | None = None, steps=None) -> None:
    """Loss of every bucket against the step, for one optimizer at one learning rate.

    Mean and range over seeds, unless one is named. ``steps`` rescales the horizontal axis.
    """
    losses = one["bucket_loss"]
    losses = losses if seed is None else losses.sel(seed=[seed])
    at = one["step"].values if steps is None else np.asarray(steps)
    for bucket, colour in enumerate(bucket_colours(one.sizes["bucket"])):
        seed_band(axes, at, losses.isel(bucket=bucket), color=colour)
    axes.margins(x=0)
    axes.set(xlabel="step")


def optimizer_title(optimizer: str, chosen: xr.Dataset) -> str:
    """An optimizer and its learning rate, as the title of its panel, in short lines."""
    words = [label(optimizer, chosen).replace(", ", ",\n"), rate(chosen.sel(optimizer=optimizer))]
    return "\n".join(filter(None, words))


def in_rows(
    axes: np.ndarray, chosen: xr.Dataset, rows: Sequence[Sequence[str]], top: float
) -> None:
    """The layout of Figure 5: a row for each group of optimizers, all with losses up to ``top``.

    The first column compares the group, the others have one optimizer each, by bucket.
    """
    for row, optimizers in zip(axes, rows, strict=True):
        overall(row[0], chosen, optimizers)
        row[0].set_ylabel("loss (nats)")
        for axis, optimizer in zip(row[1:], optimizers, strict=False):
            by_bucket(axis, chosen.sel(optimizer=optimizer))
            axis.set_title(optimizer_title(optimizer, chosen))
        for axis in row[: 1 + len(optimizers)]:
            axis.set_ylim(0, top)
        for axis in row[1 + len(optimizers) :]:
            axis.set_axis_off()


def fan(
    selections: Sequence[xr.Dataset],
    optimizers: Sequence[str],
    *,
    top: float,
    title: str,
    more: str = "",
) -> Figure:
    """The paper's main layout: class frequencies, overall loss, and each optimizer by bucket.

    Every selection of learning rates is a row, with its ``attrs["selection"]`` written beside it;
    ``more`` are sentences of the caption.
    """
    figure, axes = panels(len(selections), 2 + len(optimizers))
    rank_frequency(axes[0, 0], selections[0])
    for axis, chosen in zip(axes[1:, 0], selections[1:], strict=True):
        words = textwrap.fill(f"learning rates: {chosen.attrs['selection']}", 24)
        middle = {"ha": "center", "va": "center", "transform": axis.transAxes}
        axis.text(0.5, 0.5, words, **middle)
        axis.set_axis_off()
    for row, chosen in zip(axes, selections, strict=True):
        overall(row[1], chosen, optimizers)
        row[1].set_ylabel("loss (nats)")
        for axis, optimizer in zip(row[2:], optimizers, strict=True):
            by_bucket(axis, chosen.sel(optimizer=optimizer))
            axis.set_title(optimizer_title(optimizer, chosen))
        for axis in row[1:]:
            axis.set_ylim(0, top)
    bucket_bar(figure, axes[0, -1], selections[0].sizes["bucket"])
    headline(figure, selections[0], title, more)
    return figure


def training(dataset: xr.Dataset, title: str | None = None) -> Figure:
    """The paper's main layout in one call, for whatever runs a dataset holds.

    Ticks at the right of the panels are what a model gets on each bucket that knows the class
    frequencies and nothing else.

    Args:
      dataset: a record, joined records, a sweep with one learning rate for each optimizer, or
        `LossByClass.to_dataset` of several steps, with the same buckets, joined along ``step``.
        Several runs of one optimizer have names of their own, as in ``join({"small rate": one,
        "large rate": other})``, or one rate is chosen, as by `at_best`.
      title: of the figure; under it stands how learning rates were selected, if that is known.

    Raises:
      ValueError: if an optimizer has several learning rates, or steps have different buckets.
    """
    chosen = _as_runs(_same_at_every_step(at_only(dataset)))
    optimizers = chosen["optimizer"].values.tolist()
    with matplotlib.rc_context(STYLE):
        width = max(WIDTH, 1.75 * (2 + len(optimizers)))
        figure, axes = panels(1, 2 + len(optimizers), width=width)
        frequencies, whole, *parts = axes[0]
        rank_frequency(frequencies, chosen)
        overall(whole, chosen, optimizers)
        whole.set_ylabel("loss (nats)")
        for axis, optimizer in zip(parts, optimizers, strict=True):
            one = chosen.sel(optimizer=optimizer)
            axis.sharex(whole)
            axis.sharey(whole)
            axis.tick_params(labelleft=False)
            by_bucket(axis, one)
            diverged = "status" in one and (one["status"] == DIVERGED).any()
            axis.set_title(optimizer_title(optimizer, chosen) + (" (diverged)" if diverged else ""))
            if "bucket_unigram_loss" in one:
                _unigram_ticks(axis, one["bucket_unigram_loss"].values)
        whole.set_ylim(*_loss_limits(chosen))
        bucket_bar(figure, parts[-1], chosen.sizes["bucket"])
        headline(figure, chosen if "selection" in chosen.attrs else None, title or "")
        finish(figure)
    return figure


def _same_at_every_step(dataset: xr.Dataset) -> xr.Dataset:
    """What is known of classes and buckets without the steps that `xr.concat` gives it."""
    for name in ("class_count", "bucket_of_class", "bucket_unigram_loss"):
        if name in dataset and "step" in dataset[name].dims:
            first = dataset[name].isel(step=0, drop=True)
            if not ((dataset[name] == first) | first.isnull()).all():
                raise ValueError(
                    f"{name} is not the same at every step; make the datasets of all steps with "
                    "the same buckets, as losses.to_dataset(buckets)."
                )
            dataset = dataset.assign({name: first})
    return dataset


def _as_runs(dataset: xr.Dataset) -> xr.Dataset:
    """With dimensions ``optimizer`` and ``seed``, where one was selected or there is none."""
    for dim, default in (("optimizer", "mine"), ("seed", 0)):
        if dim not in dataset["loss"].dims:
            value = dataset[dim].item() if dim in dataset.coords else default
            dataset = dataset.drop_vars(dim, errors="ignore")
            losses = dataset[["loss", "bucket_loss"]].expand_dims({dim: [value]})
            dataset = dataset.assign(losses)
    return dataset


def _loss_limits(chosen: xr.Dataset) -> tuple[float, float]:
    """All that is drawn is inside, but for runs that explode: they would flatten the others."""
    at_steps = chosen["bucket_loss"].transpose("step", ...).values
    finite = [losses[np.isfinite(losses)] for losses in at_steps if np.isfinite(losses).any()]
    bottom, top = 0, 0
    if finite:
        bottom = min(0, *(losses.min() for losses in finite))
        top = min(max(losses.max() for losses in finite), DIVERGED_FACTOR * finite[0].max())
    if "bucket_unigram_loss" in chosen:
        top = max(top, chosen["bucket_unigram_loss"].max().item())
    return bottom, 1.05 * top or 1


def _unigram_ticks(axes: Axes, losses: np.ndarray) -> None:
    for colour, loss in zip(bucket_colours(len(losses)), losses, strict=True):
        place = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        axes.plot([1.01, 1.05], [loss, loss], color=colour, lw=1, **place)
    below = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 7}
    axes.annotate("– unigram loss", (1.06, 0), (0, -18), ha="right", va="top", **below)


def comparison(dataset: xr.Dataset) -> Figure:
    """Steps to a fraction of the initial loss, bucket by bucket, for the two runs of `compare`.

    A bucket that never gets there stands above the axis. Other dimensions, such as seeds, are
    several points at one place.
    """
    occurs = np.ones(dataset.sizes["bucket"], bool)
    if "bucket_classes" in dataset:
        occurs = dataset["bucket_classes"].values > 0
    names = [dataset.attrs[run].split(", ") for run in ("one", "other")]  # the rest: other labels
    colours = [line_style(name[0], [names[0][0], names[1][0]])["color"] for name in names]
    faces = [colours[0], colours[1] if colours[1] != colours[0] else "none"]
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(1, 1, width=4.0, height=2.2)
        axes = grid[0, 0]
        for i, run in enumerate(("time_one", "time_other")):
            times = dataset[run].transpose("bucket", ...).values.reshape(len(occurs), -1)[occurs]
            at = np.flatnonzero(occurs)[:, None] + 0.24 * (i - 0.5) + np.zeros(times.shape)
            never = np.isnan(times)
            look = {"edgecolors": colours[i], "facecolors": faces[i], "marker": "os"[i], "s": 20}
            axes.scatter(at, times, label=", ".join([label(names[i][0]), *names[i][1:]]), **look)
            above = {"transform": axes.get_xaxis_transform(), "clip_on": False}
            axes.scatter(at[never], np.full(never.sum(), 1.06), **above, **look)
        axes.text(-0.01, 1.06, "never", transform=axes.transAxes, ha="right", va="center", size=7)
        axes.set_xticks(np.arange(len(occurs)))
        axes.set(
            xlabel="bucket, frequent to rare",
            ylabel=f"steps to {dataset.attrs['fraction']:g} × initial loss",
        )
        axes.set_xlim(-0.5, len(occurs) - 0.5)
        axes.set_ylim(bottom=0)
        axes.legend()
    return figure


def scatter_by_level(
    axes: Axes, x: np.ndarray, y: np.ndarray, level_of_class: np.ndarray, most: int = 100
) -> None:
    """A point for each class, log-log, coloured by level; of large levels the ``most`` first."""
    num_levels = int(level_of_class.max()) + 1
    for level, colour in reversed(list(enumerate(bucket_colours(num_levels)))):  # frequent on top
        inside = np.flatnonzero(level_of_class == level)[:most]
        axes.scatter(x[inside], y[inside], color=colour, s=5, lw=0)
    axes.set(xscale="log", yscale="log")


def share_log_limits(axes: np.ndarray, slope: bool = True) -> None:
    """The same limits in all panels, and a dashed line of slope 1 through their middle."""
    points = np.concatenate([c.get_offsets() for axis in axes.flat for c in axis.collections])
    low, high = np.log10(points.min(axis=0)) - 0.3, np.log10(points.max(axis=0)) + 0.3
    middle = (low + high) / 2
    for axis in axes.flat:
        if slope:
            axis.axline(10**middle, 10 ** (middle + 1), color="gray", ls="--", lw=0.8, zorder=0)
        axis.set(xlim=10.0 ** np.array([low[0], high[0]]), ylim=10.0 ** np.array([low[1], high[1]]))
        axis.minorticks_off()  # they take most of the time to draw
    for axis in axes[:, 1:].flat:
        axis.tick_params(labelleft=False)
    for axis in axes[:-1].flat:
        axis.tick_params(labelbottom=False)


def bucket_bar(figure: Figure, axes: Axes | np.ndarray, num_buckets: int) -> None:
    """A colour bar beside one panel or several that says which end is frequent."""
    colours = ListedColormap(bucket_colours(num_buckets))
    scale = ScalarMappable(Normalize(0, num_buckets), colours)
    ticks = [0.5, num_buckets - 0.5]
    rows = axes.size if isinstance(axes, np.ndarray) else 1
    bar = figure.colorbar(scale, ax=axes, ticks=ticks, aspect=20 * rows)
    bar.ax.set_yticklabels(["frequent", "rare"], fontsize=7)
    bar.ax.invert_yaxis()
    bar.outline.set_visible(False)
