"""Processes that make runs side by side, each on its share of the processors.

A worker is a Python process of its own: it is told on one line of its input what to make, takes
runs from the store one by one, and tells on lines of its output how it goes on. Several workers,
and several commands in one folder, share the work through the locks of the store.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from imbalance.reporting.experiment import Options, load_experiment
from imbalance.reporting.part import Part
from imbalance.reporting.progress import stop_when_asked
from imbalance.reporting.work import Work, missing_of, plans_of, wanted_of
from imbalance.storage.store import Store
from imbalance.training.making import Stopped, Watch
from imbalance.training.plan import Plan, Run
from imbalance.training.running import WAIT_SECONDS, grouped, make_in

CORES_A_WORKER = 2  # two processes of one core are slower than one of two: benchmarks/RESULTS.md
MOST_WAIT_SECONDS = 5.0  # between two looks, where runs of others take long

Tell = Callable[[str, Any], None]
"""Called with what happened: ``doing`` (text), ``flops`` (number), ``made`` and ``found`` (keys of
runs that are stored now, by this worker or by whomever), ``failed`` (the script's path, and as
`explained`), ``waiting`` (None: for runs of others), ``stopped`` (None), or ``lost`` (how a worker
died)."""


@dataclass(frozen=True)
class Share:
    """What one worker is told.

    Attributes:
      index: which of the workers this is; each begins at another run.
      jobs: how many there are.
      part: of all experiments, as a dictionary of `Part`.
      results: the folder of the store.
      keys: of the runs that are missing now, by the path of the experiment's script.
    """

    index: int
    jobs: int
    part: dict[str, Any]
    results: str
    keys: dict[str, list[str]]


def explained(error: Exception) -> tuple[str, str]:
    """An error's cause, and its traceback; empty where this package raised it to say what to do."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = Path(frames[-1].filename).is_relative_to(Path(__file__).parents[1])
    expected = ours and isinstance(error, ValueError | OSError | MemoryError)
    trace = "" if expected else "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {error}", trace


def processors() -> list[int]:
    """Processors that this process may use."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return list(range(os.cpu_count() or 1))


Wanted = Callable[[], list[Run]]
"""Runs that an experiment wants now and the store does not have."""


def make(
    works: Sequence[Work], options: Options, jobs: int, tell: Tell, stopping: Callable[[], int]
) -> None:
    """Make all missing runs, and those that follow them, in ``jobs`` processes or in this one."""
    missing = {str(work.path): work for work in works if work.missing}
    keys = {path: [run.key for run in work.missing] for path, work in missing.items()}
    each = shares(keys, options, jobs)
    if jobs > 1:
        _in_workers(each, tell, stopping)
    else:
        carry_on(each[0], lambda path: _wanted(missing[path].plans, each[0]), tell, stopping)


def shares(keys: dict[str, list[str]], options: Options, jobs: int) -> list[Share]:
    """What each of so many workers is told; keys are of missing runs, by the path of a script."""
    part = {one.name: getattr(options, one.name) for one in fields(Part)}
    return [Share(i, jobs, part, str(options.results), keys) for i in range(jobs)]


def keep_to(cores: Sequence[int]) -> None:
    """Use these processors only, where the system can; before JAX counts them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def part_of(cores: Sequence[int], index: int, jobs: int) -> Sequence[int]:
    """The processors of one of so many workers; all where there are fewer than workers."""
    return cores[len(cores) * index // jobs : len(cores) * (index + 1) // jobs] or cores


def _wanted(found: Mapping[Any, list[Plan]], share: Share) -> Wanted:
    store = Store(Path(share.results) / "runs")

    def now() -> list[Run]:
        while True:
            runs, settled = wanted_of(found, store)
            missing, others = missing_of(runs, store, share.part["only"])
            if missing or others or settled:
                return missing
            # The last run of a search came in between: what follows it is wanted now.

    return now


def carry_on(
    share: Share,
    plan: Callable[[str], Wanted],
    tell: Tell,
    stopping: Callable[[], int],
    neighbours: int | None = None,
) -> bool:
    """Make runs, experiment by experiment; then those that others left unfinished.

    What follows a search is known only when it is finished: each experiment is asked again what it
    wants until it wants nothing. Runs that others hold are waited for, and made if their holder is
    no more.

    Args:
      share: of the work; its keys name the scripts.
      plan: path of a script -> what tells which runs its experiment wants now.
      tell: called with what happens.
      stopping: whether to save and stop.
      neighbours: processes that share this machine's memory; None: all of them.

    Returns:
      Whether nothing is wanted any more; False: it was stopped before.
    """
    store = Store(Path(share.results) / "runs")
    number = share.jobs if neighbours is None else neighbours
    watch = Watch(partial(tell, "flops"), lambda: bool(stopping()), number)

    def make_all(path: str, todo: list[Run]) -> list[Run]:
        making = make_in(store, todo, watch)
        while True:
            try:
                group, mine = next(making)
            except StopIteration as end:
                return end.value
            tell("made" if mine else "found", [run.key for run in group])
            tell("doing", f"{Path(path).stem} {group[-1].plan.name}")

    def go_on(path: str, wanted: Wanted, held: list[Run]) -> list[Run]:
        """Make what nobody holds, and ask what is wanted next whenever something is new."""
        left = make_all(path, held)
        while not held or len(left) < len(held):
            held = _from_own_place(wanted(), share)
            if not held:
                return []
            left = make_all(path, held)
        return left

    asked: dict[str, Wanted | None] = dict.fromkeys(share.keys)
    held: dict[str, list[Run]] = {}
    pause = WAIT_SECONDS
    try:
        while asked:
            before = {path: len(runs) for path, runs in held.items()}
            for path, wanted in list(asked.items()):
                try:
                    if wanted is None:
                        tell("doing", Path(path).stem)
                        asked[path] = wanted = plan(path)
                    held[path] = go_on(path, wanted, held.get(path, []))
                except Stopped:
                    raise
                except Exception as error:
                    tell("failed", (path, *explained(error)))
                    held[path] = []
                if not held[path]:
                    del asked[path], held[path]
            if asked:
                still = {path: len(runs) for path, runs in held.items()} == before
                pause = min(1.5 * pause, MOST_WAIT_SECONDS) if still else WAIT_SECONDS
                tell("waiting", None)
                time.sleep(pause)
    except Stopped:
        tell("stopped", None)
        return False
    return True


def _from_own_place(todo: Sequence[Run], share: Share) -> list[Run]:
    """Runs in the order in which this worker tries them; those of one program stay together."""
    groups = grouped(todo)
    first = len(groups) * share.index // share.jobs
    return [run for group in groups[first:] + groups[:first] for run in group]


def _planned(share: Share, path: str) -> Wanted:
    """What the experiment that a script declares wants."""
    wanted = _wanted(plans_of(load_experiment(Path(path)), Part(**share.part)), share)
    known = {run.key for run in wanted()}
    store = Store(Path(share.results) / "runs")
    if strange := [k for k in share.keys[path] if k not in known and not store.has(k)]:
        raise RuntimeError(
            f"{len(strange)} of {len(share.keys[path])} runs have another key in this process: "
            "something that decides their numbers differs from one process to the next. --jobs 1 "
            "makes them."
        )
    return wanted


# The parent's side ------------------------------------------------------------------------------


def _in_workers(shares: Sequence[Share], tell: Tell, stopping: Callable[[], int]) -> None:
    cores, jobs = processors(), len(shares)
    events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    processes = []
    for share in shares:
        mine = part_of(cores, share.index, jobs)
        processes.append(_begin(share, mine, events))
    asked, ended = False, 0
    while ended < jobs:
        if stopping() and not asked:
            asked = True
            for process in processes:
                process.send_signal(signal.SIGTERM)
        try:
            kind, value = events.get(timeout=0.2)
        except queue.Empty:
            continue
        ended += kind in ("ended", "lost")
        if kind != "ended":
            tell(kind, value)


def _begin(share: Share, cores: Sequence[int], events: queue.SimpleQueue) -> subprocess.Popen:
    """Start a worker; a thread passes on what it tells."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "imbalance.reporting.workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    output = process.stdout
    assert process.stdin and output
    told = {**asdict(share), "cores": list(cores), "parent": os.getpid()}
    process.stdin.write(json.dumps(told) + "\n")
    process.stdin.close()

    def listen() -> None:
        with output:
            for line in output:
                events.put(tuple(json.loads(line)))
        code = process.wait()
        how = f"worker {share.index + 1} of {share.jobs} "
        if code < 0:
            how += f"was ended by {signal.Signals(-code).name}"
            how += ": out of memory?" if -code == signal.SIGKILL else ""
        else:
            how += f"ended with status {code}"
        events.put(("lost", how) if code else ("ended", None))

    threading.Thread(target=listen, daemon=True).start()
    return process


# The worker's side ------------------------------------------------------------------------------


def _main() -> None:
    told = json.loads(sys.stdin.readline())
    cores, parent = told.pop("cores"), told.pop("parent")
    keep_to(cores)
    share = Share(**told)
    lines = sys.stdout
    sys.stdout = sys.stderr  # what a script prints is no event

    def tell(kind: str, value: Any) -> None:
        print(json.dumps([kind, value]), file=lines, flush=True)

    with stop_when_asked(quietly=True) as asked:

        def stopping() -> int:
            return asked() or (signal.SIGTERM if os.getppid() != parent else 0)

        carry_on(share, partial(_planned, share), tell, stopping)


if __name__ == "__main__":
    _main()
