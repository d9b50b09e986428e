"""Run every experiment of a folder, draw all figures, and write the table of claims.

Makes what is missing of the figures of the paper's main text and of its theorem; with ``--all`` the
appendices and this project's own as well. A second call draws from stored results.
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from imbalance.reporting import workers
from imbalance.reporting.awaiting import Awaiting
from imbalance.reporting.drawing import Drawer
from imbalance.reporting.experiment import Experiment, Options, load_experiment, scripts
from imbalance.reporting.progress import Progress, stop_when_asked
from imbalance.reporting.showing import Showing
from imbalance.reporting.work import (
    Work,
    flops,
    following,
    join_runs,
    renewed,
    resolve,
    seconds,
    size,
    tell_agenda,
)
from imbalance.storage import agendas, files
from imbalance.storage.datasets import dataset_path
from imbalance.storage.store import Store

WORTH_WORKERS = 20.0  # seconds of work below which one process is done sooner


@dataclass(frozen=True)
class ReproduceOptions(Options):
    """Options of the whole reproduction."""

    all: bool = False
    """Run the appendices and this project's own experiments too."""
    experiments: Path = Path("experiments")
    """The folder of experiment scripts."""

    def __post_init__(self):
        super().__post_init__()
        if self.only or self.rates:
            raise ValueError(
                "--only and --rates name optimizers of one experiment; run its script instead."
            )


def carry_out(experiments: Mapping[Path, Experiment | None], options: Options) -> int:
    """Make what is missing, draw every figure, check every claim.

    Args:
      experiments: by the path of their scripts; None: it is still to be loaded.
      options: of the command.

    Returns:
      The exit status: 0, 1 if an experiment failed, or 128 and the number of the signal that
      stopped it.
    """
    # With members this process touches no device: it would take memory from them.
    if not options.cluster.launcher and jax.process_count() > 1:
        print("experiments run in one process; start the command on one host.", file=sys.stderr)
        return 1
    with contextlib.ExitStack() as stack:
        quietly = bool(options.cluster.launcher)  # there is nothing here to be saved
        stopping = stack.enter_context(stop_when_asked(quietly))
        drawer = None
        if isinstance(options, ReproduceOptions):
            every = scripts(options.experiments, every=True)
            others = [path for path in every if path not in experiments]
            drawer = stack.enter_context(Drawer(others, options))
        command = Awaiting if options.cluster.launcher else _Command
        return command(experiments, options, stopping, drawer).run()


class _Command:
    """One call of the command line: what it found, and what became of it."""

    def __init__(self, experiments, options: Options, stopping, drawer: Drawer | None):
        self.experiments, self.options, self.stopping = experiments, options, stopping
        self.showing = Showing(experiments, options, drawer)
        self.left: dict[str, set[str]] = {}  # keys still to be made, by the experiment's name
        self.works: dict[str, Work] = {}
        self.expected: dict[str, float] = {}  # operations that are to follow searches

    def run(self) -> int:
        for path, experiment in self.experiments.items():
            if self.stopping():
                return self._end()
            self.showing.attempt(path.stem, lambda p=path, e=experiment: self._plan(p, e))
            if path.stem in self.works and not self.left[path.stem]:
                self._finish_if_whole(self.works[path.stem])  # drawn while the next is planned
                self.showing.collect()
        works = list(self.works.values())
        try:
            self._prepare(works)
        except OSError as error:
            print(f"\n{error}.", file=sys.stderr)
            return 1
        jobs = self._jobs(works)
        self._announce(works, jobs)
        self.expected = {work.name: following(work) for work in works}
        self.progress = Progress(flops(works))
        self.showing.tell = self.progress.tell
        try:
            if any(self.left.values()):
                workers.make(works, self.options, jobs, self._told, self.stopping)
                self._look_again()
            self.showing.collect(wait=not self.stopping())
        finally:
            self.progress.close()
        return self._end()

    def _plan(self, path: Path, experiment: Experiment | None) -> None:
        work = resolve(path, experiment or load_experiment(path), self.options)
        if self.options.overwrite and not self.options.redraw:
            self._forget(work)
            work = renewed(work, self.options)
        if work.elsewhere:
            self.showing.tell(
                f"{work.name}: drawn from the runs that are joined; on this machine, and as the "
                "script is now, others would be made."
            )
        self._adopt(work)

    def _adopt(self, work: Work) -> None:
        self.works[work.name] = work
        self.left[work.name] = {run.key for run in work.missing}

    def _forget(self, work: Work) -> None:
        store, only = Store(self.options.results / "runs"), self.options.only
        for run in (run for group in work.runs.values() for run in group):
            if not only or run.plan.name in only:
                store.path(run.key).unlink(missing_ok=True)
                store.checkpoint(run.key).unlink(missing_ok=True)

    def _failed(self, name: str, cause: str, trace: str) -> None:
        """A worker could not go on with an experiment."""
        self.left.pop(name, None)
        self.showing.fail(name, cause, trace)
        with contextlib.suppress(OSError):
            options = self.options
            agendas.keep_failure(name, options.label, options.results, cause, trace)

    def _prepare(self, works: Sequence[Work]) -> None:
        """Find out now, and not after hours of work, whether there is room for all of it."""
        store = Store(self.options.results / "runs")
        if any(self.left.values()):
            store.open(size(works))
        else:
            store.clear()
        for folder in {self.options.figure_path(work.name).parent for work in works}:
            files.check_room(folder, 2**20)
            files.remove_leftovers(folder)
        for work in works:
            place = dataset_path(work.name, self.options.label, self.options.results)
            files.remove_leftovers(place.parent)
            if self.left[work.name]:
                agendas.remove(work.name, self.options.label, self.options.results, agendas.FAILED)
                tell_agenda(work, self.options)

    def _jobs(self, works: Sequence[Work]) -> int:
        groups = len({key for keys in self.left.values() for key in keys})
        if self.options.jobs is not None:
            return max(1, min(self.options.jobs, groups))
        if jax.default_backend() != "cpu" or sum(seconds(w, 1) for w in works) < WORTH_WORKERS:
            return 1
        return max(1, min(len(workers.processors()) // workers.CORES_A_WORKER, groups))

    def _announce(self, works: Sequence[Work], jobs: int) -> None:
        total = sum(len(keys) for keys in self.left.values())
        if total:
            searching = any(not work.settled for work in works)
            then = ", then the best of each search on fresh seeds" if searching else ""
            print(f"{total} runs to make, {jobs} at a time{then}; about, on this machine:")
            for work in works:
                if self.left.get(work.name):
                    print(
                        f"  {work.name:<28}{len(self.left[work.name]):>4} runs  "
                        f"{_minutes(seconds(work, jobs)):>8}"
                    )
            print(f"  {'together':<37}  {_minutes(sum(seconds(w, jobs) for w in works)):>8}")
        old = [work.name for work in works if _old_results(work.name, self.options).is_dir()]
        if old:
            print(
                f"{self.options.results} holds results of an earlier version of this package "
                f"({', '.join(old)}); they are left alone."
            )
        sys.stdout.flush()

    def _told(self, kind: str, value) -> None:
        """An event of a worker, see `workers.Tell`."""
        if kind == "flops":
            self.progress.report(value)
        elif kind == "doing":
            self.progress.doing(value)
        elif kind in ("made", "found"):
            self._stored(value, counted=kind == "made")
        elif kind == "failed":
            path, cause, trace = value
            self._failed(Path(path).stem, cause, trace)
        elif kind == "lost":
            self.showing.tell(f"{value}; the others go on.")
        self.showing.collect()

    def _stored(self, keys: Sequence[str], counted: bool) -> None:
        """Runs are there; what another command made counts as progress once."""
        waited_for = set(keys) & set().union(*self.left.values())
        if not counted:
            runs = {run.key: run for work in self.works.values() for run in work.missing}
            self.progress.report(sum(runs[key].plan.flops for key in waited_for))
        for name, left in list(self.left.items()):
            if left & waited_for:
                left -= waited_for
                self._finish_if_whole(self.works[name])

    def _finish_if_whole(self, work: Work) -> None:
        if self.left.get(work.name) or work.name in self.showing.failures:
            return
        if not work.settled and not work.absent:
            self.showing.attempt(work.name, lambda: self._go_on(work))
            return
        if work.absent:
            self.showing.tell_absent(work.name, work.absent)
            return
        self.showing.attempt(work.name, lambda: self._finish(work))

    def _go_on(self, work: Work) -> None:
        """A search has ended: learn what follows it."""
        before = set(work.keys)
        work = renewed(work, self.options)
        new = {run.key: run.plan.flops for group in work.runs.values() for run in group}
        follow = sum(number for key, number in new.items() if key not in before)
        expected = self.expected.pop(work.name, 0.0)
        rest = 0.0 if work.settled else max(expected - follow, 0.0)
        self.expected[work.name] = rest
        self.progress.expect(follow + rest - expected)
        self._adopt(work)
        if work.missing:
            tell_agenda(work, self.options)
        self._finish_if_whole(work)

    def _look_again(self) -> None:
        """See what another command made before a worker of this one asked: nobody told of it."""
        for name in [name for name, keys in self.left.items() if keys and not self.stopping()]:
            self.showing.attempt(name, lambda n=name: self._go_on(self.works[n]))

    def _finish(self, work: Work) -> None:
        join_runs(work, self.options)
        self.showing.draw(work.path, work.experiment)

    def _end(self) -> int:
        self.showing.end()
        if number := self.stopping():
            print(
                "\nstopped; finished runs are stored, those on their way have a checkpoint, and "
                "the same command goes on from there.",
                file=sys.stderr,
            )
            return 128 + number
        for name, keys in self.left.items():
            if keys:
                self.showing.fail(name, f"{len(keys)} runs were not made", "")
        return self.showing.status()


def _old_results(name: str, options: Options) -> Path:
    """The folder in which versions before 0.2 kept an experiment's results."""
    folder = options.results / name / options.scale
    return folder if any(folder.glob("**/*-seed*.nc")) else folder / "none"


def _minutes(number: float) -> str:
    return f"{number:.0f} s" if number < 90 else f"{number / 60:.0f} min"


def main() -> None:
    """The command line."""
    try:
        options = tyro.cli(ReproduceOptions, description=__doc__)
        experiments = dict.fromkeys(scripts(options.experiments, options.all))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"reproduce: {error}")
    sys.exit(carry_out(experiments, options))


if __name__ == "__main__":
    main()
