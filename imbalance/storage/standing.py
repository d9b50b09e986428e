"""How far experiments are, from what the store and their agendas say; nothing is planned."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imbalance.storage import agendas, files, notes
from imbalance.storage.agendas import Agenda, Failure, Wanted
from imbalance.storage.datasets import dataset_path, stored_runs
from imbalance.storage.store import Store


@dataclass(frozen=True)
class Running:
    """Runs that a process makes together.

    Attributes:
      keys: of the runs.
      who: the process, since when, and its command.
      done: the share of their operations that is done.
      flops: operations of all of it, as far as the experiment's agenda knows them.
      speed: operations a second; 0.0 where it is not known yet.
    """

    keys: Sequence[str]
    who: str
    done: float = 0.0
    flops: float = 0.0
    speed: float = 0.0


@dataclass(frozen=True)
class Standing:
    """How far an experiment is.

    Attributes:
      name: of the experiment.
      scale: its scale.
      joined: whether its dataset is there.
      agenda: what it wants; None where it wants nothing, or nobody has planned it.
      done: keys of finished runs.
      running: runs that somebody makes.
      missing: keys of runs that nobody makes.
      paused: steps behind the checkpoints of missing runs, by their keys.
      left: operations that are still to be done, about.
      failure: why some could not be made.
      damage: files of the experiment that could not be read, in words.
    """

    name: str
    scale: str
    joined: bool
    agenda: Agenda | None
    done: Sequence[str]
    running: Sequence[Running]
    missing: Sequence[str]
    paused: Mapping[str, int]
    left: float
    failure: Failure | None
    damage: Sequence[str]

    @property
    def searching(self) -> bool:
        """Whether learning rates are searched, so that more runs follow."""
        return self.agenda is not None and not self.agenda.settled

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.joined:
            return "finished"
        if self.running:
            return "running"
        if self.failure:
            return "failed"
        if self.agenda is None:
            return "damaged" if self.damage else "not planned"
        return "idle" if self.missing or self.searching else "to be joined"


def standings(results: Path, scale: str | None = None) -> list[Standing]:
    """How far every experiment is of which a folder of results knows, by name and scale.

    Args:
      results: the folder; where it is not there, nothing is known.
      scale: one of them, and its parts; None: all.
    """
    store = Store(results / "runs")
    wanted = {(name, at) for name, at, _ in agendas.told(results, agendas.WORK)}
    wanted |= {(name, at) for name, at, _ in agendas.told(results, agendas.FAILED)}
    joined = (path for path in results.glob("*/*.nc") if path.is_file())
    wanted |= {(path.parent.name, path.stem) for path in joined}
    holders = store.holders()
    return [
        _standing(name, at, results, store, holders)
        for name, at in sorted(wanted)
        if scale in (None, at, at.partition("-")[0])  # parts are of a scale too
    ]


def speed(found: Sequence[Standing], store: Store) -> float:
    """Operations a second, of all that are running now; 0.0 where it is not known.

    Where none of them has come far enough to tell, it is what was finished since the work began.
    """
    every = {one.keys[0]: one for standing in found for one in standing.running}.values()
    known = [one.speed for one in every if one.speed]
    if known:
        return len(every) * sum(known) / len(known)
    since = [one.agenda.since for one in found if one.agenda]
    flops = {
        key: one.agenda.runs[key].flops
        for one in found
        if one.agenda
        for key in one.done
        if store.written(key) > one.agenda.since
    }
    return sum(flops.values()) / max(time.time() - min(since), 1e-3) if flops and every else 0.0


def time_left(flops: float, pace: float) -> str:
    """How long so many operations take at so many a second, in words; "?" where it is not known."""
    if not pace:
        return "?" if flops else ""
    seconds = flops / pace
    for size, unit in ((86_400 * 2, "days"), (3600 * 2, "h"), (90, "min")):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'h': 3600, 'min': 60}[unit]:.0f} {unit}"
    return f"{seconds:.0f} s"


def _standing(
    name: str, scale: str, results: Path, store: Store, holders: Mapping[str, tuple[str, str]]
) -> Standing:
    damage: list[str] = []

    def told(ending: str, read):
        try:
            return read(agendas.place(name, scale, results, ending))
        except FileNotFoundError:
            return None
        except (OSError, files.Damaged) as error:
            damage.append(str(error))
            return None

    agenda: Agenda | None = told(agendas.WORK, agendas.read)
    failure: Failure | None = told(agendas.FAILED, agendas.read_failure)
    place = dataset_path(name, scale, results)
    keys = list(agenda.runs) if agenda else stored_runs(place)
    joined = agenda is None and keys is not None
    if keys is None and place.exists():
        damage.append(f"{place} is damaged; it is joined again from its runs.")
    keys = keys or []
    there = set(keys) if joined else {key for key in keys if store.seems_there(key)}
    runs = {key: run for key, run in (agenda.runs if agenda else {}).items() if key not in there}
    found = [_running(key, *said, runs) for key, said in holders.items()]
    running = [one for one in found if one.keys]
    busy = {key for one in running for key in one.keys}
    missing = [key for key in runs if key not in busy]
    paused = {key: steps for key in missing if (steps := store.steps_done(key))}
    left = agenda.following if agenda else 0.0
    left += sum(runs[key].flops * (1 - _share(runs[key], paused.get(key, 0))) for key in missing)
    left += sum(one.flops * (1 - one.done) for one in running)
    return Standing(
        name=name,
        scale=scale,
        joined=joined,
        agenda=agenda,
        done=[key for key in keys if key in there],
        running=running,
        missing=missing,
        paused=paused,
        left=left,
        failure=failure,
        damage=damage,
    )


def _share(run: Wanted, steps: int) -> float:
    return min(steps / run.steps, 1.0) if run.steps else 0.0


def _running(key: str, who: str, line: str, runs: Mapping[str, Wanted]) -> Running:
    """Those runs of an experiment that whoever holds the lock of ``key`` makes."""
    note = notes.from_line(line)
    keys = [one for one in (note.keys if note else [key]) if one in runs]
    flops = sum(runs[one].flops for one in keys)
    if note is None:
        return Running(keys, who, flops=flops)
    done = min(note.done, 1.0)
    seconds, came = note.at - note.began, done - note.began_with
    return Running(
        keys, who, done, flops, came * flops / seconds if min(seconds, came) > 0 else 0.0
    )
