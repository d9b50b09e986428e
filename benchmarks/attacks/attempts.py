"""What becomes of an attack, and the processes that it is made on."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imbalance.storage import files

PATIENCE = 300.0  # seconds after which a process counts as hung
UNFINISHED = (files.PART, files.LOCK, ".checkpoint")
CHILDREN = ("attacks.kills", "attacks.damage", "attacks.disks", "attacks.rivals")


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


@contextmanager
def folder_for(tally: Tally) -> Iterator[Path]:
    """A folder of one attack; what is left over in it is counted when the attack is over."""
    with tempfile.TemporaryDirectory(prefix="durability-") as name:
        yield Path(name)
        tally.count_left(Path(name))


def start(function: Callable, *arguments: Any) -> Any:
    """Begin a process that has all modules loaded: forked from a server of one thread."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([*CHILDREN, "imbalance.reporting.reproduce"])
    here = str(Path(__file__).parents[1])
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


def hush() -> None:
    """Say nothing: what a child prints is not ours to show."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
