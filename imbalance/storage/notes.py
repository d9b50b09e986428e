"""What whoever makes runs leaves in their lock: which runs, and how far they are."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Note:
    """How far runs are that are being made together.

    Attributes:
      keys: of the runs.
      began: when, in seconds since 1970.
      began_with: the share of their operations that lay behind a checkpoint by then.
      done: the share that is done.
      at: when that was so.
    """

    keys: Sequence[str]
    began: float
    began_with: float = 0.0
    done: float = 0.0
    at: float = 0.0

    def to_line(self) -> str:
        """One line of JSON; `from_line` reads it."""
        return json.dumps(asdict(self))


def from_line(line: str) -> Note | None:
    """The note of a line; None if it has none, being half written or of somebody else."""
    try:
        note = Note(**json.loads(line))
        numbers = (note.began, note.began_with, note.done, note.at)
        right = all(type(n) in (int, float) and math.isfinite(n) and n >= 0 for n in numbers)
        right &= isinstance(note.keys, list) and all(isinstance(key, str) for key in note.keys)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return note if right else None
