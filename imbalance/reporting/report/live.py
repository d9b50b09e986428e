"""A report that is written again as runs are finished."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imbalance.reporting.report import gathering, page
from imbalance.reporting.report.exhibits import Gathered, Known
from imbalance.reporting.report.gathering import Where
from imbalance.reporting.report.page import Progress
from imbalance.reporting.report.sofar import Finished, so_far
from imbalance.storage import files
from imbalance.storage.datasets import dataset_path, stored_runs
from imbalance.storage.store import Store

COLUMNS = ("experiment", "state", "finished runs", "last written")
LOOK_SECONDS = 0.2  # between two looks at whether to stop
JOINED, NOT_JOINED = "joined", "not joined"


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
        names = [exhibit.name for exhibit in found.exhibits]
        rows = [standing(name, self.where) for name in names if self._is_experiment(name)]
        rows += [(one.name, NOT_JOINED, str(one.number_of_runs), "") for one in sofar.exhibits]
        together = Gathered([], hero=found.hero)
        together.add(sofar)
        together.add(found)
        progress = Progress(COLUMNS, rows, in_words(rows), seconds)
        files.write_as_it_is(self.output, page.render(together, self.title, progress))
        return together

    def _is_experiment(self, name: str) -> bool:
        return (self.where.experiments / f"{name}.py").exists()


def standing(name: str, where: Where) -> tuple[str, str, str, str]:
    """A row of the table of progress: an experiment, and its joined dataset in the results.

    Args:
      name: Of the experiment.
      where: Folders of the experiments.
    """
    place = dataset_path(name, where.scale, where.results)
    keys = stored_runs(place)
    if keys is None:
        return name, NOT_JOINED, "", ""
    written = datetime.fromtimestamp(place.stat().st_mtime, UTC)
    return name, JOINED, str(len(keys)), f"{written:%Y-%m-%d %H:%M} UTC"


def in_words(rows: Sequence[tuple[str, ...]]) -> str:
    """The table of progress in a sentence."""
    joined = sum(row[1] == JOINED for row in rows)
    more = sum(int(row[2]) for row in rows if row[1] == NOT_JOINED and row[2])
    return (
        f"{joined} experiments have all their runs and are joined; {more} more runs are finished. "
        "How far single runs are, and the time left, is told by imbalance status."
    )
