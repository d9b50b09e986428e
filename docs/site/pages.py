"""The pages of the site: those of the repository, and some that are made of them.

They are laid out in a folder with the tree of the repository, so that relative links lead where
they lead there. Made are the landing page and the first steps, of the README, and the galleries,
of the pictures and of what the scripts that draw them say.
"""

import ast
import re
import shutil
from pathlib import Path

from imbalance.reporting.experiment import MAIN

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Groups of pages by title: all there is to navigate, in two levels. Paths are without their ending.
NAVIGATION: dict[str, dict[str, str]] = {
    "Use": {
        "First steps": "start",
        "The command line": "docs/commands",
        "Recipes": "docs/analyzers",
        "Where people train": "docs/training",
        "Your own optimizer": "docs/optimizers",
        "Your own data": "docs/data",
    },
    "Results": {
        "Figures of the paper": "gallery",
        "Further figures": "further",
        "Claims": "figures/CLAIMS",
        "The paper's own sizes": "docs/paper",
        "Speed and durability": "benchmarks/RESULTS",
    },
    "Background": {"Method": "docs/method", "Theory": "docs/theory"},
    "Reference": {
        "Losses by class": "reference/losses",
        "Frequencies and buckets": "reference/frequencies",
        "On the device": "reference/ondevice",
        "Records and results": "reference/results",
        "Comparing runs": "reference/comparing",
        "Sweeps and optimizers": "reference/sweeps",
        "Problems and tasks": "reference/problems",
        "Probes and experiments": "reference/experiments",
        "Closed forms": "reference/theory",
    },
    "Project": {"Contributing": "CONTRIBUTING", "Changelog": "CHANGELOG"},
}
LANDING = ("Two commands",)  # sections of the README after its beginning
FIRST = ("Analyse your own training", "Try your own optimizer")  # of the first steps
LEFT_OUT = ("Figures", "Layout")  # which the galleries and the navigation show
# A link, but no picture, to a figure or to the script that draws it.
TO_EXPERIMENT = re.compile(
    r"(?<!!)(\[[^\]]*\])\((?:\.\./)*(?:figures|experiments)/(\w+)\.(?:png|py)\)"
)
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def write(into: Path, root: Path = ROOT) -> None:
    """Lay out all pages, pictures and scripts; what lay there before goes.

    Args:
      into: Folder to write to, which becomes the source of the site.
      root: Checkout to read from.
    """
    shutil.rmtree(into, ignore_errors=True)
    readme = (root / "README.md").read_text("utf-8")
    navigation = complete(root)
    made = {
        "index": landing(readme, navigation),
        "start": first_steps(readme),
        "gallery": gallery(root, main=True),
        "further": gallery(root, main=False),
    }
    for group in navigation.values():
        for path in group.values():
            if path.startswith("reference/"):
                _put(into / f"{path}.rst", (HERE / f"{path}.rst").read_text("utf-8"))
            elif path not in made:
                _put(into / f"{path}.md", linked((root / f"{path}.md").read_text("utf-8")))
    for path, text in made.items():
        _put(into / f"{path}.md", text)
    for path in (*root.glob("figures/*.png"), *root.glob("experiments/*.py")):
        place = into / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def complete(root: Path) -> dict[str, dict[str, str]]:
    """The navigation, with the pages of ``docs/`` that nobody put into it at the end of a group."""
    known = {path for group in NAVIGATION.values() for path in group.values()}
    found = {group: dict(pages) for group, pages in NAVIGATION.items()}
    for page in sorted((root / "docs").glob("*.md")):
        path = page.relative_to(root).with_suffix("").as_posix()
        if path not in known:
            title = page.read_text("utf-8").partition("\n")[0].lstrip("# ")
            found["Use"][title] = path
    return found


def linked(text: str) -> str:
    """A page whose links to figures and their scripts lead to the galleries.

    Args:
      text: Page in Markdown.
    """
    return TO_EXPERIMENT.sub(lambda link: f"{link[1]}(#{link[2]})", text)


def landing(readme: str, navigation: dict[str, dict[str, str]]) -> str:
    """The first page: the beginning of the README, and where to go from there.

    Args:
      readme: Text of the README.
      navigation: Groups of pages.
    """
    sections = dict(SECTION.findall(readme))
    beginning = readme[: readme.index("\n## ")]
    parts = [beginning, *(f"## {title}\n{sections[title]}" for title in LANDING), "## Pages\n"]
    for group, pages in navigation.items():
        links = ", ".join(f"[{title}]({path}.{_ending(path)})" for title, path in pages.items())
        parts.append(f"- **{group}**: {links}")
    for group, pages in navigation.items():
        entries = "\n".join(f"{title} <{path}>" for title, path in pages.items())
        parts.append(
            f"\n```{{toctree}}\n:caption: {group}\n:hidden:\n:maxdepth: 1\n\n{entries}\n```"
        )
    return linked("\n".join(parts) + "\n")


def _ending(path: str) -> str:
    return "rst" if path.startswith("reference/") else "md"


def first_steps(readme: str) -> str:
    """What the README shows in code.

    Args:
      readme: Text of the README.
    """
    sections = dict(SECTION.findall(readme))
    others = [title for title in sections if title not in (*LANDING, *LEFT_OUT, *FIRST)]
    parts = [f"## {title}\n{sections[title]}" for title in (*FIRST, *others)]
    return linked("# First steps\n\n" + "\n".join(parts))


def gallery(root: Path, main: bool) -> str:
    """Pictures with what the scripts that draw them promise.

    Args:
      root: Checkout to read from.
      main: Whether to show the figures of the paper's main text and its theorem, or all others.
    """
    names = [path.stem for path in sorted(root.glob("experiments/*.py"))]
    names = sorted(MAIN) if main else [name for name in names if name not in MAIN]
    title = "Figures of the paper" if main else "Further figures"
    words = (
        "The figures of the paper's main text, and of its theorem. "
        if main
        else "The paper's appendices, and experiments of this project's own. "
    )
    head = f"# {title}\n\n{words}[The claims](figures/CLAIMS.md) have the numbers and verdicts.\n"
    return "\n".join([head, *(_entry(root, name) for name in names)])


def _entry(root: Path, name: str) -> str:
    """A picture with its name, its promise and the command that draws it."""
    promise = caption(root / "experiments" / f"{name}.py")
    first, _, rest = promise.partition("\n\n")
    first = " ".join(first.split())
    picture = f"figures/{name}.png"
    shown = (
        f"```{{image}} {picture}\n:alt: {first}\n:loading: lazy\n:target: _images/{name}.png\n```\n"
        if (root / picture).exists()
        else "*Not drawn yet.*\n"
    )
    return (
        f"({name})=\n## `{name}`\n\n**{first}**\n\n{shown}\n{rest}\n\n"
        f"`imbalance run {name}`, or [its script](experiments/{name}.py).\n"
    )


def caption(script: Path) -> str:
    """What the docstring of a script says, without the commands at its end.

    Args:
      script: Path of an experiment.

    Raises:
      ValueError: If it has no docstring.
    """
    text = ast.get_docstring(ast.parse(script.read_text("utf-8")))
    if not text:
        raise ValueError(f"{script} has no docstring; say there what it shows.")
    return re.split(r"^Run:", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
