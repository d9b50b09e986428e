"""Claims: a statement, the number that decides it, and the verdict.

A claim that fails is printed as failed, with its value. One that this scale cannot decide says so.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

Fixed = Literal["arithmetic", "before any run", "after a pilot"]
"""When the threshold was set. Pilots are independent NumPy runs, made before this code was written:
passing a threshold that was set after one shows that two implementations agree, and is no
independent confirmation of the paper."""


@dataclass(frozen=True)
class Claim:
    """One row of the table."""

    name: str  # lower-case words joined by hyphens, unique within the experiment
    statement: str
    expected: str
    measured: str
    holds: bool | None  # None: not decided at this scale
    fixed: Fixed

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "holds", False: "FAILS", None: "not decided"}[self.holds]


def slug(words: str) -> str:
    """``words`` as part of a claim's name: ``slug("docstrings, BPE")`` is ``"docstrings-bpe"``.

    Letters become lower case; all but letters, digits and dots become hyphens.
    """
    return re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-")


def between(
    name: str,
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
    return Claim(name, statement, expected, f"{value:.4g}", holds, fixed)


def close(
    name: str,
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
        name, statement, f"{_numbers(expected)} ± {tolerance or '0'}", _numbers(found), holds, fixed
    )


def undecided(name: str, statement: str, expected: str, measured: str, *, fixed: Fixed) -> Claim:
    """A number without a threshold, or a claim that this scale cannot decide."""
    return Claim(name, statement, expected, measured, None, fixed)


def sign_explains_adam(prefix: str, losses: Sequence[float], words: str) -> list[Claim]:
    """Sign descent does as well as Adam, and normalising the gradient alone does not.

    The two rows are named ``<prefix>-sign-near-adam`` and ``<prefix>-normalized-gd-near-gd``.

    Args:
      prefix: of the names.
      losses: final losses of gradient descent, Adam, normalized gradient descent and sign descent,
        in this order.
      words: with which statements begin.
    """
    gd, adam, normalized, sign = losses
    rows = (
        (
            "sign-near-adam",
            f"sign descent does as well as Adam: |sign - Adam| less a fifth of GD - Adam = "
            f"{gd - adam:.3g} nats",
            abs(sign - adam) - 0.2 * (gd - adam),
            {"high": 0.0},
        ),
        (
            "normalized-gd-near-gd",
            "normalized GD is nearer to GD than to Adam: its distance from Adam less that from GD, "
            "nats",
            abs(normalized - adam) - abs(normalized - gd),
            {"low": 0.0},
        ),
    )
    return [
        between(f"{prefix}-{name}", f"{words}: {said}", value, **limit, fixed="before any run")
        for name, said, value, limit in rows
    ]


def inside_grid(chosen: xr.Dataset, name: str = "best-rates-inside-grid") -> Claim:
    """That no best rate stands at the edge of the rates tried, where a wider grid might do better.

    Args:
      chosen: from `imbalance.analysis.labelled.at_best`.
      name: of the claim, where one experiment makes several.
    """
    edges = chosen["edge"].stack(run=chosen["edge"].dims)
    edges = edges[edges != ""]
    found = [
        f"{' '.join(map(str, run))}: {edge}"
        for run, edge in zip(edges["run"].values, edges.values, strict=True)
    ]
    return Claim(
        name,
        f"Best learning rates lie inside their grids ({chosen.attrs['selection']})",
        "all inside",
        "; ".join(found) or "all inside",
        not found,
        "before any run",
    )


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.5g}" for value in np.atleast_1d(values))


def to_markdown(claims: Iterable[Claim]) -> str:
    """A table, one claim a row."""
    rows = ["| name | claim | expected | measured | verdict | threshold fixed |", "|" + "---|" * 6]
    for claim in claims:
        cells = (claim.name, claim.statement, claim.expected, claim.measured)
        cells = [cell.replace("|", "\\|") for cell in cells]
        verdict = claim.verdict if claim.holds else f"**{claim.verdict}**"
        rows.append(f"| {' | '.join(cells)} | {verdict} | {claim.fixed} |")
    return "\n".join(rows)


def to_text(claims: Iterable[Claim]) -> str:
    """The same for a terminal: verdict, name and statement, and below them the numbers."""
    lines = []
    for claim in claims:
        lines.append(f"{claim.verdict:>11}  {claim.name}: {claim.statement}")
        lines.append(f"{'':>13}measured {claim.measured}; expected {claim.expected}")
    return "\n".join(lines)
