"""What the README says is run."""

import re
from pathlib import Path

import numpy as np
import pytest
from test_layers import LAYERS

from imbalance.problems import heavy_tailed_linear
from imbalance.storage import datasets
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def stored_result(tmp_path, monkeypatch):
    """A small result under the name and scale that the README loads."""
    monkeypatch.chdir(tmp_path)
    rates = {"gd+m": (1e-2, 1e-1), "adam": (1e-2, 1e-1)}
    found = run(Sweep(heavy_tailed_linear(3), rates, steps=100, stops=(0, 100)))
    place = datasets.dataset_path("fig4_linear", "laptop")
    assert str(place) in README  # where the file is said to be
    datasets.save(found, place, {})


@pytest.mark.parametrize("block", BLOCKS, ids=[block.split("\n")[0] for block in BLOCKS])
def test_python_examples_run(block, stored_result, capsys):
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    numbers = [float(number) for number in re.findall(r"\d+\.\d*", printed)]
    assert numbers and np.all(np.isfinite(numbers))


def test_the_analyzer_example_prints_what_it_says(capsys):
    (block,) = (block for block in BLOCKS if "LossByClass" in block)
    assert len([line for line in block.splitlines() if line]) <= 5
    exec(compile(block, "README.md", "exec"), {})
    said = re.search(r"(\[[\d. ]+\])\n*$", block).group(1)
    assert capsys.readouterr().out.strip() == said


def test_the_figure_table_names_every_experiment():
    scripts = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    named = set(re.findall(r"experiments/(\w+)\.py\)", README))
    assert named == scripts


def test_the_make_targets_exist():
    targets = re.findall(r"make ([a-z-]+)", "\n".join(re.findall(r"`(make .*?)`", README)))
    targets += re.findall(r"^make ([\w-]+)", README, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert {"reproduce", "reproduce-all", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_layout_names_every_room_and_each_after_those_it_imports():
    (layout,) = re.findall(r"## Layout\n\n```\n(.*?)```", README, re.DOTALL)
    named = ["", *re.findall(r"^  (\w+)(?:/|\.py)", layout, re.MULTILINE)[1:]]
    assert set(named) == set(LAYERS)
    for room, (imports, _) in LAYERS.items():
        late = {other for other in imports if named.index(other) > named.index(room)}
        assert room == "" or not late, f"{room} stands before {late}"
