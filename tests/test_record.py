"""A record on disk: whole steps or none, never a wrong number, and the same dataset as a sweep."""

import contextlib
import io
import json
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
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from imbalance import FrequencyBuckets, LossByClass
from imbalance.analysis.labelled import DIVERGED, NOT_RUN
from imbalance.storage import datasets, files
from imbalance.storage import records as record
from imbalance.storage.records import ENTRY, ROW, Record, load_record, read_record, salvage

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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a record of all steps, and where each step ends."""
    path = tmp_path_factory.mktemp("whole") / "record"
    ends = [len(written(path, STEPS[number - 1 : number])) for number in range(len(STEPS) + 1)]
    return path.read_bytes(), ends


# Writing and reading ------------------------------------------------------------------------------


def test_what_is_read_is_what_was_appended(path):
    written(path)
    header, steps = read_record(path)
    assert header == {"format": record.FORMAT, **LABELS}
    assert tuple(steps) == STEPS
    for step, losses in steps.items():
        assert_same(losses, step)
    assert steps[3].out_of_range and steps[3].ignored and steps[3].diverged[1]  # all was there


def test_the_file_is_plain_npy_blocks(path):
    written(path)
    blocks = []
    with path.open("rb") as file:
        while file.tell() < path.stat().st_size:
            blocks.append(np.load(file, allow_pickle=False))
    assert json.loads(blocks[1].tobytes()) == {"format": record.FORMAT, **LABELS}
    assert [block["step"] for block in blocks[0::2]] == [-1, *STEPS]
    assert {block.dtype for block in blocks[0::2]} == {ENTRY}
    assert {block.dtype for block in blocks[3::2]} == {ROW}
    assert blocks[3]["class"].tolist() == np.flatnonzero(losses_at(0).count).tolist()  # sparse


def test_blocks_are_those_of_numpy_but_for_padding():
    for array in (np.zeros((), ENTRY), np.zeros(3, ROW), np.zeros(70, np.uint8)):
        theirs = io.BytesIO()
        np.save(theirs, array)
        ours = record._prefix(array.dtype, array.shape)
        text = theirs.getvalue()[: -array.nbytes]
        assert (ours[:8], ours[10:].split()) == (text[:8], text[10:].split())
        assert len(ours) % 64 == 0


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
        (11, losses_at(0).by_bucket(BUCKETS), TypeError, "losses are imbalance.*LossSums"),
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
from tests.test_record import LABELS, losses_at

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


# Damage -------------------------------------------------------------------------------------------


def read_bytes(data):
    """What is read from ``data``, with the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = record._parse(data, "some.record")
    assert all("was cut short" in str(warning.message) for warning in caught)
    steps = {step: record._losses(found.header, one) for step, one in found.steps.items()}
    return found.header, steps, caught


def test_a_file_cut_anywhere_loses_its_last_step_at_most(whole, path):
    data, ends = whole
    for size in range(len(data)):
        if size < ends[0]:
            with pytest.raises(ValueError, match="header at byte 0: the file ends inside"):
                read_bytes(data[:size])
            continue
        _, steps, warned = read_bytes(data[:size])
        number = sum(end <= size for end in ends[1:])
        assert tuple(steps) == STEPS[:number]
        assert bool(warned) == (size not in ends)
        assert_same(steps[STEPS[number - 1]], STEPS[number - 1]) if number else None


@pytest.mark.filterwarnings("ignore:.*was cut short")
def test_a_file_cut_anywhere_can_be_gone_on_with(whole, path):
    data, ends = whole
    path.parent.mkdir()
    for size in [*range(0, ends[0], 37), *range(ends[0] - 1, len(data), 97)]:
        path.write_bytes(data[:size])
        with Record(path, **LABELS) as found:
            rest = [step for step in STEPS if step > found.last_step]
            for step in rest:
                found.append(step, losses_at(step))
        assert len(path.read_bytes()) == len(data)
        assert tuple(read_record(path)[1]) == STEPS


@given(st.data())
def test_changed_bytes_are_never_read_as_numbers(whole, data):
    good, _ = whole
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    if changed == good:
        return
    place = r"some.record, (record \d|header) at byte \d+: "
    with pytest.raises(ValueError, match=place + ".*damaged"):
        read_bytes(bytes(changed))


def test_every_single_bit_is_watched(whole):
    good, _ = whole
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 1 << at % 8
        with pytest.raises(ValueError, match="damaged|holds nothing"):
            read_bytes(bytes(changed))


@given(st.data())
def test_pieces_of_a_record_in_any_order_are_a_record_or_an_error(whole, data):
    """Cut, repeated, moved, with noise between them: what is read is a beginning of the record."""
    good, ends = whole
    piece = st.one_of(
        st.tuples(st.sampled_from([0, *ends]), st.sampled_from([0, *ends])).map(
            lambda ends: good[slice(*ends)]
        ),
        st.binary(max_size=20),
        st.integers(0, len(good)).map(lambda end: good[:end]),
    )
    mixed = b"".join(data.draw(st.lists(piece, max_size=4)))
    try:
        _, steps, _ = read_bytes(mixed)
    except ValueError:
        return
    assert tuple(steps) == STEPS[: len(steps)]
    for step, losses in steps.items():
        assert_same(losses, step)


def forged(table, header=None, **fields):
    """A record of one step with all checksums right."""
    header = {"format": record.FORMAT, **LABELS} if header is None else header
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    beginning, crc = record._pair(np.frombuffer(text, np.uint8), 0, step=-1)
    return beginning + record._pair(np.array(table, ROW), crc, **{"step": 0, **fields})[0]


ONE = (1, 1, 0, (1, 2, 1, 2, 4))
NESTED = b"[" * 100_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (forged([(5, *ONE[1:])]), r"record 1 at byte \d+: its classes do not ascend within 0 .. 4"),
        (forged([(-1, *ONE[1:])]), "its classes do not ascend"),
        (forged([ONE, ONE]), "its classes do not ascend"),
        (forged([ONE] * 6), "it promises 6 rows; 0 .. 5 are possible"),
        (forged([ONE], step=-1), "step -1 comes after step -1"),
        (forged([], header={"format": "imbalance record 2"}), "no header|missing"),
        (
            forged([], header={**LABELS, "format": "imbalance record 2"}),
            "'imbalance record 2', exp",
        ),
        (forged([], header=[1]), "header at byte 0: .*damaged"),
        (forged([], header={**LABELS, "num_classes": -1}), "num_classes is -1"),
        (forged([], header={**LABELS, "seed": "0"}), "seed is '0'"),
        (forged([], header={**LABELS, "more": 1}), "more"),
        (forged([], header=NESTED), "header at byte 0: .*recursion.*damaged"),
    ],
)
def test_what_no_record_can_hold_is_refused(path, content, message):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_record(path)


def test_no_memory_is_taken_on_the_word_of_a_file(path):
    """A table of 2²⁴ rows that is not there is one that was cut short."""
    most = record.MAX_CLASSES
    header = {"format": record.FORMAT, **LABELS, "num_classes": most}
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    beginning, crc = record._pair(text, 0, step=-1)
    entry = np.array((0, 0, 0, 0, most, 0, 0), ENTRY)
    entry["crc"] = record._checksum(entry, crc)
    promise = record._prefix(ENTRY, ()) + entry.tobytes() + record._prefix(ROW, (most,))
    with memory_below(1e6):
        _, steps, warned = read_bytes(beginning + promise + bytes(1000))
    assert not steps and len(warned) == 1


def test_more_classes_than_any_record_has_are_refused_before_memory_is_taken(path):
    """A kilobyte that would take 15 GiB."""
    path.parent.mkdir()
    path.write_bytes(forged([ONE], header={**LABELS, "num_classes": 3 * 10**8}))
    assert path.stat().st_size < 1103
    for look in (read_record, load_record, salvage):
        with memory_below(1e6), pytest.raises(ValueError, match="num_classes is 300000000; give"):
            look(path)


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


# Loading ------------------------------------------------------------------------------------------


def test_a_record_is_labelled_as_a_sweep_is(path, tiny_dataset):
    written(path)
    found = load_record(path, BUCKETS)
    same = set(tiny_dataset.variables) - {"train_loss", "train_step", *datasets.LOOKS}
    assert same <= set(found.variables)
    for name in same:
        assert found[name].dims == tiny_dataset[name].dims, name
        assert found[name].dtype.kind == tiny_dataset[name].dtype.kind, name
        assert found[name].attrs.get("units") == tiny_dataset[name].attrs.get("units"), name
    assert dict(found.sizes) == {
        **{"optimizer": 1, "learning_rate": 1, "seed": 1},
        **{"step": 3, "bucket": 3, "class": C},
    }
    assert found["status"].attrs == datasets.STATUS and found["status"] == datasets.FINISHED
    assert (found["optimizer"], found["learning_rate"], found["seed"]) == ("gd+m", 0.1, 2)


def test_buckets_are_summed_from_classes(path):
    written(path)
    found = load_record(path, BUCKETS).squeeze()
    for step in STEPS:
        expected, one = losses_at(step).by_bucket(BUCKETS), found.sel(step=step)
        assert one["loss"] == expected.overall
        np.testing.assert_array_equal(one["bucket_loss"], expected.mean)
        np.testing.assert_array_equal(one["bucket_loss_standard_error"], expected.standard_error)
        np.testing.assert_array_equal(one["bucket_loss_count"], expected.count)
        np.testing.assert_array_equal(one["bucket_loss_diverged"], expected.diverged)
    assert found["class_count"].values.tolist() == [16, 8, 4, 2, 2]


def test_frequencies_are_learnt_from_the_record(path):
    written(path)
    counts = sum(losses_at(step).count for step in STEPS)
    found = load_record(path, num_buckets=2)
    np.testing.assert_array_equal(found["class_count"], counts)
    expected = FrequencyBuckets.from_counts(counts, 2)
    np.testing.assert_array_equal(found["bucket_of_class"], expected.bucket_of_class)
    xr.testing.assert_identical(found, load_record(path, expected))


def test_records_join_and_are_stored_as_a_sweep(tmp_path):
    for optimizer in ("gd", "adam"):
        written(tmp_path / optimizer, optimizer=optimizer)
    pieces = [load_record(tmp_path / optimizer, BUCKETS) for optimizer in ("gd", "adam")]
    joined = datasets.join(pieces)
    assert joined["optimizer"].values.tolist() == ["gd", "adam"]
    assert joined["bucket_loss"].dims == (*datasets.RUN_DIMS, "step", "bucket")
    assert joined.attrs["wall_seconds"] == sum(one.attrs["wall_seconds"] for one in pieces) > 0
    datasets.save(joined, datasets.dataset_path("mine", "laptop", tmp_path), {})
    xr.testing.assert_equal(datasets.load("mine", directory=tmp_path), joined)


def test_records_of_other_steps_and_rates_join(tmp_path):
    written(tmp_path / "one")
    written(tmp_path / "two", (0, 7), optimizer="adam", learning_rate=np.nan)
    joined = datasets.join([load_record(tmp_path / name, BUCKETS) for name in ("one", "two")])
    assert joined["step"].values.tolist() == [0, 3, 7, 10]
    run = joined["status"].squeeze("seed") != NOT_RUN
    np.testing.assert_array_equal(run, [[True, False], [False, True]])
    measured = joined["loss"].notnull().squeeze("seed").values[run.values]
    np.testing.assert_array_equal(measured, [[1, 1, 0, 1], [1, 0, 1, 0]])


def test_a_run_diverged_if_its_last_step_did(path):
    """Its losses are NaN from where every step has diverged ones; single ones before are not."""
    bad = losses_at(0)
    bad.update([np.nan], [0])
    with Record(path, C) as found:
        for step, losses in enumerate((losses_at(0), bad, losses_at(0), bad, bad)):
            found.append(step, losses)
    dataset = load_record(path, BUCKETS).squeeze()
    assert dataset["status"] == DIVERGED
    assert dataset["loss"].isnull().values.tolist() == [False] * 3 + [True] * 2
    assert dataset["bucket_loss"].sel(bucket=0).isnull().values.tolist() == [False] * 3 + [True] * 2
    assert dataset["bucket_loss_diverged"].sel(bucket=0).values.tolist() == [0, 1, 0, 1, 1]


def test_a_record_without_steps_or_for_other_buckets_says_so(path):
    Record(path, C).close()
    with pytest.raises(ValueError, match="gd.record holds no step yet; append one first"):
        load_record(path)
    written(path.with_name("other"))
    with pytest.raises(ValueError, match="buckets are of 2 classes, losses of 5"):
        load_record(path.with_name("other"), FrequencyBuckets.from_counts([1, 2]))
