"""The command ``imbalance NAME ...``: each name is a module here and a function in it.

A command is a function of its options; what its docstring says is its help, and what it returns is
the exit status. It is imported when it is called, and imports what draws or reads only where that
is asked for: the help of all of them needs NumPy alone.

The exit status is 0, 1 if something failed, 2 if the command line was wrong, and 128 and the number
of the signal that stopped it, which is 130 for Ctrl-C.
"""

import functools
import importlib
import importlib.util
import inspect
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from imbalance.commands.nearest import suggestion

COMMANDS = {
    "reproduce": "draw the paper's figures, check its claims, run what is missing",
    "run": "one experiment, by its name or the path of its script",
    "figures": "redraw all figures from the data kept beside them; run nothing",
    "counts": "how heavy the tail of a file of counts, labels or text is",
    "compare": "two recorded runs side by side, by frequency of the classes",
    "report": "one HTML file to explore runs in: curves, claims, classes",
    "data": "what a folder of data sets holds, and whether it is complete",
    "status": "how far experiments are: runs done, running, missing and failed",
}
# Extras that a command needs where `analysis` is not enough; the others contain it.
EXTRAS = dict.fromkeys(("reproduce", "run", "figures"), "lab") | {"report": "report"}
# Libraries that a light installation lacks, by the extra that installs them.
LIBRARIES = {
    "analysis": (
        "filelock", "h5netcdf", "h5py", "matplotlib", "pandas", "scipy", "tyro", "xarray",
    ),
    "lab": ("flax", "fontTools", "jax", "matfree", "optax", "tokenizers", "tqdm"),
    "report": ("PIL", "jinja2", "vl_convert"),
}  # fmt: skip
INSTALLED_BY = {"pyarrow": "pyarrow"} | {
    library: f"'imbalance[{extra}]'" for extra, group in LIBRARIES.items() for library in group
}
COMPLETION = ("--tyro-print-completion", "--tyro-write-completion")  # as tyro calls them
SHELLS = ("bash", "fish", "zsh")
WRONG_USAGE, STOPPED = 2, 130
WIDEST = 100  # letters in a line of help


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    Args:
      arguments: Words after ``imbalance``; None: those of the process.
    """
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
    elif name == "--version":
        print(importlib.import_module("imbalance").__version__)
    elif name in COMPLETION:
        sys.exit(_attempt("completion", lambda: complete(name, rest)))
    elif name not in COMMANDS:
        end = suggestion(name, COMMANDS)
        print(f"imbalance: there is no command {name!r}{end}\n\n{usage()}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
    else:
        sys.exit(run(name, rest))


def usage() -> str:
    """What the commands are, and what they need that is not installed."""
    lines = [f"  {name:<11}{words}" for name, words in COMMANDS.items()]
    head = "usage: imbalance COMMAND ...    (imbalance COMMAND --help says more)"
    lacking: dict[str, list[str]] = {}
    for name in COMMANDS:
        if needs := _lacking(name):
            lacking.setdefault(needs, []).append(name)
    tail = [
        textwrap.fill(f"{', '.join(names)} need more: pip install {what}", 80)
        for what, names in lacking.items()
    ]
    return "\n".join([head, "", *lines, *([""] if tail else []), *tail])


def _lacking(name: str) -> str | None:
    """The extra that a command needs and that is not installed whole, as pip is told it."""
    extra, libraries = _needed(name)
    return None if all(map(_is_there, libraries)) else f"'imbalance[{extra}]'"


def _requirement(name: str, library: str) -> str:
    """What pip is told to install for a command that lacks a library."""
    extra, libraries = _needed(name)
    return f"'imbalance[{extra}]'" if library in libraries else INSTALLED_BY[library]


def _needed(name: str) -> tuple[str, list[str]]:
    """The extra that a command needs, and the libraries that it installs."""
    extra = EXTRAS.get(name, "analysis")
    return extra, [*LIBRARIES["analysis"], *LIBRARIES.get(extra, ())]


def _is_there(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ModuleNotFoundError, ValueError):  # it is hidden, by a finder or by None
        return False


def run(name: str, arguments: Sequence[str]) -> str | int | None:
    """Carry out a command.

    Args:
      name: Name of the command, one of `COMMANDS`.
      arguments: Words after it.

    Returns:
      What went wrong, in a sentence that begins with the command, or the exit status; None if
      nothing went wrong.
    """

    def command() -> Any:
        import tyro

        function = function_of(name)
        if {"-h", "--help"} & set(arguments):
            print(f"{described(function)}\n")  # here, as tyro does not break its lines
        try:
            call = tyro.cli(
                _postponed(function),
                prog=f"imbalance {name}",
                description="",
                args=list(arguments),
            )
        except ValueError as error:  # of options that do not go together
            print(f"imbalance {name}: {error}", file=sys.stderr)
            return WRONG_USAGE
        return call()

    return _attempt(name, command)


def _postponed(function: Callable[..., Any]) -> Callable[..., Callable[[], Any]]:
    """A command that does nothing yet: a wrong option is told apart from what it meets later."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Callable[[], Any]:
        return functools.partial(function, *arguments, **options)

    return call


def described(function: Callable[..., Any]) -> str:
    """What the docstring of a command says before its arguments, in lines that fit the screen."""
    text = (inspect.getdoc(function) or "").partition("\nArgs:")[0].strip()
    width = min(WIDEST, shutil.get_terminal_size().columns)
    return "\n\n".join(textwrap.fill(" ".join(p.split()), width) for p in text.split("\n\n"))


def function_of(name: str) -> Callable[..., Any]:
    """The function of a command.

    Raises:
      ModuleNotFoundError: If a library that it needs is not installed.
    """
    return getattr(importlib.import_module(f"imbalance.commands.{name}"), name)


def complete(option: str, arguments: Sequence[str]) -> None:
    """Print or write what a shell reads to complete command lines: names and options.

    Args:
      option: One of `COMPLETION`.
      arguments: Shell, and the file to be written where it is not printed.
    """
    needed = "SHELL" if option == COMPLETION[0] else "SHELL FILE"
    if len(arguments) != len(needed.split()) or arguments[0] not in SHELLS:
        print(f"usage: imbalance {option} {needed}\n\nshells: {', '.join(SHELLS)}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
    from tyro.extras import subcommand_cli_from_dict

    found = {name: _function_or_nothing(name) for name in COMMANDS}
    subcommand_cli_from_dict(found, prog="imbalance", args=[option, *arguments])


def _function_or_nothing(name: str) -> Callable[..., Any]:
    """The function of a command; one without options where its libraries are not installed."""
    try:
        return function_of(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in INSTALLED_BY:
            raise
        return lambda: None


def _attempt(name: str, command: Callable[[], Any]) -> str | int | None:
    """What a command returns, or what went wrong, in words for those who called it."""

    def tell(message: Warning | str, *_, **__) -> None:
        print(f"imbalance {name}: {message}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = tell
            return command()
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library not in INSTALLED_BY:
            raise
        return f"imbalance {name} needs {library}: pip install {_requirement(name, library)}"
    except BrokenPipeError:  # who read has enough, as `head`; nothing is left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(f"\nimbalance {name}: stopped.", file=sys.stderr)
        return STOPPED
    except ValueError as error:
        return f"imbalance {name}: {error}"
    except OSError as error:
        place = f"{error.filename}: {error.strerror}" if error.filename else error
        return f"imbalance {name}: {place}"
    return None


if __name__ == "__main__":
    main()
