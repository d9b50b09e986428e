"""What a command shows of experiments as they are finished: figures, claims, and what failed."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from imbalance.reporting import evidence, workers
from imbalance.reporting.claims import Claim, claims_table, to_text
from imbalance.reporting.drawing import Drawer, Drawn, Failed
from imbalance.reporting.experiment import Experiment, Options, load_experiment
from imbalance.storage import files


class Showing:
    """Figures and claims of one call of a command, and the causes of what failed.

    Args:
      experiments: by the path of their scripts; None: it is still to be loaded.
      options: of the command.
      drawer: that draws in a process of its own; None: this one draws.
    """

    def __init__(
        self,
        experiments: Mapping[Path, Experiment | None],
        options: Options,
        drawer: Drawer | None,
    ):
        self.experiments, self.options, self.drawer = experiments, options, drawer
        self.tell: Callable[[str], None] = partial(print, flush=True)
        self.claims: dict[str, list[Claim]] = {}
        self.failures: dict[str, str] = {}  # cause, by the experiment's name

    def attempt(self, name: str, action: Callable[[], None]) -> None:
        """Do something for an experiment; what fails is told, and the others go on."""
        try:
            action()
        except Failed as error:
            self.fail(name, *error.args)
        except Exception as error:
            self.fail(name, *workers.explained(error))

    def fail(self, name: str, cause: str, trace: str) -> None:
        """An experiment has failed, as `workers.explained` tells it; the first cause counts."""
        if name not in self.failures:
            self.failures[name] = cause
            print(f"\n{name}: {trace or cause}", file=sys.stderr, flush=True)

    def draw(self, path: Path, experiment: Experiment | None) -> None:
        """Draw the figure of an experiment whose runs are joined, and check its claims."""
        if self.drawer:
            self.drawer.draw(path)
        else:
            dataset = evidence.behind(path.stem, self.options)
            found = experiment or load_experiment(path)
            self._show(path.stem, evidence.draw(found, dataset, self.options))

    def collect(self, wait: bool = False) -> None:
        """Show what has been drawn by now, or wait for all."""
        for name, drawn in self.drawer.drawn(wait) if self.drawer else ():
            self.attempt(name, lambda n=name, d=drawn: self._show(n, d.result()))

    def tell_absent(self, name: str, optimizers: list[str] | tuple[str, ...]) -> None:
        """An experiment is not drawn, for these were not asked for."""
        self.tell(f"{name}: not drawn yet, these are still to be run: {', '.join(optimizers)}")

    def end(self) -> None:
        """Print the claims of all that was drawn."""
        for name, group in self.claims.items():
            print(f"\nClaims of {name} at scale {self.options.label}:\n{to_text(group)}")
        if hasattr(self, "table"):
            print(f"\nall claims are in {self.table}")
        sys.stdout.flush()

    def status(self) -> int:
        """Say what failed: 1, or 0 if nothing did."""
        for name, cause in self.failures.items():
            print(f"FAILED  {name}: {cause}", file=sys.stderr)
        return 1 if self.failures else 0

    def _show(self, name: str, drawn: Drawn) -> None:
        self.claims[name], path = drawn
        self.tell(f"drew {path}")
        if self.drawer:
            self._write_claims(self.drawer.claims_of_others())

    def _write_claims(self, others: Mapping[str, list[Claim]]) -> None:
        label, shown = self.options.label, self.options.shown
        folder = self.options.figure_path("x").parent if shown else self.options.results
        names = [path.stem for path in self.experiments]
        ordered = {name: self.claims[name] for name in names if name in self.claims}
        text = claims_table({**ordered, **others}, label)
        self.table = folder / ("CLAIMS.md" if shown else f"CLAIMS-{label}.md")
        files.write_as_it_is(self.table, text.encode())
