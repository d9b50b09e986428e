"""Disks that are full or lose their power, and the order in which they are written to."""

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from attacks.attempts import Tally, answer, folder_for
from attacks.made import CLASSES, bits, few_runs, losses_at, right_steps, short_sweep
from imbalance.storage.records import Record
from imbalance.storage.store import Store
from imbalance.training.making import Watch
from imbalance.training.plan import plans, runs
from imbalance.training.running import make_in, run


def make_within(telling: Any, folder: Path, size: int, late: bool) -> None:
    """Make runs where files may not grow beyond a size: from the beginning, or once it was open."""
    sweep = few_runs()
    store, chosen = Store(folder / "runs"), runs(plans(sweep))
    store.open(0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        if late:
            for _ in make_in(store, chosen, Watch()):
                pass
        else:
            run(sweep, folder)
    except OSError as error:
        telling.send(str(error))
    else:
        telling.send("")


def full_disks(count: int, random: np.random.Generator) -> Tally:
    tally, sweep = Tally("full disk"), few_runs()
    expected = bits(run(sweep))
    with tempfile.TemporaryDirectory() as name:
        run(sweep, name)
        most = min(path.stat().st_size for path in Path(name).rglob("*.nc"))
    for i, size in enumerate(np.linspace(0, most - 1, count).astype(int)):
        with folder_for(tally) as folder:
            tally.attempts += 1
            told = answer(tally, make_within, folder, int(size), bool(i % 2))
            tally.expect(
                bool(told) and "cannot write" in told and str(folder) in told, f"it said {told!r}"
            )
            tally.count_left(folder)
            tally.expect(bits(run(sweep, folder)) == expected, "going on gave other results")
    return tally


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    """An image of a file system, mounted through a loop device.

    Raises:
      OSError: If this machine or this user cannot.
    """
    where.mkdir(exist_ok=True)
    system("mount", "-o", "loop", image, where)
    try:
        yield where
    finally:
        system("umount", where)


def system(*command: Any) -> None:
    try:
        subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise OSError(f"{command[0]}: {error.stderr.strip()}") from error


def power_cuts(count: int) -> Tally:
    """Commit runs and steps to an image; after each, mount a copy taken that moment."""
    tally = Tally("power cut (a copy of an ext4 image)")
    with tempfile.TemporaryDirectory(prefix="durability-") as name:
        image, copy = Path(name) / "disk.img", Path(name) / "copy.img"
        try:
            with open(image, "wb") as file:
                file.truncate(2**26)
            system("mkfs.ext4", "-q", image)
            with mounted(image, Path(name) / "disk") as disk:
                _cut_power(tally, count, disk, image, copy)
        except OSError as error:
            tally.note = f"stopped: {error}"
            return tally
    return tally


def _cut_power(tally: Tally, count: int, disk: Path, image: Path, copy: Path) -> None:
    chosen = runs(plans(short_sweep()))
    store, committed, control = Store(disk / "runs"), [], 0
    making_them = make_in(store, chosen, Watch())
    with Record(disk / "one.record", CLASSES) as record:
        for attempt in range(count):
            tally.attempts += 1
            (disk / f"control-{attempt}").write_bytes(bytes(range(256)) * 64)
            if attempt % 2:
                record.append(record.last_step + 1, losses_at(record.last_step + 1))
            elif len(committed) < len(chosen):
                committed += [one.key for one in next(making_them)[0]]
            shutil.copyfile(image, copy)
            with mounted(copy, copy.with_suffix("")) as after:
                lost = [key for key in committed if not Store(after / "runs").has(key)]
                tally.expect(not lost, f"{len(lost)} of {len(committed)} committed runs are lost")
                whole = right_steps(after / "one.record", record.last_step + 1)
                tally.expect(whole, "an appended step is lost")
                plain = after / f"control-{attempt}"
                control += not plain.exists() or plain.read_bytes() != bytes(range(256)) * 64
    tally.note = f"control: {control} of {tally.attempts} files that were not synced were lost"


def order_of_writing() -> Tally:
    """Watch what the writer asks of the system: sync the file, rename it, sync the folder."""
    tally, done = Tally("order of writing"), []
    sync, replace = os.fsync, os.replace

    def spy_sync(place: int) -> None:
        done.append(("sync", os.readlink(f"/proc/self/fd/{place}")))
        sync(place)

    def spy_replace(source: Any, target: Any) -> None:
        done.append(("rename", str(source)))
        done.append(("to", str(Path(target).resolve().parent)))
        replace(source, target)

    with folder_for(tally) as folder:
        os.fsync, os.replace = spy_sync, spy_replace
        try:
            run(few_runs(), folder)
            Record(folder / "one.record", CLASSES).close()
        finally:
            os.fsync, os.replace = sync, replace
        for i, (what, name) in enumerate(done):
            if what == "rename":
                tally.attempts += 1
                place = done[i + 1][1]
                right = done[i - 1] == ("sync", name) and done[i + 2] == ("sync", place)
                tally.expect(right, f"{name}: {done[i - 1 : i + 3]}")
    return tally
