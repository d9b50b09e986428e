"""The report in a real browser: what a click, a key and a pointer do, and whether all can use it.

They need playwright, axe and a Chromium: the extra `browser`, and one that is installed or that
`playwright install chromium` fetches.
"""

import os
import shutil

import pytest
from report_examples import HOSTILE, hostile, made, write_record

from imbalance.reporting.claims import Claim
from imbalance.reporting.report import page
from imbalance.reporting.report.exhibits import Exhibit, Gathered, of_file
from imbalance.reporting.report.explored import explored
from imbalance.reporting.report.labelled import labelled
from imbalance.reporting.report.page import Progress
from imbalance.reporting.report.pictures import embedded

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
axe_library = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")

pytestmark = pytest.mark.slow
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CURVES = ".view:not([hidden]) [data-run='0'] .mark-line.bucket path"
SECONDS = 60_000  # of patience, in milliseconds: machines that test are busy


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        own = next(filter(None, map(shutil.which, BROWSERS)), None)
        root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        try:
            found = driver.chromium.launch(executable_path=own, args=root)
        except playwright.Error as error:
            pytest.skip(f"there is no browser that starts: {str(error).splitlines()[0]}")
        yield found
        found.close()


def exhibits(folder):
    """A sweep with a picture and claims, one with every trouble, a record, and hostile names."""
    import io

    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (700, 300), "navy").save(picture, "PNG")
    claims = tuple(
        Claim(f"claim-{i}", f"Statement {i}", "≥ 1", "2", holds, fixed, "Figure 1", headline=not i)
        for i, (holds, fixed) in enumerate(
            [(True, "before any run"), (False, "before any run"), (None, "no threshold")]
        )
    )
    runs = made(steps=tuple(range(0, 60, 3)))
    return [
        Exhibit(
            "linear",
            "A title",
            ("Some words.",),
            "Run:    python experiments/a_name_that_is_as_long_as_names_of_scripts_can_be.py",
            explored(labelled(runs)),
            embedded(picture.getvalue()),
            claims,
        ),
        Exhibit("sizes", "Sizes", runs=explored(labelled(made(over=("m", [5, 6]))))),
        of_file(write_record(folder / "one.record")),
        Exhibit("diverged", "Diverged", runs=explored(labelled(made(rates=(1.0,))))),
        Exhibit(HOSTILE[0], HOSTILE[1], runs=explored(labelled(hostile()))),
        Exhibit("later", "Not yet"),
    ]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    found = Gathered(exhibits(folder), [(HOSTILE[0], "it is damaged")])
    progress = Progress(("experiment", "state"), [(HOSTILE[1], "joined")], "All.", 600)
    place = folder / "report.html"
    place.write_bytes(page.render(found, "A report", progress))
    return place.as_uri()


class Opened:
    """A page that notes what goes wrong on it."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**{"viewport": DESKTOP, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS)
        self.wrong, self.address = [], address
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("request", self._request)
        self.page.goto(address)

    def _request(self, request):
        if not request.url.startswith((self.address.split("#")[0], "data:")):
            self.wrong.append(request.url)

    def views(self):
        return self.page.eval_on_selector_all(".view", "views => views.map(view => view.id)")

    def go(self, place):
        """Show a section, and wait until its curves are drawn."""
        self.page.evaluate("place => { location.hash = place }", place)
        self.page.wait_for_selector(f"[id='{place.split('?')[0]}']:not([hidden])")
        if self.page.query_selector(f"[id='{place.split('?')[0]}'] .explorer"):
            self.page.wait_for_selector(".view:not([hidden]) .explorer[data-ready]")
        return self.page

    def curves(self):
        """The paths of the curves of run A."""
        return self.page.eval_on_selector_all(CURVES, "all => all.map(p => p.getAttribute('d'))")

    def one(self, selector):
        return self.page.locator(f".view:not([hidden]) {selector}")


@pytest.fixture
def opened(browser, address):
    found = Opened(browser, address)
    yield found
    found.context.close()
    assert found.wrong == []


def test_every_view_opens_without_an_error_and_hostile_names_stay_text(opened):
    for place in opened.views():
        opened.go(place)
        assert opened.one("h1").count() == 1
    assert opened.page.evaluate("window.pwned") is None
    last = opened.views()[-4]
    opened.go(last)
    assert HOSTILE[0] in opened.one(".classes").inner_text()
    assert "__proto__" in opened.one("[data-run='0'] .over").inner_text()
    label = f"label {HOSTILE[0]}"
    assert label in opened.one("[data-run='0'] [name=optimizer]").inner_text()


def test_every_link_leads_somewhere(opened):
    links = opened.page.eval_on_selector_all("a", "all => all.map(a => a.getAttribute('href'))")
    assert len(links) > 15
    for link in sorted(set(links)):
        assert link.startswith("#")
        assert opened.page.query_selector(f"[id='{link[1:]}']"), link


def test_the_slider_changes_the_curves_and_says_so(opened):
    opened.go("of-linear")
    before, slider = opened.curves(), opened.one("[data-run='0'] [name=rate]")
    assert len(before) == 4 and all(before)
    rate = opened.one("[data-run='0'] .rate output")
    assert rate.inner_text() == "0.01"
    slider.focus()
    opened.page.keyboard.press("ArrowRight")
    opened.page.wait_for_function(
        "([s, d]) => document.querySelector(s)?.getAttribute('d') !== d", arg=[CURVES, before[0]]
    )
    assert rate.inner_text() == "0.1"
    assert slider.get_attribute("aria-valuetext") == "0.1"
    opened.page.keyboard.press("ArrowRight")
    assert "2 of 2 runs diverged" in opened.one("[data-run='0'] .state").inner_text()
    opened.one("[data-run='0'] [name=select]").click()
    assert rate.inner_text() == "0.01"
    assert "Selected by the rule steady" in opened.one("[data-run='0'] .state").inner_text()


def test_seed_optimizer_rule_and_axes_are_chosen(opened):
    opened.go("of-linear")
    first = opened.curves()
    opened.one("[data-run='0'] [name=seed]").select_option(label="1")
    assert "Seed 1." in opened.one("[data-run='0'] .state").inner_text()
    opened.page.wait_for_function(
        "([s, d]) => document.querySelector(s)?.getAttribute('d') !== d", arg=[CURVES, first[0]]
    )
    opened.one("[data-run='0'] [name=optimizer]").select_option(label="Adam")
    opened.one("[name=choice]").select_option(label="final, at step 57")
    assert "explode" in opened.one(".rule-words").inner_text()
    assert "Selected by the rule final" in opened.one("[data-run='0'] .state").inner_text()
    straight = opened.curves()
    for name in ("logx", "logy"):
        opened.one(f"[name={name}]").check()
    opened.page.wait_for_function(
        "([s, d]) => document.querySelector(s)?.getAttribute('d') !== d", arg=[CURVES, straight[0]]
    )
    titles = opened.one("[data-run='0'] .chart svg text").all_text_contents()
    assert "step (0 left out)" in titles
    opened.one("[name=single]").check()
    assert not opened.one("[data-run='1']").is_visible()


def test_the_address_keeps_what_is_shown(opened, browser, address):
    opened.go("of-sizes")
    opened.one("[data-run='0'] [name=over]").select_option(label="6")
    opened.one("[name=logy]").check()
    opened.page.wait_for_function("location.hash.includes('logy')")
    again = Opened(browser, opened.page.url)
    again.page.wait_for_selector(".view:not([hidden]) .explorer[data-ready]")
    assert again.one("[data-run='0'] [name=over]").input_value() == "1"
    assert again.one("[name=logy]").is_checked()
    again.context.close()
    assert again.wrong == []


@pytest.mark.parametrize("query", ["a=9.9.9.m&c=7&k=4", "a=__proto__", "a=0.0.0.x&c=-1", "%%%&=;"])
def test_an_address_that_fits_nothing_shows_what_is_there(opened, query):
    opened.go(f"of-linear?{query}")
    assert len(opened.curves()) == 4


def test_values_are_told_under_the_pointer_and_by_the_step_slider(opened):
    opened.go("of-linear")
    chart = opened.one("[data-run='0'] .chart")
    chart.scroll_into_view_if_needed()
    chart.hover(position={"x": 200, "y": 100})
    tip = opened.page.locator(".tip")
    assert tip.is_visible() and "run A" in tip.inner_text()
    assert len(tip.inner_text().splitlines()) == 6
    slider = opened.one("[name=step]")
    slider.focus()
    opened.page.keyboard.press("Home")
    assert "Losses at step 0" in opened.one(".values caption").inner_text()
    rows = opened.one(".values tbody tr").all_inner_texts()
    assert len(rows) == 5 and rows[0].startswith("all")
    opened.page.mouse.move(1, 1)
    assert not tip.is_visible()


def test_the_learning_rates_are_drawn_marked_and_in_a_table(opened):
    opened.go("of-linear")
    points = opened.one(".rates .mark-symbol.point path")
    assert points.count() == 6
    opened.one(".rates summary").click()
    table = opened.one(".rates table").inner_text()
    assert table.count("selected") == 2 and table.count("diverged") == 1
    opened.one(
        ".rates th button",
    ).nth(2).click()
    assert opened.one(".rates th[aria-sort]").inner_text().startswith("loss at step 57")


def test_a_table_of_classes_sorts_and_is_searched(opened):
    opened.go("of-one")

    def column(i):
        return opened.one(f".classes tbody td:nth-child({i})").all_inner_texts()

    counts = [int(text) for text in column(2)]
    assert counts == sorted(counts, reverse=True)
    head = opened.one(".classes th button").nth(4)
    head.focus()
    opened.page.keyboard.press("Enter")
    losses = [float(text) for text in column(5)]
    assert losses == sorted(losses, reverse=True)
    opened.page.keyboard.press("Enter")
    assert [float(text) for text in column(5)] == sorted(losses)
    opened.one(".classes [name=class]").fill("11")
    assert column(1) == ["11"]


def test_claims_are_filtered_and_lead_to_their_picture(opened):
    opened.go("claims")
    rows = opened.one("tbody tr:not([hidden])")
    assert rows.count() == 3
    opened.one("[value=holds]").uncheck()
    assert rows.count() == 2 and "2 of 3" in opened.one(".count").inner_text()
    opened.one("[value=tests]").check()
    assert rows.all_inner_texts()[0].count("claim-1") == 1 and rows.count() == 1
    opened.one("[type=search]").fill("nothing")
    assert rows.count() == 0
    opened.one("[type=search]").fill("")
    rows.locator("a").first.click()
    opened.page.wait_for_selector("#of-linear:not([hidden]) .picture img")


def test_the_keyboard_reaches_everything(opened):
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.className") == "skip"
    opened.go("of-linear")
    names = set()
    for _ in range(40):
        opened.page.keyboard.press("Tab")
        names.add(opened.page.evaluate("document.activeElement.name ?? ''"))
    assert {"optimizer", "seed", "rate", "logy", "step", "class", "choice"} <= names


def test_a_page_that_is_written_again_can_be_kept_still(opened):
    box = opened.page.locator("#reload")
    assert box.is_visible() and box.is_checked()
    box.uncheck()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_everyone_can_use_it_and_nothing_is_wider_than_the_page(browser, address, scheme, size):
    opened = Opened(browser, address, viewport=size, color_scheme=scheme)
    axe = axe_library.Axe()
    for place in opened.views():
        opened.go(place)
        found = axe.run(opened.page, options={"resultTypes": ["violations"]}).response
        serious = [
            (one["id"], [node["target"] for node in one["nodes"]][:3])
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], place
        width = opened.page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], place
    opened.context.close()
    assert opened.wrong == []


def test_paper_shows_what_the_screen_shows_without_controls(opened):
    opened.go("of-linear")
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("header nav").is_visible()
    assert not opened.one("[name=logx]").is_visible()
    assert opened.one("[data-run='0'] .chart svg").is_visible()
    assert (
        opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    assert len(opened.page.pdf()) > 10_000


def test_without_javascript_pictures_claims_and_provenance_are_there(browser, address):
    opened = Opened(browser, address, java_script_enabled=False)
    for place in ("gallery", "of-linear", "claims", "provenance"):
        assert opened.page.locator(f"[id='{place}'] h1").is_visible()
    opened.context.close()
