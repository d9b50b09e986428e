"""Memory: what a program needs, and what this machine has."""

import os
from pathlib import Path
from typing import Any

import jax

USABLE_MEMORY = 0.9  # share of the device's memory that a program may be planned with
CGROUP = Path("/sys/fs/cgroup")


def device_memory(workers: int = 1) -> int:
    """Bytes that one of so many workers may use: its share of the device, or of this machine.

    A container may have less than its machine: the limit of its control group counts.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] // workers
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, *_cgroup_limits()) // workers


def _cgroup_limits() -> list[int]:
    """Limits of this process's control groups, versions 1 and 2, from the innermost outwards."""
    found = [2**63]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, group = line.split(":", 2)
        folder, name = CGROUP, "memory.max"
        if "memory" in controllers.split(","):
            folder, name = CGROUP / "memory", "memory.limit_in_bytes"
        elif controllers:
            continue
        inner = folder / group.lstrip("/")
        for place in (inner, *inner.parents):
            try:
                found.append(int((place / name).read_text()))
            except (OSError, ValueError):  # not there, or "max"
                pass
            if place == folder:
                break
    return found


def needed(compiled: Any) -> int:
    """Bytes a compiled program needs: arguments, results and working memory."""
    plan = compiled.memory_analysis()
    assert plan is not None, "every backend of JAX that we know has a memory analysis"
    return (
        plan.argument_size_in_bytes
        + plan.output_size_in_bytes
        - plan.alias_size_in_bytes
        + plan.temp_size_in_bytes
    )


def check(what: str, bytes_needed: int, workers: int = 1) -> None:
    """Refuse a program that does not fit.

    Raises:
      MemoryError: with what it needs, and what there is.
    """
    available = device_memory(workers)
    if bytes_needed > USABLE_MEMORY * available:
        share = f" for each of {workers} workers" if workers > 1 else ""
        fewer = ", fewer --jobs" if workers > 1 else ""
        raise MemoryError(
            f"{what} needs {bytes_needed / 2**30:.2f} GiB; {jax.devices()[0].device_kind} has "
            f"{available / 2**30:.2f} GiB{share}, of which {USABLE_MEMORY:.0%} may be used. Choose "
            f"a smaller --scale{fewer}, more microbatches, or a larger device."
        )
