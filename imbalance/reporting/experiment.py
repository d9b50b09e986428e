"""What an experiment script declares, and its command line."""

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
import xarray as xr
from matplotlib.figure import Figure

from imbalance.reporting.claims import Claim
from imbalance.reporting.cluster import Cluster
from imbalance.reporting.part import Part, Scale
from imbalance.training.sweep import Sweep

MAIN = (  # the figures of the main text and the theorem's, the quickest first
    "fig6_quadratic",
    "fig4_linear",
    "theory_flows",
    "fig9_blocks",
    "fig7_correlation",
    "fig8_transformer_head",
    "fig5_last_layer",
    "fig1_language",
    "fig2_barcoded",
    "fig3_imagenet",
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Experiment:
    """What a script declares.

    Attributes:
      name: of the script, its results and its figure.
      sweeps: scale -> the sweeps that are compared, by the value of ``over`` in which they differ;
        an experiment of one sweep gives ``{"": sweep}``.
      draw: joined results -> the figure.
      claims: joined results -> the rows of its table; ``results.attrs["scale"]`` tells the scale.
      over: the dimension along which several sweeps are joined.
    """

    name: str
    sweeps: Callable[[Scale], Mapping[Any, Sweep]]
    draw: Callable[[xr.Dataset], Figure]
    claims: Callable[[xr.Dataset], list[Claim]]
    over: str | None = None

    def __post_init__(self):
        if not NAME.fullmatch(self.name):  # it is a folder's and a file's name
            raise ValueError(
                f"experiment {self.name!r}: give a name of letters, digits, '_', '-' and '.', at "
                "most 100, that begins with a letter or digit."
            )


@dataclass(frozen=True)
class Options(Part):
    """Options of every experiment script."""

    jobs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Processes side by side; left out: one for every two processors, 1 on a GPU or TPU."""
    redraw: bool = False
    """Draw from stored results and run nothing."""
    overwrite: bool = False
    """Run again what is stored already."""
    results: Path = Path("results")
    """The folder where results are stored."""
    figures: Path = Path("figures")
    """The folder where figures are drawn; those of smoke and of parts go beside the results."""
    pdf: bool = False
    """Draw a PDF beside the PNG."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = Cluster()
    """Members of a cluster, or of this machine, that make the runs."""

    def __post_init__(self):
        super().__post_init__()
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"--jobs {self.jobs}: give 1 or more.")
        if self.cluster.launcher:
            for name in ("jobs", "redraw", "overwrite"):
                if getattr(self, name):
                    raise ValueError(f"--{name} is for this process: leave out --launcher.")

    def figure_path(self, name: str) -> Path:
        """Where a figure goes: laptop to ``figures/``, paper below it, else beside the results."""
        shown = {"laptop": self.figures, "paper": self.figures / "paper"}
        folder = shown.get(self.label, self.results / name / self.label)
        return folder / f"{name}.png"

    @property
    def shown(self) -> bool:
        """Whether figures and claims are for everybody to see: whole experiments are."""
        return self.label in ("laptop", "paper")


def load_experiment(path: Path) -> Experiment:
    """The ``EXPERIMENT`` a script declares.

    Raises:
      ValueError: if it declares none, or under another name than the script's.
    """
    spec = importlib.util.spec_from_file_location(f"experiments_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses of the script look themselves up there
    spec.loader.exec_module(module)
    experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment) or experiment.name != path.stem:
        raise ValueError(f"{path} must declare EXPERIMENT = Experiment({path.stem!r}, ...).")
    return experiment


def scripts(folder: Path, every: bool) -> list[Path]:
    """Experiment scripts of a folder, those of the main text first; without ``every`` only those.

    A folder that has none of the main text's is somebody's own: then all of it.

    Raises:
      FileNotFoundError: if there are none.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.py"))}
    if not found:
        raise FileNotFoundError(
            f"no experiment scripts in {folder.resolve()}; run this from the checkout, or name "
            "their folder with --experiments."
        )
    main = [found.pop(name) for name in MAIN if name in found]
    return [*main, *(found.values() if every or not main else ())]


def main(experiment: Experiment) -> None:
    """The command line of an experiment script."""
    from imbalance.reporting.reproduce import carry_out  # which imports what is declared here

    module = sys.modules["__main__"]
    try:
        options = tyro.cli(Options, description=inspect.getdoc(module))
    except ValueError as error:  # of options that do not go together
        sys.exit(str(error))
    sys.exit(carry_out({Path(str(module.__file__)).resolve(): experiment}, options))
