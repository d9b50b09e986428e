"""The import layers: a file imports only what the row of its room allows; arrows point one way.

A room is a package of `imbalance` or a module beside them; "" is `imbalance/__init__.py`. A row
gives the rooms that its files may import (their own always) and the libraries beyond the standard
library and NumPy, which everyone may use. Imports inside functions and under TYPE_CHECKING count
like any other. Rows are as tight as the code: what nobody uses is not allowed.
"""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from test_installation import IMPORTED_AS

import imbalance

ROOT = Path(__file__).resolve().parents[1]
EVERYWHERE = {"numpy"} | set(sys.stdlib_module_names)

Row = tuple[set[str], set[str]]

# room: ({rooms}, {libraries})
LAYERS: dict[str, Row] = {
    "": ({"analysis", "problems", "storage", "training"}, set()),
    "analysis": (set(), {"pandas", "xarray"}),
    "theory": (set(), {"scipy"}),
    "data": (
        {"analysis", "storage"},
        {"PIL", "fontTools", "matplotlib", "pooch", "tokenizers", "tqdm"},
    ),
    "models": (set(), {"flax", "jax"}),
    "ondevice": ({"analysis"}, {"jax"}),
    "problems": (
        {"analysis", "data", "models", "ondevice", "theory"},
        {"flax", "jax", "optax"},
    ),
    "curvature": ({"problems"}, {"jax", "matfree"}),
    "probes": ({"analysis", "curvature", "ondevice", "problems"}, {"jax"}),
    "storage": ({"analysis"}, {"filelock", "xarray"}),
    "training": (
        {"analysis", "probes", "problems", "storage"},
        {"jax", "optax", "xarray"},
    ),
    "reporting": (
        {"analysis", "storage", "training"},
        {"jax", "matplotlib", "submitit", "tqdm", "tyro", "xarray"}
        | {"PIL", "jinja2", "markupsafe", "vl_convert"},  # of the report
    ),
    # The libraries of others' training loops, each in a module of its own.
    "integrations": (
        {"analysis"},
        {"accelerate", "lightning", "pytorch_lightning", "torch", "transformers"},
    ),
    "commands": (
        {"analysis", "data", "reporting", "storage"},
        {"matplotlib", "pandas", "tyro", "xarray"},
    ),
}

# What users import into their own training is NumPy and xarray only, and says module by module
# what it needs; here own modules are not allowed unless they are named.
ANALYSIS: dict[str, Row] = {
    "": (
        {
            "buckets",
            "by_bucket",
            "counts",
            "differences",
            "frequency",
            "gradients",
            "losses",
            "streaming",
            "tokens",
        },
        set(),
    ),
    "printing": (set(), set()),
    "macro": (set(), set()),
    "names": (set(), set()),
    "power_law": (set(), set()),
    "checks": (set(), set()),
    "counts": ({"checks"}, set()),
    "buckets": ({"counts", "printing"}, set()),
    "frequency": ({"counts", "power_law"}, set()),
    "tokens": ({"checks"}, set()),
    "sums": (set(), set()),
    "left_out": ({"names", "printing", "sums"}, set()),
    "states": ({"sums"}, set()),
    "worst": ({"names", "printing", "sums"}, set()),
    # pandas and xarray inside functions: the package loads without them.
    "by_bucket": ({"buckets", "checks", "macro", "names", "printing", "sums"}, {"pandas"}),
    "dataset": ({"buckets", "sums"}, {"xarray"}),
    "streaming": (
        {
            "buckets",
            "by_bucket",
            "checks",
            "dataset",
            "left_out",
            "macro",
            "names",
            "states",
            "sums",
            "worst",
        },
        {"pandas", "xarray"},
    ),
    "losses": ({"buckets", "checks", "counts", "streaming"}, set()),
    "differences": ({"buckets", "by_bucket", "printing", "streaming", "sums"}, set()),
    "gradients": ({"buckets", "checks"}, set()),
    "selection": (set(), {"xarray"}),
    "comparison": ({"selection"}, {"xarray"}),
    "seeds": ({"comparison", "selection"}, {"xarray"}),
    "block_measures": (set(), {"xarray"}),
}

# Experiments are leaves, so one row serves them all.
EXPERIMENTS: Row = (set(LAYERS) - {"", "ondevice", "storage"}, {"jax", "optax"})


# Reading imports --------------------------------------------------------------------------------


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def place(path: Path) -> list[str]:
    """The package that a file is in, as parts."""
    return list(path.relative_to(ROOT).parts[:-1])


def imported(source: str, package: list[str]) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of every import; package is the dotted place of the file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(start + (node.module.split(".") if node.module else []))
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def room_of(name: str, within: str) -> str | None:
    """The first name below ``within`` of a dotted name, None outside; "" for ``within`` itself."""
    if name != within and not name.startswith(within + "."):
        return None
    first = name.removeprefix(within).strip(".").split(".")[0]
    folder = ROOT / within.replace(".", "/")
    return first if (folder / first).is_dir() or (folder / f"{first}.py").exists() else ""


def used(path: Path, within: str) -> Row:
    """The rooms below ``within`` and the libraries that a file imports."""
    rooms, libraries = set(), set()
    for _, name in imported(path.read_text("utf-8"), place(path)):
        room = room_of(name, within)
        if room is None:
            libraries |= {name.split(".")[0]} - EVERYWHERE
        else:
            rooms.add(room)
    return rooms, libraries


def violations(source: str, package: list[str], row: Row, own: str | None = None) -> list[str]:
    rooms, libraries = row
    wrong = []
    for line, name in imported(source, package):
        room = room_of(name, "imbalance")
        if room is None and name.split(".")[0] not in EVERYWHERE | libraries:
            wrong.append(f"line {line}: {name}")
        elif room is not None and room != own and (room == "" or room not in rooms):
            wrong.append(f"line {line}: {name}")
    return wrong


def room_of_file(path: Path) -> str:
    parts = path.relative_to(ROOT / "imbalance").with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


MODULES = python_files("imbalance")


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


# The table and the code -------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_file_imports_only_what_the_row_of_its_room_allows(path):
    room = room_of_file(path)
    assert room in LAYERS, (
        f"{room!r} has no row in LAYERS of {Path(__file__).name}: add one that says which rooms "
        "and libraries it may import"
    )
    wrong = violations(path.read_text("utf-8"), place(path), LAYERS[room], own=room)
    assert not wrong, f"{short(path)}: the row of {room!r} does not allow {wrong}"


@pytest.mark.parametrize("path", python_files("imbalance/analysis"), ids=lambda path: path.stem)
def test_analysis_says_module_by_module_what_it_imports(path):
    name = path.stem.replace("__init__", "")
    rooms, libraries = used(path, "imbalance.analysis")
    assert (rooms, libraries) == ANALYSIS[name], f"{short(path)} imports {rooms}, {libraries}"


@pytest.mark.parametrize("path", python_files("experiments"), ids=lambda path: path.stem)
def test_an_experiment_imports_the_package_and_no_other_experiment(path):
    wrong = violations(path.read_text("utf-8"), ["experiments"], EXPERIMENTS)
    assert not wrong, f"{short(path)}: EXPERIMENTS does not allow {wrong}"


@pytest.mark.parametrize("room", LAYERS)
def test_a_row_is_of_a_room_that_is_there_and_allows_what_is_used(room):
    files = [path for path in MODULES if room_of_file(path) == room]
    assert files, f"LAYERS has a row of {room!r}, which is not in imbalance/"
    found = [used(path, "imbalance") for path in files]
    rooms = set().union(*(rooms for rooms, _ in found)) - {room, ""}
    libraries = set().union(*(libraries for _, libraries in found))
    assert (rooms, libraries) == LAYERS[room], f"what the files of {room!r} import"


def test_a_row_of_analysis_is_of_a_module_that_is_there():
    names = {path.stem.replace("__init__", "") for path in python_files("imbalance/analysis")}
    assert set(ANALYSIS) == names


@pytest.mark.parametrize("layers", [LAYERS, ANALYSIS], ids=["rooms", "analysis"])
def test_the_arrows_point_one_way(layers):
    graph = {name: rooms for name, (rooms, _) in layers.items()}
    unknown = set().union(*graph.values()) - set(graph)
    assert not unknown, f"rooms that have no row: {unknown}"
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"there is a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("import numpy as np\nimport os.path", True),
        ("import imbalance.training.engine", True),
        ("from imbalance.training.engine import start", True),
        ("from imbalance import training", True),
        ("from imbalance.training import engine", True),
        ("from .data.zipf import counts", True),
        ("from . import data", True),
        ("from .models import linear", True),  # the room of the file itself
        ("import jax.numpy", True),
        ("def f():\n    from .reporting.plots import draw", False),
        ("from . import probes", False),
        ("from . import __version__", False),
        ("import imbalance", False),
        ("import imbalance.reporting as r", False),
        ("import flax", False),
        ("from jaxtyping import Array", False),
        ("import experiments.linear", False),
    ],
)
def test_the_reader_of_imports_sees_every_form(source, allowed):
    row = ({"training", "data"}, {"jax"})
    assert (violations(source, ["imbalance"], row, own="models") == []) == allowed


# Libraries --------------------------------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


COMES_WITH = {"markupsafe": "jinja2"}


def names_of(requirements: list[str]) -> set[str]:
    """Without versions and extras: ``jax[cuda12]>=0.10`` is jax."""
    names = {re.match(r"[\w.-]+", one)[0].lower().replace("-", "_") for one in requirements}
    return {IMPORTED_AS.get(name, name) for name in names}


LIGHT = {"", "analysis", "commands", "storage"}  # rooms that work without the laboratory


def declared(*extras: str) -> set[str]:
    """Libraries of the base and of some extras."""
    found = [PROJECT["optional-dependencies"][extra] for extra in extras]
    return names_of(sum(found, PROJECT["dependencies"]))


def test_every_library_that_is_imported_is_declared():
    every = declared(*PROJECT["optional-dependencies"])
    for path in MODULES:
        if room_of_file(path) == "integrations":  # for who has these libraries
            continue
        extras = ["analysis"] if room_of_file(path) in LIGHT else ["analysis", "lab"]
        tree = ast.parse(path.read_text("utf-8"))
        at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            for _, name in imported(ast.unparse(node), place(path)):
                library = name.split(".")[0]
                if library in EVERYWHERE | {"imbalance"}:
                    continue
                allowed = declared(*extras) if node in at_once else every
                assert COMES_WITH.get(library, library) in allowed, (
                    f"{short(path)}, line {node.lineno}: {library} is not among the dependencies "
                    f"and extras {extras} of pyproject.toml; only imports inside functions may be "
                    "of another extra"
                )


def test_importing_the_package_loads_no_jax_and_no_plotting():
    code = (
        "import sys, imbalance\n"
        "heavy = {'jax', 'jaxlib', 'flax', 'optax', 'matplotlib', 'xarray', 'pandas', 'scipy'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [], "import imbalance must stay light: import these lazily"


def test_every_public_name_is_there():
    assert all(hasattr(imbalance, name) for name in imbalance.__all__)
    assert set(imbalance.__all__) <= set(dir(imbalance))
    with pytest.raises(AttributeError, match="no attribute 'run_to_dataset'"):
        imbalance.run_to_dataset  # noqa: B018


def test_no_file_is_called_utils():
    folders = ("imbalance", "experiments", "benchmarks", "tests")
    found = [path for folder in folders for path in python_files(folder)]
    assert not [path for path in found if path.stem in {"util", "utils"}], "name what it does"
