"""The store of runs: made once, whole or not there, shared by whoever asks for them."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from imbalance.probes import loss_by_class
from imbalance.problems import weighted_quadratic
from imbalance.storage import files
from imbalance.storage.files import Damaged, Held
from imbalance.storage.store import Store
from imbalance.training import running
from imbalance.training.making import Maker
from imbalance.training.plan import plans, runs
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

RATES = {"gd": (0.5, 1.0), "sign": (0.01,)}


@pytest.fixture(scope="module")
def quadratic():
    return weighted_quadratic(5)


@pytest.fixture(scope="module")
def sweep(quadratic):
    return Sweep(quadratic, RATES, 4, seeds=(0, 1), stops=(0, 4))


@pytest.fixture(scope="module")
def finished(sweep, tmp_path_factory):
    """All runs of the sweep, and a folder where they are stored."""
    folder = tmp_path_factory.mktemp("finished")
    return run(sweep, folder), folder


@pytest.fixture
def folder(finished, tmp_path):
    """The same folder, for one test."""
    return shutil.copytree(finished[1], tmp_path / "results")


@pytest.fixture
def made(monkeypatch):
    """What is made: (optimizer, learning rate, seed) of each run, in order."""
    found, make = [], Maker.make

    def listed(self, group, checkpoint=None):
        found.extend((one.plan.name, one.learning_rate, one.seed) for one in group)
        return make(self, group, checkpoint)

    monkeypatch.setattr(Maker, "make", listed)
    return found


def test_a_run_that_is_stored_is_not_made_again(sweep, finished, made, folder):
    again = run(sweep, folder)
    assert made == []
    assert_same(again, finished[0])


def assert_same(one, other):
    """But for who made them and when."""
    xr.testing.assert_identical(one.drop_attrs(deep=False), other.drop_attrs(deep=False))


def test_what_is_stored_is_what_is_made_in_memory(sweep, finished, made):
    stored, in_memory = finished[0], run(sweep)
    assert len(made) == 6
    assert_same(stored, in_memory)
    assert json.loads(stored.attrs["settings"]) == sweep.settings()
    assert stored["train_loss"].dtype == np.float32 and stored["status"].dtype == np.int8
    (who,) = json.loads(stored.attrs["provenance"])
    assert who["runs"] == 6 and who["first"] <= who["last"]
    assert {"command", "device", "versions", "git_commit"} <= set(who)
    assert stored.attrs["wall_seconds"] > 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"learning_rates": RATES | {"gd": (0.5, 0.7, 1.0)}}, [("gd", 0.7, 0), ("gd", 0.7, 1)]),
        ({"learning_rates": {"gd": (1.0,)}}, []),
        ({"seeds": (2, 1)}, [("gd", 0.5, 2), ("gd", 1.0, 2), ("sign", 0.01, 2)]),
        (
            {"learning_rates": RATES | {"sign": (0.01,), "adam": (0.1,)}, "seeds": (0,)},
            [("adam", 0.1, 0)],
        ),
        ({"problem": weighted_quadratic(5)}, []),  # the same one, made anew
    ],
)
def test_only_what_is_missing_is_made(sweep, made, folder, changes, expected):
    found = run(replace(sweep, **changes), folder)
    assert made == expected
    assert found["loss"].sizes["optimizer"] == len(changes.get("learning_rates", RATES))


def test_another_sweep_has_runs_of_its_own(sweep, made, folder):
    longer = replace(sweep, learning_rates={"gd": (0.5,)}, steps=5, stops=(0, 4))
    run(longer, folder)
    assert made == [("gd", 0.5, 0), ("gd", 0.5, 1)]
    run(replace(longer, probes=(loss_by_class(sweep.problem.task, 5),)), folder)
    assert len(made) == 4


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [damage, cut, empty, os.unlink])
def test_a_damaged_run_is_made_again_and_only_it(sweep, finished, made, folder, spoil):
    path = Store(folder / "runs").path(runs(plans(sweep))[3].key)
    spoil(path)
    again = run(sweep, folder)
    assert made == [("gd", 1.0, 1)]
    assert_same(again, finished[0])
    assert files.is_whole(path)


# The files ----------------------------------------------------------------------------------------

KEY, OTHER = "ab" * 16, "cd" * 16
ARRAYS = {
    "loss": (("step",), np.float32([1, np.nan, np.inf])),
    "status": ((), np.asarray(1, np.int8)),
    "large": (("step", "class"), np.zeros((3, 2000), np.float32)),
}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    store.write(KEY, ARRAYS, {"wall_seconds": 0.5, "provenance": {"who": "me"}})
    return store


def test_a_run_lies_under_its_key(store):
    assert store.path(KEY) == store.folder / "ab" / f"{KEY}.nc"
    assert store.checkpoint(KEY) == store.folder / "ab" / f"{KEY}.checkpoint"
    assert store.has(KEY) and not store.has(OTHER)
    assert [path.name for path in store.path(KEY).parent.iterdir()] == [f"{KEY}.nc"]


def test_a_run_comes_back_to_the_bit(store):
    found = store.read(KEY)
    for name, (dims, values) in ARRAYS.items():
        assert found[name].dims == dims and found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)
    assert found.attrs["key"] == KEY and found.attrs["wall_seconds"] == 0.5
    assert json.loads(found.attrs["provenance"]) == {"who": "me"}


def test_a_run_under_another_name_is_not_taken_for_that_run(store):
    store.path(OTHER).parent.mkdir()
    shutil.copy(store.path(KEY), store.path(OTHER))
    assert store.has(OTHER)  # it is whole
    with pytest.raises(Damaged, match=f"is not the run {OTHER}"):
        store.read(OTHER)


def test_a_finished_run_has_no_checkpoint(store):
    files.write(store.checkpoint(KEY), b"on the way")
    store.write(KEY, ARRAYS, {})
    assert not store.checkpoint(KEY).exists() and store.has(KEY)


def test_a_failing_write_leaves_nothing_and_the_checkpoint(store, monkeypatch):
    files.write(store.checkpoint(OTHER), b"on the way")

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match=f"cannot write .*{OTHER}.nc: No space left on device"):
        store.write(OTHER, ARRAYS, {})
    assert not store.has(OTHER)
    assert [path.name for path in store.path(OTHER).parent.iterdir()] == [f"{OTHER}.checkpoint"]


# Opening ------------------------------------------------------------------------------------------


def test_what_killed_processes_left_is_removed_and_nothing_else(store):
    beside = store.path(KEY).parent
    left = [beside / ".x.nc.0011.part", store.folder / ".y.part", beside / f".{OTHER}.nc.lock"]
    for path in left:
        path.write_bytes(b"half")
    files.write(store.checkpoint(OTHER), b"kept: it is of use")
    mine = beside / "notes.txt"
    mine.write_text("mine")
    store.open(10)
    assert not any(path.exists() for path in left)
    assert store.has(KEY) and mine.exists() and store.checkpoint(OTHER).exists()


def test_what_is_being_written_or_made_is_left_alone(store, monkeypatch):
    """Another command begins just before the file gets its name."""
    replace = files.os.replace

    def meanwhile(source, target):
        if target == store.path(OTHER):
            store.open(10)
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", meanwhile)
    with store.making(OTHER):
        store.write(OTHER, ARRAYS, {})
        with pytest.raises(Held), Store(store.folder).making(OTHER):
            pass
    assert store.has(OTHER)


def test_there_is_room_or_it_says_so_beforehand(store, monkeypatch):
    free = shutil.disk_usage(store.folder).free
    store.open(free // 2)
    with pytest.raises(OSError, match="MiB left and the results need .* MiB") as error:
        store.open(2 * free)
    assert error.value.errno == errno.ENOSPC
    assert not list(store.folder.glob(".room*"))


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match="cannot write .*runs.*choose another folder"):
        Store(tmp_path / "runs").open(1)


# Locks --------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from imbalance.storage.store import Store
with Store(Path(sys.argv[1])).making(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(store):
    """Another process that makes a run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.folder), OTHER], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_run_that_another_process_makes_is_held_and_it_says_by_whom(store, holder):
    with (
        pytest.raises(Held, match=f"in use by process {holder.pid} on .*, since 2"),
        store.making(OTHER),
    ):
        pass
    with store.making(KEY):  # others are free
        pass
    holder.kill()
    holder.wait()
    with store.making(OTHER):  # a killed process loses its lock
        pass
    assert not list(store.folder.glob("**/*.lock"))


def test_runs_that_others_make_are_left_to_them_and_then_read(sweep, made, folder, tmp_path):
    """The second time it is asked, the other has finished."""
    chosen, store = runs(plans(sweep))[:3], Store(tmp_path / "runs")
    with store.making(chosen[0].key):
        held = running._make_all(store, chosen)
        assert [one.key for one in held] == [chosen[0].key]
        shutil.copy(Store(folder / "runs").path(held[0].key), store.path(held[0].key))
    assert made == [("gd", 1.0, 0), ("gd", 0.5, 1)]
    assert running._make_all(store, held) == []
    assert len(made) == 2


def test_waiting_for_runs_of_others_does_not_keep_the_processor_busy(sweep, folder, monkeypatch):
    asked, make_all = [], running._make_all

    def held_twice(store, waiting):
        asked.append(time.monotonic())
        return waiting if len(asked) < 3 else make_all(store, waiting)

    monkeypatch.setattr(running, "_make_all", held_twice)
    run(sweep, folder / "another")
    assert min(np.diff(asked)) > 0.05


def test_a_lock_is_gone_when_it_is_let_go(tmp_path):
    path = tmp_path / "x.nc"
    with (
        files.locked(path),
        pytest.raises(Held, match=f"process {os.getpid()}"),
        files.locked(path),
    ):
        pass
    with files.locked(path, wait=True):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_behind_a_finished_run_is_cleared(tmp_path, sweep):
    run(sweep, tmp_path)
    store = Store(tmp_path / "runs")
    one, *_ = store.folder.glob("??/*.nc")
    finished, unfinished = store.checkpoint(one.stem), store.checkpoint("ab" * 16)
    unfinished.parent.mkdir(exist_ok=True)
    lock = one.with_name(f".{one.name}.lock")
    for path in (finished, unfinished, lock):
        path.write_bytes(b"left")
    store.clear()
    assert not finished.exists() and not lock.exists()
    assert unfinished.exists()  # its run goes on from there
    assert store.has(one.stem)
