"""What benchmarks share: timing by turns, tables, and the sections of RESULTS.md."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

RESULTS = Path(__file__).with_name("RESULTS.md")


def seconds(function: Callable, *args) -> float:
    """Wall time until the result is there."""
    began = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - began


def by_turns(sides: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of every side, ``[side][repeat]``: by turns, after one to warm up."""
    found: list[list[float]] = [[] for _ in sides]
    for repeat in range(repeats + 1):
        for side, times in zip(sides, found, strict=True):
            took = seconds(side)
            if repeat:
                times.append(took)
    return found


def spread(values: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """Median, smallest and largest, for a table."""
    low, mid, high = (f"{v:.{digits}f}" for v in (min(values), np.median(values), max(values)))
    return f"{mid}{unit} [{low}, {high}]"


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Ratios of neighbours in time."""
    return [a / b for a, b in zip(above, below, strict=True)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def busy_seconds() -> float | None:
    """Processor time that all processes of the machine have used; None where it is not told."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, soft, steal = map(int, file.readline().split()[1:9])
    except OSError:
        return None
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def neighbours() -> Iterator[list[float]]:
    """The share of the machine that other processes took inside the block, 0 where unknown."""
    share: list[float] = []
    wall, busy, own = time.perf_counter(), busy_seconds(), time.process_time()
    yield share
    after = busy_seconds()
    others = (after or 0) - (busy or 0) - (time.process_time() - own) if after else 0.0
    share.append(max(0.0, others / (time.perf_counter() - wall) / (os.cpu_count() or 1)))


def write_section(title: str, text: str) -> None:
    """Put ``text`` under the heading ``title`` of RESULTS.md, in place of what was there."""
    before = RESULTS.read_text() if RESULTS.exists() else "# What was measured\n"
    section = f"## {title}\n\n{text}\n"
    old = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if old.search(before):
        after = old.sub(lambda _: section + "\n", before)
    else:
        after = f"{before.rstrip()}\n\n{section}"
    RESULTS.write_text(after.rstrip() + "\n")
