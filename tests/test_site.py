"""The documentation as a site: all pages, figures and names are in it, and nothing is fetched."""

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import imbalance

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"
REFERENCE = "\n".join(path.read_text("utf-8") for path in sorted(SITE.glob("reference/*.rst")))
EXPERIMENTS = sorted(path.stem for path in ROOT.glob("experiments/*.py"))


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("site_pages", SITE / "pages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def laid(pages, tmp_path_factory):
    """The pages as they are laid out for the generator."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    pages.write(folder)
    return folder


# The pages ---------------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation_once(pages):
    groups = pages.complete(ROOT)
    paths = [path for group in groups.values() for path in group.values()]
    assert len(set(paths)) == len(paths)
    assert {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")} <= set(paths)
    assert {f"reference/{path.stem}" for path in SITE.glob("reference/*.rst")} <= set(paths)
    assert "CONTRIBUTING" in paths and "CHANGELOG" in paths and "benchmarks/RESULTS" in paths


def test_a_page_that_nobody_put_there_is_under_its_title(pages, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "new.md").write_text("# A new page\n\nWords.\n")
    assert pages.complete(tmp_path)["Use"]["A new page"] == "docs/new"


def test_every_page_is_laid_out(pages, laid):
    for group in pages.complete(ROOT).values():
        for path in group.values():
            assert len(list(laid.glob(f"{path}.*"))) == 1, path


def test_what_lay_there_before_goes(pages, tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "old.md").write_text("# Old\n")
    pages.write(tmp_path / "pages")
    assert not (tmp_path / "pages" / "old.md").exists()


def test_the_landing_page_begins_with_the_readme_and_figure_1(laid):
    text = (laid / "index.md").read_text("utf-8")
    assert text.startswith("# imbalance\n") and "(figures/fig1_language.png)" in text
    assert "make reproduce" in text and "[Your own optimizer](docs/optimizers.md)" in text


def test_every_section_of_the_readme_is_shown_or_left_out_by_name(pages, laid):
    titles = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert {*pages.LANDING, *pages.LEFT_OUT, *pages.FIRST} <= set(titles)
    shown = (laid / "index.md").read_text("utf-8") + (laid / "start.md").read_text("utf-8")
    for title in set(titles) - set(pages.LEFT_OUT):
        assert f"\n## {title}\n" in shown


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_figure_is_in_a_gallery_with_its_caption(pages, laid, name):
    both = [(laid / f"{page}.md").read_text("utf-8") for page in ("gallery", "further")]
    (text,) = (text for text in both if f"({name})=" in text)
    promise = pages.caption(ROOT / "experiments" / f"{name}.py")
    assert " ".join(promise.split()[-8:]) in " ".join(text.split())
    assert "Run:" not in promise and "Draws:" not in promise


def test_links_to_figures_and_scripts_lead_to_the_galleries(pages):
    text = "[a](../figures/fig4_linear.png) ![b](figures/x.png) [c](experiments/fig4_linear.py)"
    found = "[a](#fig4_linear) ![b](figures/x.png) [c](#fig4_linear)"
    assert pages.linked(text) == found
    kept = "[claims](../figures/CLAIMS.md) [data](../figures/data/)"
    assert pages.linked(kept) == kept


def test_a_script_without_a_docstring_is_told(pages, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text("x = 1\n")
    with pytest.raises(ValueError, match="mine.py has no docstring"):
        pages.caption(script)


@pytest.mark.parametrize("name", [name for name in imbalance.__all__ if name != "__version__"])
def test_every_public_name_is_in_the_reference(name):
    module = name == "problems"
    directive = r"^\.\. (?:auto\w+|py:data):: (?:imbalance\.)?(?:\w+\.)*"
    wanted = r"^\.\. currentmodule:: imbalance\.problems$" if module else rf"{directive}{name}$"
    assert re.search(wanted, REFERENCE, re.MULTILINE), f"{name} is not in the reference"


# The site ----------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """What a page links to, what it loads, and the places in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.places = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag == "link" and "canonical" not in found.get("rel", ""):
            self.loaded.append(found["href"])
        elif tag in ("img", "script", "iframe", "source") and found.get("src"):
            self.loaded.append(found["src"])


def is_elsewhere(link):
    return urlsplit(link).scheme in ("http", "https", "mailto") or link.startswith("//")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it."""
    for library in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(library, reason="the extra `docs` is not installed")
    into = tmp_path_factory.mktemp("built")
    command = [sys.executable, str(SITE / "build.py"), "--into", str(into)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=into)
    assert done.returncode == 0, done.stdout + done.stderr
    return into / "site"


@pytest.mark.slow
def test_the_site_is_whole_and_fetches_nothing(site):
    seen = {path: Seen(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert len(seen) > 20
    for path, page in seen.items():
        assert not [link for link in page.loaded if is_elsewhere(link)], path.name
        for link in filter(lambda link: not is_elsewhere(link), page.links + page.loaded):
            parts = urlsplit(link)
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert place.exists(), f"{path.relative_to(site)}: {link}"
            if parts.fragment and place in seen:
                assert unquote(parts.fragment) in seen[place].places, f"{path.name}: {link}"
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\(['\"]?https?:", style.read_text("utf-8")), style.name


@pytest.mark.slow
def test_the_search_finds_without_a_server(site):
    index = (site / "searchindex.js").read_text("utf-8")
    assert index.startswith("Search.setIndex(")
    for word in ("zipf", "muon", "barcod"):
        assert word in index


@pytest.mark.slow
def test_the_reference_shows_examples_and_links_names(site):
    text = (site / "reference" / "losses.html").read_text("utf-8")
    assert 'id="imbalance.LossByClass.by_bucket"' in text
    assert "frequencies.html#imbalance.FrequencyBuckets" in text
    assert "Example" in text and "num_classes" in text
    for page in site.glob("reference/*.html"):
        unread = re.findall(r"~imbalance|&lt;factory&gt;|_SupportsArray", page.read_text("utf-8"))
        assert not unread, f"{page.name}: a signature cannot be read"


@pytest.mark.slow
def test_no_path_of_this_machine_is_in_it(site):
    for path in site.rglob("*"):
        if path.suffix in (".html", ".js", ".txt", ".inv", ".css"):
            assert str(ROOT) not in path.read_text("utf-8", errors="ignore"), path.name


def test_without_the_generator_it_says_what_to_install(tmp_path):
    code = (
        "import runpy, sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'furo': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        f"sys.argv = ['build.py', '--into', {str(tmp_path)!r}]\n"
        f"runpy.run_path({str(SITE / 'build.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "the site needs furo: pip install -e '.[docs]'\n"
    assert not list(tmp_path.iterdir())
