"""Drawing in a process of its own, while this one plans and its workers compute."""

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Self

from imbalance.reporting import evidence, overview
from imbalance.reporting.claims import Claim
from imbalance.reporting.experiment import Options, load_experiment
from imbalance.reporting.workers import explained

Drawn = tuple[list[Claim], Path]
"""The claims of an experiment, and its figure."""


class Failed(Exception):
    """Drawing failed in the other process; the arguments are those of `explained`."""


class Drawer:
    """Draws figures one after another from what is stored of their experiments.

    A context manager: on leaving, what has not begun is not drawn.

    Args:
      others: scripts of experiments that this command leaves alone; their claims come first.
      options: of the command.
    """

    def __init__(self, others: Sequence[Path], options: Options):
        self.options = options
        # A fork would copy the locks that JAX's threads hold, and wait for them for ever.
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_leave_signals)
        self._others = self._pool.submit(evidence.kept_claims, others, options)
        self._waiting: dict[str, Future[Drawn]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def claims_of_others(self) -> dict[str, list[Claim]]:
        """The claims of experiments that are left alone, from what is kept of them."""
        return self._others.result()

    def draw(self, script: Path) -> None:
        """Ask for the figure and the claims of an experiment whose results are stored."""
        self._waiting[script.stem] = self._pool.submit(_draw, script, self.options)

    def drawn(self, wait: bool) -> Iterator[tuple[str, Future[Drawn]]]:
        """Experiments whose figures are done by now or, waiting, all; each is given once.

        A future raises `Failed`, or says that the process is no more.
        """
        for name, future in list(self._waiting.items()):
            if wait or future.done():
                del self._waiting[name]
                yield name, future


def _leave_signals() -> None:
    """Ctrl-C reaches all processes of a terminal; the one that asked for drawings decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw(script: Path, options: Options) -> Drawn:
    try:
        dataset = evidence.behind(script.stem, options)
        found = evidence.draw(load_experiment(script), dataset, options)
        if script.stem in overview.SOURCES:
            overview.draw_from_kept(options)
        return found
    except Exception as error:
        raise Failed(*explained(error)) from None
