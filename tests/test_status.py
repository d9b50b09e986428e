"""`imbalance status`: what is done, running, missing and failed, and nothing hostile stops it."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from imbalance.commands.main import main
from imbalance.commands.status import clean
from imbalance.storage import agendas, datasets, files
from imbalance.storage.agendas import Agenda, Wanted
from imbalance.storage.notes import Note, from_line
from imbalance.storage.standing import speed, standings
from imbalance.storage.store import PLACE, Store

fcntl = pytest.importorskip("fcntl")  # not on Windows

KEYS = [letter * 32 for letter in "abcdef"]
ARRAYS = {"loss": (("step",), np.float32([1, 2]))}


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def store(results):
    return Store(results / "runs")


def wanting(results, keys=KEYS, name="one", **changes):
    """An agenda of runs of 100 steps and 1,000 operations each."""
    runs = {key: Wanted("gd", 0.1, i, 100, 1000.0) for i, key in enumerate(keys)}
    agenda = Agenda(runs, **{"settled": True, "following": 0.0, "since": time.time()} | changes)
    agendas.write(name, "smoke", results, agenda)
    return agenda


def checkpoint(store, key, steps):
    path = store.checkpoint(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        np.savez(file, place=np.array([steps, 0]))
    files.write(path, path.read_bytes())


def printed(results, capsys, *arguments):
    """What the command prints; that its status is 0."""
    with pytest.raises(SystemExit) as ended:
        main(["status", "--results", str(results), *arguments])
    assert not ended.value.code
    return capsys.readouterr().out


# What is there ----------------------------------------------------------------------------------


def test_runs_are_done_held_paused_and_missing(results, store):
    wanting(results)
    store.write(KEYS[0], ARRAYS, {})
    checkpoint(store, KEYS[3], 40)
    with store.making(KEYS[1]) as say:
        say(Note(KEYS[1:3], began=100.0, began_with=0.1, done=0.6, at=110.0).to_line())
        (found,) = standings(results)
    assert (found.name, found.scale, found.joined) == ("one", "smoke", False)
    assert found.done == KEYS[:1]
    (running,) = found.running
    assert list(running.keys) == KEYS[1:3] and running.done == 0.6
    assert running.who.startswith(f"process {os.getpid()} on ")
    assert running.speed == pytest.approx(0.5 * 2000 / 10)  # half of two runs in ten seconds
    assert found.missing == KEYS[3:]
    assert found.paused == {KEYS[3]: 40}
    assert found.left == pytest.approx(2000 * 0.4 + 1000 * 0.6 + 2 * 1000)


def test_a_lock_that_nobody_holds_is_no_running_run(results, store):
    wanting(results)
    with store.making(KEYS[0]) as say:
        say(Note(KEYS[:1], 1.0).to_line())
        left = files._lock_of(store.path(KEYS[0])).read_bytes()
    files._lock_of(store.path(KEYS[0])).write_bytes(left)  # as after a loss of power
    (found,) = standings(results)
    assert not found.running and found.missing == KEYS


def test_looking_takes_no_lock_away_and_changes_nothing(results, store):
    wanting(results)
    with store.making(KEYS[0]) as say:
        say("word")
        before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
        assert store.holders() == {KEYS[0]: (before_who(before), "word")}
        standings(results)
        assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
        with pytest.raises(files.Held, match=f"by process {os.getpid()} .*[^d]$"):
            store.making(KEYS[0]).__enter__()
    assert store.holders() == {}


def before_who(found):
    (text,) = (data.decode() for path, data in found.items() if path.suffix == ".lock")
    return text.partition("\n")[0]


def test_a_finished_experiment_has_its_dataset_and_no_agenda(results, capsys):
    place = datasets.dataset_path("one", "smoke", results)
    datasets.save(xr.Dataset(dict(ARRAYS)), place, {"runs": json.dumps(KEYS[:2])})
    (found,) = standings(results)
    assert found.joined and found.done == KEYS[:2] and not found.missing
    assert "one         smoke     2                    finished" in printed(results, capsys)


def test_scales_are_told_apart(results, capsys):
    wanting(results)
    agendas.write("one", "paper", results, Agenda({}, False, 0.0, 0.0))
    assert [one.scale for one in standings(results)] == ["paper", "smoke"]
    assert [one.scale for one in standings(results, "smoke")] == ["smoke"]
    assert "paper" not in printed(results, capsys, "--scale", "smoke")


def test_the_pace_is_that_of_all_who_run_and_before_they_can_tell_of_what_is_done(results, store):
    wanting(results, since=time.time() - 10)
    with store.making(KEYS[0]) as first, store.making(KEYS[1]) as second:
        first(Note(KEYS[:1], began=0.0, done=0.5, at=5.0).to_line())
        second(Note(KEYS[1:2], began=0.0).to_line())
        assert speed(standings(results), store) == pytest.approx(2 * 100)
        first("")
        store.write(KEYS[2], ARRAYS, {})
        assert speed(standings(results), store) == pytest.approx(1000 / 10, rel=0.2)
    assert speed(standings(results), store) == 0.0  # nobody runs


# What is said -----------------------------------------------------------------------------------


def test_the_command_tells_all_of_it(results, store, tmp_path, capsys):
    wanting(results, settled=False, following=5000.0)
    store.write(KEYS[0], ARRAYS, {})
    checkpoint(store, KEYS[3], 40)
    agendas.keep_failure("two", "smoke", results, "MemoryError: too large", "trace")
    (tmp_path / "experiments").mkdir()
    for name in ("one", "later"):
        (tmp_path / "experiments" / f"{name}.py").touch()
    with store.making(KEYS[1]) as say:
        say(Note(KEYS[1:3], began=0.0, done=0.5, at=1.0).to_line())
        text = printed(results, capsys, "--experiments", str(tmp_path / "experiments"))
    row, two = (next(li for li in text.splitlines() if li.startswith(n)) for n in ("one", "two"))
    assert row.split() == ["one", "smoke", "1", "2", "3+", "running", "9", "s"]
    assert two.split() == ["two", "smoke", "0", "failed"]
    assert (
        f"running one gd at 0.1, seed 1, 100 steps and 1 more, 50%, process {os.getpid()}" in text
    )
    assert "waiting one gd at 0.1, seed 3, 100 steps, at step 40" in text
    assert "failed two at smoke: MemoryError: too large (process" in text
    assert "not begun: later" in text
    assert "about 9 s left for all" in text


def test_as_json(results, store, capsys):
    wanting(results)
    with store.making(KEYS[0]) as say:
        say(Note(KEYS[:1], began=0.0, done=0.5, at=1.0).to_line())
        (one,) = json.loads(printed(results, capsys, "--json", "-"))
    assert one["done"] == 0 and one["missing"] == 5 and one["state"] == "running"
    assert one["running"][0]["runs"] == 1 and one["seconds left"] == pytest.approx(11)


def test_an_empty_folder_and_none(tmp_path, capsys):
    assert "nothing is stored here" in printed(tmp_path, capsys)
    with pytest.raises(SystemExit) as ended:
        main(["status", "--results", str(tmp_path / "none")])
    assert "none is no folder; name that of the results" in ended.value.code


def test_it_needs_no_jax():
    code = "import sys, imbalance.commands.status; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_agenda_comes_back_and_is_removed(results):
    agenda = wanting(results)
    path = agendas.place("one", "smoke", results, agendas.WORK)
    assert agendas.read(path) == agenda
    agendas.keep_failure("one", "smoke", results, "why", "how")
    failure = agendas.read_failure(agendas.place("one", "smoke", results, agendas.FAILED))
    assert (failure.cause, failure.trace) == ("why", "how")
    agendas.remove("one", "smoke", results)
    assert not list((results / "one").iterdir())


# What is hostile --------------------------------------------------------------------------------

RIGHT = {"format": agendas.FORMAT, "runs": {}, "settled": True, "following": 0, "since": 0}
RUN = ["gd", 0.1, 0, 100, 1000.0]
HOSTILE = [
    b"",
    b"\xff\xfe\x00",
    b"{",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"format": "imbalance work 1", "runs": ' + b'{"a":' * 50_000,
    json.dumps(RIGHT | {"format": "other"}).encode(),
    json.dumps(RIGHT | {"runs": [RUN]}).encode(),
    json.dumps(RIGHT | {"runs": {"../../etc/passwd": RUN}}).encode(),
    json.dumps(RIGHT | {"runs": {"a" * 500: RUN}}).encode(),
    json.dumps(RIGHT | {"runs": {"ab": RUN[:3]}}).encode(),
    json.dumps(RIGHT | {"runs": {"ab": [*RUN, 1]}}).encode(),
    json.dumps(RIGHT | {"runs": {"ab": [{}, *RUN[1:]]}}).encode(),
    json.dumps(RIGHT | {"runs": {"ab": [*RUN[:2], "x", *RUN[3:]]}}).encode(),
    json.dumps(RIGHT | {"runs": {"ab": [*RUN[:3], -1, 0]}}).encode(),
    json.dumps(RIGHT | {"runs": {"ab": [*RUN[:4], float("nan")]}}).encode(),
    json.dumps(RIGHT | {"runs": {"ab": [*RUN[:4], 10**400]}}).encode(),
    json.dumps(RIGHT | {"since": "now"}).encode(),
    json.dumps(RIGHT | {"settled": "yes"}).encode(),
    json.dumps(RIGHT | {"more": 1}).encode(),
    json.dumps({"cause": 1, "trace": [], "by": None, "at": 0}).encode(),
]


@pytest.mark.parametrize("ending", [agendas.WORK, agendas.FAILED])
@pytest.mark.parametrize("content", HOSTILE, ids=lambda content: repr(content[-40:]))
def test_hostile_files_are_named_and_the_others_are_shown(results, capsys, ending, content):
    wanting(results, name="other")
    path = agendas.place("one", "smoke", results, ending)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    text = printed(results, capsys)
    assert f"smoke{ending} is damaged, or no file of this package" in text
    assert "other       smoke     0                 6  idle" in text


@pytest.mark.parametrize("ending", [agendas.WORK, agendas.FAILED, ".nc"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_waited_for(results, capsys, ending, make):
    wanting(results, name="other")
    (results / "one").mkdir(parents=True)
    make(results / "one" / f"smoke{ending}")
    assert "other" in printed(results, capsys)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_store_of_strange_things_is_looked_at(results, store, capsys, make):
    wanting(results)
    for key, path in zip(KEYS, map(store.path, KEYS), strict=True):
        path.parent.mkdir(parents=True)
        make(path)
        make(store.checkpoint(key))
        make(files._lock_of(path))
    assert "one         smoke     0                 6" in printed(results, capsys)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff\x00\n\xff\n",
        b"who\n{}",
        b"who\n" + b"[" * 90_000,
        b'who\n{"keys": 1, "began": 1}',
        b'who\n{"keys": [{}], "began": 1}',
        b'who\n{"keys": ["ab"], "began": NaN}',
        b'who\n{"keys": ["ab"], "began": -1e400}',
        b"\x1b[2J\x07who\n\x1b]0;title\x07",
        b"x" * 1_000_000,
    ],
)
def test_a_hostile_lock_is_a_running_run_and_no_more(results, store, capsys, note):
    wanting(results)
    place = files._lock_of(store.path(KEYS[0]))
    place.parent.mkdir(parents=True)
    place.write_bytes(note)
    with open(place, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        text = printed(results, capsys)
    assert "one         smoke     0        1        5  running" in text
    assert text.isprintable() or set("".join(text.split("\n"))) & {"\x1b", "\x07"} == set()
    assert max(map(len, text.splitlines())) < 600


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"x" * 10_000])
def test_a_hostile_checkpoint_is_none(store, content):
    store.checkpoint(KEYS[0]).parent.mkdir(parents=True)
    store.checkpoint(KEYS[0]).write_bytes(content)
    assert store.steps_done(KEYS[0]) is None


def test_a_checkpoint_of_another_shape_is_none_and_a_large_one_is_not_unpacked(store):
    path = store.checkpoint(KEYS[0])
    path.parent.mkdir(parents=True)
    with open(path, "wb") as file:
        np.savez_compressed(file, place=np.zeros(10**6))  # 8 MB of zeros in 8 kB
    began = time.monotonic()
    assert store.steps_done(KEYS[0]) in (None, 0)
    assert time.monotonic() - began < 5
    with open(path, "wb") as file:
        np.savez(file, other=np.zeros(2))
    assert store.steps_done(KEYS[0]) is None
    assert PLACE == "place.npy"


def test_hostile_datasets_are_damaged(results, capsys):
    for name, keys in (("list", "[1, {}]"), ("number", "5"), ("deep", "[" * 100_000)):
        place = datasets.dataset_path(name, "smoke", results)
        datasets.save(xr.Dataset(dict(ARRAYS)), place, {"runs": keys})
    text = printed(results, capsys)
    assert text.count("smoke.nc is damaged") == 3


def test_names_are_printed_without_their_controls(results, capsys):
    wanting(results, name="\x1b[31mred\nline")
    text = printed(results, capsys)
    assert "\x1b" not in text and "[31mred line" in text


@pytest.mark.parametrize(
    ("text", "shown"), [("a\x1b[0m\tb\n", "a [0m b"), ("x" * 500, "x" * 200), ("", ""), ("ü", "ü")]
)
def test_text_is_fit_for_a_terminal(text, shown):
    assert clean(text) == shown


def test_a_note_is_one_line(tmp_path):
    note = Note(KEYS, 1.0, 0.25, 0.5, 2.0)
    assert from_line(note.to_line()) == note and "\n" not in note.to_line()
