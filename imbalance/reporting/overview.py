"""The paper's story in one row of four panels, drawn from the data of Figures 1 and 5."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from imbalance.analysis.selection import at_best
from imbalance.reporting import page, plots
from imbalance.reporting.evidence import data_path, save
from imbalance.reporting.experiment import Options
from imbalance.storage import datasets

NAME = "overview"
SOURCES = ("fig1_language", "fig5_last_layer")
TEXT = "docstrings"
LAST_LAYER = ("gd+m", "adam", "sign+m")


def draw(language: xr.Dataset, last_layer: xr.Dataset) -> Figure:
    """Word counts; gradient descent and Adam by word frequency; the same with the sign alone.

    Args:
      language: kept data of ``fig1_language``.
      last_layer: kept data of ``fig5_last_layer``.
    """
    text = at_best(
        language.sel(text=TEXT).dropna("class", how="all"), int(language["step"].values[-1])
    )
    final = at_best(last_layer, int(last_layer["step"].values[-1])).isel(step=-1)
    figure, axes = page.panels(1, 4, height=1.75)
    counts, gd, adam, sign = axes[0]
    plots.rank_frequency(counts, text)
    counts.set(title="Most words are rare", ylabel="occurrences", xlabel="word, by rank")
    top = 1.25 * float(text["bucket_loss"].isel(step=0).max())
    for axis, name, words in (
        (gd, "gd+m", "GD leaves them behind"),
        (adam, "adam", "Adam does not"),
    ):
        plots.by_bucket(axis, text.sel(optimizer=name))
        axis.set(title=words, ylim=(0, top))
    gd.set_ylabel("loss (nats)")
    bucket = np.arange(1, final.sizes["bucket"] + 1)
    for name in LAST_LAYER:
        losses = final["bucket_loss"].sel(optimizer=name).mean("seed")
        look = plots.line_style(name, LAST_LAYER, final)
        sign.plot(bucket, losses, marker="o", ms=2.5, label=plots.label(name, final), **look)
    sign.set(title="What helps is the sign", xlabel="bucket of words", ylim=(0, None))
    sign.set_xticks(bucket[[0, -1]])
    sign.set_ylabel("final loss (nats)")
    plots.bucket_bar(figure, sign, text.sizes["bucket"])
    page.headline(
        figure,
        text,
        "Why Adam beats gradient descent on language",
        "a-c: a two-layer transformer on the docstrings of Python's standard library. d: the last "
        "layer of a frozen transformer, in full batch.",
    )
    return figure


def draw_from_kept(options: Options) -> Path | None:
    """Draw it beside the other figures, if the data of both figures are there."""
    places = [data_path(name, options) for name in SOURCES]
    kept = [place for place in places if place is not None and place.exists()]
    if len(kept) < len(places):
        return None
    found = [datasets.read(place) for place in kept]
    if TEXT not in found[0]["text"]:
        return None
    return save(lambda: draw(*found), NAME, options)
