"""Files read into exhibits: what one page of the report shows.

A file that cannot be read is told, with the reason, and the others are shown all the same.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from imbalance.reporting.claims import Claim
from imbalance.reporting.report.explored import Explored, explored
from imbalance.reporting.report.labelled import labelled
from imbalance.reporting.report.pictures import Picture
from imbalance.storage import datasets, files
from imbalance.storage.record_dataset import load_record
from imbalance.storage.record_format import parse
from imbalance.storage.records import losses_of

HDF5 = b"\x89HDF\r\n\x1a\n"  # with which every netCDF 4 file begins
NPY = b"\x93NUMPY"  # and every record
CHECKED = re.compile(rb"\nsha256 [0-9a-f]{64}\n\Z")


@dataclass(frozen=True)
class Exhibit:
    """What one page of the report shows.

    Attributes:
      name: Short, such as an experiment's.
      title: One sentence.
      text: Paragraphs below the title.
      commands: Lines that make it.
      runs: To be explored; None: there are none yet.
      picture: Drawn of them.
      claims: Checked on these runs.
      source: File that the runs were read from.
      number_of_runs: Of those shown before their dataset is joined.
    """

    name: str
    title: str
    text: tuple[str, ...] = ()
    commands: str = ""
    runs: Explored | None = None
    picture: Picture | None = None
    claims: tuple[Claim, ...] = ()
    source: str = ""
    number_of_runs: int = 0


@dataclass(frozen=True)
class Gathered:
    """What was found.

    Attributes:
      exhibits: In the order in which they are shown.
      problems: What could not be shown: a file or an experiment, and why.
      remarks: What else is to be known of a file, such as that its run diverged.
      hero: Picture at the top of the gallery.
    """

    exhibits: list[Exhibit]
    problems: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    hero: Picture | None = None

    def add(self, other: "Gathered") -> None:
        """Take over what another has, after what is here."""
        self.exhibits.extend(other.exhibits)
        self.problems.extend(other.problems)
        self.remarks.extend(other.remarks)


Stamp = tuple[float, ...]
"""Times at which files were last written."""


@dataclass
class Known:
    """What was read before, by the experiment's script, with the times of the files it is of."""

    read: dict[Path, tuple[Stamp, Gathered]] = field(default_factory=dict)


def from_files(paths: Iterable[Path]) -> Gathered:
    """Exhibits of datasets and records.

    Args:
      paths: Of files, or of folders, of which all ``.nc`` files are shown.
    """
    found = Gathered([])
    for path in paths:
        collect(found, str(path), lambda path=path: _of_path(path))
    return found


def collect(found: Gathered, place: str, read: Callable[[], list[Exhibit]]) -> None:
    """Add what ``read`` returns, or why it cannot: what is damaged does not hide the others."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found.exhibits.extend(read())
        except OSError as error:
            found.problems.append((place, f"it cannot be read: {error.strerror or error}."))
        except (MemoryError, RecursionError) as error:
            found.problems.append((place, f"it is too large or too deep: {type(error).__name__}."))
        except Exception as error:
            # Bytes that somebody else wrote: any library below may raise anything on them.
            reason = str(error) or type(error).__name__
            found.problems.append((place, reason.removeprefix(f"{place} ")))
    said = [str(one.message) for one in told if issubclass(one.category, UserWarning)]
    found.remarks.extend((place, words.removeprefix(f"{place}: ")) for words in said)


def _of_path(path: Path) -> list[Exhibit]:
    if not path.is_dir():
        return [of_file(path)]
    inside = sorted(path.glob("*.nc"))
    if not inside:
        raise ValueError("it is a folder without .nc files; name the files to show.")
    return [of_file(one) for one in inside]


def of_file(path: Path) -> Exhibit:
    """The exhibit of a dataset or record.

    Raises:
      OSError: If it cannot be read.
      ValueError: If it is damaged, or neither.
    """
    dataset = read_runs(path)
    experiment = dataset.attrs.get("experiment")
    title = experiment if isinstance(experiment, str) and experiment else path.stem
    return Exhibit(path.stem, title, runs=explored(dataset), source=str(path))


def read_runs(path: Path) -> xr.Dataset:
    """The runs that a dataset or a record holds.

    Raises:
      OSError: If it cannot be read.
      ValueError: If it is damaged, or neither.
    """
    with open(path, "rb") as file:
        start = file.read(len(HDF5))
    if start == HDF5:
        return labelled(_dataset(path))
    if start.startswith(NPY):
        return labelled(_record(path))
    raise ValueError(
        "it is neither a dataset (netCDF 4, as in results/NAME/SCALE.nc) nor a record "
        "(imbalance.Record)."
    )


def _dataset(path: Path) -> xr.Dataset:
    """A dataset of ours, its checksum verified, or one that somebody saved with xarray."""
    data = path.read_bytes()
    if not CHECKED.search(data):
        try:
            return datasets.from_bytes(data)
        except Exception as error:
            raise ValueError(
                f"it is damaged or cut short: {type(error).__name__}: {error}."
            ) from error
    try:
        return datasets.from_bytes(files.read(path))
    except files.Damaged as error:
        raise ValueError(str(error).removeprefix(f"{path} ").replace("is ", "it is ", 1)) from error


def _record(path: Path) -> xr.Dataset:
    """A record with the losses of classes at its last step."""
    dataset = load_record(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # load_record has told
        found = parse(path.read_bytes(), path)
    step, last = list(found.steps.items())[-1]
    losses = losses_of(found.header, last).mean
    dims = ("optimizer", "learning_rate", "seed", "step", "class")
    only = dataset.sel(step=[step])
    values = losses.reshape(*(only.sizes[dim] for dim in dims))
    return dataset.assign(class_loss=(dims, _at_end(values, dataset.sizes["step"])))


def _at_end(values: np.ndarray, steps: int) -> np.ndarray:
    """Values of one step as the last of several, NaN before."""
    full = np.full((*values.shape[:3], steps, values.shape[-1]), np.nan)
    full[..., -1:, :] = values
    return full
