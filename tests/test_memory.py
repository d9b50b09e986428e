"""Memory: what programs are planned to need, and what this machine is known to have."""

from dataclasses import replace

import pytest

from imbalance.problems import heavy_tailed_linear
from imbalance.training import memory
from imbalance.training.plan import plans
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

GIB = 2**30


def advance_of(problem, name, number=1):
    (plan,) = plans(Sweep(problem, {name: (0.1,)}, 10))
    return memory.needed(plan.programs(number).advance.compiled())


def test_twenty_one_runs_of_size_eight_need_less_than_four_gib():
    needed = advance_of(heavy_tailed_linear(8), "gd+m", 21)
    states = 2 * 21 * 255 * 2305 * 4  # parameters and momentum
    assert states < needed < 4 * GIB


def test_a_run_alone_needs_less_than_several(problem):
    assert advance_of(problem, "gd") < advance_of(problem, "gd", 3)


def test_the_papers_size_is_planned_without_making_its_data():
    def no_data(seed):
        pytest.fail("planning made the data")

    needed = advance_of(replace(heavy_tailed_linear(11), make_batch=no_data), "gd")
    inputs, weights = 22528 * 24576 * 4, 2047 * 24577 * 4
    assert inputs + weights < needed < 10 * (inputs + weights)


def test_what_does_not_fit_is_refused_before_it_begins(problem, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda workers: 1000)
    with pytest.raises(MemoryError, match=r"1 run\(s\) of 'gd' needs .* GiB; .* has") as error:
        run(Sweep(problem, {"gd": (0.1,)}, 12))
    assert "heavy_tailed_linear" in str(error.value) and "'m': 3" in str(error.value)
    assert "--jobs" not in str(error.value)


def test_workers_share_the_memory(monkeypatch):
    assert memory.device_memory(4) == memory.device_memory() // 4
    half = memory.device_memory() // 2
    memory.check("this", half)  # alone it fits
    with pytest.raises(MemoryError, match="for each of 2 workers.*fewer --jobs"):
        memory.check("this", half, workers=2)


def test_the_margin_is_kept(monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda workers: 1000 // workers)
    memory.check("this", 900)
    with pytest.raises(MemoryError, match="this needs"):
        memory.check("this", 901)


# Containers ---------------------------------------------------------------------------------------


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups of a machine of one's own: what /proc says, and limits by folder."""

    def told(text, limits):
        (tmp_path / "proc").write_text(text)
        monkeypatch.setattr(memory, "Path", lambda place: tmp_path / "proc")
        monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
        for place, limit in limits.items():
            path = tmp_path / "cgroup" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{limit}\n")

    return told


TWO = "0::/user.slice/job.scope\n"
ONE = "5:cpu,cpuacct:/job\n4:memory:/docker/abc\n0::/job\n"


@pytest.mark.parametrize(
    ("text", "limits", "expected"),
    [
        (TWO, {"user.slice/job.scope/memory.max": 3 * 2**20}, 3 * 2**20),
        (TWO, {"user.slice/memory.max": 5 * 2**20}, 5 * 2**20),  # that of the one around it
        (
            TWO,
            {"user.slice/job.scope/memory.max": 7 * 2**20, "memory.max": 2 * 2**20},
            2 * 2**20,  # the least of all
        ),
        (ONE, {"memory/docker/abc/memory.limit_in_bytes": 4 * 2**20}, 4 * 2**20),
        (ONE, {"memory/memory.limit_in_bytes": 6 * 2**20}, 6 * 2**20),  # mounted in a container
        (ONE, {"cpu,cpuacct/job/memory.max": 2**20, "memory/memory.limit_in_bytes": 2**21}, 2**21),
    ],
)
def test_the_limit_of_a_control_group_counts(groups, text, limits, expected):
    groups(text, limits)
    assert memory.device_memory() == expected
    assert memory.device_memory(2) == expected // 2


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (TWO, {}),
        (TWO, {"user.slice/job.scope/memory.max": "max"}),
        (ONE, {"memory/docker/abc/memory.limit_in_bytes": 2**63 - 4096}),
        ("", {}),
        (TWO, {"user.slice/memory.max": "garbage"}),
    ],
)
def test_without_a_limit_it_is_the_machine(groups, monkeypatch, text, limits):
    groups("", {})
    machine = memory.device_memory()
    groups(text, limits)
    assert memory.device_memory() == machine > GIB / 4


def test_without_control_groups_it_is_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "Path", lambda place: tmp_path / "nowhere")
    assert memory._cgroup_limits() == [2**63]
