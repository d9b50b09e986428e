"""Every experiment runs at smoke scale, and the commands do what the README says of them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from imbalance.analysis.selection import at_best, best_learning_rate
from imbalance.problems import weighted_quadratic
from imbalance.reporting.claims import between
from imbalance.reporting.experiment import MAIN, Experiment, Options, load_experiment, scripts
from imbalance.reporting.plots import panels
from imbalance.reporting.reproduce import ReproduceOptions, carry_out
from imbalance.reporting.work import plans_of, resolve
from imbalance.storage.datasets import dataset_path, load, read
from imbalance.storage.store import Store
from imbalance.training.plan import runs
from imbalance.training.sweep import Sweep

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))
# Many or large programs to compile.
SLOW = (
    "fig1_language",
    "fig2_barcoded",
    "fig3_imagenet",
    "fig5_last_layer",
    "fig7_correlation",
    "fig8_transformer_head",
    "language_batch_size",
    "language_one_layer",
    "language_tokenizers",
    "language_two_layer",
    "linear_balanced",
    "linear_block_spectra",
    "linear_class_statistics",
    "linear_exponent",
    "linear_hessian_entries",
    "linear_inputs",
    "linear_l2",
    "linear_optimizers",
    "linear_pilots",
    "linear_reweighted",
    "linear_size",
    "theory_bigram",
    "theory_memory",
    "vision_last_layer",
    "vision_layernorm",
    "vision_optimizers",
    "vision_reweighted",
    "vision_transformer",
)


@pytest.fixture
def options(tmp_path):
    return Options("smoke", jobs=1, results=tmp_path / "results", figures=tmp_path / "figures")


def files_in(folder):
    """Every file under ``folder``, with its time of writing."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def runs_in(options):
    """Keys of the stored runs."""
    return {path.stem for path in (options.results / "runs").glob("*/*.nc")}


# The scripts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [pytest.param(s, marks=pytest.mark.slow) if s.stem in SLOW else s for s in SCRIPTS],
    ids=lambda script: script.stem,
)
def test_an_experiment_runs_is_drawn_and_is_not_run_twice(script, options, capsys):
    assert carry_out({script: None}, options) == 0
    first = capsys.readouterr().out
    assert f"Claims of {script.stem} at scale smoke" in first
    assert options.figure_path(script.stem).stat().st_size > 5000
    assert not list(options.figures.iterdir()) if options.figures.exists() else True
    dataset = load(script.stem, "smoke", options.results)
    assert {"optimizer", "learning_rate", "seed", "step"} <= set(dataset["loss"].dims)
    assert {path.suffix for path in files_in(options.results)} == {".nc", ".png"}

    before = files_in(options.results)
    assert carry_out({script: None}, options) == 0
    again = capsys.readouterr().out
    claims = "Claims of"
    assert again[again.index(claims) :] == first[first.index(claims) :]
    rewritten = {path for path, time in files_in(options.results).items() if before[path] != time}
    assert {path.suffix for path in rewritten} == {".png"}  # pictures are drawn anew

    names = [claim.name for claim in load_experiment(script).claims(dataset)]
    assert len(names) == len(set(names)), "each claim has a name of its own"


@pytest.mark.parametrize("scale", ["smoke", "laptop"])  # "paper" needs data: test_paper.py
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_scale_declares_sweeps(script, scale):
    experiment = load_experiment(script)
    sweeps = experiment.sweeps(scale)
    assert sweeps and (len(sweeps) == 1 or experiment.over)
    assert all(isinstance(sweep, Sweep) for sweep in sweeps.values())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_says_what_it_claims_and_how_to_run_it(script):
    text = script.read_text("utf-8")
    assert f"Run:    python experiments/{script.name}\n" in text
    assert f"Draws:  figures/{script.stem}.png\n" in text


def test_the_main_figures_come_first_and_alone_unless_all_are_asked_for():
    every = [path.stem for path in scripts(ROOT / "experiments", every=True)]
    assert sorted(every) == [script.stem for script in SCRIPTS]
    assert [path.stem for path in scripts(ROOT / "experiments", every=False)] == list(MAIN)
    assert every[: len(MAIN)] == list(MAIN)


def test_a_folder_without_experiments_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no experiment scripts .* --experiments"):
        scripts(tmp_path, every=True)


# The runner, on an experiment of a moment ---------------------------------------------------------


def draw(dataset):
    figure, axes = panels(1, 1)
    axes[0, 0].plot(dataset["step"], dataset["loss"].isel(learning_rate=0, seed=0).T)
    return figure


def claims(dataset):
    return [between("finite", "finite", float(dataset["loss"].max()), high=9, fixed="arithmetic")]


TINY = Sweep(weighted_quadratic(5), {"gd": (0.5,), "sign": (0.5,)}, 4, seeds=(0, 1))
EXPERIMENT = Experiment("tiny", lambda scale: {"": TINY}, draw, claims)
PATH = Path("tiny.py")


def carried_out(options, experiment=EXPERIMENT):
    return carry_out({PATH: experiment}, options)


def declaring(**changes):
    """The experiment with another sweep."""
    return replace(EXPERIMENT, sweeps=lambda scale: {"": replace(TINY, **changes)})


def test_what_is_stored_is_not_run_again_and_one_more_rate_is_one_more_run(options, capsys):
    assert carried_out(options) == 0
    four = runs_in(options)
    assert len(four) == 4
    wider = declaring(learning_rates={"sign": (0.5,), "gd": (0.5, 1.0)}, seeds=(0,))
    capsys.readouterr()
    assert carried_out(options, wider) == 0
    assert "1 runs to make" in capsys.readouterr().out
    assert four < runs_in(options) and len(runs_in(options)) == 5
    assert load("tiny", "smoke", options.results)["learning_rate"].values.tolist() == [0.5, 1.0]
    assert carried_out(options) == 0  # and back: nothing is refused, nothing is run
    assert len(runs_in(options)) == 5
    assert load("tiny", "smoke", options.results)["seed"].values.tolist() == [0, 1]


def test_more_steps_are_other_runs_and_nothing_is_in_their_way(options):
    assert carried_out(options) == 0
    assert carried_out(options, declaring(steps=5)) == 0
    assert load("tiny", "smoke", options.results).sizes["train_step"] == 5
    assert len(runs_in(options)) == 8


def test_two_experiments_share_their_runs(options):
    assert carried_out(options) == 0
    other = Experiment("other", lambda scale: {"": TINY}, draw, claims)
    assert resolve(PATH, other, options).missing == []
    assert carry_out({Path("other.py"): other}, options) == 0
    assert len(runs_in(options)) == 4
    one, two = (load(name, "smoke", options.results) for name in ("tiny", "other"))
    assert one.drop_attrs().equals(two.drop_attrs())


def test_only_some_optimizers(options, capsys):
    assert carried_out(replace(options, only=("sign",))) == 0
    assert len(runs_in(options)) == 2
    assert "still to be run: gd" in capsys.readouterr().out
    assert not options.figure_path("tiny").exists()
    assert carried_out(replace(options, only=("gd",))) == 0
    assert options.figure_path("tiny").exists()


def test_an_unknown_optimizer_is_answered_with_the_known_ones(options, capsys):
    assert carried_out(replace(options, only=("adam",))) == 1
    assert (
        "--only adam: tiny has no such optimizer; it compares gd, sign" in capsys.readouterr().err
    )


def test_redrawing_runs_nothing(options, capsys):
    redraw = replace(options, redraw=True, pdf=True)
    assert carried_out(redraw) == 0
    assert "still to be run: gd, sign" in capsys.readouterr().out
    assert runs_in(options) == set()
    assert carried_out(options) == 0
    stored = {p: t for p, t in files_in(options.results).items() if p.suffix == ".nc"}
    assert carried_out(redraw) == 0
    after = files_in(options.results)
    assert {p: after[p] for p in stored} == stored
    assert options.figure_path("tiny").with_suffix(".pdf").exists()


def test_overwriting_makes_all_runs_anew(options):
    assert carried_out(options) == 0
    before = files_in(options.results / "runs")
    assert carried_out(replace(options, overwrite=True)) == 0
    after = files_in(options.results / "runs")
    assert before.keys() == after.keys()
    assert all(after[path] > before[path] for path in before)


def test_a_damaged_run_is_made_again_and_no_other(options):
    assert carried_out(options) == 0
    first = read(dataset_path("tiny", "smoke", options.results))
    before = files_in(options.results / "runs")
    spoilt = sorted(before)[1]
    data = bytearray(spoilt.read_bytes())
    data[len(data) // 2] ^= 1
    spoilt.write_bytes(data)
    dataset_path("tiny", "smoke", options.results).write_bytes(b"not a dataset")
    assert carried_out(options) == 0
    after = files_in(options.results / "runs")
    assert {path for path in before if before[path] != after[path]} == {spoilt}
    assert read(dataset_path("tiny", "smoke", options.results)).equals(first)


def test_results_of_an_earlier_version_are_left_alone_and_said_so(options, capsys):
    old = options.results / "tiny" / "smoke" / "gd-seed0.nc"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of version 0.1")
    assert carried_out(options) == 0
    assert "earlier version of this package (tiny); they are left alone" in capsys.readouterr().out
    assert old.read_bytes() == b"of version 0.1"


def test_a_dataset_says_who_made_it_and_what_its_coordinates_are(options):
    assert carried_out(options) == 0
    found = load("tiny", "smoke", options.results)
    assert "0 holds the most frequent" in found["bucket"].attrs["long_name"]
    assert all("long_name" in found[name].attrs for name in ("learning_rate", "seed", "step"))
    (maker,) = json.loads(found.attrs["provenance"])
    assert {"command", "versions", "processor", "threads", "git_commit", "device"} <= set(maker)
    assert maker["runs"] == 4
    (settings,) = json.loads(found.attrs["settings"])
    assert settings["problem"] == {"name": "weighted_quadratic", "num_classes": 5}
    assert settings["learning_rates"] == {"gd": [0.5], "sign": [0.5]}


def test_sweeps_that_differ_are_laid_along_their_difference(options):
    sweeps = {power: replace(TINY, weighting=power) for power in (0.5, 0.0)}
    several = replace(EXPERIMENT, sweeps=lambda scale: sweeps, over="weighting")
    several = replace(several, draw=lambda dataset: draw(dataset.isel(weighting=0)))
    assert carried_out(options, several) == 0
    found = load("tiny", "smoke", options.results)
    assert found["weighting"].values.tolist() == [0.5, 0.0]
    assert found["status"].dims == ("weighting", "optimizer", "learning_rate", "seed")
    assert len(json.loads(found.attrs["settings"])) == 2
    assert carried_out(options, replace(several, over=None)) == 1


# What goes wrong ----------------------------------------------------------------------------------


def broken(*_):
    raise ZeroDivisionError("of my own")


@pytest.mark.parametrize("part", ["sweeps", "draw", "claims"])
def test_an_experiment_that_fails_is_reported_and_the_others_go_on(options, capsys, part):
    failing = replace(EXPERIMENT, name="failing", **{part: broken})
    assert carry_out({Path("failing.py"): failing, PATH: EXPERIMENT}, options) == 1
    told = capsys.readouterr()
    assert "FAILED  failing: ZeroDivisionError: of my own" in told.err
    assert "in broken" in told.err  # a traceback leads to the user's own code
    assert "Claims of tiny" in told.out and "Claims of failing" not in told.out


def test_a_diverging_run_is_a_result(options):
    wild = declaring(learning_rates={"gd": (1e30,), "sign": (0.5,)})
    assert carried_out(options, replace(wild, claims=lambda dataset: [])) == 0
    status = load("tiny", "smoke", options.results)["status"]
    assert status.sel(optimizer="gd", learning_rate=1e30).values.tolist() == [2, 2]


@pytest.mark.parametrize(
    "name", ["../../up", "/absolute", "", "a/b", "nul\0", ".hidden", "x" * 101]
)
def test_names_cannot_leave_the_folder_of_results(name):
    with pytest.raises(ValueError, match="give a name of letters"):
        replace(EXPERIMENT, name=name)


@pytest.mark.parametrize("optimizer", ["../../x", "/absolute/x", "nul\0", "x" * 5000])
def test_names_of_optimizers_name_no_file(options, optimizer, tmp_path):
    sweep = replace(TINY, learning_rates={optimizer: (0.5,)}, optimizers={optimizer: sgd})
    hostile = replace(EXPERIMENT, sweeps=lambda scale: {"": sweep})
    assert carried_out(options, hostile) == 0
    inside = {options.results, options.figures}
    assert all(inside & set(path.parents) for path in files_in(tmp_path))


def sgd(rate):
    import optax

    return optax.sgd(rate)


def test_read_only_results_are_noticed_before_the_first_run(options, capsys):
    blocked = options.results
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("a file where the folder should be")
    assert carried_out(options) == 1
    assert str(blocked) in capsys.readouterr().err


def test_too_little_room_is_noticed_before_the_first_run(options, capsys, monkeypatch):
    import shutil

    usage = shutil.disk_usage(options.figures.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert carried_out(options) == 1
    assert "MiB left and the results need" in capsys.readouterr().err
    assert runs_in(options) == set()


def test_several_processes_of_jax_are_refused_in_one_sentence(options, capsys, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert carried_out(options) == 1
    assert "experiments run in one process" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["x = 1\n", "from imbalance.reporting import experiment as EXPERIMENT\n"]
)
def test_a_script_without_an_experiment_is_refused(tmp_path, text):
    script = tmp_path / "stray.py"
    script.write_text(text)
    with pytest.raises(ValueError, match=r"stray.py must declare EXPERIMENT = Experiment\('stray'"):
        load_experiment(script)


def test_only_is_for_one_experiment():
    with pytest.raises(ValueError, match="--only and --rates name optimizers of one experiment"):
        ReproduceOptions(only=("gd",))


# Commands, in processes of their own --------------------------------------------------------------

SCRIPT = '''
"""A tiny experiment.

Run:    python {name}.py
"""
import optax
from imbalance.problems import heavy_tailed_linear
from imbalance.reporting.claims import between
from imbalance.reporting.experiment import Experiment, main
from imbalance.reporting.plots import panels
from imbalance.training.optimizers import OPTIMIZERS
from imbalance.training.plan import runs
from imbalance.training.sweep import Sweep


def own(rate):
    return optax.chain(optax.scale_by_sign(), optax.sgd(rate, {momentum}))


def sweeps(scale):
    rates = {{"gd": (0.1, 1.0), "own": (0.01, 0.1)}}
    optimizers = {{**OPTIMIZERS, "own": own}}
    settings = dict(seeds=(0, 1), stops=(0, {steps}), optimizers=optimizers)
    return {{"": Sweep(heavy_tailed_linear(3), rates, {steps}, **settings)}}


def draw(dataset):
    return panels(1, 1)[0]


def claims(dataset):
    worst = float(dataset["loss"].max())
    return [between("finite", "the largest loss", worst, high=1e9, fixed="arithmetic")]


EXPERIMENT = Experiment("{name}", sweeps, draw, claims)

if __name__ == "__main__":
    main(EXPERIMENT)
'''


def script_in(folder, name="mine", steps=4, momentum=0.9):
    path = folder / f"{name}.py"
    path.write_text(SCRIPT.format(name=name, steps=steps, momentum=momentum))
    return path


ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, arguments)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def ended(process, timeout=240):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def test_the_command_line_of_a_script(tmp_path):
    status, out, err = ended(command(script_in(tmp_path), "--scale", "smoke", cwd=tmp_path))
    assert status == 0, err
    assert "Claims of mine at scale smoke" in out
    assert "Traceback" not in err
    keys = {path.stem for path in (tmp_path / "results/runs").glob("*/*.nc")}
    assert len(keys) == 8
    # The same runs by another way: nothing is left to make.
    arguments = ("-m", "imbalance.reporting.reproduce", "--scale", "smoke", "--experiments", ".")
    status, out, err = ended(command(*arguments, cwd=tmp_path))
    assert status == 0, err
    assert "runs to make" not in out
    # A changed body of one's own optimizer is seen.
    script_in(tmp_path, momentum=0.5)
    status, out, err = ended(command("mine.py", "--scale", "smoke", cwd=tmp_path))
    assert "4 runs to make" in out


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_is_carried_out_and_its_winners_run_on_fresh_seeds(tmp_path, jobs):
    script = script_in(tmp_path)
    text = script.read_text().replace("seeds=(0, 1)", "confirm=Confirm(seeds=(1, 2), growth=1)")
    script.write_text(text.replace("import Sweep", "import Confirm, Sweep"))
    arguments = (script, "--scale", "smoke", "--jobs", jobs)
    status, out, err = ended(command(*arguments, cwd=tmp_path))
    assert status == 0, err
    assert "4 runs to make" in out and "Claims of mine" in out
    found = load("mine", "smoke", tmp_path / "results")
    best = best_learning_rate(found, 4)
    chosen = at_best(found, 4)
    assert chosen["seed"].values.tolist() == [1, 2]
    assert np.isfinite(chosen["loss"]).all() and np.isfinite(best["learning_rate"]).all()
    stored = {path.stem for path in (tmp_path / "results/runs").glob("*/*.nc")}
    assert stored == set(json.loads(found.attrs["runs"]))
    # A second command makes nothing; with --overwrite all of it is made again.
    status, out, err = ended(command(*arguments, cwd=tmp_path))
    assert status == 0 and "runs to make" not in out
    status, out, err = ended(command(*arguments, "--overwrite", cwd=tmp_path))
    assert status == 0 and "4 runs to make" in out
    again = load("mine", "smoke", tmp_path / "results")
    np.testing.assert_array_equal(again["loss"], found["loss"])
    # Without one of the runs that followed the search, only that one is missing.
    lost = next((tmp_path / "results/runs").glob(f"*/{plain_key(found)}.nc"))
    lost.unlink()
    (tmp_path / "results/mine/smoke.nc").unlink()
    status, out, err = ended(command(*arguments, cwd=tmp_path))
    assert status == 0 and "1 runs to make" in out


def plain_key(dataset):
    """Of the last run, which a search led to."""
    return json.loads(dataset.attrs["runs"])[-1]


def test_an_unknown_scale_is_refused(tmp_path):
    status, out, err = ended(command(script_in(tmp_path), "--scale", "smokey", cwd=tmp_path))
    assert status == 2 and "smokey" in out + err
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_workers_and_commands_side_by_side_make_each_run_once(tmp_path):
    script = script_in(tmp_path, steps=400)
    arguments = (script, "--scale", "smoke", "--jobs", "2")
    both = [command(*arguments, cwd=tmp_path) for _ in range(2)]
    for process in both:
        status, out, err = ended(process)
        assert status == 0, err
    assert sum(1 for _ in (tmp_path / "results/runs").glob("*/*.nc")) == 8
    left = [path for path in tmp_path.rglob(".*") if path.suffix in (".part", ".lock")]
    assert left == []
    alone = tmp_path / "alone"
    alone.mkdir()
    status, _, err = ended(command(script, "--scale", "smoke", "--jobs", "1", cwd=alone))
    assert status == 0, err
    one, two = (load("mine", "smoke", folder / "results") for folder in (tmp_path, alone))
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-6)  # other numbers of threads


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_signal_saves_what_is_on_its_way_and_the_same_command_goes_on(tmp_path, number, jobs):
    script = script_in(tmp_path, steps=200_000)
    arguments = (script, "--scale", "smoke", "--jobs", jobs)
    process = command(*arguments, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("results/runs/*/.*.lock")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)
    process.send_signal(number)
    status, out, err = ended(process)
    assert status == 128 + number, err
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert list(tmp_path.glob("results/runs/*/*.checkpoint"))
    assert not [path for path in tmp_path.rglob(".*") if path.suffix in (".part", ".lock")]


@pytest.mark.slow
def test_without_a_terminal_progress_is_lines(tmp_path, monkeypatch):
    script = script_in(tmp_path, steps=300_000)
    code = (
        "import sys, runpy, imbalance.reporting.progress as p; p.SECONDS_A_LINE = 1.0; "
        f"sys.argv = [{str(script)!r}, '--scale', 'smoke', '--jobs', '1']; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    process = command("-c", code, cwd=tmp_path)
    status, out, err = ended(process)
    assert status == 0, err
    lines = [line for line in err.splitlines() if " left" in line and "%" in line]
    assert len(lines) >= 2 and "\r" not in err


def test_keys_of_a_script_are_the_same_wherever_it_is_loaded(tmp_path):
    keys = set()
    for folder in ("one", "another/deeper"):
        (tmp_path / folder).mkdir(parents=True)
        experiment = load_experiment(script_in(tmp_path / folder))
        (found,) = plans_of(experiment, Options("smoke")).values()
        keys.add(tuple(run.key for run in runs(found)))
    assert len(keys) == 1
    assert os.path.basename(script_in(tmp_path)) == "mine.py"


def test_a_store_can_be_looked_at_while_it_is_read_only(options):
    assert carried_out(options) == 0
    store = Store(options.results / "runs")
    assert all(store.has(key) for key in runs_in(options))
