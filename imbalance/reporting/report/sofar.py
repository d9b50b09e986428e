"""Runs that are finished and in no joined dataset yet: the curves so far of work that goes on.

A run in the store says with which settings it was made and not for which experiment, which may be
several. So runs are shown by their settings.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from imbalance.reporting.report.exhibits import Exhibit, Gathered, collect
from imbalance.reporting.report.explored import explored
from imbalance.reporting.report.labelled import labelled
from imbalance.storage.datasets import stored_runs
from imbalance.storage.joining import join
from imbalance.storage.store import Store

OF_A_RUN = ("optimizer", "learning_rate", "seed")  # settings in which the runs of a sweep differ
LOSSES = ("loss", "bucket_loss")


@dataclass
class Finished:
    """Runs of a store that were read, by their keys; they never change."""

    store: Store
    runs: dict[str, xr.Dataset] = field(default_factory=dict)
    joined: dict[Path, tuple[float, list[str]]] = field(default_factory=dict)

    def renew(self, datasets: Iterable[Path]) -> dict[str, xr.Dataset]:
        """Finished runs that none of some joined datasets holds; new ones are read.

        Args:
          datasets: Files of joined datasets.
        """
        taken = {key for path in datasets for key in self._keys(path)}
        there = [path.stem for path in sorted(self.store.folder.glob("??/*.nc"))]
        for key in set(there) - taken - set(self.runs):
            try:
                self.runs[key] = self.store.read(key)
            except (OSError, ValueError):
                continue  # damaged, which is as good as none: whoever needs it makes it again
        return {key: self.runs[key] for key in there if key in self.runs and key not in taken}

    def _keys(self, path: Path) -> list[str]:
        try:
            written = path.stat().st_mtime
        except OSError:
            return []
        if path not in self.joined or self.joined[path][0] != written:
            self.joined[path] = written, stored_runs(path) or []
        return self.joined[path][1]


def so_far(runs: Mapping[str, xr.Dataset]) -> Gathered:
    """An exhibit for each sweep of which runs are finished.

    Args:
      runs: Of a store, by their keys.
    """
    groups: dict[str, list[xr.Dataset]] = {}
    for run in runs.values():
        groups.setdefault(sweep_of(run), []).append(run)
    found = Gathered([])
    for settings, group in groups.items():
        name = _name(settings)
        collect(found, f"runs so far of {name}", lambda n=name, g=group: [_exhibit(n, g)])
    return found


def sweep_of(run: xr.Dataset) -> str:
    """The settings of the sweep that a run belongs to, as text."""
    settings = _settings(run)
    return json.dumps({k: v for k, v in settings.items() if k not in OF_A_RUN}, sort_keys=True)


def _settings(run: xr.Dataset) -> dict[str, Any]:
    try:
        found = json.loads(run.attrs["settings"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(settings: str) -> str:
    problem = json.loads(settings).get("problem")
    if not isinstance(problem, dict):
        return "unknown"
    name = str(problem.get("name", "unknown"))
    values = [f"{k} {v}" for k, v in problem.items() if isinstance(v, int | float | str)]
    return ", ".join([name, *(value for value in values if not value.startswith("name "))])[:120]


def _exhibit(name: str, group: list[xr.Dataset]) -> Exhibit:
    pieces = {_labels(run): _piece(run) for run in group}  # of equal labels the last
    dataset = join(list(pieces.values()))
    settings = json.loads(sweep_of(group[0]))
    who = [json.loads(run.attrs["provenance"]) | {"runs": 1} for run in group[-1:]]
    dataset.attrs |= {"settings": json.dumps([settings]), "provenance": json.dumps(who)}
    if isinstance(settings.get("confirm"), dict):
        dataset.attrs["search_seeds"] = settings["seeds"]
    runs = "run is" if len(group) == 1 else "runs are"
    text = (f"{len(group)} {runs} finished that no joined dataset holds yet.",)
    shown = explored(labelled(dataset))
    return Exhibit(
        f"so far: {name}", f"So far: {name}", text, runs=shown, number_of_runs=len(group)
    )


def _labels(run: xr.Dataset) -> tuple[Any, ...]:
    settings = _settings(run)
    return tuple(settings[name] for name in OF_A_RUN)


def _piece(run: xr.Dataset) -> xr.Dataset:
    """A run with its labels; the store keeps its arrays alone."""
    stops = _settings(run).get("stops")
    size = run.sizes["step"]
    steps = stops if isinstance(stops, list) and len(stops) == size else np.arange(size)
    kept = run[[name for name in (*LOSSES, "train_loss", "status") if name in run]]
    kept = kept.assign_coords(step=np.asarray(steps, np.int64))
    if "train_step" in kept.dims:
        kept = kept.assign_coords(train_step=np.arange(kept.sizes["train_step"]))
    labels = dict(zip(OF_A_RUN, _labels(run), strict=True))
    return kept.expand_dims({name: [value] for name, value in labels.items()})
