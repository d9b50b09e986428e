"""The pages of the documentation: their links lead somewhere, and their code is run."""

import re
from pathlib import Path

import pytest

from imbalance.commands.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted(
        [
            *ROOT.glob("*.md"),
            *ROOT.glob("docs/*.md"),
            ROOT / "benchmarks" / "RESULTS.md",
            ROOT / "figures" / "CLAIMS.md",
        ]
    )
}
# Whose blocks a test of their own runs; those of all other pages are run here.
RUN_BY = {
    "README.md": "test_readme.py",
    "docs/analyzers.md": "test_recipes.py",
    "docs/data.md": "test_recipes.py",
    "docs/optimizers.md": "test_optimizer_recipes.py",
    "docs/training.md": "test_training_recipes.py",
}
# A block that is not to be run has the reason in a comment before it.
BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(text, language):
    """Blocks of code that are meant to run."""
    return [code for reason, name, code in BLOCK.findall(text) if name == language and not reason]


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", BLOCK.sub("", text))


def sections_of(text):
    """Places that a link can lead to: titles as GitHub and the site write them."""
    found = []
    for title in re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE):
        place = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found.append(f"{place}-{found.count(place)}" if place in found else place)
    return set(found)


def test_pages_with_links_are_among_them():
    linking = [page for page, text in PAGES.items() if "](" in without_code(text)]
    assert {"README.md", "docs/analyzers.md", "docs/method.md"} <= set(linking)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(PAGES[page])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, section = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        assert place.exists(), f"{page}: there is no {target}"
        if section:
            assert section in sections_of(place.read_text("utf-8")), f"{page}: no section {target}"


def test_the_place_of_a_section_is_that_of_github():
    text = "# One & two\n\n## `x` it's\n\n## Same\n\n## Same\n\n```sh\n# no title\n```\n"
    assert sections_of(text) == {"one--two", "x-its", "same", "same-1"}


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUN_BY])
def test_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for code in blocks_of(PAGES[page], "python"):
        exec(compile(code, page, "exec"), namespace)


@pytest.mark.parametrize("page", RUN_BY)
def test_blocks_of_the_other_pages_are_run_by_a_test_of_their_own(page):
    assert blocks_of(PAGES[page], "python")
    source = (Path(__file__).parent / RUN_BY[page]).read_text("utf-8")
    assert Path(page).name in source
    assert "<!-- not run" not in PAGES[page], f"{RUN_BY[page]} runs every block"


def test_a_block_is_left_out_for_a_reason():
    text = "```python\nx = 1\n```\n\n<!-- not run: needs a GPU -->\n```python\nx = 2\n```\n"
    assert blocks_of(text, "python") == ["x = 1\n"]
    assert blocks_of(text.replace("needs a GPU ", ""), "python") == ["x = 1\n", "x = 2\n"]
    assert blocks_of("```sh\nls\n```\n", "python") == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_pages_show_are_there(page):
    shown = "\n".join(blocks_of(PAGES[page], "sh"))
    names = re.findall(r"^imbalance ([a-z]+)", shown, re.MULTILINE)
    names += re.findall(r"`imbalance ([a-z]+)[ `]", PAGES[page])
    unknown = set(names) - set(COMMANDS)
    assert not unknown, f"{page} shows {unknown}"
