"""Launching members through submitit, on this machine or under Slurm, and listening to them."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imbalance.reporting.cluster import Cluster, parameters
from imbalance.reporting.experiment import Options
from imbalance.reporting.members import Member, events_in, events_of
from imbalance.reporting.workers import CORES_A_WORKER, processors

LISTEN_SECONDS = 0.5  # between two looks at what members tell
PAUSES = {"local": 1.0, "slurm": 15.0}  # seconds between two questions: who is still there?
PARTING_SECONDS = 20.0  # for a member to end after its last word
SIGNAL_SECONDS = 120  # of warning before a time limit: a call of the device, and a checkpoint
# A member that comes to nothing in its time is not requeued, see `Member.checkpoint`; others are.
MOST_TIMEOUTS = 10_000


class NotLaunched(Exception):
    """Members could not be started; the message says why, and what to do."""


@dataclass
class Launched:
    """Members that were started.

    Attributes:
      launcher: that started them.
      folder: of their logs and events.
      jobs: of submitit, one a member.
    """

    launcher: str
    folder: Path
    jobs: Sequence[Any]

    @property
    def names(self) -> list[str]:
        """The members' jobs, as Slurm numbers them; local ones are processes."""
        return [job.job_id for job in self.jobs]

    @property
    def described(self) -> str:
        """What was started, and how to end it."""
        if self.launcher == "local":
            what, end = "processes " + " ".join(self.names), "kill " + " ".join(self.names)
        else:
            array = self.names[0].partition("_")[0]
            what, end = f"Slurm's job {array}", f"scancel {array}"
        return (
            f"{len(self.jobs)} members, {what}; logs in {self.folder}. `{end}` ends them, "
            "`imbalance status` tells how far they are."
        )

    def events(self, stopping: Callable[[], int]) -> Iterator[tuple[int, str, Any]]:
        """What members tell, as (member, kind, value), until all have ended or it shall stop.

        One that is gone without a word is ``lost``. One that was stopped is waited for as long as
        it may come back: as its launcher says, for a preempted member is requeued by others.
        """
        number = len(self.jobs)
        read, last = [0] * number, [""] * number
        over, missed = set[int](), set[int]()
        looked = time.monotonic()
        while len(over) < number and not stopping():
            for i in range(number):
                found, read[i] = events_in(events_of(self.folder, i), read[i])
                for kind, value in found:
                    last[i] = last[i] if kind == "flops" else kind
                    over -= {i} if kind == "began" else set()
                    over |= {i} if kind in ("ended", "broke") else set()
                    yield i, kind, value
            if time.monotonic() - looked > PAUSES[self.launcher]:
                looked, gone = time.monotonic(), self._gone() - over
                for i in sorted(gone & missed):  # twice: its last word may have been on the way
                    over.add(i)
                    if last[i] != "left":
                        yield i, "lost", self._last_words(i)
                missed = gone
            time.sleep(LISTEN_SECONDS)
        self._part(patience=0 if stopping() else PARTING_SECONDS)

    def _part(self, patience: float) -> None:
        """Wait until processes of this machine that have said their last word are no more."""
        deadline = time.monotonic() + patience
        while self.launcher == "local" and not all(job.done() for job in self.jobs):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def _gone(self) -> set[int]:
        """Members that are neither running nor waiting for their turn."""
        if self.launcher == "local":
            return {i for i, job in enumerate(self.jobs) if job.done()}
        # Without accounting submitit would not know: sacct is all that it asks.
        array = self.names[0].partition("_")[0]
        command = ["squeue", "--noheader", "--array", "--jobs", array, "--format", "%i"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return set()  # Slurm has other things to do; it is asked again
        if answer.returncode and "Invalid job id" not in answer.stderr:
            return set()
        there = set(answer.stdout.split())
        return {i for i, name in enumerate(self.names) if name not in there}

    def _last_words(self, index: int) -> str:
        place = self.jobs[index].paths.stderr
        with contextlib.suppress(OSError):
            lines = [line.strip() for line in place.read_text(errors="replace").splitlines()]
            if said := [line for line in lines if line]:
                return f"{said[-1][:300]} ({place})"
        return f"its log is {place}"


def launch(scripts: Sequence[Path], options: Options) -> Launched:
    """Start the members that make the runs of these experiments.

    Raises:
      NotLaunched: if they cannot be started.
      OSError: if the folder of their logs cannot be made.
    """
    submitit = _submitit()
    cluster = options.cluster
    if cluster.launcher == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise NotLaunched(
            "--launcher slurm: this machine has no sbatch and srun. Start the command where jobs "
            "are submitted, or choose --launcher local"
        )
    number = cluster.members or max(1, len(processors()) // CORES_A_WORKER)
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = options.results.resolve() / "logs" / stamp
    folder.mkdir(parents=True)
    options = replace(options, results=options.results.resolve(), figures=options.figures.resolve())
    paths = [str(path.resolve()) for path in scripts]
    places = [str(Path(place).resolve()) for place in sys.path]
    members = [Member(i, number, paths, options, str(folder), places) for i in range(number)]
    start = _under_slurm if cluster.launcher == "slurm" else _here
    with _surroundings():
        try:
            jobs = start(submitit, folder, cluster, members)
        except RuntimeError as error:  # all of submitit's are
            raise NotLaunched(f"--launcher {cluster.launcher}: {_said(error)}") from error
    return Launched(cluster.launcher or "", folder, jobs)


def _said(error: Exception) -> str:
    """What sbatch answered, without the echo of what was called."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    answers = [line for line in lines if "error:" in line]
    return " ".join(answers or lines[:3])


def _submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError:
        raise NotLaunched("--launcher needs submitit: pip install 'imbalance[cluster]'") from None
    return submitit


def _here(
    submitit: Any, folder: Path, cluster: Cluster, members: Sequence[Member]
) -> Sequence[Any]:
    """Members on this machine, each with GPUs of its own."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    numbers = [int(word) for word in given.split(",") if word.strip().isdigit()]
    numbers = numbers or list(range(len(members) * cluster.gpus))
    if len(numbers) < len(members) * cluster.gpus:
        raise NotLaunched(
            f"{len(members)} members of {cluster.gpus} GPUs need {len(members) * cluster.gpus}; "
            f"CUDA_VISIBLE_DEVICES has {len(numbers)}. Choose fewer --members or --gpus."
        )
    executor = submitit.LocalExecutor(folder, max_num_timeout=MOST_TIMEOUTS)
    jobs = []
    for member in members:
        first = member.index * cluster.gpus
        executor.update_parameters(
            timeout_min=cluster.minutes,
            signal_delay_s=_warning(cluster.minutes),
            gpus_per_node=cluster.gpus,
            visible_gpus=tuple(numbers[first : first + cluster.gpus]),
        )
        jobs.append(executor.submit(member))
    return jobs


def _under_slurm(
    submitit: Any, folder: Path, cluster: Cluster, members: Sequence[Member]
) -> Sequence[Any]:
    """Members as a job array."""
    executor = submitit.SlurmExecutor(folder, max_num_timeout=MOST_TIMEOUTS)
    given = {
        "partition": cluster.partition,
        "gpus_per_node": cluster.gpus or None,
        "cpus_per_task": cluster.cpus,
        "mem": cluster.memory and f"{round(cluster.memory * 1024)}M",
    }
    executor.update_parameters(
        job_name="imbalance",
        time=cluster.minutes,
        signal_delay_s=_warning(cluster.minutes),
        # Members are requeued; a cluster may forbid it unless it is asked for.
        additional_parameters={"requeue": True, **parameters(cluster.sbatch)},
        **{name: value for name, value in given.items() if value is not None},
    )
    return executor.submit_array(members)


def _warning(minutes: int) -> int:
    """Seconds between the signal and the end of a time limit."""
    return min(SIGNAL_SECONDS, 60 * minutes // 2)


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """What members are to inherit: where modules are found, and no ear for Ctrl-C.

    Ctrl-C in a terminal reaches all that was started there; it ends the waiting, not the members.
    """
    before, interrupt = os.environ.get("PYTHONPATH"), signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(place).resolve()) for place in sys.path)
    if main:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, interrupt)
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
