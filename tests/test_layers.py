"""The import layers: a file imports only what its row of LAYERS allows; arrows point one way.

Names on the left are modules of `imbalance` ("" is the package itself). A row gives the modules of
`imbalance` that the file may import (a package stands for all its modules) and the libraries beyond
the standard library and NumPy, which everyone may use. Imports inside functions and under
TYPE_CHECKING count like any other.
"""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EVERYWHERE = {"numpy"} | set(sys.stdlib_module_names)

# module: ({modules of imbalance}, {libraries})
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    "": ({"analysis"}, set()),
    # NumPy and xarray only: what users import into their own training.
    "analysis": ({"analysis"}, set()),
    "analysis.counts": (set(), set()),
    "analysis.buckets": ({"analysis.counts"}, set()),
    "analysis.checks": (set(), set()),
    "analysis.frequency": ({"analysis.buckets", "analysis.counts"}, set()),
    "analysis.block_measures": (set(), {"xarray"}),
    "analysis.tokens": ({"analysis.checks"}, set()),
    "analysis.losses": ({"analysis.buckets", "analysis.checks", "analysis.counts"}, set()),
    "analysis.sums": (set(), set()),
    "analysis.streaming": (
        {"analysis.buckets", "analysis.checks", "analysis.dataset", "analysis.sums"},
        {"xarray"},  # inside to_dataset: the package loads without it
    ),
    "analysis.dataset": ({"analysis.buckets", "analysis.sums"}, {"xarray"}),
    "analysis.labelled": (set(), {"xarray"}),
    # Data as NumPy arrays.
    "data": ({"data"}, set()),
    "data.zipf": (set(), set()),
    "data.linear": ({"data.zipf"}, set()),
    "data.images": ({"data.zipf"}, set()),
    "data.digits": ({"data.images", "data.zipf"}, set()),
    "data.tokens": (set(), set()),
    "data.text": (set(), set()),
    "data.vocabulary": (set(), set()),
    "data.tokenizing": ({"data.text", "data.vocabulary"}, {"tokenizers"}),
    "data.corpus": ({"data.text", "data.tokenizing"}, set()),
    "data.windows": ({"analysis.counts"}, set()),
    "data.folders": (set(), set()),
    "data.files": ({"data.images"}, {"pooch"}),
    # Models know flax; tasks take any model, so they do not import one.
    "models": ({"models"}, {"flax", "jax"}),
    "models.linear": (set(), {"flax", "jax"}),
    "models.convolution": (set(), {"jax"}),
    "models.cnn": ({"models.convolution"}, {"flax", "jax"}),
    "models.resnet": (set(), {"flax", "jax"}),
    "models.layers": (set(), {"flax", "jax"}),
    "models.attention": ({"models.layers"}, {"flax", "jax"}),
    "models.transformer": ({"models.attention", "models.layers"}, {"flax", "jax"}),
    "models.last_layer": ({"models.attention", "models.layers"}, {"flax", "jax"}),
    "models.vit": ({"models.transformer"}, {"flax", "jax"}),
    # On the device.
    "exact_sums": (set(), {"jax"}),
    "ondevice": ({"analysis", "exact_sums"}, {"jax"}),
    "cross_entropy": (set(), {"jax"}),
    "optimizers": (set(), {"jax", "optax"}),
    "theory": ({"theory"}, {"scipy"}),
    "theory.zipf": (set(), set()),
    "theory.quadratic": (set(), set()),
    "theory.flows": (set(), {"scipy"}),
    "theory.associative": (set(), set()),
    "theory.unigram": ({"theory.zipf"}, set()),
    "theory.bigram": (set(), {"scipy"}),
    "tasks": ({"cross_entropy"}, {"jax", "optax", "flax"}),
    "engine": ({"tasks"}, {"jax", "optax"}),
    "class_blocks": ({"tasks"}, {"jax"}),
    "curvature": ({"tasks"}, {"jax", "matfree"}),
    "probes": ({"analysis", "class_blocks", "ondevice", "curvature", "tasks"}, {"jax"}),
    # From names to results.
    "problems": ({"data", "models", "tasks", "analysis", "theory"}, {"jax"}),
    "language": ({"analysis", "data", "models", "problems", "tasks"}, {"flax", "jax"}),
    "vision": ({"analysis", "data", "models", "problems", "tasks"}, {"flax", "jax"}),
    "results": ({"analysis"}, {"xarray", "h5netcdf"}),
    "sweep": ({"engine", "optimizers", "probes", "problems", "tasks"}, {"jax"}),
    "memory": ({"engine", "sweep"}, {"jax"}),
    "running": (
        {"analysis", "engine", "memory", "probes", "results", "sweep", "tasks"},
        {"jax", "xarray"},
    ),
    "record": ({"analysis", "results"}, {"xarray"}),
    "claims": ({"analysis"}, {"pandas", "xarray"}),
    "plots": ({"analysis"}, {"matplotlib", "xarray"}),
    "experiment": (
        {"sweep", "memory", "running", "plots", "claims", "results"},
        {"matplotlib", "tqdm", "tyro", "xarray"},
    ),
    "reproduce": ({"claims", "experiment"}, {"tyro"}),
}

# Experiments are leaves, so one row serves them all: everything but what runs them.
EXPERIMENTS: tuple[set[str], set[str]] = (
    set(LAYERS) - {"engine", "reproduce"},
    {"jax", "matplotlib", "optax", "xarray"},
)


def module_name(path: Path) -> str:
    """Dotted name inside the package: "" for its __init__.py, "data.zipf" for data/zipf.py."""
    parts = path.relative_to(ROOT / "imbalance").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


MODULES = {module_name(path): path for path in python_files("imbalance")}


def imported(source: str, package: list[str], modules: set[str]) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of every import; package is the dotted place of the file.

    `from package import name` counts as `package.name` where that is a module, and as `package`
    where it is not.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(start + (node.module.split(".") if node.module else []))
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_module = full.removeprefix("imbalance.") in modules
                found.append((node.lineno, full if is_module else base))
    return found


def may_import(target: str, allowed: set[str]) -> bool:
    """Whether a module of imbalance is in allowed, or inside a package that is."""
    if target in allowed:
        return True
    parts = target.split(".")
    return any(".".join(parts[:end]) in allowed for end in range(1, len(parts)))


def violations(
    source: str, package: list[str], row: tuple[set[str], set[str]], modules: set[str]
) -> list[str]:
    internal, libraries = row
    wrong = []
    for line, name in imported(source, package, modules):
        top, _, rest = name.partition(".")
        if top == "imbalance":
            if not may_import(rest, internal):
                wrong.append(f"line {line}: {name}")
        elif top not in EVERYWHERE | libraries:
            wrong.append(f"line {line}: {name}")
    return wrong


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_its_row_allows(name):
    path = MODULES[name]
    assert name in LAYERS, (
        f"{path.relative_to(ROOT)} has no row in LAYERS of {Path(__file__).name}: "
        "add one that says which modules and libraries it may import"
    )
    parts = ["imbalance", *name.split(".")] if name else ["imbalance"]
    package = parts if path.name == "__init__.py" else parts[:-1]
    wrong = violations(path.read_text("utf-8"), package, LAYERS[name], set(MODULES))
    assert not wrong, f"{path.relative_to(ROOT)}: its row in LAYERS does not allow {wrong}"


@pytest.mark.parametrize("path", python_files("experiments"), ids=lambda path: path.stem)
def test_an_experiment_imports_the_package_and_no_other_experiment(path):
    wrong = violations(path.read_text("utf-8"), ["experiments"], EXPERIMENTS, set(MODULES))
    assert not wrong, f"{path.relative_to(ROOT)}: EXPERIMENTS does not allow {wrong}"


def test_the_arrows_point_one_way():
    unknown = {
        target for internal, _ in LAYERS.values() for target in internal if target not in LAYERS
    }
    assert not unknown, f"LAYERS allows modules that have no row: {unknown}"
    graph = {}
    for name, (internal, _) in LAYERS.items():
        # A package that allows itself means its own modules.
        graph[name] = {other for other in LAYERS if other != name and may_import(other, internal)}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"LAYERS has a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("import numpy as np\nimport os.path", True),
        ("import imbalance.engine", True),
        ("from imbalance.engine import start", True),
        ("from imbalance import engine", True),
        ("from . import engine", True),
        ("from .engine import start", True),
        ("from .data.zipf import counts", True),
        ("import jax.numpy", True),
        ("def f():\n    from .plots import draw", False),
        ("from . import plots", False),
        ("from . import __version__", False),
        ("import imbalance", False),
        ("import flax", False),
        ("from jaxtyping import Array", False),
        ("import experiments.linear", False),
    ],
)
def test_the_reader_of_imports_sees_every_form(source, allowed):
    row = ({"engine", "data"}, {"jax"})
    modules = {"", "engine", "data", "data.zipf", "plots"}
    assert (violations(source, ["imbalance"], row, modules) == []) == allowed


def test_importing_the_package_loads_no_jax_and_no_plotting():
    code = (
        "import sys, imbalance\n"
        "heavy = {'jax', 'jaxlib', 'flax', 'optax', 'matplotlib', 'xarray', 'pandas'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [], "import imbalance must stay light: import these lazily"


def test_no_file_is_called_utils():
    folders = ("imbalance", "experiments", "benchmarks", "tests")
    found = [path for folder in folders for path in python_files(folder)]
    assert not [path for path in found if path.stem in {"util", "utils"}], "name what it does"
