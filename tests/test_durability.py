"""What is stored survives kills, damage, full disks, rival processes and power cuts.

The attacks are those of benchmarks/attacks/; here they are few, with `slow` more of them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resource")  # not on Windows
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import durability  # noqa: E402
from attacks import attempts, damage, disks, kills, rivals  # noqa: E402


def few(small, large):
    """So many attacks by default, and more among the slow tests."""
    return pytest.mark.parametrize("count", [small, pytest.param(large, marks=pytest.mark.slow)])


def held(tally, count=None):
    assert tally.held, tally
    assert count in (None, tally.attempts)


@pytest.fixture
def random():
    return np.random.default_rng(7)


def test_the_writer_syncs_then_renames_then_syncs_the_folder():
    tally = disks.order_of_writing()
    held(tally)
    assert tally.attempts >= 6  # four runs, a trial of room, a record


@few(2, 20)
def test_killed_runs_are_gone_on_with(random, count):
    held(kills.kill_short_runs(count, random), count)


@pytest.mark.slow
def test_a_killed_command_goes_on_and_leaves_nothing(random):
    held(kills.kill_commands(10, random), 10)


@pytest.mark.slow
def test_a_long_run_that_is_killed_goes_on_from_its_checkpoints(random):
    held(kills.kill_a_long_run(8, random), 8)


@few(4, 60)
def test_flipped_bits_are_noticed_and_only_their_runs_made_again(random, count):
    held(damage.damage_files(count, random, "flipped", damage.flip), count)


@pytest.mark.slow
@pytest.mark.parametrize("how", [damage.zero, damage.cut], ids=["zeroed", "cut"])
def test_other_damage_is_noticed_and_only_its_runs_made_again(random, how):
    held(damage.damage_files(30, random, "damaged", how), 30)


@few(1, 12)
def test_a_full_disk_is_an_error_that_names_the_file(random, count):
    held(disks.full_disks(count, random), count)


@few(2, 40)
def test_two_writers_of_a_record_take_turns(random, count):
    held(rivals.record_pairs(count, random), count)


@pytest.mark.slow
def test_several_workers_make_every_run_once():
    held(rivals.several_workers(6, "workers"), 6)


@pytest.mark.slow
def test_equal_process_ids_are_no_danger():
    held(rivals.several_workers(6, "equal ids", as_process_1=True), 6)


def can_mount():
    if os.name != "posix" or os.geteuid() or not shutil.which("mkfs.ext4"):
        return False
    return subprocess.run(["losetup", "--find"], capture_output=True).returncode == 0


@few(4, 20)
@pytest.mark.skipif(not can_mount(), reason="mounting an image needs root and a loop device")
def test_a_power_cut_loses_nothing_that_was_committed(count):
    tally = disks.power_cuts(count)
    if tally.note.startswith("stopped: mount"):
        pytest.skip(tally.note)
    held(tally, count)
    assert "control: 0 of" not in tally.note  # a file that is not synced is lost in such a cut


# The attacks themselves ---------------------------------------------------------------------------


def test_a_tally_tells_what_went_wrong(tmp_path):
    tally = attempts.Tally("one")
    assert tally.held
    tally.expect(True, "no")
    tally.expect(False, "numbers differ")
    (tmp_path / ".x.nc.0123.part").touch()
    (tmp_path / "x.checkpoint").touch()
    (tmp_path / "x.nc").touch()
    tally.count_left(tmp_path)
    assert (tally.wrong, tally.left, len(tally.seen)) == (1, 2, 3) and not tally.held
    assert "| one | 0 | 1 | 0 | 0 | 2 |  |" in durability.to_table([tally])


def crash(telling):
    os.abort()


def hang(telling):
    import time

    time.sleep(60)


@pytest.mark.parametrize(
    ("child", "what", "patience"), [(crash, "crashed", 300.0), (hang, "hung", 1.0)]
)
def test_a_child_that_crashes_or_hangs_is_counted(monkeypatch, child, what, patience):
    monkeypatch.setattr(attempts, "PATIENCE", patience)
    tally = attempts.Tally("one")
    assert attempts.answer(tally, child) is None
    assert getattr(tally, what) == 1, tally
