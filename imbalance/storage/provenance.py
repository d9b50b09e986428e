"""Who made a result, with what and on which machine."""

import functools
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("imbalance", "jax", "jaxlib", "optax", "flax", "numpy", "xarray")


def provenance() -> dict[str, Any]:
    """Time, command, versions, machine, and the state of the user's own repository."""
    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "processor": _processor(),
        "threads": _threads(),
        **_repository(Path.cwd()),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def _processor() -> str:
    """The processor's model, as Linux and macOS name it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _threads() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


@functools.cache
def _repository(place: Path) -> dict[str, Any]:
    """Commit of the repository around ``place``, and whether all of it is committed."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return {
            "git_commit": git("rev-parse", "HEAD"),
            "git_dirty": str(bool(git("status", "--porcelain"))),  # untracked files too
        }
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return {"git_commit": "unknown", "git_dirty": "unknown"}
