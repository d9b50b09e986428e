"""Damage to stored files: flipped bits, zeroed sectors, cut ends."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from attacks import attempts
from attacks.attempts import Tally, channel, folder_for, hush, start
from attacks.made import EXPERIMENT, bits, command_options, few_runs, make_command
from imbalance.reporting.reproduce import carry_out
from imbalance.storage import datasets, files
from imbalance.storage.store import Store
from imbalance.training.making import Watch
from imbalance.training.plan import plans, runs
from imbalance.training.running import make_in

SECTOR = 512


def flip(data: bytearray, random: np.random.Generator) -> None:
    data[random.integers(len(data))] ^= 1 << random.integers(8)


def zero(data: bytearray, random: np.random.Generator) -> None:
    sectors = [at for at in range(0, len(data), SECTOR) if any(data[at : at + SECTOR])]
    at = sectors[random.integers(len(sectors))]
    data[at : at + SECTOR] = bytes(len(data[at : at + SECTOR]))


def cut(data: bytearray, random: np.random.Generator) -> None:
    del data[random.integers(len(data)) :]


def attack_files(telling: Any, folder: Path, places: Sequence[Path], damages: Sequence) -> None:
    """Damage one file after another, and tell of each whether it was noticed and made again."""
    hush()
    sweep = few_runs()
    store, chosen = Store(folder / "results" / "runs"), runs(plans(sweep))
    joined = datasets.dataset_path("tiny", "smoke", folder / "results")
    for path, data in zip(places, damages, strict=True):
        path.write_bytes(data)
        noticed = refused(lambda p=path: datasets.read(p) if p == joined else store.read(p.stem))
        if path == joined:
            again = datasets.stored_runs(joined) is None
        else:
            makings = make_in(store, chosen, Watch())
            again = [one.key for group, new in makings if new for one in group] == [path.stem]
        telling.send((noticed, again))
    status = carry_out({Path("tiny.py"): EXPERIMENT}, command_options(folder))
    telling.send(status)


def refused(action: Callable) -> bool:
    try:
        action()
    except files.Damaged:
        return True
    return False


def damage_files(count: int, random: np.random.Generator, name: str, how: Callable) -> Tally:
    """Damage stored runs, and for every fourth time a joined dataset."""
    tally = Tally(name)
    with folder_for(tally) as folder:
        tally.ended(start(make_command, folder))
        results = folder / "results"
        expected = bits(datasets.load("tiny", "smoke", results))
        run_files = sorted(results.glob("runs/*/*.nc"))
        joined = datasets.dataset_path("tiny", "smoke", results)
        places = [run_files[i % len(run_files)] if i % 4 else joined for i in range(count)]
        damages = [spoilt(path.read_bytes(), random, how) for path in places]
        listening, telling = channel()
        process = start(attack_files, telling, folder, places, damages)
        telling.close()
        with suppress(EOFError):
            while listening.poll(attempts.PATIENCE):
                told = listening.recv()
                if told == 0:
                    break
                tally.attempts += 1
                tally.expect(told == (True, True), f"noticed, made again: {told}")
        tally.ended(process)
        tally.expect(tally.attempts == count, f"{tally.attempts} of {count} were tried")
        found = bits(datasets.load("tiny", "smoke", results))
        tally.expect(found == expected, "results differ after damage")
    return tally


def spoilt(data: bytes, random: np.random.Generator, how: Callable) -> bytes:
    changed = bytearray(data)
    how(changed, random)
    return bytes(changed)
