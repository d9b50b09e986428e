"""The datasets behind the pictures, kept beside them, and what is drawn from them alone.

``figures/data/<experiment>.nc`` is the joined dataset of an experiment, small enough for a
repository: large arrays are rounded to four significant digits. Pictures and claims are made of
what is kept, and never of more, so that `imbalance.reporting.redraw` makes the same ones anywhere
and runs nothing.
"""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from imbalance.reporting import page
from imbalance.reporting.claims import Claim
from imbalance.reporting.experiment import Experiment, Options, load_experiment
from imbalance.storage import datasets, files

LARGE = 200_000  # numbers; smaller arrays are kept to the last bit
KEPT_BITS = 13  # of the 23 after the leading one of a float32: four significant digits


def data_path(name: str, options: Options) -> Path | None:
    """Where the dataset behind a picture is kept; None: it is not, at smoke scale and of parts."""
    if not options.shown:
        return None
    return options.figure_path(name).parent / "data" / f"{name}.nc"


def keep(dataset: xr.Dataset, path: Path) -> xr.Dataset:
    """Write a dataset as it is kept, and read it again: what pictures and claims are made of.

    Of the commands that made the runs the name is kept and no argument: folders are nobody's
    business.
    """
    makers = json.loads(dataset.attrs.get("provenance", "[]"))
    for maker in makers:
        maker["command"] = maker.get("command", "").split(" ")[0]
    small = dataset.assign_attrs(provenance=json.dumps(makers))
    for name, variable in dataset.data_vars.items():
        if variable.dtype in (np.float32, np.float64) and variable.size > LARGE:
            rounded = _rounded(variable.values.astype(np.float32))
            small[name] = variable.copy(data=rounded)
    datasets.save(small, path, {})
    return datasets.read(path)


def behind(name: str, options: Options) -> xr.Dataset:
    """The dataset that the picture and the claims of an experiment are made of.

    Raises:
      FileNotFoundError, ValueError: as `datasets.read`.
    """
    kept = data_path(name, options)
    return datasets.read(kept or datasets.dataset_path(name, options.label, options.results))


def _rounded(values: np.ndarray) -> np.ndarray:
    """The nearest float32 numbers that end in zeros, which compress; NaN and infinity stay."""
    drop = 23 - KEPT_BITS
    bits = values.view(np.uint32)
    up = np.uint32((1 << (drop - 1)) - 1) + ((bits >> np.uint32(drop)) & np.uint32(1))
    found = ((bits + up) >> np.uint32(drop) << np.uint32(drop)).view(np.float32)
    return np.where(np.isfinite(values), found, values)


def draw(experiment: Experiment, dataset: xr.Dataset, options: Options) -> tuple[list[Claim], Path]:
    """Draw an experiment's figure and check its claims.

    Raises:
      Exception: whatever drawing or checking raises.
    """
    path = save(lambda: experiment.draw(dataset), experiment.name, options)
    return experiment.claims(dataset), path


def save(drawing: Callable[[], Figure], name: str, options: Options) -> Path:
    """Draw in our style, put on what belongs to every page, and write the figure."""
    path = options.figure_path(name)
    with matplotlib.rc_context(page.STYLE):
        figure = drawing()
        page.finish(figure)
        kinds = {".png": {"Software": None}}
        if options.pdf:
            kinds[".pdf"] = {"CreationDate": None}
        for kind, metadata in kinds.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind[1:], metadata=metadata)
            files.write_as_it_is(path.with_suffix(kind), buffer.getvalue())
    return path


def kept_claims(scripts: Iterable[Path], options: Options) -> dict[str, list[Claim]]:
    """The claims of all experiments whose data are kept."""
    found = {}
    for path in scripts:
        place = data_path(path.stem, options)
        if place is not None and place.exists():
            found[path.stem] = load_experiment(path).claims(datasets.read(place))
    return found
