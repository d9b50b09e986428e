"""Someone who trains in PyTorch needs NumPy alone; what else is missing is told by its extra."""

import re
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)

HIDING = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def run_without(hidden, code):
    """Run code in a process in which libraries cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", HIDING.format(hidden=hidden) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


# Libraries that are imported under another name than they are installed by.
IMPORTED_AS = {"fonttools": "fontTools", "pillow": "PIL", "vl_convert_python": "vl_convert"}


def libraries_of(extra):
    """Modules of the libraries of an extra, by the name under which they are imported."""
    names = [re.split(r"[<>=\[]", one)[0] for one in PROJECT["optional-dependencies"][extra]]
    names = [name.replace("-", "_") for name in names if name != "imbalance"]
    return {IMPORTED_AS.get(name, name) for name in names}


def test_the_base_is_numpy_alone():
    assert [re.split(r"[<>=]", one)[0] for one in PROJECT["dependencies"]] == ["numpy"]


@pytest.mark.parametrize("name", ["run", "problems", "Sweep", "OPTIMIZERS"])
def test_without_jax_the_laboratory_names_its_extra(name):
    found = run_without(libraries_of("lab"), f"import imbalance; imbalance.{name}")
    assert found.returncode == 1
    assert f"imbalance.{name} needs " in found.stderr
    assert "pip install 'imbalance[lab]'" in found.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["load", "join", "at_best", "compare", "load_record", "Record"])
def test_without_xarray_what_reads_runs_names_its_extra(name):
    hidden = libraries_of("lab") | libraries_of("analysis")
    found = run_without(hidden, f"import imbalance; imbalance.{name}")
    assert found.returncode == 1
    assert "pip install 'imbalance[analysis]'" in found.stderr.splitlines()[-1]


def test_records_are_written_compared_and_drawn_without_jax(tmp_path):
    found = run_without(
        libraries_of("lab") - {"fontTools"},  # which matplotlib needs
        f"""
        import matplotlib
        matplotlib.use("Agg")
        from imbalance import LossByClass, Record, load_record
        from imbalance.reporting import plots
        path = {str(tmp_path / "one.record")!r}
        with Record(path, num_classes=4, optimizer="adam") as record:
            for step in range(3):
                losses = LossByClass(4)
                losses.update([1.0, 2.0, 3.0], [0, 1, 2])
                record.append(step, losses)
        plots.training(load_record(path)).savefig({str(tmp_path / "one.png")!r})
        """,
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "one.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_wheel_and_numpy_run_the_first_example_of_the_readme(tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"the wheel cannot be built here: {made.stderr[-300:]}")
    (wheel,) = tmp_path.glob("imbalance-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for library in Path(np.__file__).parents[1].glob("numpy*"):
        (site / library.name).symlink_to(library)
    example = next(
        block for block in BLOCK.findall((ROOT / "README.md").read_text()) if "LossByClass" in block
    )
    # -I and -S: no environment, no folder of this checkout, no library but those in `site`.
    found = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.append({str(site)!r})\n{example}",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stderr
    size = sum(p.stat().st_size for p in site.glob("imbalance/**/*") if p.is_file())
    assert size < 2 * 2**20
