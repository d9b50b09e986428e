"""What an experiment wants of the store, told beside its results while runs are missing.

``results/<experiment>/<scale>.work.json`` names the runs that whoever planned it last wanted, and
``<scale>.failed.json`` says why they could not be made. Both are plain JSON, replaced as a whole
and removed when the experiment is finished, so that anybody can say how far it is without planning
it again, which takes JAX and the data.
"""

import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from imbalance.storage import files

WORK, FAILED = ".work.json", ".failed.json"
FORMAT = "imbalance work 1"
MOST_BYTES = 2**26  # larger ones are somebody else's
TRACE = 10_000  # letters of a traceback that are kept
# What another structure than ours leads to: among them are whole numbers beyond all floats
# (OverflowError) and brackets in brackets (RecursionError).
STRANGE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


class Wanted(NamedTuple):
    """A run that is wanted.

    Attributes:
      optimizer: its name in the sweep.
      learning_rate: the rate.
      seed: the seed.
      steps: how far it goes.
      flops: floating-point operations of all of it.
    """

    optimizer: str
    learning_rate: float
    seed: int
    steps: int
    flops: float


@dataclass(frozen=True)
class Agenda:
    """The runs that an experiment wants.

    Attributes:
      runs: by their keys.
      settled: whether these are all; while learning rates are searched, more follow.
      following: operations of those that follow, about.
      since: when it was written, in seconds since 1970.
    """

    runs: Mapping[str, Wanted]
    settled: bool
    following: float
    since: float

    def __post_init__(self):
        numbers = [self.following, self.since]
        for key, run in self.runs.items():
            if not (isinstance(key, str) and key.isalnum() and len(key) <= 200):
                raise ValueError(f"{key!r:.100} is no key of a run.")
            names = (run.optimizer, str), (run.seed, int), (run.steps, int)
            if not all(type(value) is kind for value, kind in names):
                raise ValueError(f"{run!r:.200} is no run.")
            numbers += [run.learning_rate, run.steps, run.flops]
        if not all(_is_number(number) for number in numbers) or type(self.settled) is not bool:
            raise ValueError("some of its numbers are none.")


@dataclass(frozen=True)
class Failure:
    """Why runs of an experiment could not be made.

    Attributes:
      cause: the error.
      trace: how it came about; empty where the cause says it all.
      by: whoever met it.
      at: when, in seconds since 1970.
    """

    cause: str
    trace: str
    by: str
    at: float

    def __post_init__(self):
        words = (self.cause, self.trace, self.by)
        if not all(isinstance(word, str) for word in words) or not _is_number(self.at):
            raise ValueError("it is no failure.")


def place(name: str, scale: str, results: Path, ending: str) -> Path:
    """The file of an experiment; ``ending`` is `WORK` or `FAILED`."""
    return results / name / f"{scale}{ending}"


def write(name: str, scale: str, results: Path, agenda: Agenda) -> None:
    """Tell what an experiment wants.

    Raises:
      OSError: if it cannot be written.
    """
    runs = {key: tuple(run) for key, run in agenda.runs.items()}
    content = {"format": FORMAT, **vars(agenda), "runs": runs}
    _write(place(name, scale, results, WORK), content)


def read(path: Path) -> Agenda:
    """What `write` has written.

    Raises:
      Damaged: if it is something else.
      OSError: if it cannot be read.
    """

    def parse(content: dict[str, Any]) -> Agenda:
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}.")
        runs = {key: Wanted(*run) for key, run in content.pop("runs").items()}
        return Agenda(runs=runs, **content)

    return _read(path, parse)


def keep_failure(name: str, scale: str, results: Path, cause: str, trace: str) -> None:
    """Keep a failure where `read_failure` finds it.

    Raises:
      OSError: if it cannot be written.
    """
    by = f"process {os.getpid()} on {socket.gethostname()}"
    failure = Failure(cause[:TRACE], trace[-TRACE:], by, time.time())
    _write(place(name, scale, results, FAILED), asdict(failure))


def read_failure(path: Path) -> Failure:
    """What `keep_failure` has written.

    Raises:
      Damaged: if it is something else.
      OSError: if it cannot be read.
    """
    return _read(path, lambda content: Failure(**content))


def remove(name: str, scale: str, results: Path, *endings: str) -> None:
    """Remove what is told of an experiment: all of it, or the files of these endings."""
    for ending in endings or (WORK, FAILED):
        place(name, scale, results, ending).unlink(missing_ok=True)


def told(results: Path, ending: str) -> Iterator[tuple[str, str, Path]]:
    """Experiment, scale and path of all files of an ending."""
    for path in sorted(results.glob(f"*/*{ending}")):
        yield path.parent.name, path.name.removesuffix(ending), path


def _write(path: Path, content: Mapping[str, Any]) -> None:
    files.write_as_it_is(path, json.dumps(content, indent=1).encode())


def _read(path: Path, parse: Any) -> Any:
    with files.open_file(path) as file:
        data = file.read(MOST_BYTES)
    try:
        return parse(json.loads(data))
    except STRANGE as error:
        raise files.Damaged(
            f"{path} is damaged, or no file of this package ({type(error).__name__}). Delete it; "
            "the command that makes these runs writes it again."
        ) from error


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0
