"""The store of runs, each in a file named by its key.

Files suit both the disk of one machine and the shared disks of clusters, on which databases such as
SQLite must not be used by several machines at once. A run's file is committed whole, with a
checksum; its lock says who makes it; its checkpoint lies beside it until then. So several commands,
on one machine or many, take runs from one store without stepping on each other.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from imbalance.storage import datasets, files

FORMAT = "imbalance run 1"


@dataclass(frozen=True)
class Store:
    """Runs by key in a folder, such as ``results/runs``.

    Example:
      >>> from pathlib import Path
      >>> import numpy as np
      >>> from imbalance.storage.store import Store
      >>> store, key = Store(Path("results/runs")), "0" * 32
      >>> store.write(key, {"loss": (("step",), np.array([2.3, 0.7]))}, {"device": "cpu"})
      >>> store.has(key), store.read(key)["loss"].values
      (True, array([2.3, 0.7]))
    """

    folder: Path

    def open(self, size: int) -> None:
        """Make ready for runs of ``size`` bytes in all, and clear what killed processes left.

        Raises:
          OSError: if the folder cannot be written to, or has no room.
        """
        files.check_room(self.folder, size)
        self.clear()

    def clear(self) -> None:
        """Remove what killed processes left: unfinished files, locks, and checkpoints.

        A checkpoint of a finished run is left where the kill came just after the run was committed.
        """
        for part in (self.folder, *self.folder.glob("??")):
            files.remove_leftovers(part)
            for checkpoint in part.glob("*.checkpoint"):
                if self.has(checkpoint.stem):
                    with contextlib.suppress(OSError):
                        checkpoint.unlink(missing_ok=True)

    def path(self, key: str) -> Path:
        """The file of a run."""
        return self.folder / key[:2] / f"{key}.nc"

    def checkpoint(self, key: str) -> Path:
        """The file of a run that is not finished."""
        return self.path(key).with_suffix(".checkpoint")

    def has(self, key: str) -> bool:
        """Whether the run is there and whole; a damaged one is as good as none."""
        return files.is_whole(self.path(key))

    @contextlib.contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Hold a run's lock while it is made.

        Raises:
          Held: if another process makes it.
        """
        with files.locked(self.path(key)):
            yield

    def write(
        self,
        key: str,
        arrays: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
        attrs: Mapping[str, Any],
    ) -> None:
        """Commit a run: on the disk when this returns. Its checkpoint goes.

        Args:
          key: of the run.
          arrays: name -> axes and values.
          attrs: who made it; values that netCDF does not know are stored as JSON.
        """
        plain = {
            name: v if isinstance(v, str | float) else json.dumps(v) for name, v in attrs.items()
        }
        run = xr.Dataset(dict(arrays), attrs={"format": FORMAT, "key": key, **plain})
        files.write(self.path(key), datasets.to_bytes(run))
        self.checkpoint(key).unlink(missing_ok=True)

    def read(self, key: str) -> xr.Dataset:
        """A run's arrays, their checksum verified.

        Raises:
          FileNotFoundError: if there is none.
          Damaged: if it is not what was written under this key.
        """
        run = datasets.from_bytes(files.read(self.path(key)))
        if (run.attrs.get("format"), run.attrs.get("key")) != (FORMAT, key):
            raise files.Damaged(
                f"{self.path(key)} is not the run {key}. Delete it, and the run is made again."
            )
        return run
