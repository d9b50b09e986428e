"""Experiments as exhibits: the script's words, its picture, the data kept beside it, its claims."""

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import xarray as xr

from imbalance.reporting import evidence
from imbalance.reporting.experiment import Options, load_experiment, scripts
from imbalance.reporting.report.exhibits import Exhibit, Gathered, Known, Stamp, collect
from imbalance.reporting.report.explored import explored
from imbalance.reporting.report.labelled import labelled
from imbalance.reporting.report.pictures import Picture, embedded
from imbalance.storage import datasets
from imbalance.storage.datasets import dataset_path

COMMANDS = re.compile(r"^(Run|Draws):", re.MULTILINE)


def from_scripts(paths: Sequence[Path], options: Options, known: Known | None = None) -> Gathered:
    """Exhibits of experiments.

    Args:
      paths: Of their scripts; all of them are run, to learn their claims.
      options: Where results and pictures are, and at which scale.
      known: Of an earlier call; what has not changed since is not read again.
    """
    known = Known() if known is None else known
    together = Gathered([])
    together = replace(together, hero=_picture(options.figure_path("overview"), together))
    for path in paths:
        stamp = _stamp(path, options)
        if path not in known.read or known.read[path][0] != stamp:
            known.read[path] = stamp, _of_script(path, options)
        together.add(known.read[path][1])
    return together


def all_scripts(folder: Path) -> list[Path]:
    """The scripts of a folder, those of the main text first.

    Raises:
      FileNotFoundError: If there are none.
    """
    return scripts(folder, every=True)


def _place(name: str, options: Options) -> Path:
    """Where the dataset of an experiment is."""
    kept = evidence.data_path(name, options)
    if kept is not None and kept.exists():
        return kept
    return dataset_path(name, options.scale, options.results)


def _stamp(path: Path, options: Options) -> Stamp:
    places = (path, _place(path.stem, options), options.figure_path(path.stem))
    return tuple(place.stat().st_mtime if place.exists() else 0.0 for place in places)


def _of_script(path: Path, options: Options) -> Gathered:
    """The exhibit of one experiment; what of it cannot be shown is told."""
    found = Gathered([])
    exhibit = replace(words(path), picture=_picture(options.figure_path(path.stem), found))
    place = _place(path.stem, options)
    if not place.exists():
        return replace(found, exhibits=[exhibit])

    def with_runs() -> list[Exhibit]:
        dataset = datasets.read(place)
        shown = replace(exhibit, runs=explored(labelled(dataset)), source=str(place))
        collect(found, f"claims of {path.stem}", lambda: [_checked(path, shown, dataset)])
        return [] if found.exhibits else [shown]

    collect(found, str(place), with_runs)
    return found if found.exhibits else replace(found, exhibits=[exhibit])


def _checked(path: Path, exhibit: Exhibit, dataset: xr.Dataset) -> Exhibit:
    """An exhibit with its claims, computed from its dataset."""
    return replace(exhibit, claims=tuple(load_experiment(path).claims(dataset)))


def words(path: Path) -> Exhibit:
    """What the docstring of a script says: title, paragraphs, and the lines that make it.

    The script is read and not run.
    """
    try:
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        text = ""
    said, commands = text, ""
    if found := COMMANDS.search(text):
        said, commands = text[: found.start()], text[found.start() :]
    parts = [" ".join(part.split()) for part in said.split("\n\n") if part.strip()]
    title, *paragraphs = parts or [path.stem]
    return Exhibit(path.stem, title, tuple(paragraphs), commands.strip())


def _picture(path: Path, found: Gathered) -> Picture | None:
    """A picture, or None where there is none or where it cannot be shown, which is told."""
    try:
        return embedded(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError) as error:
        found.problems.append((str(path), str(error)))
        return None
