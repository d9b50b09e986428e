"""Members of a launch: what they are given, what they tell, and that they come back and go on."""

import contextlib
import json
import os
import pickle
import signal
import stat
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_experiments import EXPERIMENT, PATH, command, declaring, ended, script_in

from imbalance.reporting import launching, members, workers
from imbalance.reporting.cluster import Cluster, parameters
from imbalance.reporting.experiment import Options
from imbalance.reporting.launching import Launched, NotLaunched, launch
from imbalance.reporting.members import Events, Member, events_in, events_of
from imbalance.reporting.reproduce import carry_out
from imbalance.reporting.workers import carry_on, shares
from imbalance.storage.datasets import load
from imbalance.storage.standing import standings
from imbalance.training.making import Stopped

submitit = pytest.importorskip("submitit")

# Options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"members": 2}, "--members is for members: give --launcher local or slurm"),
        ({"detach": True}, "--detach is for members"),
        ({"launcher": "slurm"}, "say how many members there are, as --members 8"),
        ({"launcher": "local", "partition": "gpu"}, "--partition is for --launcher slurm"),
        ({"launcher": "local", "sbatch": ("a=b",)}, "--sbatch is for --launcher slurm"),
        ({"launcher": "local", "members": -1}, "--members -1: give a number above 0"),
        ({"launcher": "local", "hours": float("nan")}, "--hours nan: give a number above 0"),
        ({"launcher": "local", "gpus": -1}, "--gpus -1: give 0 or more"),
        ({"launcher": "slurm", "members": 2, "sbatch": ("a b",)}, "give NAME=VALUE"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Cluster(**options)


@pytest.mark.parametrize("name", ["jobs", "redraw", "overwrite"])
def test_options_of_one_process_are_not_for_members(name):
    with pytest.raises(ValueError, match=f"--{name} is for this process"):
        Options("smoke", cluster=Cluster("local"), **{name: 1})


def test_parameters_of_sbatch_are_passed_through():
    words = ("account=mine", "--constraint=a100&nvlink", "exclusive", "comment=a=b c")
    found = {"account": "mine", "constraint": "a100&nvlink", "exclusive": True, "comment": "a=b c"}
    assert parameters(words) == found


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("time=1", "say --hours"),
        ("--mem=1", "say --memory"),
        ("array=0-3", "say --members"),
        ("output=x", "the launch sets it itself"),
        ("", "give NAME=VALUE"),
        ("-p gpu", "give NAME=VALUE"),
        ("a=b\nrm -r /", "give NAME=VALUE"),
        ("=x", "give NAME=VALUE"),
    ],
)
def test_parameters_that_the_launch_sets_or_that_are_none_are_refused(word, said):
    with pytest.raises(ValueError, match=said):
        parameters([word])


def test_a_time_limit_is_whole_minutes_and_slurm_always_has_one():
    assert Cluster("slurm", 2).minutes == 720
    assert Cluster("slurm", 2, hours=0.001).minutes == 1
    assert Cluster("local").minutes == 365 * 24 * 60
    assert launching._warning(1) == 30 and launching._warning(720) == 120


# Submission -------------------------------------------------------------------------------------

SBATCH = '#!/bin/sh\ncp "$1" "{folder}/script.sh"\necho Submitted batch job 17\n'


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Makes programs that are found before any others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name, text="#!/bin/sh\n"):
        path = folder / name
        path.write_text(text.format(folder=folder))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return folder

    return make


def launched_by(cluster, folder, **options):
    return launch(
        [Path("one.py"), Path("two.py")],
        Options("smoke", results=folder / "results", cluster=cluster, **options),
    )


def test_slurm_is_given_an_array_of_members(tool, tmp_path):
    folder = tool("sbatch", SBATCH)
    tool("srun")
    found = launched_by(
        Cluster(
            *("slurm", 3),
            gpus=1,
            cpus=4,
            memory=1.5,
            hours=2,
            partition="gpu",
            sbatch=("account=mine", "exclusive", "requeue-not=1"),
        ),
        tmp_path,
        only=("adam",),
    )
    script = (folder / "script.sh").read_text()
    lines = {line.removeprefix("#SBATCH --") for line in script.splitlines() if "SBATCH" in line}
    assert lines >= {
        "array=0-2%3",
        "job-name=imbalance",
        "partition=gpu",
        "time=120",
        "signal=USR2@120",
        "gpus-per-node=1",
        "cpus-per-task=4",
        "mem=1536M",
        "requeue",
        "account=mine",
        "exclusive",
        "open-mode=append",
    }
    assert found.names == ["17_0", "17_1", "17_2"] and "`scancel 17` ends them" in found.described
    assert found.folder.parent == tmp_path / "results" / "logs"
    assert f"output={found.folder}" in script
    for i, job in enumerate(found.jobs):
        member = job.submission().function
        assert (member.index, member.number) == (i, 3)
        assert member.options.only == ("adam",) and member.options.results.is_absolute()
        assert member.scripts == [str(Path(name).resolve()) for name in ("one.py", "two.py")]
        assert Path(member.folder) == found.folder


def test_what_is_not_said_is_left_to_slurm(tool, tmp_path):
    folder = tool("sbatch", SBATCH)
    tool("srun")
    assert launched_by(Cluster("slurm", 1), tmp_path).names == ["17"]
    script = (folder / "script.sh").read_text()
    assert not any(word in script for word in ("partition", "gpus", "cpus", "mem", "array"))


def test_what_sbatch_refuses_is_told_in_its_words(tool, tmp_path):
    tool("sbatch", "#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n")
    tool("srun")
    with pytest.raises(NotLaunched, match="^--launcher slurm: .*error: invalid partition") as error:
        launched_by(Cluster("slurm", 2, partition="x"), tmp_path)
    assert "\n" not in str(error.value)


def test_without_slurm_it_says_where_to_start(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotLaunched, match="no sbatch and srun.*--launcher local"):
        launched_by(Cluster("slurm", 2), tmp_path)


def test_without_submitit_it_says_what_installs_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    options = Options("smoke", results=tmp_path / "results", cluster=Cluster("local"))
    assert carry_out({Path("one.py"): None}, options) == 1
    assert "--launcher needs submitit: pip install 'imbalance[cluster]'" in capsys.readouterr().err


@dataclass
class Executor:
    """Keeps what it is given and starts nothing."""

    folder: Path
    max_num_timeout: int
    given: list = field(default_factory=list)
    last = None

    def __post_init__(self):
        Executor.last = self

    def update_parameters(self, **parameters):
        self.parameters = parameters

    def submit(self, member):
        self.given.append((member.index, self.parameters))
        self.inherited = os.environ["PYTHONPATH"], signal.getsignal(signal.SIGINT)
        return SimpleNamespace(job_id=str(100 + member.index))


def test_members_on_this_machine_have_gpus_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(submitit, "LocalExecutor", Executor)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    before = os.environ.get("PYTHONPATH"), signal.getsignal(signal.SIGINT)
    found = launched_by(Cluster("local", 3, gpus=2, hours=1), tmp_path)
    given = dict(Executor.last.given)
    assert [given[i]["visible_gpus"] for i in range(3)] == [(0, 1), (2, 3), (4, 5)]
    assert all(g["gpus_per_node"] == 2 and g["timeout_min"] == 60 for g in given.values())
    assert "`kill 100 101 102` ends them" in found.described
    # Modules are found as here, and Ctrl-C is for the one that waits.
    path, interrupt = Executor.last.inherited
    assert set(path.split(os.pathsep)) >= {str(Path(place).resolve()) for place in sys.path}
    assert interrupt == signal.SIG_IGN
    assert (os.environ.get("PYTHONPATH"), signal.getsignal(signal.SIGINT)) == before
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    launched_by(Cluster("local", 3, gpus=1), tmp_path)
    assert [g["visible_gpus"] for _, g in Executor.last.given] == [(4,), (6,), (7,)]
    with pytest.raises(NotLaunched, match="2 members of 2 GPUs need 4; CUDA_VISIBLE_DEVICES has 3"):
        launched_by(Cluster("local", 2, gpus=2), tmp_path)


# What members tell ------------------------------------------------------------------------------


class Job:
    """A job that is over after it was asked so often."""

    def __init__(self, folder, name, lives=10**9):
        self.job_id, self.lives = name, lives
        self.paths = SimpleNamespace(stderr=folder / f"{name}.err")

    def done(self):
        self.lives -= 1
        return self.lives < 0


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(launching, "LISTEN_SECONDS", 0.01)
    monkeypatch.setattr(launching, "PAUSES", {"local": 0.0, "slurm": 0.0})


def write(folder, index, *events, end="\n"):
    with open(events_of(folder, index), "a") as file:
        file.write("\n".join(json.dumps(event) for event in events) + end)


def test_all_are_listened_to_until_they_have_ended(tmp_path, quick):
    write(tmp_path, 0, ["began", {}], ["made", ["a"]], ["ended", None])
    write(tmp_path, 1, ["began", {}], ["ended", None])
    launched = Launched("local", tmp_path, [Job(tmp_path, "a", 9), Job(tmp_path, "b", 9)])
    found = list(launched.events(lambda: 0))
    assert [(i, kind) for i, kind, _ in found] == [
        *((0, "began"), (0, "made"), (0, "ended")),
        *((1, "began"), (1, "ended")),
    ]


def test_one_that_dies_is_lost_with_its_last_words_and_the_others_go_on(tmp_path, quick):
    write(tmp_path, 0, ["began", {}], ["doing", "x"])
    (tmp_path / "a.err").write_text("first\nslurmstepd: error: out of memory\n\n")
    jobs = [Job(tmp_path, "a", lives=2), Job(tmp_path, "b", lives=6)]
    events = Launched("local", tmp_path, jobs).events(lambda: 0)
    found = []
    for i, kind, value in events:
        found.append((i, kind))
        if kind == "lost":
            assert value.startswith("slurmstepd: error: out of memory (") or i == 1
            write(tmp_path, 1, ["began", {}], ["ended", None])
    assert found[2:] == [(0, "lost"), (1, "began"), (1, "ended")]


def test_one_that_was_stopped_is_waited_for_as_long_as_it_may_come_back(tmp_path, quick):
    write(tmp_path, 0, ["began", {}], ["left", "SIGTERM"])
    launched = Launched("local", tmp_path, [Job(tmp_path, "a", lives=5)])
    found = []
    for _, kind, _ in launched.events(lambda: 0):
        found.append(kind)
        if kind == "left":
            write(tmp_path, 0, ["began", {}], ["left", "SIGTERM"])
            if len(found) > 3:
                break
    assert found == ["began", "left", "began", "left"]
    assert list(launched.events(lambda: 0))[-1][1] == "left"  # it is gone, and no one is lost


def test_listening_ends_when_it_is_asked_to(tmp_path, quick):
    launched = Launched("local", tmp_path, [Job(tmp_path, "a")])
    assert list(launched.events(lambda: signal.SIGINT)) == []


@pytest.mark.parametrize(
    ("answer", "gone"),
    [
        ("echo 17_1", {0, 2}),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", {0, 1, 2}),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", set()),
    ],
)
def test_slurm_is_asked_who_is_still_there(tool, tmp_path, answer, gone):
    tool("squeue", f"#!/bin/sh\n{answer}\n")
    jobs = [Job(tmp_path, f"17_{i}") for i in range(3)]
    assert Launched("slurm", tmp_path, jobs)._gone() == gone


def test_half_a_line_is_waited_for_and_strange_ones_are_passed_over(tmp_path):
    path = events_of(tmp_path, 0)
    assert events_in(path, 0) == ([], 0)
    path.write_bytes(b'["made", ["a"]]\n\xff\xfe\n5\n["a"]\n{"a": 1, "b": 2, "c": 3}\n["ma')
    found, size = events_in(path, 0)
    assert found == [("made", ["a"])]
    with open(path, "ab") as file:
        file.write(b'de", []]\n')
    assert events_in(path, size)[0] == [("made", [])]


# The command that waits -------------------------------------------------------------------------


@pytest.fixture
def waiting(tmp_path, monkeypatch):
    """Waits for members that tell given events: the exit status."""

    def wait(*told, detach=False):
        def events(stopping):
            for event in told:
                if callable(event):
                    event()
                if stopping():
                    return
                yield event if not callable(event) else (0, "waiting", None)

        launched = SimpleNamespace(events=events, described="members", folder="logs")
        monkeypatch.setattr(launching, "launch", lambda scripts, options: launched)
        cluster = Cluster("local", detach=detach)
        options = Options("smoke", results=tmp_path, figures=tmp_path, cluster=cluster)
        return carry_out({PATH: EXPERIMENT}, options)

    return wait


FAILED = (0, "failed", (str(PATH), "MemoryError: too large", ""))


def test_what_one_member_cannot_make_another_may_join(waiting, tmp_path, capsys):
    alone = Options("smoke", jobs=1, results=tmp_path, figures=tmp_path)
    assert carry_out({PATH: EXPERIMENT}, alone) == 0
    capsys.readouterr()
    joined = (1, "joined", str(PATH))
    assert waiting(FAILED, (0, "broke", "x"), joined, joined, (1, "ended", None)) == 0
    out, err = capsys.readouterr()
    assert "member 0 could not go on with tiny: MemoryError: too large" in out
    assert out.count("drew ") == 1 and "Claims of tiny" in out and "FAILED" not in err


@pytest.mark.parametrize(
    ("told", "cause"), [((FAILED,), "MemoryError: too large"), ((), "not all of its runs were")]
)
def test_what_no_member_could_make_has_failed(waiting, capsys, told, cause):
    assert waiting(*told) == 1
    assert f"FAILED  tiny: {cause}" in capsys.readouterr().err


def test_optimizers_that_were_not_asked_for_are_named(waiting, capsys):
    assert waiting((0, "absent", ("tiny", ["gd"]))) == 0
    assert "tiny: not drawn yet, these are still to be run: gd" in capsys.readouterr().out


def test_who_waits_no_longer_leaves_the_members_to_themselves(waiting, capsys):
    assert waiting(lambda: signal.raise_signal(signal.SIGINT), FAILED) == 128 + signal.SIGINT
    assert "no longer waiting for members" in capsys.readouterr().err


def test_who_does_not_wait_returns_at_once(waiting, capsys):
    assert waiting(FAILED, detach=True) == 0
    assert capsys.readouterr().out == "members\n"


def test_a_command_tells_what_it_wants_and_redraws_what_was_joined_elsewhere(
    tmp_path, monkeypatch, capsys
):
    seen, make = [], workers.make

    def looked(works, *rest):
        seen.extend(standings(tmp_path))
        make(works, *rest)

    monkeypatch.setattr(workers, "make", looked)
    options = Options("smoke", jobs=1, results=tmp_path, figures=tmp_path)
    assert carry_out({PATH: declaring(seeds=(0,))}, options) == 0
    (one,) = seen
    assert (one.name, one.done, len(one.missing), one.joined) == ("tiny", [], 2, False)
    assert {run.optimizer for run in one.agenda.runs.values()} == {"gd", "sign"}
    (one,) = standings(tmp_path)
    assert one.joined and one.agenda is None and len(one.done) == 2
    # Another declaration, or another device, would make other runs: all is drawn and none is made.
    capsys.readouterr()
    assert carry_out({PATH: EXPERIMENT}, replace(options, redraw=True)) == 0
    out = capsys.readouterr().out
    assert "tiny: drawn from the runs that are joined; on this machine" in out
    assert "Claims of tiny" in out and len(seen) == 1


def test_runs_of_which_nobody_tells_are_found_in_the_end(tmp_path, monkeypatch):
    """Another command makes all of them while the workers of this one start."""
    options = Options("smoke", jobs=1, results=tmp_path, figures=tmp_path)
    make = workers.make

    def silently(works, options, jobs, tell, stopping):
        make(works, options, jobs, lambda kind, value: None, stopping)

    monkeypatch.setattr(workers, "make", silently)
    assert carry_out({PATH: EXPERIMENT}, options) == 0
    (one,) = standings(tmp_path)
    assert one.joined and len(one.done) == 4


# A member ---------------------------------------------------------------------------------------


@pytest.fixture
def member(tmp_path):
    def make(launcher="local"):
        options = Options("smoke", results=tmp_path / "results", cluster=Cluster(launcher, 2))
        return Member(1, 2, ["one.py"], options, str(tmp_path), [])

    return make


def told(member):
    return events_in(member.events, 0)[0]


def test_a_member_is_what_is_sent_and_requeued_unless_nothing_comes_of_it(member):
    one = member()
    assert pickle.loads(pickle.dumps(one)) == one
    for _ in range(members.MOST_IN_VAIN - 1):
        assert one.checkpoint().function is one
    assert one.checkpoint() is None
    Events(one.events, one)("waiting", None)  # for others, which is no fault of its own
    assert one.checkpoint().function is one and one.in_vain == 0


def test_events_are_lines_and_failures_are_kept(member, capsys, monkeypatch):
    one = member()
    tell = Events(one.events, one)
    for _ in range(100):
        tell("flops", 1.0)  # added up
    tell("failed", ("one.py", "ValueError: x", ""))
    tell("waiting", None)
    assert told(one) == [("flops", 100.0), ("failed", ["one.py", "ValueError: x", ""])]
    (found,) = standings(one.options.results)
    assert found.failure.cause == "ValueError: x"
    assert "failed one.py ValueError: x" in capsys.readouterr().out


@pytest.fixture
def asked_to_stop(monkeypatch):
    """Members whose work is a signal to themselves."""

    def by(number, finished=False):
        def work(share, plan, tell, stopping, neighbours):
            tell("flops", 1.0)
            signal.raise_signal(number)
            assert stopping() == number
            return finished

        monkeypatch.setattr(members, "carry_on", work)

    return by


@pytest.fixture
def hook():
    """What submitit would do at SIGUSR2."""
    calls = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: calls.append(number))
    yield calls
    signal.signal(signal.SIGUSR2, before)


@pytest.fixture(autouse=True)
def processors_stay(monkeypatch):
    monkeypatch.setattr(members, "keep_to", lambda cores: None)


def test_before_a_time_limit_it_stops_and_is_requeued(member, asked_to_stop, hook):
    asked_to_stop(signal.SIGUSR2)
    member()()
    assert hook == [signal.SIGUSR2] and told(member())[-1] == ("requeued", "SIGUSR2")


def test_a_member_that_has_finished_is_not_requeued(member, asked_to_stop, hook):
    asked_to_stop(signal.SIGUSR2, finished=True)
    member()()
    assert hook == [] and told(member())[-1] == ("ended", None)


def test_a_terminated_member_on_this_machine_ends(member, asked_to_stop, hook, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    asked_to_stop(signal.SIGTERM)
    member()()
    assert hook == [] and told(member())[-1] == ("left", "SIGTERM")


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING", "CANCELLED", ""])
def test_under_slurm_it_comes_back_unless_it_is_to_end(
    member, asked_to_stop, hook, tool, monkeypatch, state
):
    monkeypatch.setenv("SLURM_JOB_ID", "20")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    tool("squeue", f'#!/bin/sh\necho "$@" > {{folder}}/asked\necho {state}\n')
    asked_to_stop(signal.SIGTERM)
    running = state == "RUNNING"
    with contextlib.nullcontext() if running else pytest.raises(SystemExit, match="143"):
        member("slurm")()
    assert hook == ([signal.SIGUSR2] if running else [])
    assert told(member())[-1] == ("requeued" if running else "left", "SIGTERM")
    assert "--jobs 17_1" in (Path(os.environ["PATH"].split(os.pathsep)[0]) / "asked").read_text()


def test_a_member_that_breaks_says_so(member, monkeypatch):
    def work(*_, **__):
        raise ZeroDivisionError("of my own")

    monkeypatch.setattr(members, "carry_on", work)
    with pytest.raises(ZeroDivisionError):
        member()()
    assert told(member())[-1] == ("broke", "ZeroDivisionError: of my own")


# Sharing the work -------------------------------------------------------------------------------


def test_held_runs_are_tried_again_and_what_is_wanted_is_asked_only_when_something_is_new(
    tmp_path, monkeypatch
):
    """Three runs, of which another worker holds two for a while; then one follows."""
    runs = [SimpleNamespace(key=key, plan=SimpleNamespace(name="gd"), seed=0) for key in "abcd"]
    held, stored, asked, pauses = {"b", "c"}, set(), [], []

    def make_in(store, todo, watch):
        for run in todo:
            if run.key not in held:
                mine = run.key not in stored
                stored.add(run.key)
                yield [run], mine
        return [run for run in todo if run.key in held]

    def wanted():
        asked.append(set(stored))
        return [
            run for run in runs[: 4 if {"a", "b", "c"} <= stored else 3] if run.key not in stored
        ]

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 4:
            held.clear()
            stored.add("b")  # its holder finished it, and died over the other

    events = []
    monkeypatch.setattr(workers, "make_in", make_in)
    monkeypatch.setattr(workers, "grouped", lambda todo: [[run] for run in todo])
    monkeypatch.setattr(workers.time, "sleep", sleep)
    (share,) = shares({"one.py": []}, Options("smoke", results=tmp_path), 1)
    assert carry_on(share, lambda path: wanted, lambda *event: events.append(event), lambda: 0)
    assert stored == set("abcd")
    assert asked == [set(), {"a"}, {"a", "b", "c"}, set("abcd")]
    assert pauses == sorted(pauses) and pauses[-1] > 2 * pauses[0]
    assert ("found", ["b"]) in events and ("made", ["c"]) in events and ("waiting", None) in events


def test_each_begins_at_another_program_and_divides_none(tmp_path, monkeypatch):
    todo = ["a1", "a2", "b1", "b2", "c1"]
    groups = [["a1", "a2"], ["b1", "b2"], ["c1"]]
    monkeypatch.setattr(workers, "grouped", lambda todo: groups)
    each = shares({}, Options("smoke", results=tmp_path), 3)
    orders = [workers._from_own_place(todo, share) for share in each]
    assert orders == [
        ["a1", "a2", "b1", "b2", "c1"],
        ["b1", "b2", "c1", "a1", "a2"],
        ["c1", "a1", "a2", "b1", "b2"],
    ]


def test_a_member_stops_where_it_is_asked_to(tmp_path, monkeypatch):
    def make_in(store, todo, watch):
        raise Stopped
        yield

    monkeypatch.setattr(workers, "make_in", make_in)
    (share,) = shares({"one.py": []}, Options("smoke", results=tmp_path), 1)
    events = []
    assert not carry_on(share, lambda path: list, lambda *event: events.append(event), lambda: 15)
    assert events[-1] == ("stopped", None)


# For real, on this machine ----------------------------------------------------------------------


def searching(folder, steps=4):
    script = script_in(folder, steps=steps)
    text = script.read_text().replace("seeds=(0, 1)", "confirm=Confirm(seeds=(1,), growth=0)")
    script.write_text(text.replace("import Sweep", "import Confirm, Sweep"))
    return script


def alone(script, folder):
    """The same experiment made by one process."""
    options = Options("smoke", jobs=1, results=folder / "alone", figures=folder)
    assert carry_out({script: None}, options) == 0
    return load("mine", "smoke", options.results)


def test_members_search_confirm_join_and_the_command_draws(tmp_path, capsys):
    script, cluster = searching(tmp_path), Cluster("local", members=2)
    options = Options("smoke", results=tmp_path / "results", figures=tmp_path, cluster=cluster)
    status = carry_out({script: None}, options)
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "2 members, processes" in out and "Claims of mine at scale smoke" in out
    assert (tmp_path / "results/mine/smoke/mine.png").exists()
    np.testing.assert_allclose(
        load("mine", "smoke", tmp_path / "results")["loss"], alone(script, tmp_path)["loss"], 1e-6
    )
    (one,) = standings(tmp_path / "results")
    assert one.joined and len(one.done) == 6
    (logs,) = (tmp_path / "results/logs").iterdir()
    assert [kind for kind, _ in events_in(logs / "member-1.jsonl", 0)[0]][0] == "began"
    left = [path for path in tmp_path.rglob(".*") if path.suffix in (".part", ".lock")]
    assert left == [] and not list(tmp_path.rglob("*.json"))


def began(folder, index, times=1, timeout=300):
    """The process of a member that has begun so often and makes a run."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for path in folder.glob(f"results/logs/*/member-{index}.jsonl"):
            events = events_in(path, 0)[0]
            starts = [value for kind, value in events if kind == "began"]
            if len(starts) >= times and any(kind == "flops" and v for kind, v in events):
                return starts[-1]["process"]
        time.sleep(0.1)
    pytest.fail(f"member {index} did not begin")


@pytest.mark.slow
def test_a_requeued_member_goes_on_with_the_same_bits(tmp_path):
    script = searching(tmp_path, steps=100_000)
    arguments = (script, "--scale", "smoke", "--launcher", "local", "--members", "1")
    process = command(*arguments, cwd=tmp_path)
    os.kill(began(tmp_path, 0), signal.SIGUSR2)
    status, out, err = ended(process, timeout=600)
    assert status == 0, err
    assert "member 0 was stopped by SIGUSR2; it comes back and goes on" in out
    found = load("mine", "smoke", tmp_path / "results")
    np.testing.assert_array_equal(found["loss"], alone(script, tmp_path)["loss"])


@pytest.mark.slow
def test_what_a_killed_member_held_is_made_by_another(tmp_path):
    script = searching(tmp_path, steps=100_000)
    arguments = (script, "--scale", "smoke", "--launcher", "local", "--members", "2")
    process = command(*arguments, cwd=tmp_path)
    os.kill(began(tmp_path, 0), signal.SIGKILL)
    status, out, err = ended(process, timeout=600)
    assert status == 0, err
    assert "member 0 is gone: its log is " in out and "Claims of mine" in out


@pytest.mark.slow
def test_detached_members_go_on_and_status_and_the_same_command_tell_of_them(tmp_path):
    script = searching(tmp_path, steps=100_000)
    arguments = (script, "--scale", "smoke")
    launch = ("--launcher", "local", "--members", "1", "--detach")
    status, out, err = ended(command(*arguments, *launch, cwd=tmp_path))
    assert status == 0 and "1 members, processes" in out and "Claims" not in out
    began(tmp_path, 0)
    seen, deadline = set(), time.monotonic() + 200
    while "finished" not in seen and time.monotonic() < deadline:
        asked = command("-m", "imbalance.commands.main", "status", cwd=tmp_path)
        status, out, err = ended(asked)
        assert status == 0, err
        seen |= set(out.split())
    assert {"running", "finished"} <= seen
    status, out, err = ended(command(*arguments, cwd=tmp_path))
    assert status == 0 and "runs to make" not in out and "Claims of mine" in out


@pytest.mark.slow
def test_an_experiment_that_fails_in_every_member_is_reported_and_the_others_are_drawn(tmp_path):
    searching(tmp_path)
    broken = script_in(tmp_path, name="broken")
    broken.write_text(broken.read_text().replace("def own(rate):", "def own(rate):\n    1 / 0"))
    arguments = ("--scale", "smoke", "--launcher", "local", "--members", "2", "--experiments", ".")
    process = command("-m", "imbalance.reporting.reproduce", *arguments, cwd=tmp_path)
    status, out, err = ended(process, timeout=600)
    assert status == 1
    assert "FAILED  broken: ZeroDivisionError" in err and "Claims of mine" in out
    found = {one.name: one for one in standings(tmp_path / "results")}
    assert "ZeroDivisionError" in found["broken"].failure.cause
    assert found["mine"].joined
