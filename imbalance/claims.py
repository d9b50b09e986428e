"""Claims: a sentence of the paper, the number that decides it, and the verdict.

A claim that fails is printed as failed, with its value. One that this scale cannot decide says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

Fixed = Literal["arithmetic", "before any run", "after a pilot"]
"""When the threshold was set. After a pilot (the specification's author's own, in NumPy), passing
shows agreement with that second implementation and not independent confirmation of the paper."""


@dataclass(frozen=True)
class Claim:
    """One row of the table."""

    id: str  # acceptance test of section J, or the item of section E it belongs to
    statement: str
    expected: str
    measured: str
    holds: bool | None  # None: not decided at this scale
    fixed: Fixed

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "holds", False: "FAILS", None: "not decided"}[self.holds]


def between(
    id: str,
    statement: str,
    value: float,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    fixed: Fixed,
) -> Claim:
    """That ``low <= value <= high``; a value that is not finite fails."""
    if np.isinf(low):
        expected = f"≤ {high:.4g}"
    elif np.isinf(high):
        expected = f"≥ {low:.4g}"
    else:
        expected = f"{low:.4g} to {high:.4g}"
    holds = bool(np.isfinite(value) and low <= value <= high)
    return Claim(id, statement, expected, f"{value:.4g}", holds, fixed)


def close(
    id: str,
    statement: str,
    values: ArrayLike,
    references: ArrayLike,
    *,
    atol: float = 0.0,
    rtol: float = 0.0,
    fixed: Fixed,
) -> Claim:
    """That every value lies within ``atol + rtol |reference|`` of its reference."""
    found, expected = np.asarray(values, float), np.asarray(references, float)
    tolerance = " + ".join(
        part
        for part in (f"{atol:.3g}" if atol else "", f"{100 * rtol:.3g}%" if rtol else "")
        if part
    )
    holds = found.shape == expected.shape and bool(
        np.all(np.abs(found - expected) <= atol + rtol * np.abs(expected))
    )
    return Claim(
        id, statement, f"{_numbers(expected)} ± {tolerance or '0'}", _numbers(found), holds, fixed
    )


def undecided(id: str, statement: str, expected: str, measured: str, *, fixed: Fixed) -> Claim:
    """A number without a threshold, or a claim that this scale cannot decide."""
    return Claim(id, statement, expected, measured, None, fixed)


def sign_explains_adam(id: str, loss: Mapping[str, float], words: str) -> list[Claim]:
    """T17: sign descent does as Adam, and normalising the gradient alone does not.

    Args:
      id: of the rows.
      loss: final losses of ``gd``, ``adam``, ``normalized_gd`` and ``sign``.
      words: with which statements begin.
    """
    gd, adam, normalized, sign = (loss[k] for k in ("gd", "adam", "normalized_gd", "sign"))
    rows = (
        (
            f"sign descent does as Adam: |sign - Adam| less a fifth of GD - Adam = "
            f"{gd - adam:.3g} nats",
            abs(sign - adam) - 0.2 * (gd - adam),
            {"high": 0.0},
        ),
        (
            "normalized GD is nearer to GD than to Adam: its distance from Adam less that from GD, "
            "nats",
            abs(normalized - adam) - abs(normalized - gd),
            {"low": 0.0},
        ),
    )
    return [
        between(id, f"{words}: {said}", value, **limit, fixed="before any run")
        for said, value, limit in rows
    ]


def inside_grid(chosen: xr.Dataset) -> Claim:
    """That no best rate stands at the edge of the rates tried, where a wider grid might do better.

    ``chosen`` comes from `imbalance.analysis.labelled.at_best`.
    """
    edges = chosen["edge"].stack(run=chosen["edge"].dims)
    edges = edges[edges != ""]
    names = [
        f"{' '.join(map(str, run))}: {edge}"
        for run, edge in zip(edges["run"].values, edges.values, strict=True)
    ]
    return Claim(
        "K.2",
        f"Best rates lie inside their grids ({chosen.attrs['selection']})",
        "all inside",
        "; ".join(names) or "all inside",
        not names,
        "before any run",
    )


def spearman(values: ArrayLike) -> float:
    """Rank correlation of ``values`` with their position: 1 if they only rise, -1 if they fall.

    NaN, the value of an empty bucket, is left out.
    """
    found = np.asarray(values, float)
    ranks = pd.Series(found[np.isfinite(found)]).rank()
    return float(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1])


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.5g}" for value in np.atleast_1d(values))


def to_markdown(claims: Iterable[Claim]) -> str:
    """A table, one claim a row."""
    rows = ["| id | claim | expected | measured | verdict | threshold fixed |", "|" + "---|" * 6]
    for claim in claims:
        cells = (claim.id, claim.statement, claim.expected, claim.measured)
        cells = [cell.replace("|", "\\|") for cell in cells]
        verdict = claim.verdict if claim.holds else f"**{claim.verdict}**"
        rows.append(f"| {' | '.join(cells)} | {verdict} | {claim.fixed} |")
    return "\n".join(rows)


def to_text(claims: Iterable[Claim]) -> str:
    """The same for a terminal: a line each, the verdict first."""
    lines = []
    for claim in claims:
        lines.append(f"{claim.verdict:>11}  {claim.id:<5} {claim.statement}")
        lines.append(f"{'':>19}measured {claim.measured}; expected {claim.expected}")
    return "\n".join(lines)
