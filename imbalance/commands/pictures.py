"""Pictures that commands draw."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.counts import rank_order
from imbalance.analysis.frequency import ZipfFit, rank_frequency
from imbalance.reporting import page

MOST_POINTS = 2000  # of a curve: more are not seen, and take long to draw


def draw_counts(
    counts: np.ndarray, fit: ZipfFit | None, buckets: FrequencyBuckets, title: str, path: Path
) -> None:
    """Draw ranks and counts with the fit, and how much the frequent classes have.

    Args:
      counts: Examples of each class ``[class]``.
      fit: Zipf fit; None: no line is drawn.
      buckets: Groups of the classes, which colour them.
      title: Name of what is drawn.
      path: File to write; its ending says the kind of picture.

    Raises:
      OSError: If it cannot be written.
      ValueError: If its ending is of no kind of picture.
    """
    with matplotlib.rc_context(page.STYLE):
        figure = rank_picture(counts, fit, buckets, title)
        page.finish(figure)
        figure.savefig(path)


def rank_picture(
    counts: np.ndarray, fit: ZipfFit | None, buckets: FrequencyBuckets, title: str
) -> Figure:
    """The figure that `draw_counts` writes, without letters and legend."""
    figure, axes = page.panels(1, 2, height=2.3)
    by_rank, by_share = axes[0]
    ranked = rank_frequency(counts)
    shown = np.unique(np.rint(np.geomspace(1, len(ranked.rank), MOST_POINTS)).astype(int)) - 1
    bucket = buckets.bucket_of_class[rank_order(counts)[shown]]
    colour = matplotlib.colormaps["viridis"](bucket / max(1, buckets.num_buckets - 1))
    by_rank.scatter(ranked.rank[shown], ranked.count[shown], c=colour, s=6, linewidths=0)
    highest = ranked.count.max()
    if fit is not None:
        rank = np.geomspace(fit.first_rank, fit.first_rank + fit.num_classes - 1, 100)
        every = np.arange(fit.first_rank, fit.first_rank + fit.num_classes)
        scale = fit.num_examples / np.sum(every**-fit.exponent)
        label = f"maximum likelihood, exponent {fit.exponent:.2f}"
        by_rank.plot(rank, scale * rank**-fit.exponent, "k--", linewidth=1, label=label)
        highest = max(highest, scale * fit.first_rank**-fit.exponent)
    by_rank.set(xscale="log", yscale="log", xlabel="rank of class", ylabel="examples")
    by_rank.set_ylim(0.7 * ranked.count.min(), 1.5 * highest)
    by_rank.set_title("Examples of each class")
    by_share.scatter(
        ranked.rank[shown], ranked.cumulative_share[shown], c=colour, s=6, linewidths=0
    )
    by_share.set(xscale="log", ylim=(0, 1.02), xlabel="classes, the most frequent first")
    by_share.set_title("Share of the examples that they have")
    verdict = "" if fit is None else str(fit) + "."
    colours = "Colours are buckets of about equal mass, purple the most frequent."
    page.headline(
        figure,
        None,
        title.replace("$", r"\$"),
        f"{verdict[:1].upper()}{verdict[1:]} {colours}".strip(),
    )
    return figure
