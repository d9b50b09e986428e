"""The first hour on a GPU: tests, speeds, then figures at the paper's size.

Steps come in this order, each with a share of the time, and what is finished is not done again: the
same command goes on where a kill or the end of the time left it. A figure whose time is over is
stopped as a job scheduler would stop it: its finished runs are stored, those on their way leave a
checkpoint.

- *tests*: those that need an accelerator.
- *linear*: a step of Figure 4 at the paper's m = 11, in float32 and tensorfloat32, and the share of
  the speed of a large matrix product.
- *cnn*: a step of Figure 2's network; *gpt2*: tokens a second of Figure 1's, and the share of peak.
- *figure 4*, *figure 2*: at the paper's size.

Run:     python benchmarks/gpu.py --minutes 40
Writes:  results/gpu/OUTCOMES.md, and what each step printed beside it; speeds in RESULTS.md
"""

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import tyro
from report import table

from imbalance.storage import files

ROOT = Path(__file__).resolve().parents[1]
LEAVING = 60.0  # seconds that a stopped step has to save what it did


class Step(NamedTuple):
    """A command of this checkout, and the most minutes it gets in one call."""

    command: tuple[str, ...]
    minutes: float


STEPS = {
    "tests": Step(("-m", "pytest", "-q", "-n", "0", "-m", "gpu", "tests"), 5),
    "linear": Step(
        ("benchmarks/speed_linear.py", "--m", "11", "--rates", "2", "--steps", "10")
        + ("--walk-steps", "0", "--memory-m", "0", "--write"),
        6,
    ),
    "cnn": Step(
        ("benchmarks/speed_cnn.py", "--sizes", "10000", "10250")
        + ("--microbatches", "500", "2500", "10000", "--work", "20000", "--write"),
        4,
    ),
    "gpt2": Step(("benchmarks/speed_transformer.py", "--gpt2", "--write"), 6),
    "figure 4": Step(("experiments/fig4_linear.py", "--scale", "paper"), 15),
    "figure 2": Step(("experiments/fig2_barcoded.py", "--scale", "paper"), 600),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    outcome: str  # done, stopped or failed
    seconds: float  # of all calls together
    said: str  # the last line it printed


@dataclass(frozen=True)
class Settings:
    """How long, and which steps."""

    minutes: float = 40.0
    """Time of this call."""
    only: tuple[str, ...] = ()
    """Steps to do; none given: all, in their order."""
    again: bool = False
    """Do what is done once more."""
    results: Path = Path("results")
    """The folder of results; those of the steps go to its gpu/."""

    def __post_init__(self):
        if strange := set(self.only) - set(STEPS):
            raise ValueError(f"--only {' '.join(strange)}; known are {', '.join(STEPS)}.")


def take(step: Step, seconds: float, log: Path) -> Outcome:
    """Run a step for so long at most; then it is asked to stop, and after a minute ended."""
    began = time.monotonic()
    with open(log, "ab") as written:
        process = subprocess.Popen(
            [sys.executable, *step.command], cwd=ROOT, stdout=written, stderr=subprocess.STDOUT
        )
        try:
            process.wait(min(seconds, 60 * step.minutes))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(LEAVING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    known = {0: "done", 128 + signal.SIGTERM: "stopped", -signal.SIGTERM: "stopped"}
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    said = lines[-1].strip() if lines else ""
    outcome = known.get(process.returncode, f"failed with status {process.returncode}")
    return Outcome(outcome, time.monotonic() - began, said)


def go_on(settings: Settings, steps: Mapping[str, Step], folder: Path) -> dict[str, Outcome]:
    """Take the steps that are not done, while there is time."""
    place, end = folder / "outcomes.json", time.monotonic() + 60 * settings.minutes
    found = {name: Outcome(**one) for name, one in _known(place).items()}
    for name, step in steps.items():
        before = found.get(name)
        asked = not settings.only or name in settings.only
        if not asked or (before and before.outcome == "done" and not settings.again):
            continue
        left = end - time.monotonic()
        if left <= 0:
            break
        print(f"{name}: {shlex.join(step.command)}", flush=True)
        one = take(step, left, folder / f"{name.replace(' ', '-')}.log")
        spent = one.seconds + (before.seconds if before and not settings.again else 0.0)
        found[name] = Outcome(one.outcome, spent, one.said)
        files.write(place, json.dumps({n: asdict(o) for n, o in found.items()}).encode())
        print(f"  {one.outcome} after {one.seconds:.0f} s: {one.said}", flush=True)
    return found


def _known(place: Path) -> dict[str, dict]:
    try:
        return json.loads(files.read(place))
    except (FileNotFoundError, files.Damaged):
        return {}


def outcomes(found: Mapping[str, Outcome], steps: Sequence[str], device: str) -> str:
    """A table of what became of each step."""
    rows = [
        [name, one.outcome, f"{one.seconds / 60:.1f}", one.said.replace("|", "\\|")]
        for name in steps
        for one in [found.get(name, Outcome("not begun", 0.0, ""))]
    ]
    return f"On {device}.\n\n" + table(["step", "outcome", "minutes", "last line"], rows) + "\n"


def device() -> str:
    """The accelerator, asked in a process of its own, which gives it back."""
    code = "import jax; print(jax.device_count(), jax.devices()[0].device_kind)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def main(settings: Settings) -> None:
    folder = settings.results / "gpu"
    folder.mkdir(parents=True, exist_ok=True)
    found = go_on(settings, STEPS, folder)
    text = outcomes(found, list(STEPS), device())
    files.write_as_it_is(folder / "OUTCOMES.md", text.encode())
    print(f"\n{text}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
