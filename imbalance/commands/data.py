"""``imbalance data``: what a folder of published data sets holds, and whether it is whole."""

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from imbalance.analysis.printing import aligned
from imbalance.commands.output import write_json
from imbalance.data.checking import Finding, examine
from imbalance.data.published import PUBLISHED

VARIABLE = "IMBALANCE_DATA"


def data(
    folder: Path | None = None, /, only: tuple[str, ...] = (), json: str | None = None
) -> None:
    """What a folder of data holds: the data sets of the paper, whole or not.

    Counts lines, tokens, images and classes, and compares checksums where they are known. The
    status is 1 if something there is damaged or incomplete, or something named is not there.

    Args:
      folder: Folder with mnist/, ptb/ and the like in it; left out: that of IMBALANCE_DATA.
      only: Names of the data sets to check; left out: all.
      json: File for what was found as JSON; - prints that alone.
    """
    root = _root(folder)
    found = {name: _examined(root, name) for name in _names(only)}
    if json != "-":
        print(as_text(root, found))
    if json:
        write_json({name: [one._asdict() for one in group] for name, group in found.items()}, json)
    _refuse_damage(found, only)


def as_text(root: Path, found: Mapping[str, list[Finding]]) -> str:
    """Findings to be read.

    Args:
      root: Folder of the data sets.
      found: Findings by the name of the data set.
    """
    rows = [(name, finding) for name, group in found.items() for finding in group]
    columns = {
        "data set": [name for name, _ in rows],
        "part": [finding.part for _, finding in rows],
        "state": [finding.state for _, finding in rows],
        "found": [finding.words for _, finding in rows],
    }
    return f"{root}\n\n{aligned(columns, left=tuple(columns))}"


def _root(folder: Path | None) -> Path:
    said = os.environ.get(VARIABLE)
    if folder is None and not said:
        raise ValueError(f"no folder: name one, or set {VARIABLE} to it.")
    root = Path(said or "") if folder is None else folder
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; give one with mnist/, ptb/ and the like in it.")
    return root


def _names(only: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in only if name not in PUBLISHED]:
        raise ValueError(
            f"--only {unknown[0]}: there is no such data set; there are {', '.join(PUBLISHED)}."
        )
    return only or tuple(PUBLISHED)


def _examined(root: Path, name: str) -> list[Finding]:
    if (root / name).is_dir():
        print(f"checking {name} ...", file=sys.stderr, flush=True)  # large ones take a minute
    return examine(root / name, PUBLISHED[name])


def _refuse_damage(found: Mapping[str, list[Finding]], only: Collection[str]) -> None:
    """End with status 1 where something is not as it should be.

    Raises:
      ValueError: If something is damaged or incomplete, or something named in ``only`` is absent.
    """
    damaged = _in_state("wrong", found)
    missing = [name for name in _in_state("absent", found) if name in only]
    if damaged:
        raise ValueError(f"{', '.join(damaged)}: damaged or incomplete; see docs/data.md.")
    if missing:
        raise ValueError(f"{', '.join(missing)}: not there; see docs/data.md for where to get it.")


def _in_state(state: str, found: Mapping[str, list[Finding]]) -> list[str]:
    return [name for name, group in found.items() if any(one.state == state for one in group)]
