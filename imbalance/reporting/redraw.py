"""Draw all figures and write the claims from the data kept beside the figures; nothing is run."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from imbalance.reporting import overview
from imbalance.reporting.claims import claims_table
from imbalance.reporting.evidence import data_path, draw
from imbalance.reporting.experiment import Options, load_experiment, scripts
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
    drawing = Options(figures=options.figures, pdf=options.pdf)
    claims = {}
    for path in tqdm(scripts(options.experiments, every=True), desc="drawing", unit="figure"):
        place = data_path(path.stem, drawing)
        if place is not None and place.exists():
            experiment = load_experiment(path)
            claims[path.stem], _ = draw(experiment, datasets.read(place), drawing)
    overview.draw_from_kept(drawing)
    text = claims_table(claims, drawing.scale)
    files.write_as_it_is(options.figures / "CLAIMS.md", text.encode())
    return len(claims)


def main() -> None:
    """The command line."""
    options = tyro.cli(RedrawOptions, description=__doc__)
    try:
        number = redraw(options)
    except FileNotFoundError as error:
        sys.exit(f"redraw: {error}")
    print(f"drew {number} figures from {options.figures / 'data'}")


if __name__ == "__main__":
    main()
