"""Several processes at once: on one record, in one store, with equal process ids."""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from attacks.attempts import Tally, answer, folder_for
from attacks.made import CLASSES, bits, losses_at, right_steps, short_sweep
from imbalance.storage import files
from imbalance.storage.records import Record
from imbalance.storage.store import Store
from imbalance.training.making import Watch
from imbalance.training.plan import plans, runs
from imbalance.training.running import make_in, run, stored


def append_steps(telling: Any, path: Path, until: int, seed: int) -> None:
    """Append steps in turn with another process: open, write a few, close."""
    random, refusals = np.random.default_rng(seed), 0
    while True:
        try:
            with Record(path, CLASSES) as record:
                for _ in range(random.integers(1, 4)):
                    if record.last_step >= until - 1:
                        telling.send(refusals)
                        return
                    record.append(record.last_step + 1, losses_at(record.last_step + 1))
        except files.Held as error:
            refusals += 1
            if "in use by" not in str(error):
                raise
            time.sleep(random.uniform(0, 0.003))


def record_pairs(count: int, random: np.random.Generator, until: int = 12) -> Tally:
    tally, refusals = Tally("two writers of one record"), 0
    for _ in range(count):
        with folder_for(tally) as folder:
            tally.attempts += 1
            path = folder / "runs" / "one.record"
            seeds = random.integers(2**31, size=2).tolist()
            told = side_by_side(tally, [(append_steps, path, until, seed) for seed in seeds])
            refusals += sum(told)
            with suppress(OSError, ValueError):
                if right_steps(path, until):
                    continue
            tally.expect(False, f"{path.name} does not hold what was appended")
    tally.note = f"{refusals} times told that the other writes"
    return tally


def side_by_side(tally: Tally, calls: Sequence[tuple]) -> list[Any]:
    """What several processes tell that run at once."""
    told: list[Any] = []

    def one(call: tuple) -> None:
        told.append(answer(tally, *call))

    threads = [threading.Thread(target=one, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for one in told if one is not None]


def make_share(telling: Any, folder: Path, index: int, as_process_1: bool) -> None:
    """Make what others have not made, as a worker does, and tell which runs it made."""
    if as_process_1:
        os.getpid = lambda: 1
    store, found = Store(folder / "runs"), runs(plans(short_sweep()))
    store.open(0)
    first = len(found) * index // 4
    waiting, made = found[first:] + found[:first], []
    while waiting:
        making_them = make_in(store, waiting, Watch())
        while True:
            try:
                group, new = next(making_them)
            except StopIteration as end:
                waiting = end.value
                break
            made += [one.key for one in group if new]
        time.sleep(0.01)
    telling.send(made)


def several_workers(count: int, name: str, as_process_1: bool = False) -> Tally:
    tally, sweep = Tally(name), short_sweep()
    expected, keys = bits(run(sweep)), sorted(one.key for one in runs(plans(sweep)))
    for attempt in range(count):
        with folder_for(tally) as folder:
            tally.attempts += 1
            shares = [(make_share, folder, i, as_process_1) for i in range(4 if attempt % 2 else 2)]
            told = side_by_side(tally, shares)
            tally.expect(sorted(sum(told, [])) == keys, "a run was made twice, or not at all")
            found = stored(Store(folder / "runs"), runs(plans(sweep)))
            tally.expect(bits(found) == expected, "results differ")
    return tally
