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

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tyro
from attacks import damage, disks, kills, rivals
from attacks.attempts import Tally
from report import table, write_section


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


def in_turn(settings: Settings) -> Iterator[Tally]:
    """One kind after another."""
    random = np.random.default_rng(settings.seed)
    kinds: list[tuple[int, Callable[[int], Tally]]] = [
        (settings.kills, lambda n: kills.kill_short_runs(n, random)),
        (settings.command_kills, lambda n: kills.kill_commands(n, random)),
        (settings.long_kills, lambda n: kills.kill_a_long_run(n, random)),
        (settings.flips, lambda n: damage.damage_files(n, random, "flipped: one bit", damage.flip)),
        (
            settings.sectors,
            lambda n: damage.damage_files(n, random, "zeroed: one sector", damage.zero),
        ),
        (settings.cuts, lambda n: damage.damage_files(n, random, "cut: the end", damage.cut)),
        (settings.full_disks, lambda n: disks.full_disks(n, random)),
        (settings.record_pairs, lambda n: rivals.record_pairs(n, random)),
        (settings.workers, lambda n: rivals.several_workers(n, "two and four workers")),
        (settings.equal_ids, lambda n: rivals.several_workers(n, "equal process ids", True)),
        (settings.power_cuts, disks.power_cuts),
        (1, lambda n: disks.order_of_writing()),
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
    for tally in in_turn(settings):
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
