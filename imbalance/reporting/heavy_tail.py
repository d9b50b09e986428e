"""Uniform classes beside heavy-tailed ones: the picture and the claims of Figure 3.

A dataset has a dimension ``data`` with "uniform", where classes are equally frequent, and
"heavy_tailed", where class k has a share of 1/k, and perhaps others. Two optimizers learn each.
"""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from imbalance.analysis.block_measures import spearman
from imbalance.analysis.selection import SOLVED, at_best
from imbalance.reporting import page, plots
from imbalance.reporting.claims import Claim, between, inside_grid, reported

GD, ADAM = OPTIMIZERS = ("gd+m", "adam")


def best(dataset: xr.Dataset, data: str) -> xr.Dataset:
    """The runs on one data set at the best learning rates by the rule `steady`."""
    one = dataset.sel(data=data).dropna("step", how="all", subset=["loss"])
    return at_best(one, int(one["step"][-1]))


def draw(dataset: xr.Dataset, words: dict[str, str], title: str, more: str) -> Figure:
    """Overall losses on each data set, then both optimizers by bucket on heavy-tailed classes.

    Args:
      dataset: Joined results.
      words: Name of each data set, as panels have it.
      title: Title of the figure.
      more: Sentences of the caption.
    """
    figure, axes = page.panels(1, len(words) + 2)
    for axis, (data, name) in zip(axes[0], words.items(), strict=False):
        chosen = best(dataset, data)
        plots.overall(axis, chosen, OPTIMIZERS)
        rates = ", ".join(plots.exponent(rate) for rate in chosen["learning_rate"].values)
        axis.set_title(f"{name}\nη {rates}")
    axes[0, 0].set_ylabel("loss (nats)")
    tail = best(dataset, "heavy_tailed")
    for axis, optimizer in zip(axes[0, -2:], OPTIMIZERS, strict=True):
        plots.by_bucket(axis, tail.sel(optimizer=optimizer))
        axis.set_title(f"{words['heavy_tailed']}\n{plots.label(optimizer, dataset)}")
    for axis in axes[0]:
        axis.set_ylim(0, 1.45 * float(tail["loss"].isel(step=0).max()))
    plots.bucket_bar(figure, axes[0, -1], dataset.sizes["bucket"])
    page.headline(figure, tail, title, more)
    return figure


def claims(dataset: xr.Dataset, section: str, reasons: dict[str, str]) -> list[Claim]:
    """What Figure 3 shows, in numbers.

    Args:
      dataset: Joined results.
      section: Section of the paper.
      reasons: Why a claim fails, if it does, by its name.
    """
    runs = {str(data): best(dataset, str(data)) for data in dataset["data"].values}
    gaps = {data: _gap(chosen) for data, chosen in runs.items()}
    tail = runs["heavy_tailed"]
    last = int(tail["step"][-1])
    half = tail["bucket_loss"].sel(optimizer=GD).sel(step=last / 2, method="nearest")
    buckets = np.arange(dataset.sizes["bucket"])
    times = {name: _halved(tail.sel(optimizer=name)) for name in OPTIMIZERS}
    others = [data for data in runs if data != "heavy_tailed"]
    rows = [
        between(
            name := f"gap-is-of-the-tail-and-not-of-{data.replace('_', '-')}",
            f"step {last}: the gap, GD - Adam, on heavy-tailed classes less three times its size "
            f"on {data} ones, nats",
            gaps["heavy_tailed"] - 3 * abs(gaps[data]),
            low=0.0,
            fixed="before any run",
            section=section,
            headline=data == "uniform",
            reason=reasons.get(name, ""),
        )
        for data in others
    ]
    for name, said, value, low in (
        (
            "gd-buckets-ordered-by-frequency",
            "heavy-tailed classes, half way: rank correlation of GD's bucket losses with rarity",
            [spearman(buckets, of_seed.values) for of_seed in half],
            0.95,
        ),
        (
            "gd-halves-the-rarest-bucket-late",
            "heavy-tailed classes: steps in which GD halves the loss of the rarest bucket (at "
            f"least the {last} that were run, if it does not), as a multiple of Adam's",
            np.minimum(times[GD], last) / times[ADAM],
            2.0,
        ),
    ):
        reason = reasons.get(name, "")
        more: dict[str, Any] = {"fixed": "before any run", "section": section, "reason": reason}
        rows.append(between(name, said, value, low=low, **more))
    for data, gap in gaps.items():
        name = data.replace("_", "-")
        rows.append(
            reported(
                f"gap-{name}", f"step {last}, {name} classes: GD - Adam, nats", gap, section=section
            )
        )
        middle = float(runs[data]["step"][-1]) / 2
        rows.append(
            reported(
                f"gap-{name}-half-way",
                f"half way, {name} classes: GD - Adam, nats",
                _gap(runs[data], middle),
                section=section,
            )
        )
        loss = runs[data]["loss"]
        share = loss.isel(step=-1, drop=True) / loss.isel(step=0, drop=True)
        ends = [share.sel(optimizer=of) for of in OPTIMIZERS]
        for of, short, end in zip(OPTIMIZERS, ("gd", "adam"), ends, strict=True):
            said = f"{name} classes: last loss of {plots.label(of, dataset)}, of the initial one"
            rows.append(reported(f"{short}-ends-{name}", said, end, section=section))
    start = tail["loss"].isel(step=0).mean("optimizer", skipna=False)
    ratio = gaps["heavy_tailed"] / np.maximum(abs(gaps["uniform"]), SOLVED * start)
    said = (
        "the gap on heavy-tailed classes divided by the size of that on uniform ones, which counts "
        "as a hundredth of the initial loss or more"
    )
    rows.append(reported("ratio-of-gaps", said, ratio, section=section))
    grids = (
        inside_grid(runs[data], f"{data.replace('_', '-')}-best-rates-inside-grid") for data in runs
    )
    return [*rows, *grids]


def _gap(chosen: xr.Dataset, step: float = np.inf) -> xr.DataArray:
    """Loss of gradient descent less Adam's at the measured step next to ``step``, ``[seed]``."""
    there = min(step, float(chosen["step"][-1]))
    loss = chosen["loss"].sel(step=there, method="nearest")
    return loss.sel(optimizer=GD, drop=True) - loss.sel(optimizer=ADAM, drop=True)


def _halved(run: xr.Dataset) -> np.ndarray:
    """First step at which the rarest bucket has half of its initial loss, ``[seed]``, or inf."""
    loss = run["bucket_loss"].isel(bucket=-1)
    below = (loss <= loss.isel(step=0) / 2).transpose("seed", "step").values
    return np.where(below.any(1), run["step"].values[below.argmax(1)], np.inf)
