"""Parts of experiments: some rates, some seeds, another precision."""

import subprocess
import sys
from pathlib import Path

import pytest

from imbalance.problems import weighted_quadratic
from imbalance.reporting.experiment import Experiment, Options
from imbalance.reporting.part import Part
from imbalance.reporting.plots import panels
from imbalance.reporting.reproduce import ReproduceOptions, carry_out
from imbalance.storage.datasets import load
from imbalance.training.sweep import Confirm, Sweep, half_decades

GRID = {"gd": half_decades(-2, 0), "adam": half_decades(-4, -3)}


@pytest.fixture
def whole():
    return Sweep(weighted_quadratic(5), GRID, 10, confirm=Confirm(seeds=(1, 2)))


def test_rates_are_those_of_the_grid_where_they_are_near_and_nothing_follows(whole):
    cut = Part(rates=("adam=3.16e-4,7e-4", "gd=0.1")).cut(whole)
    assert cut.learning_rates == {"gd": (10**-1.0,), "adam": (10**-3.5, 7e-4)}
    assert cut.confirm is None
    assert cut.seeds == whole.seeds


def test_seeds_keep_the_grid_and_nothing_follows(whole):
    cut = Part(seeds=(2, 5)).cut(whole)
    assert (cut.seeds, cut.learning_rates, cut.confirm) == ((2, 5), GRID, None)


def test_a_whole_experiment_is_left_as_it_is(whole):
    assert Part("laptop").cut(whole) == whole


@pytest.mark.parametrize(
    ("part", "label"),
    [
        (Part("paper"), "paper"),
        (Part("paper", only=("gd",)), "paper"),
        (Part("paper", seeds=(0,)), "paper-part"),
        (Part("laptop", precision="bfloat16"), "laptop-bfloat16"),
        (Part("paper", rates=("gd=1",), precision="tensorfloat32"), "paper-part-tensorfloat32"),
    ],
)
def test_a_part_has_a_name_of_its_own(part, label):
    assert part.label == label


@pytest.mark.parametrize(
    "text", ["gd", "gd=", "=1", "gd=fast", "gd=0", "gd=nan", "gd=1,,2", "gd=-1"]
)
def test_a_strange_rate_is_refused(text):
    with pytest.raises(ValueError, match="give OPTIMIZER=RATE"):
        Part(rates=(text,))


def test_an_unknown_optimizer_is_refused(whole):
    with pytest.raises(ValueError, match="no such optimizer; known are gd, adam"):
        Part(rates=("gdd=1",)).cut(whole)


def test_rates_of_all_experiments_at_once_are_refused():
    with pytest.raises(ValueError, match="run its script instead"):
        ReproduceOptions(rates=("gd=1",))


def draw(dataset):
    figure, axes = panels(1, 1)
    axes[0, 0].plot(dataset["step"], dataset["loss"].isel(learning_rate=0, seed=0).T)
    return figure


def carried_out(whole, **part):
    experiment = Experiment("tiny", lambda scale: {"": whole}, draw, lambda dataset: [])
    options = Options("smoke", **part)
    assert carry_out({Path("tiny.py"): experiment}, options) == 0
    return options


def test_a_part_is_drawn_beside_its_results_and_the_whole_makes_its_runs_not_again(whole, tmp_path):
    def stored():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "r/runs").glob("*/*.nc")}

    folders = {"results": tmp_path / "r", "figures": tmp_path / "f"}
    part = carried_out(whole, rates=("gd=0.0316,1",), **folders)
    assert part.figure_path("tiny") == tmp_path / "r/tiny/smoke-part/tiny.png"
    assert part.figure_path("tiny").exists()
    made = load("tiny", "smoke-part", tmp_path / "r")
    assert made["optimizer"].values.tolist() == ["gd"]
    assert made["learning_rate"].values.tolist() == [10**-1.5, 1.0]
    assert made.attrs["scale"] == "smoke"

    first = stored()
    assert len(first) == 2
    carried_out(whole, **folders)
    assert {path: stored()[path] for path in first} == first
    assert set(load("tiny", "smoke", tmp_path / "r")["seed"].values.tolist()) == {0, 1, 2}
    assert load("tiny", "smoke-part", tmp_path / "r").identical(made)


def test_another_precision_is_said_on_the_dataset(whole, tmp_path):
    carried_out(whole, precision="bfloat16", seeds=(0,), results=tmp_path, figures=tmp_path)
    assert load("tiny", "smoke-part-bfloat16", tmp_path).attrs["precision"] == "bfloat16"


@pytest.mark.slow
def test_workers_make_the_same_part(tmp_path):
    script = Path(__file__).parents[1] / "experiments" / "fig4_linear.py"
    options = ["--scale", "smoke", "--rates", "gd+m=0.1", "adam=1e-3,1e-2", "--seeds", "3", "4"]
    where = ["--results", str(tmp_path), "--figures", str(tmp_path), "--jobs", "2"]
    subprocess.run([sys.executable, str(script), *options, *where], check=True)
    made = load("fig4_linear", "smoke-part", tmp_path)
    assert made["seed"].values.tolist() == [3, 4]
    assert int((made["status"] == 1).sum()) == 6
