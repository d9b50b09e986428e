"""The store of runs, each in a file named by its key.

Files suit both the disk of one machine and the shared disks of clusters, on which databases such as
SQLite must not be used by several machines at once. A run's file is committed whole, with a
checksum; its lock says who makes it; its checkpoint lies beside it until then. So several commands,
on one machine or many, take runs from one store without stepping on each other.
"""

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from imbalance.storage import datasets, files

FORMAT = "imbalance run 1"
PLACE = "place.npy"  # in a checkpoint: the step reached, and the last one at which all was measured


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

    def seems_there(self, key: str) -> bool:
        """Whether the run is there, at a glance: its checksum is not computed."""
        return files.seems_whole(self.path(key))

    def written(self, key: str) -> float:
        """When the run was written, in seconds since 1970; 0.0 if it is not there."""
        try:
            return self.path(key).stat().st_mtime
        except OSError:
            return 0.0

    @contextlib.contextmanager
    def making(self, key: str) -> Iterator[Callable[[str], None]]:
        """Hold a run's lock while it is made; gives what leaves a line for `holders`.

        Raises:
          Held: if another process makes it.
        """
        with files.locked(self.path(key)) as say:
            yield say

    def holders(self) -> dict[str, tuple[str, str]]:
        """Who holds a lock, and the line they left there, by the key of the run."""
        ending = f".nc{files.LOCK}"
        found = {}
        for place in sorted(self.folder.glob(f"??/.*{ending}")):
            key = place.name[1 : -len(ending)]
            if who := files.holder(self.path(key)):
                found[key] = who
        return found

    def steps_done(self, key: str) -> int | None:
        """Steps that lie behind the checkpoint of a run; None where there is none to be read."""
        try:
            with files.open_file(self.checkpoint(key)) as file, zipfile.ZipFile(file) as archive:
                place = archive.open(PLACE).read(1000)  # a few bytes, or somebody else's file
            return max(0, int(np.frombuffer(place[-16:], np.int64)[0]))
        except Exception:  # damaged, or half written: zipfile has a dozen ways to say so
            return None

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
