"""What a report is of: the experiments of a folder, or the paths that somebody names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imbalance.reporting.report.exhibits import Gathered, Known, from_files


@dataclass(frozen=True)
class Where:
    """Where experiments keep what they have.

    Attributes:
      scale: Of the experiments.
      results: Folder where results are stored.
      figures: Folder of the pictures, with their data in ``data/``.
      experiments: Folder of the scripts.
    """

    scale: Literal["smoke", "laptop", "paper"] = "laptop"
    results: Path = Path("results")
    figures: Path = Path("figures")
    experiments: Path = Path("experiments")


def gather(paths: Sequence[Path], where: Where, known: Known | None = None) -> Gathered:
    """All exhibits of a report.

    Args:
      paths: Datasets, records, folders of datasets, scripts or names of experiments, in the order
        in which they are shown; none: all experiments.
      where: Folders of the experiments.
      known: Of an earlier call; what has not changed since is not read again.

    Raises:
      FileNotFoundError: If no path is given and there are no experiments.
      ModuleNotFoundError: If experiments are asked for and the extra ``lab`` is not installed.
    """
    if not paths:
        from imbalance.reporting.report.experiments import all_scripts

        return _of_scripts(all_scripts(where.experiments), where, known)
    together = Gathered([])
    for path in paths:
        script = script_of(path, where.experiments)
        if script is not None:
            one = _of_scripts([script], where, known)
        else:
            one = from_files([path])
        together.add(one)
    return together


def script_of(path: Path, folder: Path) -> Path | None:
    """The script that a path or name of an experiment stands for; None where it is another file."""
    if path.suffix == ".py":
        return path
    named = folder / f"{path.name}.py"
    return named if path.parent == Path() and not path.exists() and named.exists() else None


def _of_scripts(scripts: Sequence[Path], where: Where, known: Known | None) -> Gathered:
    from imbalance.reporting.experiment import Options
    from imbalance.reporting.report.experiments import from_scripts

    options = Options(where.scale, results=where.results, figures=where.figures)
    return from_scripts(scripts, options, known)
