"""A record on disk: whole steps or none, and it goes on where it stopped."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from imbalance import FrequencyBuckets, LossByClass
from imbalance.storage import files
from imbalance.storage import record_format as form
from imbalance.storage.record_dataset import load_record
from imbalance.storage.records import Record, read_record, salvage

C = 5
STEPS = (0, 3, 10)
LABELS = {"num_classes": C, "optimizer": "gd+m", "learning_rate": 0.1, "seed": 2}
BUCKETS = FrequencyBuckets.from_counts([16, 8, 4, 2, 2], 3)

pytestmark = pytest.mark.filterwarnings("ignore:.*They are in no mean")


def losses_at(step):
    """Weighted losses of some classes; some are masked, out of range or diverged."""
    rng = np.random.default_rng(step)
    losses = LossByClass(C)
    label = [0, 0, 0, 0, 1, 1, 2, 2, 4, 4, -1, 0]  # class 3 does not occur
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*They are in no mean")
        losses.update(rng.exponential(3, 12), label, [1, 1 / 3, 0] * 4)
        if step == 3:
            losses.update([np.inf, 1.0], [1, 1])
    return losses


def written(path, steps=STEPS, **labels):
    with Record(path, **LABELS | labels) as found:
        for step in steps:
            found.append(step, losses_at(step))
    return path.read_bytes()


def assert_same(found, step):
    expected = losses_at(step)
    for name in ("count", "diverged", "moments"):
        value = getattr(found, name)
        np.testing.assert_array_equal(value, getattr(expected, name))  # every bit
        assert value.dtype == getattr(expected, name).dtype
    assert (found.ignored, found.out_of_range) == (expected.ignored, expected.out_of_range)


@contextlib.contextmanager
def memory_below(most):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "gd.record"


def whole_record(tmp_path_factory):
    """The bytes of a record of all steps, and where each step ends."""
    path = tmp_path_factory.mktemp("whole") / "record"
    ends = [len(written(path, STEPS[number - 1 : number])) for number in range(len(STEPS) + 1)]
    return path.read_bytes(), ends


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_record(tmp_path_factory)


# Writing and reading ------------------------------------------------------------------------------


def test_what_is_read_is_what_was_appended(path):
    written(path)
    header, steps = read_record(path)
    assert header == {"format": form.FORMAT, **LABELS}
    assert tuple(steps) == STEPS
    for step, losses in steps.items():
        assert_same(losses, step)
    assert steps[3].out_of_range and steps[3].ignored and steps[3].diverged[1]  # all was there


def test_a_step_of_which_nothing_was_seen_is_a_step(path):
    with Record(path, C) as found:
        found.append(0, LossByClass(C))
        found.append(1, losses_at(1))
    dataset = load_record(path, BUCKETS)
    assert dataset["loss"].isnull().values.ravel().tolist() == [True, False]
    assert np.isnan(dataset["learning_rate"]) and dataset["optimizer"] == "mine"


def test_every_step_is_on_the_disk_at_once(path):
    with Record(path, **LABELS) as found:
        for number, step in enumerate(STEPS):
            assert len(read_record(path)[1]) == number
            found.append(step, losses_at(step))
        assert tuple(read_record(path)[1]) == STEPS


@pytest.mark.parametrize(
    ("step", "losses", "error", "message"),
    [
        (10, losses_at(0), ValueError, "step is 10; steps increase: give 11 or more"),
        (-1, losses_at(0), ValueError, "step is -1"),
        (11.0, losses_at(0), TypeError, "step is 11.0; give an integer"),
        (11, LossByClass(4), ValueError, r"losses are of 4 classes; .*gd.record was opened for 5"),
        (11, np.zeros(C), TypeError, "losses are numpy.ndarray; give an imbalance.LossByClass"),
        (11, losses_at(0).by_bucket(BUCKETS), TypeError, "losses are imbalance.*LossByBucket"),
        (2**63, losses_at(0), OverflowError, "too large"),
    ],
)
def test_wrong_appends_write_nothing(path, step, losses, error, message):
    written(path)
    before = path.read_bytes()
    with Record(path, **LABELS) as found:
        with pytest.raises(error, match=message):
            found.append(step, losses)
        assert path.read_bytes() == before
        found.append(np.int64(11), losses_at(11))  # and the next one can be
    assert_same(read_record(path)[1][11], 11)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ({"num_classes": 0}, ValueError, "num_classes is 0; give 1 to 2.24 = 16777216"),
        ({"num_classes": 2**24 + 1}, ValueError, "num_classes is 16777217; give 1 to"),
        ({"num_classes": 5.0}, TypeError, "num_classes is 5.0; give an integer"),
        ({"optimizer": 0.1}, TypeError, "optimizer is 0.1; give its name"),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate is '0.1'; give a number, or NaN"),
        ({"seed": None}, TypeError, "seed is None; give an integer"),
    ],
)
def test_wrong_labels_are_refused(path, labels, error, message):
    with pytest.raises(error, match=message):
        Record(path, **LABELS | labels)
    assert not path.exists()


def test_a_full_disk_leaves_the_steps_before(path):
    resource = pytest.importorskip("resource")
    before = written(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Record(path, **LABELS) as found:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
        try:
            with pytest.raises(OSError, match="cannot append to .*gd.record: File too large"):
                found.append(11, losses_at(11))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        found.append(11, losses_at(11))
    assert tuple(read_record(path)[1]) == (*STEPS, 11)


def test_a_record_has_one_writer_at_a_time(path):
    with Record(path, **LABELS) as one:
        one.append(0, losses_at(0))
        who = rf"gd.record is in use by process {os.getpid()} on .*, since .*close it there first"
        for other in (lambda: Record(path, **LABELS), lambda: salvage(path)):
            with pytest.raises(files.Held, match=who):
                other()
        assert tuple(read_record(path)[1]) == (0,)  # readers need not wait
        one.append(3, losses_at(3))
    assert [file.name for file in path.parent.iterdir()] == ["gd.record"]
    with Record(path, **LABELS) as other:
        assert other.last_step == 3


def test_a_record_that_could_not_be_opened_is_free_again(path):
    written(path)
    with pytest.raises(FileExistsError):
        Record(path, **LABELS | {"seed": 3})
    Record(path, **LABELS).close()
    assert [file.name for file in path.parent.iterdir()] == ["gd.record"]


def test_what_a_stranger_appends_is_noticed(path):
    with Record(path, **LABELS) as found:
        found.append(0, losses_at(0))
        with path.open("ab") as stranger:
            stranger.write(b"more")
        with pytest.raises(OSError, match="something else writes to it. Give every run a record"):
            found.append(3, losses_at(3))


def test_a_new_record_is_on_the_disk_with_its_name(path, monkeypatch):
    """Its bytes before it has the name, and then the folder, before the first step comes."""
    done = []
    sync, replace = os.fsync, os.replace

    def spy_sync(place):
        done.append("folder" if stat.S_ISDIR(os.fstat(place).st_mode) else "file")
        sync(place)

    def spy_replace(source, target):
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_sync)
    monkeypatch.setattr(os, "replace", spy_replace)
    with Record(path, **LABELS) as found:
        # Its own folder is new, which the folder above has to know.
        assert done == ["folder", "file", "name", "folder"]
        found.append(0, losses_at(0))
        assert done[4:] == ["file"]


# Going on -----------------------------------------------------------------------------------------


def test_opening_a_record_goes_on_with_it(path):
    with Record(path, **LABELS) as found:
        assert found.last_step == -1
    for step in STEPS:
        with Record(path, **LABELS) as found:
            found.append(step, losses_at(step))
            assert found.last_step == step
    assert tuple(read_record(path)[1]) == STEPS


@pytest.mark.parametrize("labels", [{}, {"learning_rate": np.nan}])
def test_a_record_of_another_run_is_refused_and_left_alone(path, labels):
    before = written(path, **labels)
    with pytest.raises(FileExistsError, match="seed: stored 2, asked 3") as error:
        Record(path, **LABELS | labels | {"seed": 3})
    assert "learning_rate" not in str(error.value)  # only what differs is named; NaN is NaN
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"text\n", b"\x93NUMPY\x01\x00v\x00{'descr'", np.arange(9).tobytes()]
)
def test_a_file_that_is_no_record_is_refused_and_left_alone(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    for look in (read_record, load_record, lambda path: Record(path, **LABELS)):
        with pytest.raises(ValueError, match=r"gd.record, header at byte 0: .*no (block|record)"):
            look(path)
    assert path.read_bytes() == content


KILLED = """
import sys, time
from imbalance.storage.records import Record
from tests.test_records import LABELS, losses_at

record = Record(sys.argv[1], **LABELS)
for step in (0, 3):
    record.append(step, losses_at(step))

class Slow:
    def __init__(self, file):
        self.fileno, self.file = file.fileno, file

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        print("in the middle", flush=True)
        time.sleep(60)

record._file = Slow(record._file)
record.append(10, losses_at(10))
"""


def test_a_run_that_is_killed_while_it_writes_goes_on(path):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout.readline() == "in the middle\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    with pytest.warns(UserWarning, match="record 3 at byte .* was cut short"):
        assert tuple(read_record(path)[1]) == (0, 3)
    with pytest.warns(UserWarning, match="the last whole step is 3"):
        found = Record(path, **LABELS)
    with found:
        found.append(10, losses_at(10))
    header, steps = read_record(path)
    assert tuple(steps) == STEPS
    for step, losses in steps.items():
        assert_same(losses, step)


def test_sums_of_many_steps_are_refused_before_memory_is_taken(path):
    """Each step of a few bytes is one of all classes in memory."""
    many = LossByClass(10**6)
    many.update([1.0], [7])
    with Record(path, 10**6) as found:
        for step in range(100):
            found.append(step, many)
    with memory_below(1e6), pytest.raises(ValueError, match="take 5600000000 bytes; max_bytes is"):
        read_record(path)
    small = path.with_name("small")
    written(small, (0,))
    with pytest.raises(ValueError, match="max_bytes is 279. Give 280 if this machine has them"):
        read_record(small, max_bytes=279)
    assert len(read_record(small, max_bytes=280)[1]) == 1


# Salvage ------------------------------------------------------------------------------------------


def damaged(data, ends, how):
    """The record with damage in its last step, or in the one before."""
    at = {"flip": ends[3] - 20, "zeros": ends[2] + 200, "garbage": ends[2], "middle": ends[1] + 9}
    changed = bytearray(data)
    changed[at[how]] ^= how in ("flip", "middle")
    if how == "zeros":
        changed[at[how] :] = bytes(len(data) - at[how])
    if how == "garbage":
        changed[at[how] :] = np.random.default_rng(0).bytes(700)
    return bytes(changed), 1 if how == "middle" else 2


@pytest.mark.parametrize("how", ["flip", "zeros", "garbage", "middle"])
def test_the_steps_before_the_damage_are_salvaged(whole, path, how):
    """Nobody reads or extends a damaged record; salvaged, it is gone on with."""
    data, number = damaged(*whole, how)
    path.parent.mkdir()
    path.write_bytes(data)
    said = rf"record {number + 1} at byte {whole[1][number]}: .*salvage\(path\) keeps the {number} "
    for look in (read_record, load_record, lambda path: Record(path, **LABELS)):
        with pytest.raises(ValueError, match=said):
            look(path)
    assert path.read_bytes() == data

    assert salvage(path) == number
    assert path.read_bytes() == whole[0][: whole[1][number]]
    kept = path.with_name("gd.record.damaged")
    assert kept.read_bytes() == data
    assert sorted(path.parent.iterdir()) == [path, kept]
    assert salvage(path) == number  # nothing is left to do

    with Record(path, **LABELS) as found:
        for step in STEPS[number:]:
            found.append(step, losses_at(step))
    for step, losses in read_record(path)[1].items():
        assert_same(losses, step)


def test_what_is_whole_is_not_salvaged(path):
    before = written(path)
    assert salvage(path) == len(STEPS)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["gd.record"]
    path.write_bytes(before[:-1])  # cut short: it can be gone on with, or salvaged
    assert salvage(path) == len(STEPS) - 1
    assert path.with_name("gd.record.damaged").read_bytes() == before[:-1]


def test_an_earlier_original_is_not_replaced(whole, path):
    data, number = damaged(*whole, "flip")
    path.parent.mkdir()
    path.write_bytes(data)
    kept = path.with_name("gd.record.damaged")
    kept.write_bytes(b"of another day")
    with pytest.raises(FileExistsError, match="gd.record.damaged is the original .* Move it away"):
        salvage(path)
    assert path.read_bytes() == data
    kept.write_bytes(data)  # a kill came after it was kept
    assert salvage(path) == number


def test_a_record_without_a_header_cannot_be_salvaged(whole, path):
    path.parent.mkdir()
    content = b"\0" * 600 + whole[0][600:]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="header at byte 0: .*no record, or is damaged"):
        salvage(path)
    with pytest.raises(FileNotFoundError):
        salvage(path.with_name("none"))
    assert [file.read_bytes() for file in path.parent.iterdir()] == [content]
