"""The command line as a whole: help, what it needs, how it ends, completion, experiments."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_experiments import script_in
from test_installation import PROJECT, libraries_of, run_without

from imbalance.commands import figures as figures_command
from imbalance.commands import main as entry
from imbalance.commands import reproduce as reproduce_command
from imbalance.commands import run as run_command
from imbalance.commands.main import (
    COMMANDS,
    EXTRAS,
    LIBRARIES,
    SHELLS,
    described,
    function_of,
    main,
    usage,
)
from imbalance.commands.run import listed, script_of, told
from imbalance.reporting.experiment import Options
from imbalance.reporting.redraw import RedrawOptions

ROOT = Path(__file__).resolve().parents[1]
LABORATORY = [name for name, extra in EXTRAS.items() if extra == "lab"]


def call(*arguments):
    """The exit status of a command, or what it says of an error."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


# Help -------------------------------------------------------------------------------------------


def test_the_help_of_all_commands_fits_a_screen():
    lines = usage().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in COMMANDS)
    assert "pip install" not in usage()  # where everything is there


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_fits_a_screen(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "60")
    assert call(name, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60, "\n".join(lines)
    assert max(len(line) for line in lines if not line.startswith("usage:")) <= 80
    words = described(function_of(name)).splitlines()
    assert lines[: len(words)] == words
    assert not re.search(r"options\.\w", "\n".join(lines)), "options have no prefix"


# What is needed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", LIBRARIES)
def test_libraries_are_those_of_the_extras(extra):
    assert set(LIBRARIES[extra]) == libraries_of(extra)


def test_the_base_alone_has_help_that_says_what_to_install():
    hidden = libraries_of("lab") | libraries_of("analysis") | libraries_of("report")
    code = "from imbalance.commands.main import main; main(['--help'])"
    found = run_without(hidden, code)
    assert found.returncode == 0, found.stderr
    said, words = found.stdout.splitlines(), " ".join(found.stdout.split())
    light = [name for name in COMMANDS if name not in EXTRAS]
    assert f"{', '.join(LABORATORY)} need more: pip install 'imbalance[lab]'" in words
    assert f"{', '.join(light)} need more: pip install 'imbalance[analysis]'" in words
    assert "report need more: pip install 'imbalance[report]'" in words
    assert len(said) <= 24 and max(map(len, said)) <= 80


@pytest.mark.parametrize("name", LABORATORY)
@pytest.mark.parametrize("also", ["lab", "analysis"])
def test_without_the_laboratory_a_command_says_what_to_install(name, also):
    hidden = libraries_of("lab") | libraries_of(also)
    code = f"from imbalance.commands.main import main; main([{name!r}, '--help'])"
    found = run_without(hidden, code)
    assert found.returncode == 1
    assert re.fullmatch(
        rf"imbalance {name} needs \w+: pip install 'imbalance\[lab\]'\n", found.stderr
    )


def test_one_command_serves_all():
    assert PROJECT["scripts"] == {"imbalance": "imbalance.commands.main:main"}


# Wrong names, and how it ends -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"), [("reprodcue", "reproduce"), ("Count", "counts"), ("figure", "figures")]
)
def test_an_unknown_command_is_answered_with_the_nearest(name, meant, capsys):
    assert call(name) == 2
    said = capsys.readouterr()
    assert said.err.startswith(
        f"imbalance: there is no command {name!r}; did you mean {meant!r}?\n"
    )
    assert not said.out and usage() in said.err


def test_where_none_is_near_none_is_suggested(capsys):
    assert call("xyzzy") == 2
    assert capsys.readouterr().err.startswith("imbalance: there is no command 'xyzzy'.\n")


def test_a_wrong_option_or_value_is_status_2(capsys):
    assert call("reproduce", "--scael", "smoke") == 2
    assert call("run", "fig6_quadratic", "--scale", "smokey") == 2
    capsys.readouterr()
    assert call("run", "fig6_quadratic", "--jobs", "0") == 2
    assert capsys.readouterr().err == "imbalance run: --jobs 0: give 1 or more.\n"


@pytest.mark.parametrize("status", [0, 1, 143])
def test_the_exit_status_is_that_of_the_work(status, monkeypatch):
    monkeypatch.setattr(reproduce_command, "carry_out", lambda experiments, options: status)
    assert call("reproduce", "--experiments", ROOT / "experiments") == status


def test_ctrl_c_ends_cleanly(monkeypatch, capsys):
    def interrupted(experiments, options):
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce_command, "carry_out", interrupted)
    assert call("reproduce", "--experiments", ROOT / "experiments") == 130
    assert capsys.readouterr().err == "\nimbalance reproduce: stopped.\n"


def test_ctrl_c_in_a_process_leaves_no_traceback(tmp_path):
    words = tmp_path / "words.fifo"
    os.mkfifo(words)  # what reads it waits
    code = (  # a process in the background may be told to ignore the signal
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from imbalance.commands.main import main; main(['counts', {str(words)!r}])"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        descriptor = os.open(words, os.O_WRONLY)  # waits until the command reads
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        os.close(descriptor)
    assert process.returncode == 130
    assert said == "\nimbalance counts: stopped.\n"


# Completion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_written_for_a_shell(shell, tmp_path):
    place = tmp_path / "imbalance.completion"
    assert call("--tyro-write-completion", shell, place) in (None, 0)
    text = place.read_text("utf-8")
    for word in (*COMMANDS, "--scale", "--shots", "--fraction"):
        assert word in text
    interpreter = shutil.which(shell)
    if interpreter:
        done = subprocess.run([interpreter, "-n", place], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_bash_completes_names_and_options(tmp_path):
    bash = shutil.which("bash")
    if not bash:
        pytest.skip("there is no bash here")
    place = tmp_path / "imbalance.bash"
    call("--tyro-write-completion", "bash", place)
    (name,) = set(re.findall(r"^complete -F (\w+) imbalance$", place.read_text(), re.MULTILINE))

    def completed(*words):
        line = " ".join(f"'{word}'" for word in words)
        script = (
            f"source {place}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
            f"{name}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run([bash, "-c", script], capture_output=True, text=True)
        return done.stdout.split()

    assert sorted(completed("imbalance", "co")) == ["compare", "counts"]
    assert "--results" in completed("imbalance", "reproduce", "--re")
    assert completed("imbalance", "run", "--scale", "s") == ["smoke"]


def test_completion_is_printed(capsys):
    assert call("--tyro-print-completion", "bash") in (None, 0)
    assert "complete -F" in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("ksh",), ("bash", "a", "b")])
def test_another_shell_is_refused(words, capsys):
    assert call("--tyro-print-completion", *words) == 2
    said = capsys.readouterr().err
    assert "usage: imbalance --tyro-print-completion SHELL\n" in said and "bash, fish, zsh" in said


def test_completion_without_the_laboratory_has_the_names_of_all_commands():
    code = "from imbalance.commands.main import main\nmain(['--tyro-print-completion', 'bash'])"
    found = run_without(libraries_of("lab"), code)
    assert found.returncode == 0, found.stderr
    assert "reproduce" in found.stdout and "--shots" in found.stdout


# imbalance run, reproduce and figures -----------------------------------------------------------


def test_an_experiment_is_found_by_its_name_and_by_its_path(tmp_path):
    script = script_in(tmp_path)
    assert script_of("mine", tmp_path) == script
    assert script_of(str(script), ROOT / "experiments") == script
    with pytest.raises(ValueError, match="no experiment 'mien' in .*; did you mean 'mine'\\?"):
        script_of("mien", tmp_path)
    with pytest.raises(ValueError, match="there is no file .*none.py; give the path of an exp"):
        script_of("none.py", tmp_path)
    with pytest.raises(FileNotFoundError, match="no experiment scripts in .*name their folder"):
        script_of("mine", tmp_path / "none")


def test_run_without_a_name_lists_the_experiments(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert call("run", "--experiments", ROOT / "experiments") == 0
    said = capsys.readouterr().out
    names = {path.stem for path in ROOT.glob("experiments/*.py")}
    assert names == {line.split()[0] for line in said.splitlines() if line[0] != " "}
    assert max(map(len, said.splitlines())) <= 80
    assert "Figure 4: a linear softmax model" in said


def test_a_script_that_cannot_be_read_is_listed_by_its_name(tmp_path):
    (tmp_path / "broken.py").write_text("def\n")
    (tmp_path / "silent.py").write_text("x = 1\n")
    assert [told(path) for path in sorted(tmp_path.glob("*.py"))] == ["", ""]
    assert listed(sorted(tmp_path.glob("*.py"))).split() == ["broken", "silent"]


def test_run_hands_the_script_and_its_options_on(tmp_path, monkeypatch):
    script, asked = script_in(tmp_path), []
    monkeypatch.setattr(run_command, "carry_out", lambda *both: asked.append(both) or 7)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "mine.py"):
        arguments = ("--experiments", ".", "--scale", "smoke", "--only", "gd", "adam")
        assert call("run", name, *arguments) == 7
    assert asked == [({script: None}, Options("smoke", ("gd", "adam")))] * 2


@pytest.mark.slow
def test_run_makes_what_the_script_makes(tmp_path, monkeypatch, capsys):
    """By name and by path, outside of the checkout: nothing is run twice."""
    script_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call("run", "mine", "--experiments", ".", "--scale", "smoke", "--jobs", 1) == 0
    said = capsys.readouterr().out
    assert "8 runs to make" in said and "Claims of mine at scale smoke" in said
    keys = {path.stem for path in Path("results/runs").glob("*/*.nc")}
    assert call("run", "./mine.py", "--scale", "smoke") == 0
    assert "runs to make" not in capsys.readouterr().out
    assert {path.stem for path in Path("results/runs").glob("*/*.nc")} == keys


def test_options_of_run_are_those_of_the_scripts(capsys):
    import tyro

    def options_of(show):
        with pytest.raises(SystemExit):
            show()
        return set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))

    own = options_of(lambda: main(["run", "--help"]))
    scripts = options_of(lambda: tyro.cli(Options, args=["--help"]))
    assert own == scripts | {"--experiments"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reproduce",), "no experiment scripts in .*/experiments; run this from the checkout"),
        (("run",), "no experiment scripts in .*/experiments; run this from the checkout"),
        (("run", "fig4_linear"), "no experiment scripts in .*; run this from the checkout"),
        (("figures",), "no data of figures in .*/figures/data; run this from the checkout, name"),
        (("run", "--only", "gd", "--experiments", "."), "no experiment scripts"),
    ],
)
def test_outside_of_the_checkout_it_says_what_it_needs(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(said, call(*arguments))
    assert list(tmp_path.iterdir()) == []


def test_figures_says_how_many_were_drawn(tmp_path, monkeypatch, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.nc").write_bytes(b"")
    asked = []
    monkeypatch.setattr(figures_command, "redraw", lambda options: asked.append(options) or 3)
    assert call("figures", "--figures", tmp_path, "--pdf") is None
    assert asked == [RedrawOptions(figures=tmp_path, pdf=True)]
    assert capsys.readouterr().out == f"drew 3 figures from {tmp_path / 'data'}\n"


def test_a_script_of_your_own_that_fails_is_told_with_its_place(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("raise RuntimeError('not yet')\n")
    assert call("run", "mine.py") == 1
    said = capsys.readouterr().err
    assert "FAILED  mine: RuntimeError: not yet" in said and 'mine.py", line 1' in said


def test_the_makefile_uses_the_command(tmp_path):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    used = re.findall(r"\$\(VENV\)/bin/imbalance (\w+)", makefile)
    assert set(used) == {"reproduce", "figures"}
    assert set(used) <= set(entry.COMMANDS)
    assert "imbalance.reporting" not in makefile
