"""The small runner behind every experiment script: make what is missing, draw, check the claims."""

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib
import tyro
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from imbalance import results
from imbalance.claims import Claim, to_text
from imbalance.memory import fit
from imbalance.plots import STYLE
from imbalance.running import run
from imbalance.sweep import Sweep

Scale = Literal["smoke", "laptop", "paper"]
"""``smoke``: seconds, to see that it runs. ``laptop``: minutes on two CPU cores. ``paper``: the
paper's own size, for one GPU."""


@dataclass(frozen=True)
class Experiment:
    """What a script declares.

    Attributes:
      name: of the script, its results and its figure.
      sweeps: scale -> the sweeps that are compared, by the value of ``over`` in which they differ;
        an experiment of one sweep gives ``{"": sweep}``.
      draw: joined results -> the figure.
      claims: joined results -> the rows of its table; ``results.attrs["scale"]`` tells the scale.
      over: the dimension along which several sweeps are joined.
    """

    name: str
    sweeps: Callable[[Scale], Mapping[Any, Sweep]]
    draw: Callable[[xr.Dataset], Figure]
    claims: Callable[[xr.Dataset], list[Claim]]
    over: str | None = None


@dataclass(frozen=True)
class Options:
    """Options of every experiment script."""

    scale: Scale = "laptop"
    """smoke: seconds; laptop: minutes on two CPU cores; paper: the paper's size, on one GPU."""
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPTIMIZER ...")] = ()
    """Run these optimizers only; the figure is drawn once none is missing."""
    redraw: bool = False
    """Draw from stored results and run nothing."""
    overwrite: bool = False
    """Run again what is stored already, or was stored by another sweep."""
    results: Path = Path("results")
    """Where results are stored."""
    figures: Path = Path("figures")
    """Where figures are drawn; those of smoke go beside its results."""
    pdf: bool = False
    """Draw a PDF beside the PNG."""


@dataclass(frozen=True)
class _Piece:
    """One optimizer and seed of one of the experiment's sweeps."""

    value: Any  # of `Experiment.over`
    sweep: Sweep
    optimizer: str
    seed: int
    path: Path
    order: str  # where it stands among the others

    @property
    def settings(self) -> dict[str, Any]:
        return self.sweep.settings(self.optimizer, self.seed)


@dataclass
class Progress:
    """One bar for all work to come, in floating-point operations, with the time left."""

    bar: tqdm = field(repr=False)

    def report(self, flops: float) -> None:
        """Work done since the last report."""
        self.bar.update(flops / 1e9)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.bar.write(text, file=sys.stdout)

    def now(self, what: str) -> None:
        """What is being run."""
        self.bar.set_description(what)


@contextlib.contextmanager
def progress(flops: float) -> Iterator[Progress]:
    """A `Progress` over ``flops`` floating-point operations."""
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
    with tqdm(total=flops / 1e9 or 1, bar_format=layout, mininterval=0.5, disable=None) as bar:
        yield Progress(bar)


def _pieces(experiment: Experiment, options: Options) -> list[_Piece]:
    folder = options.results / experiment.name / options.scale
    pieces = []
    for i, (value, sweep) in enumerate(experiment.sweeps(options.scale).items()):
        inside = folder / f"{experiment.over}={value}" if experiment.over else folder
        for j, optimizer in enumerate(sweep.learning_rates):
            for seed in sweep.seeds:
                path = inside / f"{optimizer}-seed{seed}.nc"
                pieces.append(
                    _Piece(value, sweep, optimizer, seed, path, f"{i:03d}-{j:03d}-{seed:05d}")
                )
    known = {piece.optimizer for piece in pieces}
    for name in options.only:
        if name not in known:
            raise ValueError(
                f"--only {name}: {experiment.name} has no such optimizer; it compares "
                f"{', '.join(sorted(known))}."
            )
    stale = set(folder.glob("**/*.nc")) - {piece.path for piece in pieces}
    if stale:
        raise FileExistsError(
            f"{folder} holds results that do not belong to {experiment.name}: "
            f"{', '.join(sorted(str(path.relative_to(folder)) for path in stale))}. "
            "Move them away, or give another folder with --results."
        )
    return pieces


def _todo(pieces: list[_Piece], options: Options) -> list[_Piece]:
    if options.redraw:
        return []
    wanted = [p for p in pieces if not options.only or p.optimizer in options.only]
    if options.overwrite:
        return wanted
    return [p for p in wanted if not results.is_finished(p.path, p.settings)]


def work(experiment: Experiment, options: Options) -> float:
    """Floating-point operations that are still to be done.

    Raises:
      ValueError: for a name in ``options.only`` that the experiment does not compare.
      FileExistsError: where results of another sweep are in the way.
    """
    todo = _todo(_pieces(experiment, options), options)
    return sum(piece.sweep.flops(piece.optimizer) for piece in todo)


def perform(experiment: Experiment, options: Options, progress: Progress) -> list[Claim] | None:
    """Run what is missing, draw the figure and check the claims; None if pieces are missing."""
    pieces = _pieces(experiment, options)
    todo = _todo(pieces, options)
    if todo:
        progress.now(f"{experiment.name}: compiling")
        _say_memory(experiment, options, todo, progress)
    for piece_group in _grouped(todo):
        first = piece_group[0]
        progress.now(f"{experiment.name} {first.value} {first.optimizer}".replace("  ", " "))
        by_seed = {piece.seed: piece for piece in piece_group}
        for _, seed, dataset in run(first.sweep, {first.optimizer: list(by_seed)}, progress.report):
            piece = by_seed[seed]
            if experiment.over:
                dataset = dataset.expand_dims({experiment.over: [piece.value]})
            dataset.attrs |= {"order": piece.order, "over": experiment.over or ""}
            results.save(dataset, piece.path, piece.settings)
    absent = [piece for piece in pieces if not piece.path.exists()]
    if absent:
        names = ", ".join(sorted({piece.optimizer for piece in absent}))
        progress.say(f"{experiment.name}: not drawn yet, these are still to be run: {names}")
        return None
    dataset = results.load(experiment.name, options.scale, options.results)
    _draw(experiment, dataset, options, progress)
    return experiment.claims(dataset)


def _grouped(todo: list[_Piece]) -> list[list[_Piece]]:
    """Pieces that differ in their seed only, which may share a program."""
    groups: dict[Any, list[_Piece]] = {}
    for piece in todo:
        groups.setdefault((piece.value, piece.optimizer), []).append(piece)
    return list(groups.values())


def _say_memory(
    experiment: Experiment, options: Options, todo: list[_Piece], progress: Progress
) -> None:
    """State, before anything runs, the most memory a program will need; refuse what cannot fit."""
    fits = [fit(g[0].sweep, g[0].optimizer, len(g)) for g in _grouped(todo)]
    most = max(fits, key=lambda fit: fit.bytes)
    progress.say(
        f"{experiment.name}, --scale {options.scale}: up to {most.bytes / 2**30:.2f} GiB of "
        f"{most.device_bytes / 2**30:.0f} GiB, {most.seeds * most.rates} runs at a time"
    )


def figure_path(experiment: Experiment, options: Options) -> Path:
    """Where the figure goes: laptop to ``figures/``, paper below it, smoke beside its results."""
    folder = {
        "smoke": options.results / experiment.name / "smoke",
        "laptop": options.figures,
        "paper": options.figures / "paper",
    }[options.scale]
    return folder / f"{experiment.name}.png"


def _draw(experiment: Experiment, dataset: xr.Dataset, options: Options, progress: Progress):
    path = figure_path(experiment, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure = experiment.draw(dataset)
        figure.savefig(path, metadata={"Software": None})
        if options.pdf:
            figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    progress.say(f"drew {path}")


def main(experiment: Experiment) -> None:
    """The command line of an experiment script."""
    description = inspect.getdoc(sys.modules["__main__"])
    options = tyro.cli(Options, description=description)
    try:
        with progress(work(experiment, options)) as bar:
            claims = perform(experiment, options, bar)
    except KeyboardInterrupt:
        sys.exit("\nstopped; finished pieces are stored, and the same command goes on from there.")
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(f"{experiment.name}: {error}")
    if claims is not None:
        print(f"\nClaims of {experiment.name} at scale {options.scale}:")
        print(to_text(claims))
