"""All that the page knows of the runs of one dataset, packed."""

import base64
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from matplotlib.colors import to_hex

from imbalance.analysis.selection import RULES
from imbalance.reporting import plots
from imbalance.reporting.report.choices import choices, horizons
from imbalance.reporting.report.classes import classes
from imbalance.reporting.report.curves import curves
from imbalance.reporting.report.makers import facts, makers, settings


@dataclass(frozen=True)
class Explored:
    """The runs of a dataset as the page has them.

    Attributes:
      data: What the explorer shows, packed by `pack`.
      makers: A table for each who made runs.
      settings: Of the sweeps, as text.
      facts: What else the dataset says of itself.
    """

    data: str
    makers: list[dict[str, str]] = field(default_factory=list)
    settings: str = ""
    facts: dict[str, str] = field(default_factory=dict)


def explored(dataset: xr.Dataset) -> Explored:
    """What is shown of a dataset.

    Args:
      dataset: As `labelled.labelled` returns it.
    """
    return Explored(pack(plain(dataset)), makers(dataset), settings(dataset), facts(dataset))


def plain(dataset: xr.Dataset) -> dict[str, Any]:
    """What the explorer shows of a dataset, as plain data.

    Args:
      dataset: As `labelled.labelled` returns it.
    """
    known = curves(dataset, keep=horizons(dataset)[0])
    number = max(len(run) for kind in known["kinds"] for run in (*kind["buckets"], [0]))
    return {
        **known,
        "choices": choices(dataset),
        "rules": [list(rule) for rule in RULES.items()],
        "classes": classes(dataset),
        "colours": [to_hex(colour) for colour in plots.bucket_colours(number)],
    }


def pack(data: Any) -> str:
    """Plain data as text that ``unpack.js`` reads: JSON, compressed, in base64."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    packed = gzip.compress(text.encode(), 9, mtime=0)
    return base64.b64encode(packed).decode("ascii")
