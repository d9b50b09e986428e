"""Every experiment runs at smoke scale, and what is finished is never run again."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from imbalance.storage import results
from imbalance.reporting.claims import Claim, between
from imbalance.reporting.experiment import Experiment, Options, figure_path, perform, work
from imbalance.reporting.plots import panels
from imbalance.problems import weighted_quadratic
from imbalance.reporting.reproduce import claims_table, load_experiment, load_experiments
from imbalance.training.sweep import Sweep

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))
# Many or large programs to compile.
SLOW = (
    "fig1_language",
    "fig2_barcoded",
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
    "theory_bigram",
    "theory_memory",
    "vision_optimizers",
)


class Listener:
    """A progress bar that keeps what it is told, and may be interrupted after some reports."""

    def __init__(self, interrupt_after=None):
        self.flops, self.lines, self.left = 0.0, [], interrupt_after

    def report(self, flops):
        self.flops += flops
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    def say(self, text):
        self.lines.append(text)

    def now(self, what):
        pass


def stored(folder):
    """Every file under ``folder``, with its time of writing."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def in_folder(tmp_path, **changes):
    return Options(
        **{
            "scale": "smoke",
            "results": tmp_path / "results",
            "figures": tmp_path / "figures",
            **changes,
        }
    )


# The scripts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [pytest.param(s, marks=pytest.mark.slow) if s.stem in SLOW else s for s in SCRIPTS],
    ids=lambda script: script.stem,
)
def test_an_experiment_runs_is_drawn_and_is_not_run_twice(script, tmp_path):
    experiment, options = load_experiment(script), in_folder(tmp_path)
    to_do, first = work(experiment, options), Listener()
    assert to_do > 0
    claims = perform(experiment, options, first)
    assert first.flops == pytest.approx(to_do, rel=1e-9)
    assert claims and all(isinstance(claim, Claim) for claim in claims)
    assert claims_table({experiment.name: claims}, "smoke").count("\n| ") > len(claims)

    folder = options.results / experiment.name / "smoke"
    assert (folder / f"{experiment.name}.png").stat().st_size > 5000
    assert not options.figures.exists()
    dataset = results.load(experiment.name, "smoke", options.results)
    assert {"optimizer", "learning_rate", "seed", "step"} <= set(dataset["loss"].dims)

    assert work(experiment, options) == 0
    before, second = stored(options.results), Listener()
    again = perform(experiment, options, second)
    assert second.flops == 0
    assert [c.measured for c in again] == [c.measured for c in claims]
    rewritten = {path for path, time in stored(options.results).items() if before[path] != time}
    assert {path.suffix for path in rewritten} <= {".png"}  # pictures are drawn anew


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_scale_declares_sweeps_that_can_be_told_apart(script, scale):
    experiment = load_experiment(script)
    sweeps = experiment.sweeps(scale)
    assert len(sweeps) == 1 or experiment.over
    settings = [
        sweep.settings(optimizer, seed)
        for sweep in sweeps.values()
        for optimizer in sweep.learning_rates
        for seed in sweep.seeds
    ]
    assert all(settings.count(one) == 1 for one in settings)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_says_what_it_claims_and_how_to_run_it(script):
    text = script.read_text("utf-8")
    assert f"Run:    python experiments/{script.name}\n" in text
    assert f"Draws:  figures/{script.stem}.png\n" in text


def test_the_headline_comes_first_when_all_are_run():
    names = [experiment.name for experiment in load_experiments(ROOT / "experiments")]
    assert names[:2] == ["fig4_linear", "fig6_quadratic"]
    assert sorted(names) == [script.stem for script in SCRIPTS]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--scale", "smoke"], 0, "Claims of fig6_quadratic at scale smoke"),
        (["--scale", "smokey"], 2, "smokey"),
    ],
)
def test_the_command_line(tmp_path, arguments, status, said):
    script = ROOT / "experiments" / "fig6_quadratic.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "results").exists() == (status == 0)


# The runner, on an experiment of a moment ---------------------------------------------------------


def draw(dataset):
    figure, axes = panels(1, 1)
    axes[0, 0].plot(dataset["step"], dataset["loss"].isel(learning_rate=0, seed=0).T)
    return figure


def claims(dataset):
    return [between("T0", "finite", float(dataset["loss"].max()), high=9, fixed="arithmetic")]


TINY = Sweep(weighted_quadratic(5), {"gd": (0.5,), "sign": (0.5,)}, 4, seeds=(0, 1))
TINY_EXPERIMENT = Experiment("tiny", lambda scale: {"": TINY}, draw, claims)


@pytest.fixture
def options(tmp_path):
    return in_folder(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the results of all of it."""
    options = in_folder(tmp_path_factory.mktemp("finished"))
    assert perform(TINY_EXPERIMENT, options, Listener())
    return options.results


@pytest.fixture
def finished_options(options, finished):
    """The same, to do with what one likes."""
    shutil.copytree(finished, options.results)
    return options


def pieces(options):
    return sorted(path.name for path in options.results.rglob("*.nc"))


def test_an_interruption_loses_the_piece_in_flight_and_no_more(options):
    all_of_it = work(TINY_EXPERIMENT, options)
    # A piece of four steps makes one to four reports: this is in the second, third or fourth.
    with pytest.raises(KeyboardInterrupt):
        perform(TINY_EXPERIMENT, options, Listener(interrupt_after=4))
    done = pieces(options)
    assert 0 < len(done) < 4
    assert not list(options.results.rglob("*.part"))
    before = stored(options.results)

    left = work(TINY_EXPERIMENT, options)
    assert left == all_of_it * (4 - len(done)) / 4
    listener = Listener()
    assert perform(TINY_EXPERIMENT, options, listener)
    assert listener.flops == pytest.approx(left, rel=1e-9)
    after = stored(options.results)
    assert {path: after[path] for path in before} == before
    assert pieces(options) == [f"{o}-seed{s}.nc" for o in ("gd", "sign") for s in (0, 1)]


def test_only_some_optimizers(options):
    listener = Listener()
    assert perform(TINY_EXPERIMENT, replace(options, only=("sign",)), listener) is None
    assert pieces(options) == ["sign-seed0.nc", "sign-seed1.nc"]
    assert "still to be run: gd" in listener.lines[-1]
    assert not figure_path(TINY_EXPERIMENT, options).exists()
    only_gd = replace(options, only=("gd",))
    assert work(TINY_EXPERIMENT, only_gd) == work(TINY_EXPERIMENT, options) > 0


def test_an_unknown_optimizer_is_answered_with_the_known_ones(options):
    unknown = replace(options, only=("adam",))
    for do in (work, lambda *given: perform(*given, Listener())):
        with pytest.raises(ValueError, match="--only adam: tiny has no such .* compares gd, sign"):
            do(TINY_EXPERIMENT, unknown)


def test_redrawing_runs_nothing(options):
    redraw = replace(options, redraw=True)
    assert work(TINY_EXPERIMENT, redraw) == 0
    assert perform(TINY_EXPERIMENT, redraw, Listener()) is None
    assert pieces(options) == []


def test_redrawing_draws_again_and_leaves_results_alone(finished_options):
    def times():
        return {p: t for p, t in stored(finished_options.results).items() if p.suffix == ".nc"}

    before, listener = times(), Listener()
    assert perform(TINY_EXPERIMENT, replace(finished_options, redraw=True, pdf=True), listener)
    assert listener.flops == 0
    assert times() == before
    assert figure_path(TINY_EXPERIMENT, finished_options).with_suffix(".pdf").exists()


def test_results_of_another_sweep_stop_the_run_unless_it_may_overwrite(finished_options):
    longer = replace(TINY_EXPERIMENT, sweeps=lambda scale: {"": replace(TINY, steps=5)})
    before = stored(finished_options.results)
    for do in (work, lambda *given: perform(*given, Listener())):
        with pytest.raises(FileExistsError, match="steps: stored 4, asked 5"):
            do(longer, finished_options)
    assert stored(finished_options.results) == before
    assert perform(longer, replace(finished_options, overwrite=True), Listener())
    assert results.load("tiny", "smoke", finished_options.results).sizes["train_step"] == 5


def test_results_that_do_not_belong_to_the_experiment_are_not_mixed_in(finished_options):
    one = replace(TINY, learning_rates={"gd": (0.5,)})
    fewer = replace(TINY_EXPERIMENT, sweeps=lambda scale: {"": one})
    with pytest.raises(FileExistsError, match="sign-seed0.nc, sign-seed1.nc"):
        work(fewer, finished_options)


def test_where_figures_go(options):
    paths = {
        s: figure_path(TINY_EXPERIMENT, replace(options, scale=s)) for s in ("laptop", "paper")
    }
    assert paths["laptop"] == options.figures / "tiny.png"
    assert paths["paper"] == options.figures / "paper" / "tiny.png"
    assert figure_path(TINY_EXPERIMENT, options) == options.results / "tiny" / "smoke" / "tiny.png"


@pytest.mark.parametrize("text", ["x = 1\n", "from imbalance import experiment as EXPERIMENT\n"])
def test_a_script_without_an_experiment_is_refused(tmp_path, text):
    script = tmp_path / "stray.py"
    script.write_text(text)
    with pytest.raises(ValueError, match=r"stray.py must declare EXPERIMENT = Experiment\('stray'"):
        load_experiment(script)
