"""The page: all exhibits in one HTML file that needs nothing else."""

import base64
import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

import imbalance.reporting.report as here
from imbalance.reporting.claims import Claim, summary
from imbalance.reporting.report.exhibits import Exhibit, Gathered

SCRIPTS = (  # in the order in which they use one another
    "unpack.js",
    "runs.js",
    "charts.js",
    "tables.js",
    "classes.js",
    "explorer.js",
    "views.js",
)
LIBRARY = "globalThis.vegaEmbed = vegaEmbed;"  # what of the bundle the page uses
VEGA_LITE = "6.4"  # by whose version the bundle's Vega is chosen
VERDICTS = ("holds", "FAILS", "not decided", "reported")


@dataclass(frozen=True)
class Section:
    """An exhibit and its place in the page.

    Attributes:
      exhibit: What is shown.
      place: Name of its section, unique in the page.
      verdicts: Number of its claims by verdict.
    """

    exhibit: Exhibit
    place: str
    verdicts: dict[str, int]


@dataclass(frozen=True)
class Progress:
    """How far a long run is, for a page that is written again and again.

    Attributes:
      columns: Heads of the table.
      rows: One for each experiment.
      words: A sentence on the whole.
      seconds: Until the page is worth loading again; 0: it is finished.
    """

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: str
    seconds: int


def render(found: Gathered, title: str, progress: Progress | None = None) -> bytes:
    """The HTML file of a report.

    Args:
      found: Exhibits, problems and remarks.
      title: Of the page.
      progress: Of a run that goes on.
    """
    names = places([exhibit.name for exhibit in found.exhibits])
    sections = [
        Section(exhibit, place, _verdicts(exhibit.claims))
        for exhibit, place in zip(found.exhibits, names, strict=True)
    ]
    claims = [claim for exhibit in found.exhibits for claim in exhibit.claims]
    scripts = [library(), *(asset(name) for name in SCRIPTS)]
    text = _template().render(
        title=title,
        sections=sections,
        problems=found.problems,
        remarks=found.remarks,
        hero=found.hero,
        claims=claims,
        summary=summary(claims) if claims else "",
        verdicts=_verdicts(claims),
        progress=progress,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        style=asset("report.css"),
        scripts=scripts,
        policy=policy(scripts),
        specs={name: json.loads(asset(f"{name}.json")) for name in ("curves", "rates")},
    )
    return text.encode("utf-8", "replace")


def policy(scripts: Iterable[str]) -> str:
    """What the page may do: run just these scripts, load nothing, send nothing."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


@functools.cache
def asset(name: str) -> str:
    """A file of the page."""
    return (resources.files(here) / "assets" / name).read_text("utf-8")


@functools.cache
def library() -> str:
    """Vega and all it needs as one script, which ends no script element."""
    import vl_convert

    return vl_convert.javascript_bundle(LIBRARY, VEGA_LITE).replace("</script", "<\\/script")


def places(names: Sequence[str]) -> list[str]:
    """A name for each section, of letters that are safe anywhere, and different from all others."""
    found: list[str] = []
    for name in names:
        safe = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60] or "runs"
        number = 1
        while (place := f"of-{safe}" + (f"-{number}" if number > 1 else "")) in found:
            number += 1
        found.append(place)
    return found


def _verdicts(claims: Iterable[Claim]) -> dict[str, int]:
    counts = Counter(claim.verdict for claim in claims)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def coded(text: str) -> str:
    """Text as HTML, with what stands between backticks as code; all else is escaped."""
    from markupsafe import Markup, escape

    parts = re.split(r"(`+)(.+?)\1", text)  # text, backticks, code, text, backticks, ...
    said = [escape(part) for part in parts[::3]]
    code = [Markup("<code>{}</code>").format(part) for part in parts[2::3]]
    return Markup("").join(one for pair in zip(said, [*code, ""], strict=True) for one in pair)


def counted(number: int, verdict: str) -> str:
    """A number of claims with their verdict, such as ``2 hold`` and ``1 fails``."""
    several = {"holds": "hold", "FAILS": "fail"}
    return f"{number} {verdict.lower() if number == 1 else several.get(verdict, verdict)}"


def _template():
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters["coded"] = coded
    found.filters["verdict_class"] = lambda verdict: verdict.lower().replace(" ", "-")
    found.globals["counted"] = counted
    return found.get_template("report.html")
