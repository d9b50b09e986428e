"""What kills, damage, full disks and power cuts do to stored results: nothing, or it is said here.

Every attack is made on the code that users run, in processes of their own: a kill is SIGKILL, and a
crash or a hang is that of a process. Columns count attempts, and among them results that differ
from undisturbed ones in a single bit or were not noticed to be damaged (*wrong*), processes that
did not end (*hung*) or died by themselves (*crashed*), and files of unfinished work that are still
there once the work is done (*left over*).

- *killed*: a child is killed at a random moment and another goes on, until all is done.
- *flipped, zeroed, cut*: one bit, one sector of 512 bytes, or the end of a stored file. Reading it
  must fail, and running again must make that file again and no other.
- *full disk*: files may not grow beyond a size (RLIMIT_FSIZE), from one at which nothing can be
  written to one at which a run just does not fit. The error must name the file.
- *equal process ids*: every process takes itself for process 1, as in two containers.
- *power cut*: runs and steps are committed to an ext4 image mounted through a loop device; the
  image is copied the moment the commit returns, and the copy is mounted and read. This needs root.
  A control shows that a file that was not synced is lost there.
- *order of writing*: file synced, then renamed, then its folder synced, in every commit.

Run:    python benchmarks/durability.py --write      (some minutes on two cores)
Writes: a section of benchmarks/RESULTS.md, with --write; ends with status 1 if anything is wrong
"""

import io
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import xarray as xr
from report import table, write_section
from tqdm import tqdm

from imbalance.analysis.streaming import LossByClass
from imbalance.problems import heavy_tailed_linear, weighted_quadratic
from imbalance.reporting.experiment import Experiment, Options
from imbalance.reporting.plots import panels
from imbalance.reporting.reproduce import carry_out
from imbalance.storage import datasets, files
from imbalance.storage.records import Record, read_record
from imbalance.storage.store import Store
from imbalance.training import making
from imbalance.training.making import Watch
from imbalance.training.plan import plans, runs
from imbalance.training.running import make_in, run, stored
from imbalance.training.sweep import Sweep

PATIENCE = 300.0  # seconds after which a process counts as hung
SECTOR = 512
UNFINISHED = (files.PART, files.LOCK, ".checkpoint")
CLASSES = 50  # of records


@dataclass(frozen=True)
class Settings:
    """How often each attack is made; 0 leaves it out."""

    kills: int = 100
    """Kills of sweeps of many short runs."""
    command_kills: int = 30
    """Kills of an experiment's command, which also joins and draws."""
    long_kills: int = 20
    """Kills of one long run with checkpoints."""
    flips: int = 300
    sectors: int = 87
    cuts: int = 30
    full_disks: int = 12
    record_pairs: int = 40
    """Pairs of processes that write one record."""
    workers: int = 6
    """Sweeps made by two or four processes at once."""
    equal_ids: int = 6
    power_cuts: int = 20
    seed: int = 0
    """Of the places and moments of attack."""
    write: bool = False
    """Write the section of RESULTS.md."""


@dataclass
class Tally:
    """What became of one kind of attack."""

    attack: str
    attempts: int = 0
    wrong: int = 0
    hung: int = 0
    crashed: int = 0
    left: int = 0
    note: str = ""
    seen: list[str] = field(default_factory=list)  # what went wrong

    @property
    def held(self) -> bool:
        return not (self.wrong or self.hung or self.crashed or self.left)

    def expect(self, right: bool, otherwise: str) -> None:
        if not right:
            self.wrong += 1
            self.seen.append(otherwise)

    def ended(self, process: Any, killed: bool = False) -> None:
        """Count a process that hung or died, but for one that was killed on purpose."""
        process.join(PATIENCE)
        if process.is_alive():
            self.hung += 1
            self.seen.append(f"{process.name} hung")
            process.kill()
            process.join()
        elif process.exitcode and not (killed and process.exitcode == -signal.SIGKILL):
            self.crashed += 1
            self.seen.append(f"{process.name} ended with status {process.exitcode}")

    def count_left(self, folder: Path) -> None:
        """Files of unfinished work below a folder, where all work is done."""
        found = [
            path.name
            for path in folder.rglob("*")
            if path.name.startswith(".") or path.suffix in UNFINISHED
        ]
        self.left += len(found)
        self.seen += found


# Processes --------------------------------------------------------------------------------------


def start(function: Callable, *arguments: Any) -> Any:
    """Begin a process that has all modules loaded: forked from a server of one thread."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, "imbalance.reporting.reproduce"])
    here = str(Path(__file__).parent)
    if here not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, *sys.path]))
    process = server.Process(target=function, args=arguments, name=function.__name__)
    process.start()
    return process


def channel() -> tuple[Any, Any]:
    """What a process tells, and where it tells it."""
    return multiprocessing.get_context("forkserver").Pipe(duplex=False)


def answer(tally: Tally, function: Callable, *arguments: Any) -> Any:
    """What a process tells at its end, or None if it hung or died."""
    listening, telling = channel()
    process = start(function, telling, *arguments)
    telling.close()
    told = None
    with suppress(EOFError):
        if listening.poll(PATIENCE):
            told = listening.recv()
    tally.ended(process)
    return told


# What is made -----------------------------------------------------------------------------------


def short_sweep() -> Sweep:
    """Twelve runs of a moment each."""
    return replace(few_runs(), seeds=tuple(range(6)))


def few_runs() -> Sweep:
    """Four of them."""
    return Sweep(weighted_quadratic(5), {"gd": (0.5, 0.25)}, 4, seeds=(0, 1))


def long_sweep(steps: int) -> Sweep:
    """One run that draws its batches at random: going on must go on with the draws."""
    return Sweep(heavy_tailed_linear(4), {"adam": (0.01,)}, steps, batch_size=16)


def draw(dataset: xr.Dataset):
    figure, axes = panels(1, 1)
    axes[0, 0].plot(dataset["step"], dataset["loss"].isel(learning_rate=0, seed=0).T)
    return figure


EXPERIMENT = Experiment("tiny", lambda scale: {"": few_runs()}, draw, lambda dataset: [])


def command_options(folder: Path) -> Options:
    return Options("smoke", jobs=1, results=folder / "results", figures=folder / "figures")


def bits(dataset: xr.Dataset) -> dict[str, Any]:
    """All numbers of a dataset, for comparison bit by bit."""
    return {
        str(name): (values.dims, values.dtype.str, values.values.tobytes())
        for name, values in dataset.variables.items()
    }


def losses_at(step: int) -> LossByClass:
    random = np.random.default_rng(step)
    losses = LossByClass(CLASSES)
    losses.update(random.exponential(1, 200), random.integers(0, CLASSES, 200))
    return losses


def right_steps(path: Path, number: int) -> bool:
    """Whether a record holds steps 0, 1, ... and no other number."""
    _, steps = read_record(path)
    return list(steps) == list(range(number)) and all(
        np.array_equal(losses.moments, losses_at(step).moments) for step, losses in steps.items()
    )


# Kills ------------------------------------------------------------------------------------------


def make_short(folder: Path) -> None:
    run(short_sweep(), folder)


def make_command(folder: Path) -> None:
    hush()
    tqdm.set_lock(threading.RLock())  # its own leaves a semaphore behind where a process is killed
    os._exit(carry_out({Path("tiny.py"): EXPERIMENT}, command_options(folder)))


def make_long(folder: Path, steps: int) -> None:
    making.CHECKPOINT_SECONDS, making.SECONDS_A_CALL = 0.05, 0.02
    run(long_sweep(steps), folder)


def hush() -> None:
    """Say nothing: what a child prints is not ours to show."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


@contextmanager
def folder_for(tally: Tally) -> Iterator[Path]:
    """A folder of one attack; what is left over in it is counted when the attack is over."""
    with tempfile.TemporaryDirectory(prefix="durability-") as name:
        yield Path(name)
        tally.count_left(Path(name))


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
                if time.monotonic() - began > 10 * PATIENCE:
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


# Damage -----------------------------------------------------------------------------------------


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


def damage(count: int, random: np.random.Generator, name: str, how: Callable) -> Tally:
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
            while listening.poll(PATIENCE):
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


# Full disks -------------------------------------------------------------------------------------


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


# Several processes ------------------------------------------------------------------------------


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


# Power cuts -------------------------------------------------------------------------------------


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


# All of it --------------------------------------------------------------------------------------


def attacks(settings: Settings) -> Iterator[Tally]:
    """One kind after another."""
    random = np.random.default_rng(settings.seed)
    kinds: list[tuple[int, Callable[[int], Tally]]] = [
        (settings.kills, lambda n: kill_short_runs(n, random)),
        (settings.command_kills, lambda n: kill_commands(n, random)),
        (settings.long_kills, lambda n: kill_a_long_run(n, random)),
        (settings.flips, lambda n: damage(n, random, "flipped: one bit", flip)),
        (settings.sectors, lambda n: damage(n, random, "zeroed: one sector", zero)),
        (settings.cuts, lambda n: damage(n, random, "cut: the end", cut)),
        (settings.full_disks, lambda n: full_disks(n, random)),
        (settings.record_pairs, lambda n: record_pairs(n, random)),
        (settings.workers, lambda n: several_workers(n, "two and four workers")),
        (settings.equal_ids, lambda n: several_workers(n, "equal process ids", True)),
        (settings.power_cuts, power_cuts),
        (1, lambda n: order_of_writing()),
    ]
    for count, attack in kinds:
        if count:
            yield attack(count)


def to_table(tallies: Sequence[Tally]) -> str:
    head = ("attack", "attempts", "wrong", "hung", "crashed", "left over", "")
    numbers = ("attempts", "wrong", "hung", "crashed", "left")
    rows = [
        (tally.attack, *(str(getattr(tally, name)) for name in numbers), tally.note)
        for tally in tallies
    ]
    return table(head, rows)


def main(settings: Settings) -> int:
    tallies, began = [], time.monotonic()
    for tally in attacks(settings):
        tallies.append(tally)
        found = "held" if tally.held else f"NOT held: {tally.seen[:5]}"
        seconds = time.monotonic() - began
        print(f"{seconds:4.0f} s  {tally.attack}: {tally.attempts} attempts, {found}", flush=True)
    text = to_table(tallies)
    print(f"\n{text}")
    if settings.write:
        minutes = (time.monotonic() - began) / 60
        words = f"`python benchmarks/durability.py --write` in {minutes:.0f} minutes"
        write_section("Durability", f"{words} on {os.cpu_count()} cores.\n\n{text}")
    return 0 if all(tally.held for tally in tallies) else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings, description=__doc__)))
