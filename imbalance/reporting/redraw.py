"""Draw all figures and write the claims from the data kept beside the figures; nothing is run.

Figures at laptop scale, and below them those of what has been run at the paper's own size.
"""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from imbalance.reporting import overview
from imbalance.reporting.claims import claims_table
from imbalance.reporting.evidence import data_path, draw
from imbalance.reporting.experiment import Options, load_experiment, scripts
from imbalance.reporting.part import Scale
from imbalance.storage import datasets, files


@dataclass(frozen=True)
class RedrawOptions:
    """Redraw every picture, and write the claims anew, from the data kept beside the pictures."""

    figures: Path = Path("figures")
    """The folder of the pictures, with their data in ``data/``."""
    experiments: Path = Path("experiments")
    """The folder of experiment scripts."""
    pdf: bool = False
    """Draw a PDF beside each PNG."""


def redraw(options: RedrawOptions) -> int:
    """Draw all figures from what is kept; the number of them.

    Raises:
      FileNotFoundError: if there are no experiment scripts.
    """
    drawn = sum(_redraw_scale(scale, options) for scale in ("laptop", "paper"))
    overview.draw_from_kept(Options(figures=options.figures, pdf=options.pdf))
    return drawn


def _redraw_scale(scale: Scale, options: RedrawOptions) -> int:
    drawing = Options(scale, figures=options.figures, pdf=options.pdf)
    places = {path: data_path(path.stem, drawing) for path in scripts(options.experiments, True)}
    kept = {path: place for path, place in places.items() if place is not None and place.exists()}
    claims = {}
    for path, place in tqdm(kept.items(), desc=f"drawing ({scale})", unit="figure"):
        experiment = load_experiment(path)
        claims[path.stem], _ = draw(experiment, datasets.read(place), drawing)
    if claims or scale == "laptop":
        page = drawing.figure_path("CLAIMS").with_suffix(".md")
        files.write_as_it_is(page, claims_table(claims, scale).encode())
    return len(claims)
