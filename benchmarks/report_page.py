"""Size of the report of all experiments, and how long a browser takes to open it.

The file is opened cold, in a browser context of its own each time. It is interactive when the
browser has run all its scripts (``load``) and answers a click; curves are there when those of an
experiment's page, opened by its address, are drawn. Moving the slider is from the key to the drawn
curves. Times are medians with their range, and include what driving the browser takes. The load of
the machine is printed, since times on a busy one say little; the processor time of the page's main
thread, which does not count waiting for a processor, stands beside them.

Run:    python benchmarks/report_page.py REPORT.html    (left out: it is made, which takes a minute)
Needs:  the extra `browser`, and a Chromium
"""

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import tyro
from playwright.sync_api import Browser, sync_playwright

from imbalance.commands.report import report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EXPERIMENT = "of-linear_optimizers"  # with most runs
READY = ".view:not([hidden]) .explorer[data-ready]"
DRAWN = """async () => {
  const curve = document.querySelector(".view:not([hidden]) [data-run='0'] .bucket path");
  const slider = document.querySelector(".view:not([hidden]) [data-run='0'] [name=rate]");
  const before = curve.getAttribute("d");
  const began = performance.now();
  slider.value = Number(slider.value) === 0 ? 1 : Number(slider.value) - 1;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  while (document.querySelector(".view:not([hidden]) [data-run='0'] .bucket path")
    .getAttribute("d") === before) await new Promise(requestAnimationFrame);
  return (performance.now() - began) / 1000;
}"""


def main(path: Path | None = None, /, times: int = 5, limit: float = 2.0) -> None:
    """Measure a report.

    Args:
      path: Of the report; left out: of all experiments, made in a folder that goes.
      times: How often everything is done.
      limit: Seconds within which the page should be interactive; told, and nothing fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            path = Path(folder) / "report.html"
            began = time.perf_counter()
            report(output=path)
            print(f"made in {time.perf_counter() - began:.1f} s")
        print(f"size: {path.stat().st_size / 1e6:.2f} MB")
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        with sync_playwright() as driver:
            own = next(filter(None, map(shutil.which, BROWSERS)), None)
            root = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = driver.chromium.launch(executable_path=own, args=root)
            opened = [interactive(browser, path.resolve()) for _ in range(times)]
            drawn = [curves(browser, path.resolve()) for _ in range(times)]
            browser.close()
    tell("interactive", [wall for wall, _ in opened])
    tell("interactive, processor time of the main thread", [busy for _, busy in opened])
    tell("curves of the largest experiment", [first for first, _ in drawn])
    tell("slider to drawn curves", [second for _, second in drawn])
    met = statistics.median(wall for wall, _ in opened) <= limit
    print(f"interactive within {limit:g} s: {'yes' if met else 'no'}")


def interactive(browser: Browser, path: Path) -> tuple[float, float]:
    """Seconds until a click on a link is answered, and those of the main thread's processor."""
    page = browser.new_context().new_page()
    page.set_default_timeout(120_000)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    began = time.perf_counter()
    page.goto(path.as_uri())
    page.click("nav a[href='#claims']")
    page.wait_for_selector("#claims:not([hidden])")
    seconds = time.perf_counter() - began
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    page.context.close()
    return seconds, found["TaskDuration"]


def curves(browser: Browser, path: Path) -> tuple[float, float]:
    """Seconds until the curves of an experiment are drawn, and from the slider to new ones."""
    page = browser.new_context().new_page()
    page.set_default_timeout(120_000)
    began = time.perf_counter()
    page.goto(f"{path.as_uri()}#{EXPERIMENT}")
    page.wait_for_selector(READY)
    seconds = time.perf_counter() - began
    moved = page.evaluate(DRAWN)
    page.context.close()
    return seconds, moved


def tell(what: str, seconds: list[float]) -> None:
    """Print a median with its range."""
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    print(f"{what}: {middle:.2f} s ({low:.2f} to {high:.2f}, {len(seconds)} times)")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
