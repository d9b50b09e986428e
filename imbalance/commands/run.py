"""``imbalance run``: one experiment, by its name or the path of its script."""

import ast
import shutil
import textwrap
from pathlib import Path
from typing import Annotated

import tyro

from imbalance.commands.nearest import suggestion
from imbalance.reporting.experiment import Options, scripts
from imbalance.reporting.reproduce import carry_out

NAMES = 26  # letters of the column of names


def run(
    experiment: Annotated[str | None, tyro.conf.arg(metavar="[NAME|PATH]")] = None,
    /,
    *,
    options: Annotated[Options, tyro.conf.arg(name="")],
    experiments: Path = Path("experiments"),
) -> int:
    """One experiment: make the runs that are missing, draw its figure, check its claims.

    The same as its script, `python experiments/NAME.py`. Without a name or path the experiments
    are listed.

    Args:
      experiment: Name of an experiment of the folder, or path of a script of your own.
      options: Options of every script.
      experiments: Folder of experiment scripts.
    """
    if experiment is None:
        print(listed(scripts(experiments, every=True)))
        return 0
    return carry_out({script_of(experiment, experiments): None}, options)


def script_of(name: str, folder: Path) -> Path:
    """The script of an experiment.

    Args:
      name: Name of the experiment, or path of its script, which ends in ``.py``.
      folder: Folder of experiment scripts, in which names are looked up.

    Raises:
      FileNotFoundError: If the folder has no scripts.
      ValueError: If there is no such experiment, or no such file.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise ValueError(
                f"there is no file {path.resolve()}; give the path of an experiment script, or the "
                "name of one in --experiments."
            )
        return path.resolve()
    found = {path.stem: path for path in scripts(folder, every=True)}
    if name not in found:
        raise ValueError(
            f"there is no experiment {name!r} in {folder.resolve()}{suggestion(name, found)} "
            "`imbalance run` lists them."
        )
    return found[name].resolve()


def listed(paths: list[Path]) -> str:
    """Names of experiments and the first sentence of what their scripts say, to be read."""
    width = min(100, shutil.get_terminal_size().columns)
    return "\n".join(
        textwrap.fill(
            f"{path.stem:<{NAMES}} {told(path).partition(chr(10))[0]}",
            width,
            subsequent_indent=" " * (NAMES + 1),
            break_on_hyphens=False,
        )
        for path in paths
    )


def told(path: Path) -> str:
    """The docstring of a script, which is read and not run; empty where there is none."""
    try:
        return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    except (OSError, SyntaxError, ValueError):  # it is told when the script is run
        return ""
