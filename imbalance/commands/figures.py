"""``imbalance figures``: all figures anew, from the data kept beside them."""

from typing import Annotated

import tyro

from imbalance.reporting.redraw import RedrawOptions, redraw


def figures(options: Annotated[RedrawOptions, tyro.conf.arg(name="")]) -> None:
    """Redraw every figure, and check all claims, from the data kept beside the figures.

    Nothing is run. The data are in figures/data, one file for each experiment.
    """
    kept = options.figures / "data"
    if not any(kept.glob("*.nc")):
        raise ValueError(
            f"no data of figures in {kept.resolve()}; run this from the checkout, name the folder "
            "with --figures, or make them with `imbalance reproduce`."
        )
    print(f"drew {redraw(options)} figures from {kept}")
