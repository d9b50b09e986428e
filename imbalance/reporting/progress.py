"""Progress that people see, and stopping when they ask."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from tqdm import tqdm

SECONDS_A_LINE = 60.0  # where there is no terminal


class Progress:
    """One bar for all work to come, in floating-point operations, with the time left.

    Without a terminal it is a line a minute, written at once.
    """

    def __init__(self, flops: float, file: TextIO | None = None):
        file = sys.stderr if file is None else file
        assert file is not None
        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
        total = max(flops / 1e9, 1e-9)
        self._terminal = file.isatty()
        if self._terminal:
            self._bar = tqdm(total=total, bar_format=layout, mininterval=0.5, file=file)
        else:
            layout = "{desc}: {percentage:.0f} %, {elapsed} gone, {remaining} left"
            self._bar = tqdm(total=total, bar_format=layout, mininterval=1e9, file=_Nowhere())
        self._file, self._lock, self._ended = file, threading.Lock(), threading.Event()
        if not self._terminal:
            threading.Thread(target=self._lines, daemon=True).start()

    def report(self, flops: float) -> None:
        """Work done since the last report."""
        with self._lock:
            # What is stored on the way of others may be counted twice: never beyond the end.
            self._bar.update(min(flops / 1e9, max(self._bar.total - self._bar.n, 0)))

    def expect(self, flops: float) -> None:
        """More work than was thought, or less."""
        with self._lock:
            self._bar.total = max(self._bar.total + flops / 1e9, self._bar.n, 1e-9)

    def tell(self, text: str) -> None:
        """A line above the bar."""
        with self._lock:
            if self._terminal:
                self._bar.clear()
            print(text, flush=True)

    def doing(self, what: str) -> None:
        """What is being run."""
        with self._lock:
            self._bar.set_description_str(what, refresh=self._terminal)

    def close(self) -> None:
        """The end of it."""
        self._ended.set()
        self._bar.close()

    def _lines(self) -> None:
        while not self._ended.wait(SECONDS_A_LINE):
            with self._lock:
                print(str(self._bar), file=self._file, flush=True)


class _Nowhere:
    """A file that keeps nothing: the bar computes the time left, and its lines are written here."""

    def write(self, text: str) -> None:
        del text

    def flush(self) -> None:
        pass


@contextlib.contextmanager
def stop_when_asked(
    quietly: bool = False, numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[Callable[[], int]]:
    """Gives what says whether to stop: the number of the signal that asked for it, or 0.

    Ctrl-C and SIGTERM, which Slurm and cloud machines send, ask; whoever works looks, saves and
    stops. A second Ctrl-C interrupts at once. Compilers are never interrupted, which would crash.

    Args:
      quietly: without a word on the terminal.
      numbers: of the signals that ask.
    """
    asked = 0

    def ask(number: int, frame: object) -> None:
        del frame
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = number
        if quietly:
            return
        name = signal.Signals(number).name
        print(f"\n{name}: saving what is on its way, then stopping", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
