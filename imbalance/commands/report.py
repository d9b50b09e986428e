"""``imbalance report``: one HTML file in which people explore runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from imbalance.reporting.report.exhibits import Gathered
    from imbalance.reporting.report.gathering import Where

TITLE = "imbalance report"


def report(
    paths: tuple[Path, ...] = (),
    /,
    output: Path = Path("report.html"),
    scale: Literal["smoke", "laptop", "paper"] = "laptop",
    results: Path = Path("results"),
    figures: Path = Path("figures"),
    experiments: Path = Path("experiments"),
    title: str = TITLE,
    live: bool = False,
    every: int = 30,
) -> None:
    """One HTML file to explore runs in: curves at every learning rate, claims, classes, provenance.

    It needs no network and no server. Without paths it shows all experiments.

    Args:
      paths: Datasets, records, folders of datasets, or experiments by script or name.
      output: File to write.
      scale: Of the experiments.
      results: Folder where results are stored.
      figures: Folder of the pictures, with their data in data/.
      experiments: Folder of experiment scripts, which are run to check claims.
      title: Of the page.
      live: Write the page again as runs are finished, with the curves so far, until Ctrl-C.
      every: Seconds between two writings of a live page.
    """
    from imbalance.reporting.report import gathering, page
    from imbalance.storage import files

    page.library()  # what is not installed is said now
    where = gathering.Where(scale, results, figures, experiments)
    if live:
        found = _live(paths, where, output, title, every)
    else:
        found = gathering.gather(paths, where)
        if not found.exhibits:
            raise ValueError("there is nothing to show. " + told(found))
        files.write_as_it_is(output, page.render(found, title))
    size = output.stat().st_size / 1e6
    print(f"wrote {output}: {len(found.exhibits)} pages, {size:.1f} MB", flush=True)
    for place, remark in found.remarks:
        print(f"{place}: {remark}")
    if found.problems:
        raise ValueError(f"the page was written, but not all could be shown.\n{told(found)}")


def _live(
    paths: tuple[Path, ...], where: "Where", output: Path, title: str, every: int
) -> "Gathered":
    from imbalance.reporting.progress import stop_when_asked
    from imbalance.reporting.report.live import Live

    if every < 1:
        raise ValueError(f"--every {every}: give 1 second or more.")
    print(f"writing {output} every {every} seconds; Ctrl-C ends it", flush=True)
    with stop_when_asked(quietly=True) as stopping:
        return Live(paths, where, output, title, every).go_on(stopping)


def told(found: "Gathered") -> str:
    """What could not be shown, a line each."""
    return "\n".join(f"{place}: {reason}" for place, reason in found.problems)
