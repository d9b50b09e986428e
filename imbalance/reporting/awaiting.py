"""A command that has members make the runs: it launches them, waits, and shows what they join.

It plans nothing and touches no device, for the members may have others than it has, and devices
decide how a run is made.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imbalance.reporting import launching
from imbalance.reporting.drawing import Drawer
from imbalance.reporting.experiment import Experiment, Options
from imbalance.reporting.progress import Progress
from imbalance.reporting.showing import Showing
from imbalance.storage import agendas
from imbalance.storage.store import Store


class Awaiting:
    """One call of a command with ``--launcher``; see `reproduce.carry_out`."""

    def __init__(
        self,
        experiments: Mapping[Path, Experiment | None],
        options: Options,
        stopping: Callable[[], int],
        drawer: Drawer | None,
    ):
        self.experiments, self.options, self.stopping = experiments, options, stopping
        self.showing = Showing(experiments, options, drawer)
        self.waiting = {path.stem: path for path in experiments}
        self.planned: set[str] = set()
        self.met: dict[str, tuple[str, str]] = {}  # failures of members, by the experiment's name

    def run(self) -> int:
        """Launch, and wait unless it is to return at once: the exit status."""
        try:
            launched = self._launched()
        except (OSError, launching.NotLaunched) as error:
            print(f"{error}.", file=sys.stderr)
            return 1
        print(launched.described, flush=True)
        return 0 if self.options.cluster.detach else self._wait(launched)

    def _launched(self) -> launching.Launched:
        options = self.options
        Store(options.results / "runs").open(0)
        for name in self.waiting:
            agendas.remove(name, options.label, options.results, agendas.FAILED)
        return launching.launch(list(self.experiments), options)

    def _wait(self, launched: launching.Launched) -> int:
        self.progress = Progress(0.0)
        self.showing.tell = self.progress.tell
        try:
            for member, kind, value in launched.events(self.stopping):
                self._hear(f"member {member}", kind, value)
                self.showing.collect()
            self.showing.collect(wait=not self.stopping())
        finally:
            self.progress.close()
        if number := self.stopping():
            self.showing.end()
            print(f"\nno longer waiting for {launched.described}", file=sys.stderr)
            return 128 + number
        for name in self.waiting:
            missing = f"not all of its runs were made; logs in {launched.folder}", ""
            self.showing.fail(name, *self.met.get(name, missing))
        self.showing.end()
        return self.showing.status()

    def _hear(self, who: str, kind: str, value: Any) -> None:
        """An event of a member, see `members.Events` and `workers.Tell`."""
        tell = self.showing.tell
        if kind == "flops":
            self.progress.report(value)
        elif kind == "doing":
            self.progress.doing(value)
        elif kind == "planned" and value[0] not in self.planned:
            self.planned.add(value[0])
            self.progress.expect(value[1])
        elif kind == "joined" and (path := self.waiting.pop(Path(value).stem, None)):
            self.showing.attempt(path.stem, lambda: self.showing.draw(path, self.experiments[path]))
        elif kind == "absent" and self.waiting.pop(value[0], None):
            self.showing.tell_absent(*value)
        elif kind == "failed":
            path, cause, trace = value
            if self.met.setdefault(Path(path).stem, (cause, trace)) == (cause, trace):
                tell(f"{who} could not go on with {Path(path).stem}: {cause}")
        elif kind == "began":
            tell(f"{who} began on {value.get('host')}, job {value.get('job')}")
        elif kind == "requeued":
            tell(f"{who} was stopped by {value}; it comes back and goes on")
        elif kind == "left":
            tell(f"{who} was stopped by {value}")
        elif kind in ("broke", "lost"):
            how = {"broke": "broke:", "lost": "is gone:"}[kind]
            tell(f"{who} {how} {value}; the others go on")
