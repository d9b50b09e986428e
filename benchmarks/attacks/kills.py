"""Kills at random moments: of many short runs, of a command, of one long run."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from attacks import attempts
from attacks.attempts import Tally, folder_for, start
from attacks.made import bits, few_runs, long_sweep, make_command, short_sweep
from imbalance.storage import datasets, files
from imbalance.storage.store import Store
from imbalance.training import making
from imbalance.training.plan import plans, runs
from imbalance.training.running import run, stored


def make_short(folder: Path) -> None:
    run(short_sweep(), folder)


def make_long(folder: Path, steps: int) -> None:
    making.CHECKPOINT_SECONDS, making.SECONDS_A_CALL = 0.05, 0.02
    run(long_sweep(steps), folder)


def killed(
    tally: Tally,
    count: int,
    random: np.random.Generator,
    child: tuple,
    finish: Callable[[Path], None],
    look: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Kill children at random moments until ``count`` were; between them, others go on.

    Every other child is killed shortly after it has written a file.

    Args:
      tally: Where it is counted.
      count: Number of kills.
      random: Source of the moments.
      child: Function and further arguments of a child, after its folder.
      finish: Called with the folder once all is done.
      look: Called with the folder after every kill.
    """
    while tally.attempts < count:
        with folder_for(tally) as folder:
            began = time.monotonic()
            while True:
                process = start(child[0], folder, *child[1:])
                if tally.attempts % 2:
                    wait_for_change(process, folder)
                    process.join(random.uniform(0, 0.3))
                else:
                    process.join(random.uniform(0, 3))
                if process.is_alive() and tally.attempts < count:
                    process.kill()
                    tally.attempts += 1
                    tally.ended(process, killed=True)
                    look(folder)
                    continue
                tally.ended(process)
                if not process.exitcode:
                    break
                if time.monotonic() - began > 10 * attempts.PATIENCE:
                    tally.hung += 1
                    break
            finish(folder)


def wait_for_change(process: Any, folder: Path) -> None:
    """Wait until a process has finished writing a file, or has ended."""

    def names() -> set[str]:
        found = {path.name for path in folder.rglob("*.*")}
        return {name for name in found if not name.startswith(".")}

    before = names()
    while process.is_alive() and names() <= before:
        time.sleep(0.002)


def kill_short_runs(count: int, random: np.random.Generator) -> Tally:
    tally, sweep = Tally("killed: twelve short runs"), short_sweep()
    expected = bits(run(sweep))

    def finish(folder: Path) -> None:
        found = stored(Store(folder / "runs"), runs(plans(sweep)))
        tally.expect(bits(found) == expected, "results differ after kills")

    killed(tally, count, random, (make_short,), finish)
    return tally


def kill_commands(count: int, random: np.random.Generator) -> Tally:
    tally = Tally("killed: a command that runs, joins and draws")
    expected = bits(run(few_runs()))

    def finish(folder: Path) -> None:
        found = datasets.load("tiny", "smoke", folder / "results")
        tally.expect(bits(found) == expected, "joined results differ after kills")

    killed(tally, count, random, (make_command,), finish)
    return tally


def kill_a_long_run(count: int, random: np.random.Generator, steps: int = 20_000) -> Tally:
    tally, sweep = Tally("killed: one long run with checkpoints"), long_sweep(steps)
    expected = bits(run(sweep))

    def finish(folder: Path) -> None:
        found = stored(Store(folder / "runs"), runs(plans(sweep)))
        tally.expect(bits(found) == expected, "a run that was gone on with differs")
        reached.clear()

    reached: list[int] = []  # steps of the checkpoints of one run, kill after kill

    def look(folder: Path) -> None:
        nonlocal resumed
        for path in folder.rglob("*.checkpoint"):
            step = checkpointed(path)
            tally.expect(step >= max(reached, default=0), "a run began anew")
            reached.append(step)
            resumed += 1

    resumed = 0
    killed(tally, count, random, (make_long, steps), finish, look)
    tally.note = f"{resumed} kills after a checkpoint"
    return tally


def checkpointed(path: Path) -> int:
    """The step that a checkpoint stands at."""
    with np.load(io.BytesIO(files.read(path))) as stored_state:
        return int(stored_state["place"][0])
