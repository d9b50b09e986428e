"""A member of a launch: a process that takes runs from the store, on this machine or another.

Members know nothing of each other. Each plans the experiments itself, on the devices that it has,
makes what nobody else makes, and joins what is whole; the locks of the store keep them apart. What
happens they write to a file each, line by line, which whoever launched them reads.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imbalance.reporting.experiment import Options, load_experiment
from imbalance.reporting.progress import stop_when_asked
from imbalance.reporting.work import flops, join_runs, renewed, resolve, tell_agenda
from imbalance.reporting.workers import (
    Tell,
    Wanted,
    carry_on,
    explained,
    keep_to,
    part_of,
    processors,
    shares,
)
from imbalance.storage import agendas
from imbalance.training.plan import Run

TOLD_SECONDS = 5.0  # between two words of how far the runs are
MOST_IN_VAIN = 3  # lives of a member of which nothing comes, on end: it would go on so for ever
# Submitit and Slurm send SIGUSR2 before a time limit, Slurm SIGTERM when it takes a node away.
# Ctrl-C is left to whoever waits for the members.
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


@dataclass
class Member:
    """One member, which submitit stores and calls, again after it was requeued.

    Attributes:
      index: which of the members it is.
      number: how many there are.
      scripts: absolute paths of the experiments.
      options: of the command that launched it.
      folder: of its logs and events.
      path: where that command looks for modules.
      in_vain: lives before this one of which nothing came.
      lived: whether something has come of this one.
    """

    index: int
    number: int
    scripts: Sequence[str]
    options: Options
    folder: str
    path: Sequence[str]
    in_vain: int = 0
    lived: bool = field(default=False, init=False)

    def __call__(self) -> None:
        """Make runs until none is left, or until it is told to stop."""
        sys.path += [place for place in self.path if place not in sys.path]
        local = self.options.cluster.launcher == "local"
        if local and not self.options.cluster.gpus:
            keep_to(part_of(processors(), self.index, self.number))
        share = shares({path: [] for path in self.scripts}, self.options, self.number)[self.index]
        tell, self.lived = Events(self.events, self), False
        tell("began", {"job": job_name(), "host": socket.gethostname(), "process": os.getpid()})
        with stop_when_asked(quietly=True, numbers=SIGNALS) as asked:
            try:
                finished = carry_on(
                    share,
                    lambda path: _planned(Path(path), self.options, tell),
                    tell,
                    asked,
                    neighbours=self.number if local and not self.options.cluster.gpus else 1,
                )
            except BaseException as error:
                cause = explained(error)[0] if isinstance(error, Exception) else repr(error)
                tell("broke", cause)
                raise
        if finished:  # even if it was asked to stop just then
            tell("ended", None)
        else:
            self._leave(asked(), tell)

    @property
    def events(self) -> Path:
        """The file to which it writes what happens."""
        return events_of(Path(self.folder), self.index)

    def checkpoint(self) -> Any:
        """What submitit is to requeue: this again, for all that was done is in the store.

        None, which ends it, when nothing came of its time too often: nothing would the next time.
        """
        from submitit.helpers import DelayedSubmission

        self.in_vain = self._in_vain
        return DelayedSubmission(self) if self.in_vain < MOST_IN_VAIN else None

    @property
    def _in_vain(self) -> int:
        return 0 if self.lived else self.in_vain + 1

    def _leave(self, number: int, tell: Tell) -> None:
        """Go after a signal: to come back, unless somebody wants it to end."""
        requeue = number == signal.SIGUSR2 or is_running_under_slurm()
        comes_back = requeue and self._in_vain < MOST_IN_VAIN
        tell("requeued" if comes_back else "left", signal.Signals(number).name)
        hook = signal.getsignal(signal.SIGUSR2)
        if requeue and callable(hook):
            hook(signal.SIGUSR2, None)  # submitit's, which stores and requeues it and exits
        elif self.options.cluster.launcher == "slurm":
            sys.exit(128 + number)  # without a result: Slurm may start it again


def events_of(folder: Path, index: int) -> Path:
    """The file of a member's events."""
    return folder / f"member-{index}.jsonl"


def job_name() -> str:
    """The job that this is, by Slurm's number or by submitit's."""
    known = os.environ
    if "SLURM_ARRAY_JOB_ID" in known:
        return f"{known['SLURM_ARRAY_JOB_ID']}_{known.get('SLURM_ARRAY_TASK_ID', '')}"
    return known.get("SLURM_JOB_ID") or known.get("SUBMITIT_LOCAL_JOB_ID") or str(os.getpid())


def is_running_under_slurm() -> bool:
    """Whether Slurm counts this job as running: no one cancels it, and Slurm does not requeue it.

    Asked after a SIGTERM, which precedes a cancelled job's end as well as a preempted one's.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return False
    command = ["squeue", "--noheader", "--jobs", job_name(), "--format", "%T"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return answer.stdout.split() == ["RUNNING"]
    return False


class Events:
    """Writes what happens to a file that others read, and in words to the log.

    The file is opened for each line: on shared disks that is what makes it visible elsewhere.
    """

    def __init__(self, path: Path, member: Member):
        self._path, self._member = path, member
        self._flops, self._told = 0.0, time.monotonic()

    def __call__(self, kind: str, value: Any) -> None:
        """An event; operations are added up for some seconds."""
        if kind in ("made", "found", "waiting") or (kind == "flops" and value > 0):
            self._member.lived = True
        if kind == "flops":
            self._flops += value
            if time.monotonic() - self._told < TOLD_SECONDS:
                return
        elif kind != "waiting":
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {kind} {_words(value)}", flush=True)
        if kind == "failed":
            self._keep(*value)
        if self._flops:  # first: what follows may be the last word
            self._write("flops", self._flops)
            self._flops, self._told = 0.0, time.monotonic()
        if kind not in ("flops", "waiting"):
            self._write(kind, value)

    def _keep(self, path: str, cause: str, trace: str) -> None:
        options = self._member.options
        with contextlib.suppress(OSError):
            agendas.keep_failure(Path(path).stem, options.label, options.results, cause, trace)

    def _write(self, kind: str, value: Any) -> None:
        with contextlib.suppress(OSError), open(self._path, "a") as file:
            file.write(json.dumps([kind, value]) + "\n")


def events_in(path: Path, begin: int) -> tuple[list[tuple[str, Any]], int]:
    """Whole lines of a file of events beyond a position, and where they end."""
    try:
        with open(path, "rb") as file:
            file.seek(begin)
            data = file.read()
    except OSError:
        return [], begin
    size = data.rfind(b"\n") + 1
    return list(_parsed(data[:size])), begin + size


def _parsed(data: bytes) -> Iterator[tuple[str, Any]]:
    for line in data.splitlines():
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            kind, value = json.loads(line)
            yield kind, value


def _words(value: Any) -> str:
    parts = value.values() if isinstance(value, dict) else value
    return " ".join(map(str, parts)) if isinstance(value, dict | list | tuple) else str(value or "")


def _planned(path: Path, options: Options, tell: Tell) -> Wanted:
    """What an experiment wants; when that is nothing more, it is joined."""
    work = resolve(path, load_experiment(path), options)
    tell("planned", (work.name, flops([work])))
    told: list[str] = []

    def now() -> list[Run]:
        nonlocal work, told
        work = renewed(work, options)
        while not (work.missing or work.absent or work.settled):
            # The last run of a search came in between: what follows it is wanted now.
            work = renewed(work, options)
        if work.missing:
            if work.keys != told:
                tell_agenda(work, options)
                told = work.keys
        elif work.absent:
            tell("absent", (work.name, list(work.absent)))
        else:
            join_runs(work, options)
            tell("joined", str(path))
        return work.missing

    return now
