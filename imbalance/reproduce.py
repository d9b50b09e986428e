"""Run every experiment of a folder, draw all figures, and write the table of claims.

``python -m imbalance.reproduce`` runs what is missing in ``experiments/`` at laptop scale. A second
call draws from stored results.
"""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from imbalance.claims import Claim, to_markdown, to_text
from imbalance.experiment import Experiment, Options, figure_path, perform, progress, work

FIRST = ("fig4_linear", "fig6_quadratic")  # the headline comes first


@dataclass(frozen=True)
class ReproduceOptions(Options):
    """Options of the whole reproduction."""

    experiments: Path = Path("experiments")
    """The folder of experiment scripts."""


def load_experiment(path: Path) -> Experiment:
    """The ``EXPERIMENT`` a script declares.

    Raises:
      ValueError: if it declares none, or under another name than the script's.
    """
    spec = importlib.util.spec_from_file_location(f"experiments_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment) or experiment.name != path.stem:
        raise ValueError(f"{path} must declare EXPERIMENT = Experiment({path.stem!r}, ...).")
    return experiment


def load_experiments(folder: Path) -> list[Experiment]:
    """All experiments of a folder, the headline first.

    Raises:
      FileNotFoundError: if there are none.
    """
    paths = sorted(folder.glob("*.py"))
    if not paths:
        raise FileNotFoundError(
            f"no experiment scripts in {folder.resolve()}; run this from the checkout, or name "
            "their folder with --experiments."
        )
    paths.sort(key=lambda path: FIRST.index(path.stem) if path.stem in FIRST else len(FIRST))
    return [load_experiment(path) for path in paths]


def claims_table(claims: dict[str, list[Claim]], scale: str) -> str:
    """The Markdown page of all claims, an experiment a section."""
    rows = [claim for group in claims.values() for claim in group]
    held = sum(claim.holds is True for claim in rows)
    failed = sum(claim.holds is False for claim in rows)
    lines = [
        "# Claims",
        "",
        f"Measured at scale `{scale}` by `python -m imbalance.reproduce --scale {scale}`: "
        f"{held} hold, {failed} fail, {len(rows) - held - failed} are not decided at this scale.",
        "",
        "The last column says when a threshold was fixed. One fixed after a pilot (NumPy runs by",
        "the author of our specification) shows agreement with a second implementation; only one",
        "fixed before any run can confirm or refute the paper.",
    ]
    for name, group in claims.items():
        lines += ["", f"## {name}", "", to_markdown(group)]
    return "\n".join(lines) + "\n"


def reproduce(options: ReproduceOptions) -> dict[str, list[Claim]]:
    """Perform every experiment; returns the claims of those that are complete."""
    experiments = load_experiments(options.experiments)
    if options.only:
        raise ValueError("--only names optimizers of one experiment; run its script instead.")
    claims: dict[str, list[Claim]] = {}
    with progress(sum(work(experiment, options) for experiment in experiments)) as bar:
        for experiment in experiments:
            found = perform(experiment, options, bar)
            if found is not None:
                claims[experiment.name] = found
    table = figure_path(experiments[0], options).with_name("CLAIMS.md")
    if options.scale == "smoke":
        table = options.results / "CLAIMS-smoke.md"
    table.write_text(claims_table(claims, options.scale))
    for name, group in claims.items():
        print(f"\n{name}\n{to_text(group)}")
    print(f"\nall claims are in {table}")
    return claims


def main() -> None:
    """The command line."""
    options = tyro.cli(ReproduceOptions, description=__doc__)
    try:
        reproduce(options)
    except KeyboardInterrupt:
        sys.exit("\nstopped; finished pieces are stored, and the same command goes on from there.")
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(f"reproduce: {error}")


if __name__ == "__main__":
    main()
