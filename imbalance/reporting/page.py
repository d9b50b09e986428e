"""The page on which figures are drawn: as wide as a page of text, letters, legend and caption.

A figure is 7 inches wide, and nothing on it is smaller than 7 points, so that it can be read where
it is shown. What belongs to the whole of it is put there by `finish`: a letter on each panel, a
legend below for all of them, and an arrow with the value where a curve leaves its panel.
"""

import textwrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 7.0  # inches
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MOST_LETTERS = 12  # panels of larger grids are told apart by their titles
CAPTION_WIDTH = 125  # letters in a line
STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "font.size": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.8,
    "figure.titlesize": 8,
    "lines.linewidth": 1.3,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
}


def panels(
    rows: int, columns: int, *, height: float = 1.7, width: float = WIDTH
) -> tuple[Figure, np.ndarray]:
    """A figure of ``rows x columns`` axes; axes come as an array of that shape.

    Args:
      rows: of panels.
      columns: of panels.
      height: of each row, in inches.
      width: of the whole figure, in inches.
    """
    figure = Figure(figsize=(width, height * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.locator_params(nbins=4)  # small panels: few labels, which also take most time to draw
    return figure, axes


def headline(figure: Figure, chosen: xr.Dataset | None, title: str, more: str = "") -> None:
    """The title, and under it how learning rates were chosen and which seeds are shown.

    Args:
      figure: to be titled.
      chosen: runs from `imbalance.analysis.selection.at_best` or the like; None: nothing is said.
      title: of the figure.
      more: sentences that belong to the caption.
    """
    parts = [more]
    if chosen is not None:
        rates = chosen.attrs.get("selection", "as shown")
        parts.append(f"Learning rates: {rates}. {seeds(chosen)}")
        if (precision := chosen.attrs.get("precision", "float32")) != "float32":
            parts.append(f"Matrix products in {precision}.")
    caption = textwrap.fill(" ".join(filter(None, parts)), CAPTION_WIDTH)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=7)


def seeds(chosen: xr.Dataset) -> str:
    """Which seeds are shown, in a sentence."""
    shown = np.atleast_1d(chosen["seed"].values).tolist() if "seed" in chosen.coords else [0]
    searched = np.atleast_1d(chosen.attrs.get("search_seeds", [])).tolist()
    words = f"seed {shown[0]}"
    if len(shown) > 1:
        words = f"mean and range of seeds {', '.join(map(str, shown))}"
    if searched and not set(shown) & set(searched):
        words += f" (rates searched on seed {', '.join(map(str, searched))})"
    return f"Curves: {words}."


def finish(figure: Figure) -> None:
    """Put on what belongs to the whole figure; called once, when all is drawn."""
    drawn = [axis for axis in figure.axes if axis.axison and not hasattr(axis, "_colorbar")]
    for axis in drawn:
        _mark_clipped(axis)
    if 1 < len(drawn) <= MOST_LETTERS:
        for letter, axis in zip(LETTERS, drawn, strict=False):
            title = axis.get_title()
            axis.set_title("")
            axis.set_title(f"$\\mathbf{{{letter}}}$  {title}", loc="left")
    found: dict[str, Any] = {}
    for axis in drawn:
        if axis.get_legend() is None:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                found.setdefault(label, handle)
    caption = figure.get_supxlabel()
    figure.supxlabel("")  # constrained layout would put the legend on top of it
    if found or caption:
        longest = max(map(len, found), default=0)
        figure.legend(
            found.values(),
            found,
            loc="outside lower left",
            ncols=max(1, min(len(found), int(110 / (longest + 6)))),
            title=caption,
            title_fontsize=7,
            alignment="left",
            borderpad=0,
        )


def _mark_clipped(axis: Axes) -> None:
    """An arrow with the largest value, where a curve leaves its panel at the top."""
    bottom, top = axis.get_ylim()
    highest, place = top + 0.01 * (top - bottom), 0.0
    left, right = sorted(axis.get_xlim())
    for line in axis.lines:
        if line.get_transform() != axis.transData:
            continue
        x, y = (np.asarray(values, float) for values in line.get_data())
        seen = np.isfinite(y) & (x >= left) & (x <= right)
        if seen.any() and y[seen].max() > highest:
            i = np.flatnonzero(seen)[np.argmax(y[seen])]
            highest, place = float(y[i]), float(x[i])
    if highest > top + 0.01 * (top - bottom):
        middle = 10 ** np.mean(np.log10((left, right))) if axis.get_xscale() == "log" else None
        on_left = place < (middle if middle is not None else (left + right) / 2)
        axis.annotate(
            f"↑ {highest:.3g}",
            (place, 1.0),
            xycoords=axis.get_xaxis_transform(),
            ha="left" if on_left else "right",
            va="top",
            fontsize=7,
            color="0.3",
        )
