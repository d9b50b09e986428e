"""The paper's own sizes: what docs/paper.md says of them, and what is done where data lack."""

import importlib.util
import shutil
import sys
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from imbalance.problems import language
from imbalance.reporting.experiment import Options, load_experiment
from imbalance.reporting.reproduce import carry_out
from imbalance.training.plan import plans, runs

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))
SLOW = ("fig2_barcoded", "vision_optimizers")  # a second and a gigabyte each
# Data sets without which an experiment does not run at the paper's size.
NEEDED = {
    "fig1_language": ("wikitext-103",),
    "fig2_barcoded": ("mnist",),
    "fig5_last_layer": ("ptb",),
    "fig8_transformer_head": ("ptb",),
    "language_batch_size": ("ptb",),
    "language_one_layer": ("ptb",),
    "language_tokenizers": ("ptb", "wikitext-2"),
    "language_two_layer": ("ptb",),
    "vision_optimizers": ("mnist",),
    "fig3_imagenet": ("imagenet",),
    "vision_last_layer": ("imagenet",),
    "vision_layernorm": ("imagenet",),
    "vision_reweighted": ("imagenet",),
    "vision_transformer": ("imagenet",),
}
# Exponents of the rates that the authors selected: experiment, sweep, optimizer.
SELECTED = {
    ("fig1_language", "wikitext-103"): {"gd+m": -2, "adam": -4.5, "adamw": -4},
    ("fig2_barcoded", "imbalanced"): {"gd+m": -2, "adam": -2.5},
    ("fig4_linear", ""): {"gd+m": -3, "adam": -3.5},
    ("fig5_last_layer", ""): {
        "gd": -1, "gd+m": -1.5, "adam_without_momentum": -3, "adam": -2.5,
        "normalized_gd": -1, "normalized_gd+m": -2, "sign": -4, "sign+m": -3.5,
    },
    ("language_one_layer", ""): {
        "gd": -1, "gd+m": -1.5, "adam_without_momentum": -4, "adam": -3.5,
        "normalized_gd": 0, "normalized_gd+m": -1, "sign": -3.5, "sign+m": -5,
    },
    ("language_two_layer", 0.0): {"gd+m": -1.5, "adam": -3.5},
    ("language_two_layer", 0.5): {"gd+m": -0.5},
    ("linear_optimizers", ""): {
        "gd": -2.5, "gd+m": -3, "adam_without_momentum": -4, "adam": -3.5,
        "normalized_gd": -1, "normalized_gd+m": -1.5, "sign": -5, "sign+m": -5,
        "scaled_sign": -8, "scaled_sign+m": -8, "adagrad": -3,
    },
    ("linear_reweighted", 0.0): {"gd+m": -3, "adam": -3.5},
    ("linear_reweighted", 0.5): {"gd+m": -2},
    ("linear_reweighted", 1.0): {"gd+m": 0},
    ("vision_optimizers", 0.0): {
        "gd": -1, "gd+m": -2.5, "adam_without_momentum": -2.5, "adam": -2.5,
        "normalized_gd": 0, "normalized_gd+m": 0, "sign": -2.5, "sign+m": -3.5,
    },
    ("vision_optimizers", 1.0): {"gd+m": -0.5},
}  # fmt: skip
MEASURED = {  # as often as the authors: every 100 steps, every step, every epoch of 52 steps
    "fig1_language": range(0, 15_001, 100),
    "fig2_barcoded": range(301),
    "fig4_linear": range(151),
    "fig5_last_layer": range(1_001),
    "language_one_layer": range(501),
    "language_two_layer": range(0, 5_201, 52),
    "linear_optimizers": range(501),
    "linear_reweighted": range(1_001),
    "vision_optimizers": range(401),
}


def marked(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


@pytest.fixture(scope="module")
def sizes():
    """The script that reckons what the paper's sizes cost."""
    spec = importlib.util.spec_from_file_location(
        "paper_sizes", ROOT / "benchmarks" / "paper_sizes.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["paper_sizes"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sweeps(sizes):
    """Name -> the sweeps of an experiment at the paper's size, by what differs."""

    @cache
    def of(name):
        experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
        with sizes.stand_ins():
            return dict(experiment.sweeps("paper"))

    return of


# The programs -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_program_of_the_papers_sizes_lowers_for_accelerators(sweeps, name):
    for sweep in sweeps(name).values():
        for plan in plans(sweep):
            programs = plan.programs(2)  # there runs of an optimizer share a program
            for program in (programs.start, programs.advance, *programs.measure):
                for platform in ("cuda", "tpu"):
                    assert "func.func public @main" in program.lowered(platform).as_text()


# The table --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", marked(SCRIPTS))
def test_the_table_of_the_papers_sizes_is_true(sizes, sweeps, name):
    """If this fails, put what `python benchmarks/paper_sizes.py` prints into docs/paper.md."""
    row = sizes.row(name, sizes.cost(name, list(sweeps(name).values())))
    found = [
        line
        for line in (ROOT / "docs" / "paper.md").read_text("utf-8").splitlines()
        if line.startswith(f"| `{name}` |")
    ]
    assert len(found) == 1
    assert found[0].startswith(row)


def test_what_is_said_to_be_run_already_is_the_same_at_laptop_scale():
    lines = (ROOT / "docs" / "paper.md").read_text("utf-8").splitlines()
    said = [line.split("`")[1] for line in lines if "| yes: laptop scale is the same" in line]
    assert "fig6_quadratic" in said
    for name in said:
        experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
        paper, laptop = (
            {run.key for sweep in experiment.sweeps(scale).values() for run in runs(plans(sweep))}
            for scale in ("paper", "laptop")
        )
        assert paper == laptop


@pytest.mark.parametrize(
    ("name", "value", "rates"),
    [
        pytest.param(*key, rates, marks=pytest.mark.slow if key[0] in SLOW else ())
        for key, rates in SELECTED.items()
    ],
)
def test_the_rates_that_the_authors_selected_are_inside_of_the_grids(sweeps, name, value, rates):
    grids = sweeps(name)[value].learning_rates
    for optimizer, exponent in rates.items():
        exponents = np.log10(grids[optimizer])
        assert exponents.min() < exponent < exponents.max()
        assert np.isclose(exponents, exponent).any()


@pytest.mark.parametrize("name", marked(MEASURED))
def test_losses_are_measured_as_often_as_by_the_authors(sweeps, name):
    for sweep in sweeps(name).values():
        assert sweep.stops == tuple(MEASURED[name])


@pytest.mark.parametrize("name", marked([*NEEDED, "fig4_linear", "linear_reweighted"]))
def test_seeds_are_as_many_as_the_authors(sweeps, name):
    for sweep in sweeps(name).values():
        shown = sweep.confirm.seeds if sweep.confirm else sweep.seeds
        assert len(shown) == (2 if name == "fig1_language" else 3)


# The models and their data ----------------------------------------------------------------------


def sizes_of(sweep):
    """Shapes of the parameters, by name."""
    start = jax.eval_shape(sweep.problem.task.init, jax.random.key(0))
    leaves, _ = jax.tree_util.tree_flatten_with_path(start)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape for path, leaf in leaves
    }


def architectures_of(name, sizes, monkeypatch):
    """Each model that a script makes at the paper's size, and whether it is measured with noise."""
    experiment, made = load_experiment(ROOT / "experiments" / f"{name}.py"), []
    make = language.next_token_problem

    def noted(corpus, architecture, *arguments, noisy_evaluation=False, **options):
        made.append((architecture, noisy_evaluation))
        options["noisy_evaluation"] = noisy_evaluation
        return make(corpus, architecture, *arguments, **options)

    with sizes.stand_ins():
        monkeypatch.setattr(language, "next_token_problem", noted)
        experiment.sweeps("paper")
    return made


@pytest.mark.parametrize(
    ("name", "wanted", "noisy"),
    [
        ("fig1_language", {"num_layers": 12, "num_heads": 12, "width": 768, "dropout": 0.1,
                           "attention_dropout": 0.1, "copied_attention": True}, True),
        ("language_two_layer", {"num_layers": 2, "num_heads": 4, "width": 1_000, "dropout": 0.2,
                                "attention_dropout": 0.2, "copied_attention": True}, True),
        ("language_batch_size", {"num_layers": 2, "num_heads": 4, "width": 1_000, "dropout": 0.2,
                                 "attention_dropout": 0.2}, True),
        ("language_one_layer", {"num_layers": 1, "num_heads": 1, "width": 1_200, "dropout": 0.2,
                                "attention_dropout": 0.2}, True),
        ("fig8_transformer_head", {"num_layers": 1, "num_heads": 1, "width": 1_200, "dropout": 0.0,
                                   "attention_dropout": 0.0}, False),
    ],
)  # fmt: skip
def test_models_are_the_papers(sizes, monkeypatch, name, wanted, noisy):
    for architecture, is_noisy in architectures_of(name, sizes, monkeypatch):
        assert {field: getattr(architecture, field) for field in wanted} == wanted
        assert is_noisy == noisy


def test_tiny_ptb_has_the_papers_targets_and_the_head_of_the_whole_vocabulary(sizes, sweeps):
    classes = sizes.TEXTS["ptb"][2]
    for name in ("fig5_last_layer", "language_one_layer", "fig8_transformer_head"):
        (sweep,) = sweeps(name).values()
        assert sweep.problem.counts.sum() == 71_680  # 70 x 1,024
        assert len(sweep.problem.counts) == classes == sizes_of(sweep)["weight"][0]
    two_layers = sweeps("language_two_layer")[0.0]
    assert two_layers.problem.counts.sum() == 923_648  # 1,804 x 512
    assert two_layers.problem.num_rows == 52 * two_layers.batch_size


def test_figure_1_learns_fifty_thousand_pieces(sweeps):
    (sweep,) = sweeps("fig1_language").values()
    assert sizes_of(sweep)["weight"] == (50_000, 768)
    assert (sweep.batch_size, sweep.problem.shapes.label.shape[1]) == (512, 1_024)
    assert sweep.measured_rows * 1_024 > 5e6


# What is done where data lack -------------------------------------------------------------------


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_data_set_is_told_and_never_substituted(tmp_path, monkeypatch, name):
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    monkeypatch.delenv("IMBALANCE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=f"needs {NEEDED[name][0]}, .* is not set; set it"):
        experiment.sweeps("paper")
    monkeypatch.setenv("IMBALANCE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"has no folder {NEEDED[name][0]}/; make it, wit"):
        experiment.sweeps("paper")


def test_nothing_else_needs_data(sizes, monkeypatch):
    monkeypatch.delenv("IMBALANCE_DATA", raising=False)
    for name in SCRIPTS:
        if name not in NEEDED:
            assert load_experiment(ROOT / "experiments" / f"{name}.py").sweeps("paper")


def test_the_other_experiments_go_on(tmp_path, monkeypatch, capsys):
    """Figure 5 cannot be planned without PTB; Figure 6 is drawn all the same."""
    monkeypatch.delenv("IMBALANCE_DATA", raising=False)
    scripts = {}
    for name in ("fig5_last_layer", "fig6_quadratic"):
        path = shutil.copy(ROOT / "experiments" / f"{name}.py", tmp_path)
        scripts[Path(path)] = None
    options = Options("paper", jobs=1, results=tmp_path / "results", figures=tmp_path / "figures")
    assert carry_out(scripts, options) == 1
    said = capsys.readouterr()
    assert "the paper's size needs ptb, and IMBALANCE_DATA is not set" in said.err
    assert (tmp_path / "figures" / "paper" / "fig6_quadratic.png").exists()
