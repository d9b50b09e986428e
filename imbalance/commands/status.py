"""``imbalance status``: how far experiments are, from what lies in the folder of results."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from imbalance.analysis.printing import aligned
from imbalance.commands.output import write_json
from imbalance.storage.standing import Running, Standing, speed, standings, time_left
from imbalance.storage.store import Store

LINES = 12  # of runs that are being made; more are counted


def status(
    results: Path = Path("results"),
    experiments: Path = Path("experiments"),
    scale: Literal["smoke", "laptop", "paper"] | None = None,
    json: str | None = None,
) -> None:
    """How far experiments are: runs done, running, missing and failed, and the time left.

    Reads what lies in the folder of results and changes nothing there. An experiment is known once
    a command or a member has planned it.

    Args:
      results: Folder where results are stored.
      experiments: Folder of experiment scripts; those that nobody has begun are named.
      scale: Scale of the experiments; left out: all.
      json: File for all of it as JSON; - prints that alone.
    """
    if not results.is_dir():
        raise ValueError(f"{results} is no folder; name that of the results with --results.")
    found = standings(results, scale)
    pace = speed(found, Store(results / "runs"))
    if json != "-":
        print(as_text(found, pace))
        known = {standing.name for standing in found}
        if rest := sorted({path.stem for path in experiments.glob("*.py")} - known):
            print("\n" + textwrap.fill(f"not begun: {', '.join(map(clean, rest))}", 100))
    if json:
        write_json([_as_json(standing, pace) for standing in found], json)


def as_text(found: Sequence[Standing], pace: float) -> str:
    """Standings to be read.

    Args:
      found: How far each experiment is.
      pace: Operations a second.
    """
    if not found:
        return "nothing is stored here, and nobody has planned an experiment."
    columns = {
        "experiment": [clean(one.name) for one in found],
        "scale": [clean(one.scale) for one in found],
        "done": [str(len(one.done)) for one in found],
        "running": [_number(sum(len(each.keys) for each in one.running)) for one in found],
        "missing": [_number(len(one.missing), "+" * one.searching) for one in found],
        "state": [one.state for one in found],
        "left": [time_left(one.left, pace) if one.agenda else "" for one in found],
    }
    parts = [aligned(columns, left=("experiment", "scale", "state"))]
    if any(one.searching for one in found):
        parts.append("+: learning rates are searched, and more runs follow")
    if lines := _of_runs(found):
        parts.append("\n".join(lines))
    if lines := [line for one in found for line in _of_trouble(one)]:
        parts.append("\n".join(lines))
    left = sum(one.left for one in found)
    if left and pace:
        parts.append(f"about {time_left(left, pace)} left for all, as fast as it goes now")
    return "\n\n".join(parts)


def clean(text: str, most: int = 200) -> str:
    """Text of a file that anybody may have written, fit for a terminal: one line, no controls."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: 10 * most])
    return " ".join(plain.split())[:most]


def _number(value: int, mark: str = "") -> str:
    return f"{value}{mark}" if value or mark else ""


def _of_runs(found: Sequence[Standing]) -> list[str]:
    """A line for runs that somebody makes, or that wait with a checkpoint."""
    making = {one.keys[0]: (standing, one) for standing in found for one in standing.running}
    lines = [f"running  {_told(standing, one)}" for standing, one in making.values()]
    paused = [
        f"waiting  {standing.name} {_label(standing, key)}, at step {steps:,}"
        for standing in found
        for key, steps in standing.paused.items()
    ]
    more = [f"and {len(each) - LINES} more" for each in (lines, paused) if len(each) > LINES]
    return [clean(line) for line in lines[:LINES] + paused[:LINES]] + more


def _told(standing: Standing, one: Running) -> str:
    others = f" and {len(one.keys) - 1} more" if len(one.keys) > 1 else ""
    who = one.who.partition(": ")[0]  # without its command
    return f"{standing.name} {_label(standing, one.keys[0])}{others}, {one.done:.0%}, {who}"


def _label(standing: Standing, key: str) -> str:
    assert standing.agenda  # what has no agenda has no such runs
    run = standing.agenda.runs[key]
    return f"{run.optimizer[:50]} at {run.learning_rate:.3g}, seed {run.seed}, {run.steps:,} steps"


def _of_trouble(one: Standing) -> list[str]:
    lines = [clean(text, 500) for text in one.damage]
    if one.failure:
        lines.append(
            clean(
                f"failed   {one.name} at {one.scale}: {one.failure.cause} ({one.failure.by})", 500
            )
        )
    return lines


def _as_json(one: Standing, pace: float) -> Mapping[str, object]:
    return {
        "experiment": one.name,
        "scale": one.scale,
        "state": one.state,
        "done": len(one.done),
        "running": [
            {"runs": len(each.keys), "by": each.who, "done": each.done} for each in one.running
        ],
        "missing": len(one.missing),
        "more follow": one.searching,
        "failure": one.failure and one.failure.cause,
        "seconds left": one.left / pace if pace else None,
    }
