"""Options of a launch: how many members make the runs, and what each of them is given."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

HOURS = 12.0  # of a member under Slurm, where nothing else is said
# What the launch sets itself, and the option that changes it.
TAKEN = {
    "array": "--members",
    "cpus-per-task": "--cpus",
    "error": None,
    "gpus-per-node": "--gpus",
    "mem": "--memory",
    "open-mode": None,
    "output": None,
    "partition": "--partition",
    "requeue": None,
    "signal": None,
    "time": "--hours",
}
PARAMETER = re.compile(r"(?:--)?([A-Za-z][A-Za-z0-9-]*)(?:=([^\x00-\x1f]*))?")


@dataclass(frozen=True)
class Cluster:
    """Processes of a cluster, or of this machine, that share the runs (docs/cluster.md)."""

    launcher: Literal["local", "slurm"] | None = None
    """Who starts the members: this machine or Slurm."""
    members: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """How many members; local: left out, one for every two processors."""
    gpus: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """GPUs of each member."""
    cpus: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Processors of each member; slurm only."""
    memory: Annotated[float | None, tyro.conf.arg(metavar="GIB")] = None
    """Memory of each member; slurm only."""
    hours: Annotated[float | None, tyro.conf.arg(metavar="H")] = None
    """Time limit of a member, which is requeued when it ends; local: none, slurm: 12."""
    partition: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The partition; slurm only."""
    sbatch: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Further parameters of sbatch, as account=mine constraint=a100 exclusive."""
    detach: bool = False
    """Return at once; `imbalance status` tells how far they are."""

    def __post_init__(self):
        said = [name for name, value in vars(self).items() if value not in (None, (), 0, False)]
        if self.launcher is None and said:
            raise ValueError(f"--{said[0]} is for members: give --launcher local or slurm as well.")
        for name in ("members", "cpus", "memory", "hours"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"--{name} {value}: give a number above 0, or leave it out.")
        if self.gpus < 0:
            raise ValueError(f"--gpus {self.gpus}: give 0 or more.")
        only_slurm = [name for name in said if name in ("cpus", "memory", "partition", "sbatch")]
        if self.launcher == "local" and only_slurm:
            raise ValueError(f"--{only_slurm[0]} is for --launcher slurm; leave it out.")
        if self.launcher == "slurm" and self.members is None:
            raise ValueError("--launcher slurm: say how many members there are, as --members 8.")
        parameters(self.sbatch)

    @property
    def minutes(self) -> int:
        """The time limit, in whole minutes; a year where there is none."""
        hours = self.hours or (HOURS if self.launcher == "slurm" else 24.0 * 365)
        return max(1, round(60 * hours))


def parameters(words: Sequence[str]) -> dict[str, str | bool]:
    """Parameters of sbatch by their names; True where one has no value.

    Raises:
      ValueError: for a word that is no parameter, or one that the launch sets itself.
    """
    found = {}
    for word in words:
        match = PARAMETER.fullmatch(word)
        if not match:
            raise ValueError(
                f"--sbatch {word!r}: give NAME=VALUE, or NAME alone, as account=mine exclusive."
            )
        name, value = match.groups()
        if name in TAKEN:
            instead = f"say {TAKEN[name]}" if TAKEN[name] else "the launch sets it itself"
            raise ValueError(f"--sbatch {word}: {instead}.")
        found[name] = True if value is None else value
    return found
