"""A report that is written again as runs are finished."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imbalance.reporting.report import gathering, page
from imbalance.reporting.report.exhibits import Gathered, Known
from imbalance.reporting.report.gathering import Where
from imbalance.reporting.report.page import Progress
from imbalance.reporting.report.sofar import Finished, so_far
from imbalance.storage import files
from imbalance.storage.standing import Standing, speed, standings, time_left
from imbalance.storage.store import Store

COLUMNS = ("experiment", "state", "done", "running", "missing", "left", "what failed")
LOOK_SECONDS = 0.2  # between two looks at whether to stop


@dataclass(frozen=True)
class Live:
    """A report of work that goes on.

    Attributes:
      paths: What is shown, as in `gathering.gather`.
      where: Folders of the experiments.
      output: File to write.
      title: Of the page.
      seconds: Between two writings.
    """

    paths: Sequence[Path]
    where: Where
    output: Path
    title: str
    seconds: int

    def go_on(self, stopping: Callable[[], int]) -> Gathered:
        """Write the page again and again, until somebody asks to stop; then a last time.

        Args:
          stopping: Says whether to stop, as `imbalance.reporting.progress.stop_when_asked` does.

        Returns:
          What the page shows at the end.

        Raises:
          FileNotFoundError: As `gathering.gather`.
          OSError: If the page cannot be written.
        """
        known, finished = Known(), Finished(Store(self.where.results / "runs"))
        while not stopping():
            self._write(known, finished, self.seconds)
            until = time.monotonic() + self.seconds
            while time.monotonic() < until and not stopping():
                time.sleep(LOOK_SECONDS)
        return self._write(known, finished, 0)

    def _write(self, known: Known, finished: Finished, seconds: int) -> Gathered:
        found = gathering.gather(self.paths, self.where, known)
        kept, results = self.where.figures.glob("data/*.nc"), self.where.results.glob("*/*.nc")
        sofar = so_far(finished.renew([*kept, *results]))
        told = standings(self.where.results, self.where.scale)
        pace = speed(told, Store(self.where.results / "runs"))
        together = Gathered([], hero=found.hero)
        together.add(sofar)
        together.add(found)
        progress = Progress(
            COLUMNS, [row(one, pace) for one in told], in_words(told, pace), seconds
        )
        files.write_as_it_is(self.output, page.render(together, self.title, progress))
        return together


def row(one: Standing, pace: float) -> tuple[str, ...]:
    """How far an experiment is, for a row of the table.

    Args:
      one: Standing of the experiment.
      pace: Operations a second.
    """
    running = sum(len(group.keys) for group in one.running)
    missing = f"{len(one.missing) or ''}{'+' * one.searching}"
    left = time_left(one.left, pace) if one.agenda else ""
    cause = one.failure.cause if one.failure else ""
    return one.name, one.state, str(len(one.done)), str(running or ""), missing, left, cause


def in_words(told: Sequence[Standing], pace: float) -> str:
    """The table of progress in a sentence or two.

    Args:
      told: Standings of all experiments.
      pace: Operations a second.
    """
    states = Counter(one.state for one in told)
    words = ", ".join(f"{number} {state}" for state, number in states.most_common())
    left = sum(one.left for one in told)
    rest = f" About {time_left(left, pace)} left, as fast as it goes now." if left and pace else ""
    more = " A + means that learning rates are searched, and more runs follow."
    searching = any(one.searching for one in told)
    return f"Experiments: {words or 'none has begun'}.{rest}{more if searching else ''}"
