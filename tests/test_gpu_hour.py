"""benchmarks/gpu.py: steps are taken in order, stopped when their time is over, and gone on."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import gpu  # noqa: E402

COUNTS = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text() + 'x')"
STOPS = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); time.sleep(60)"


@pytest.fixture
def counter(tmp_path):
    place = tmp_path / "calls"
    place.write_text("")
    return place


def steps(counter):
    return {
        "first": gpu.Step(("-c", COUNTS + "; print('fine'); print('very fine')", str(counter)), 1),
        "second": gpu.Step(("-c", "raise SystemExit(3)"), 1),
        "figure 4": gpu.Step(("-c", STOPS), 0.5 / 60),
    }


def test_what_is_done_is_not_done_again_and_the_rest_goes_on(counter, tmp_path):
    settings = gpu.Settings(minutes=1, results=tmp_path)
    once = gpu.go_on(settings, steps(counter), tmp_path)
    assert [one.outcome for one in once.values()] == ["done", "failed with status 3", "stopped"]
    assert once["first"].said == "very fine"
    again = gpu.go_on(settings, steps(counter), tmp_path)
    assert counter.read_text() == "x"
    assert again["figure 4"].seconds > once["figure 4"].seconds
    assert (tmp_path / "figure-4.log").exists()


def test_nothing_begins_when_the_time_is_over(counter, tmp_path):
    found = gpu.go_on(gpu.Settings(minutes=0, results=tmp_path), steps(counter), tmp_path)
    assert found == {} and counter.read_text() == ""
    assert "| first | not begun |" in gpu.outcomes(found, ["first"], "a GPU")


def test_a_damaged_record_of_what_is_done_is_as_none(counter, tmp_path):
    (tmp_path / "outcomes.json").write_text("{")
    chosen = {"first": steps(counter)["first"]}
    assert gpu.go_on(gpu.Settings(results=tmp_path), chosen, tmp_path)["first"].outcome == "done"


def test_every_step_is_a_script_of_this_checkout():
    for step in gpu.STEPS.values():
        scripts = [part for part in step.command if part.endswith(".py")]
        assert all((gpu.ROOT / script).exists() for script in scripts)
    with pytest.raises(ValueError, match="--only figure 5; known are tests, linear"):
        gpu.Settings(only=("figure 5",))
