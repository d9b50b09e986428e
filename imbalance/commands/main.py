"""The command ``imbalance NAME ...``: each name is a module here and a function in it.

A command is a function of its options; what its docstring says is its help. It is imported when it
is called, and imports what draws or reads only where that is asked for.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

COMMANDS = {
    "counts": "how heavy the tail of a file of counts, labels or text is",
    "compare": "two recorded runs side by side, by frequency of the classes",
    "report": "one HTML file to explore runs in: curves, claims, classes",
    "data": "what a folder of data sets holds, and whether it is complete",
}
# Libraries that a light installation lacks, and what installs them.
INSTALLED_BY = (
    {"pyarrow": "pyarrow"}
    | dict.fromkeys(
        ("filelock", "h5netcdf", "h5py", "matplotlib", "pandas", "tyro", "xarray"),
        "'imbalance[analysis]'",
    )
    | dict.fromkeys(("PIL", "jinja2", "vl_convert"), "'imbalance[report]'")
    | dict.fromkeys(("jax", "flax", "optax"), "'imbalance[lab]'")
)


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
    elif name not in COMMANDS:
        sys.exit(f"imbalance: there is no command {name!r}.\n\n{usage()}")
    else:
        sys.exit(run(name, rest))


def usage() -> str:
    """What the commands are."""
    lines = [f"  {name:<10}{words}" for name, words in COMMANDS.items()]
    head = "usage: imbalance COMMAND ...    (imbalance COMMAND --help says more)"
    return "\n".join([head, "", *lines])


def run(name: str, arguments: Sequence[str]) -> str | None:
    """Carry out a command.

    Args:
      name: Name of the command, one of `COMMANDS`.
      arguments: Words after it.

    Returns:
      What went wrong, in a sentence that begins with the command; None if nothing did.
    """

    def tell(message: Warning | str, *_, **__) -> None:
        print(f"imbalance {name}: {message}", file=sys.stderr)

    try:
        import tyro

        function = getattr(importlib.import_module(f"imbalance.commands.{name}"), name)
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = tell
            tyro.cli(function, prog=f"imbalance {name}", args=list(arguments))
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library not in INSTALLED_BY:
            raise
        return f"imbalance {name} needs {library}: pip install {INSTALLED_BY[library]}"
    except BrokenPipeError:  # who read has enough, as `head`; nothing is left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ValueError as error:
        return f"imbalance {name}: {error}"
    except OSError as error:
        place = f"{error.filename}: {error.strerror}" if error.filename else error
        return f"imbalance {name}: {place}"
    return None


if __name__ == "__main__":
    main()
