"""Claims: a statement, the number that decides it, and the verdict.

A claim is decided on every seed that is shown: it holds if it holds on each of them. One that fails
is printed as failed, with its value and, where it is known, the reason. One that this scale cannot
decide says so, and a number without a threshold is reported.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

Fixed = Literal["before any run", "after a pilot", "arithmetic", "bookkeeping", "no threshold"]
"""When the threshold was set, which says what the claim can show.

Only one set before any run can confirm or refute the paper. Pilots are independent NumPy runs, made
before this code was written: a threshold set after one shows that two implementations agree.
Arithmetic follows from definitions; bookkeeping is about grids of learning rates; a number without
a threshold is reported and decides nothing."""


@dataclass(frozen=True)
class Claim:
    """One row of the table.

    Attributes:
      name: lower-case words joined by hyphens, unique within the experiment.
      statement: what is claimed, or what was measured.
      expected: the threshold in words.
      measured: the number: mean and range over the seeds shown.
      holds: the verdict; None: not decided at this scale, or only reported.
      fixed: when the threshold was set.
      section: of the paper that says so; empty: the claim is this project's own.
      reason: why it fails, where that is known; shown only if it does.
      headline: whether it is one of the paper's main claims.
    """

    name: str
    statement: str
    expected: str
    measured: str
    holds: bool | None
    fixed: Fixed
    section: str = ""
    reason: str = ""
    headline: bool = False

    @property
    def verdict(self) -> str:
        """In words."""
        if self.fixed == "no threshold":
            return "reported"
        return {True: "holds", False: "FAILS", None: "not decided"}[self.holds]

    @property
    def tests(self) -> bool:
        """Whether it can confirm or refute something: its threshold was set before any run."""
        return self.fixed == "before any run"


def slug(words: str) -> str:
    """``words`` as part of a claim's name: ``slug("docstrings, BPE")`` is ``"docstrings-bpe"``.

    Letters become lower case; all but letters, digits and dots become hyphens.
    """
    return re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-")


def between(
    name: str,
    statement: str,
    value: ArrayLike,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    fixed: Fixed,
    section: str = "",
    reason: str = "",
    headline: bool = False,
    percent: bool = False,
) -> Claim:
    """That ``low <= value <= high`` on every seed; no value, or one that is not finite, fails.

    Args:
      name: of the claim.
      statement: what is measured, with its unit.
      value: one number, or one for each seed.
      low: least value that holds.
      high: largest value that holds.
      fixed: when the threshold was set.
      section: of the paper.
      reason: why it fails, if it does.
      headline: whether it is one of the paper's main claims.
      percent: whether numbers are shares, to be written in per cent.
    """
    values = np.atleast_1d(np.asarray(value, float)).ravel()
    held = np.isfinite(values) & (low <= values) & (values <= high)
    low_text, high_text = _number(low, percent), _number(high, percent)
    if np.isinf(low):
        expected = f"≤ {high_text}"
    elif np.isinf(high):
        expected = f"≥ {low_text}"
    else:
        expected = f"{low_text} to {high_text}"
    measured = over_seeds(values, percent)
    if 0 < held.sum() < len(held):
        measured += f"; on {held.sum()} of {len(held)} seeds"
    return Claim(
        name,
        statement,
        expected,
        measured,
        bool(held.size and held.all()),
        fixed,
        section=section,
        reason=reason,
        headline=headline,
    )


def reported(name: str, statement: str, measured: ArrayLike | str, *, section: str = "") -> Claim:
    """A number without a threshold, or one for each seed; it decides nothing."""
    words = measured if isinstance(measured, str) else over_seeds(np.asarray(measured, float))
    return Claim(name, statement, "", words, None, "no threshold", section=section)


def over_seeds(values: ArrayLike, percent: bool = False) -> str:
    """Mean and range, such as ``3.14 (3.10 to 3.18)``; the number alone if there is one."""
    values = np.atleast_1d(np.asarray(values, float)).ravel()
    if np.isnan(values).all():
        return "undefined"
    if len(values) == 1:
        return _number(values[0], percent)
    mean, least, most = (_number(float(f(values)), percent) for f in (np.mean, np.min, np.max))
    return f"{mean} ({least} to {most}, {len(values)} seeds)"


def _number(value: float, percent: bool = False) -> str:
    return f"{100 * value:.3g} %" if percent else f"{value:.4g}"


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


def undecided(
    name: str, statement: str, expected: str, measured: str, *, fixed: Fixed, section: str = ""
) -> Claim:
    """A claim that this scale cannot decide."""
    return Claim(name, statement, expected, measured, None, fixed, section=section)


def sign_explains_adam(
    prefix: str,
    losses: Sequence[ArrayLike],
    words: str,
    section: str = "",
    reasons: Sequence[str] = ("", ""),
    headline: bool = False,
) -> list[Claim]:
    """Sign descent does as well as Adam, and normalising the gradient alone does not.

    The two rows are named ``<prefix>-sign-closes-the-gap`` and
    ``<prefix>-normalized-gd-does-not``: the share of the gap between gradient descent and Adam that
    each closes.

    Args:
      prefix: of the names.
      losses: final losses of gradient descent, Adam, normalized gradient descent and sign descent,
        in this order, each a number or one for each seed.
      words: with which statements begin.
      section: of the paper.
      reasons: why either fails, if it does.
      headline: whether these are of the paper's main claims.
    """
    gd, adam, normalized, sign = (np.asarray(loss, float) for loss in losses)
    gap = gd - adam
    more: dict[str, Any] = {
        "fixed": "before any run",
        "section": section,
        "headline": headline,
        "percent": True,
    }
    return [
        between(
            f"{prefix}-sign-closes-the-gap",
            f"{words}: sign descent closes most of the gap between GD and Adam "
            f"({over_seeds(gap)} nats)",
            (gd - sign) / gap,
            low=0.8,
            high=1.2,
            reason=reasons[0],
            **more,
        ),
        between(
            f"{prefix}-normalized-gd-does-not",
            f"{words}: normalized GD closes at most half of it",
            (gd - normalized) / gap,
            high=0.5,
            reason=reasons[1],
            **more,
        ),
    ]


def inside_grid(chosen: xr.Dataset, name: str = "best-rates-inside-grid") -> Claim:
    """That no best rate stands at the edge of the rates tried, where a wider grid might do better.

    Args:
      chosen: from `imbalance.analysis.selection.at_best`.
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
        "bookkeeping",
    )


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.5g}" for value in np.atleast_1d(values))


def to_markdown(claims: Iterable[Claim]) -> str:
    """A table, one claim a row: those that test something first, the others below."""
    claims = list(claims)
    tests = [claim for claim in claims if claim.tests]
    others = [claim for claim in claims if not claim.tests]
    parts = [_table(tests)] if tests else []
    if others:
        parts += ["Checks and numbers beside them:", _table(others, when=True)]
    return "\n\n".join(parts)


def headlines(claims: Mapping[str, Iterable[Claim]]) -> str:
    """The table of the main claims of all experiments."""
    rows = [
        (f"`{experiment}`", claim)
        for experiment, group in claims.items()
        for claim in group
        if claim.headline
    ]
    head = ["| in the paper | claim | asked | measured | verdict | experiment |", "|" + "---|" * 6]
    return "\n".join(
        head
        + [f"| {claim.section} | {' | '.join(_cells(claim))} | {name} |" for name, claim in rows]
    )


def _table(claims: Sequence[Claim], when: bool = False) -> str:
    head = "| claim | asked | measured | verdict | in the paper |" + (" kind |" if when else "")
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    for claim in claims:
        cells = [f"`{claim.name}`: {_cells(claim)[0]}", *_cells(claim)[1:], claim.section]
        rows.append("| " + " | ".join([*cells, *([claim.fixed] if when else [])]) + " |")
    return "\n".join(rows)


def _cells(claim: Claim) -> list[str]:
    """Statement, threshold, number and verdict."""
    verdict = claim.verdict if claim.holds is not False else f"**{claim.verdict}**"
    if claim.holds is False and claim.reason:
        verdict += f": {claim.reason}"
    cells = [claim.statement, claim.expected, claim.measured, verdict]
    return [cell.replace("|", "\\|") for cell in cells]


def claims_table(claims: Mapping[str, list[Claim]], scale: str) -> str:
    """The Markdown page of all claims: the paper's main ones, then an experiment a section."""
    rows = [claim for group in claims.values() for claim in group]
    lines = [
        "# Claims",
        "",
        f"{len(claims)} experiments at scale `{scale}`. {summary(rows)}",
        "",
        "A claim is decided on every seed shown, and holds if it holds on each. Where learning",
        "rates were searched, these are other seeds, which had a veto and no other part in the",
        "choice. Numbers are means with their range over seeds. Thresholds were fixed before any",
        "run and are not moved. What follows from definitions, agrees with pilot runs or is about",
        "grids of learning rates confirms nothing of the paper: it stands apart and is counted",
        "apart.",
    ]
    if any(claim.headline for claim in rows):
        lines += ["", "## The paper's main claims", "", headlines(claims)]
    for name, group in claims.items():
        lines += ["", f"## {name}", "", to_markdown(group)]
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Claim]) -> str:
    """How many claims hold, in a sentence or two."""
    tests = [claim for claim in rows if claim.tests]
    held, failed = (sum(claim.holds is verdict for claim in tests) for verdict in (True, False))
    words = (
        f"Of {len(tests)} claims with a threshold fixed before any run, {held} hold and {failed} "
        f"fail"
    )
    if undecided := len(tests) - held - failed:
        words += f"; {undecided} need another scale"
    others = [claim for claim in rows if not claim.tests]
    counts = {
        "follow from definitions": "arithmetic",
        "agree with pilots": "after a pilot",
        "are about grids": "bookkeeping",
        "are reported without a threshold": "no threshold",
    }
    kinds = [
        f"{number} {words_}"
        for words_, kind in counts.items()
        if (number := sum(claim.fixed == kind for claim in others))
    ]
    wrong = sum(claim.holds is False for claim in others)
    rest = f" Beside them {', '.join(kinds)}; {wrong} of these fail." if kinds else ""
    return f"{words}.{rest}"


def to_text(claims: Iterable[Claim]) -> str:
    """The same for a terminal: verdict, name and statement, and below them the numbers."""
    lines = []
    for claim in claims:
        lines.append(f"{claim.verdict:>11}  {claim.name}: {claim.statement}")
        asked = f"; asked {claim.expected}" if claim.expected else ""
        lines.append(f"{'':>13}measured {claim.measured}{asked}")
        if claim.holds is False and claim.reason:
            lines.append(f"{'':>13}{claim.reason}")
    return "\n".join(lines)
