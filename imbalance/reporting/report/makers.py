"""Who made the runs of a dataset, in words."""

import json
from typing import Any

import numpy as np
import xarray as xr

from imbalance.reporting.report.labelled import attribute

WORDS = {
    "runs": "runs",
    "first": "first finished",
    "last": "last finished",
    "command": "command",
    "device": "device",
    "processor": "processor",
    "threads": "threads",
    "python": "Python",
    "git_commit": "commit",
    "git_dirty": "uncommitted changes",
}
LONGEST = 20_000  # letters of settings


def makers(dataset: xr.Dataset) -> list[dict[str, str]]:
    """A table for each who made runs: what, when, with which versions and on which machine."""
    found = attribute(dataset, "provenance")
    tables = []
    for one in found if isinstance(found, list) else []:
        if not isinstance(one, dict):
            continue
        table = {word: str(one[name]) for name, word in WORDS.items() if name in one}
        versions = one.get("versions")
        if isinstance(versions, dict):
            table["versions"] = ", ".join(f"{name} {v}" for name, v in versions.items())
        tables.append(table)
    return tables


def settings(dataset: xr.Dataset) -> str:
    """The settings of the sweeps as text; empty where none are stored."""
    found: Any = attribute(dataset, "settings")
    if found is None:
        return ""
    text = json.dumps(found, indent=1, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… and {len(text) - LONGEST} more"


def facts(dataset: xr.Dataset) -> dict[str, str]:
    """What else the file says of itself."""
    found = {}
    for name, word in (("experiment", "experiment"), ("scale", "scale"), ("format", "format")):
        if isinstance(dataset.attrs.get(name), str) and dataset.attrs[name]:
            found[word] = dataset.attrs[name]
    seconds = dataset.attrs.get("wall_seconds")
    if isinstance(seconds, int | float | np.integer | np.floating):
        found["time of all runs"] = _duration(float(seconds))
    return found


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
