"""The file of a record: plain blocks, and no damage is read as a number."""

import io
import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_records import (
    LABELS,
    STEPS,
    assert_same,
    losses_at,
    memory_below,
    whole_record,
    written,
)

from imbalance.storage import record_format as form
from imbalance.storage.record_dataset import load_record
from imbalance.storage.record_format import ENTRY, ROW
from imbalance.storage.records import Record, losses_of, read_record, salvage

pytestmark = pytest.mark.filterwarnings("ignore:.*They are in no mean")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "gd.record"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_record(tmp_path_factory)


def test_the_file_is_plain_npy_blocks(path):
    written(path)
    blocks = []
    with path.open("rb") as file:
        while file.tell() < path.stat().st_size:
            blocks.append(np.load(file, allow_pickle=False))
    assert json.loads(blocks[1].tobytes()) == {"format": form.FORMAT, **LABELS}
    assert [block["step"] for block in blocks[0::2]] == [-1, *STEPS]
    assert {block.dtype for block in blocks[0::2]} == {ENTRY}
    assert {block.dtype for block in blocks[3::2]} == {ROW}
    assert blocks[3]["class"].tolist() == np.flatnonzero(losses_at(0).count).tolist()  # sparse


def test_blocks_are_those_of_numpy_but_for_padding():
    for array in (np.zeros((), ENTRY), np.zeros(3, ROW), np.zeros(70, np.uint8)):
        theirs = io.BytesIO()
        np.save(theirs, array)
        ours = form._prefix(array.dtype, array.shape)
        text = theirs.getvalue()[: -array.nbytes]
        assert (ours[:8], ours[10:].split()) == (text[:8], text[10:].split())
        assert len(ours) % 64 == 0


# Damage -------------------------------------------------------------------------------------------


def read_bytes(data):
    """What is read from ``data``, with the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = form.parse(data, "some.record")
    assert all("was cut short" in str(warning.message) for warning in caught)
    steps = {step: losses_of(found.header, one) for step, one in found.steps.items()}
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
    header = {"format": form.FORMAT, **LABELS} if header is None else header
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    beginning, crc = form.pair_of(np.frombuffer(text, np.uint8), 0, step=-1)
    return beginning + form.pair_of(np.array(table, ROW), crc, **{"step": 0, **fields})[0]


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
    most = form.MAX_CLASSES
    header = {"format": form.FORMAT, **LABELS, "num_classes": most}
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    beginning, crc = form.pair_of(text, 0, step=-1)
    entry = np.array((0, 0, 0, 0, most, 0, 0), ENTRY)
    entry["crc"] = form._checksum(entry, crc)
    promise = form._prefix(ENTRY, ()) + entry.tobytes() + form._prefix(ROW, (most,))
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
