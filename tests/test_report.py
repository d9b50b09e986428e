"""The report without a browser: what it says, what it escapes, and what it tells of bad files."""

import base64
import hashlib
import io
import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from report_examples import HOSTILE, Page, hostile, made, unpacked, write_record

from imbalance.analysis.selection import RULES, best_learning_rate
from imbalance.commands.main import main
from imbalance.reporting.claims import Claim
from imbalance.reporting.experiment import Options
from imbalance.reporting.report import curves as curves_of
from imbalance.reporting.report import page
from imbalance.reporting.report.choices import choices
from imbalance.reporting.report.classes import classes
from imbalance.reporting.report.curves import curves
from imbalance.reporting.report.exhibits import Exhibit, Gathered, Known, from_files, read_runs
from imbalance.reporting.report.experiments import from_scripts, words
from imbalance.reporting.report.explored import explored, pack, plain
from imbalance.reporting.report.gathering import Where, gather
from imbalance.reporting.report.labelled import labelled
from imbalance.reporting.report.live import Live
from imbalance.reporting.report.pictures import embedded
from imbalance.reporting.report.sofar import Finished, so_far
from imbalance.storage import agendas, datasets
from imbalance.storage.store import Store
from imbalance.training.running import run

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = '''"""A small comparison of `two` optimizers.

What is claimed: nothing < everything.

Run:    python experiments/{name}.py
"""

from imbalance.problems import heavy_tailed_linear
from imbalance.reporting.claims import between
from imbalance.reporting.experiment import Experiment
from imbalance.training.sweep import Sweep


def sweeps(scale):
    return {{"": Sweep(heavy_tailed_linear(3), {{"gd": (0.1,)}}, 4)}}


def claims(dataset):
    {claims}
    loss = dataset["loss"].isel(step=-1, learning_rate=0).sel(optimizer="gd")
    return [between("gap", "GD's last loss", loss, high=9.0, fixed="before any run")]


EXPERIMENT = Experiment("{name}", sweeps, None, claims)
'''


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Without Vega, which takes seconds to bundle and is another's."""
    monkeypatch.setattr(page, "library", lambda: "globalThis.vegaEmbed = null;")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(dataset, path):
    datasets.save(dataset, path, {})
    return path


def shown(*exhibits, **options):
    return Page(page.render(Gathered(list(exhibits)), "title", **options).decode())


def call(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, arguments)])
    return ended.value.code


# Runs as plain data -----------------------------------------------------------------------------


def test_curves_are_the_stored_losses_with_four_digits():
    dataset = labelled(made())
    found = curves(dataset)
    (kind,) = found["kinds"]
    assert (found["over"], kind["name"], len(found["runs"])) == (None, "training", 12)
    for i, (over, optimizer, rate, seed, diverged) in enumerate(found["runs"]):
        one = dataset.isel(optimizer=optimizer, learning_rate=rate, seed=seed)
        expected = one["bucket_loss"].transpose("bucket", "step").values
        told = np.array(kind["buckets"][i], float)  # None is NaN
        np.testing.assert_allclose(told, expected, rtol=5e-4)
        np.testing.assert_allclose(np.array(kind["all"][i], float), one["loss"], rtol=5e-4)
        assert (over, diverged) == (0, int(one["status"] == datasets.DIVERGED))


def test_runs_that_were_not_made_are_not_in_the_page():
    dataset = made()
    dataset["status"][1, 2] = datasets.NOT_RUN
    found = curves(labelled(dataset))
    assert len(found["runs"]) == 10
    assert not [run for run in found["runs"] if run[1:3] == [1, 2]]


def test_validation_losses_are_a_kind_of_their_own_and_over_comes_first():
    dataset = made(over=("text", ["a", "b"]))
    more = dataset["bucket_loss"].rename(bucket="validation_bucket") + 1
    dataset = dataset.assign(validation_loss=dataset["loss"] + 1, validation_bucket_loss=more)
    found = curves(labelled(dataset))
    assert [kind["name"] for kind in found["kinds"]] == ["training", "validation"]
    assert found["over"] == {"name": "text", "values": ["a", "b"]}
    assert {run[0] for run in found["runs"]} == {0, 1}
    assert found["kinds"][1]["all"][0][0] == pytest.approx(found["kinds"][0]["all"][0][0] + 1, 1e-3)


def test_long_runs_are_thinned_to_what_can_be_seen_with_both_ends_and_the_horizon():
    steps = np.arange(5001)
    dataset = labelled(made(rates=(0.1,), seeds=(0,), steps=steps))
    found = curves(dataset, keep=[1237])
    assert len(found["steps"]) in (curves_of.MOST_STEPS, curves_of.MOST_STEPS + 1)
    assert {0, 1237, 5000} <= set(found["steps"])


@pytest.mark.parametrize("rule", RULES)
def test_choices_are_those_of_the_rules(tiny_dataset, rule):
    (told,) = choices(labelled(tiny_dataset))
    (choice,) = [one for one in told if one["rule"] == rule]
    best = best_learning_rate(tiny_dataset, 12, rule)
    rates = tiny_dataset["learning_rate"].values
    for i, rate in enumerate(best["learning_rate"].values):
        if np.isnan(rate):
            assert choice["best"][i] == -1
        else:
            assert rates[choice["best"][i]] == rate
            assert choice["admitted"][i][choice["best"][i]]
    assert choice["edge"] == best["edge"].values.tolist()


def test_the_experiments_own_rule_and_horizon_come_first():
    settings = json.dumps([{"confirm": {"steps": [5, 99], "rules": ["stable"]}}])
    (told,) = choices(labelled(made().assign_attrs(settings=settings)))
    assert [(one["step"], one["rule"]) for one in told][:3] == [
        (5, "stable"),
        (5, "steady"),
        (5, "final"),
    ]
    assert {one["step"] for one in told} == {5, 10}


@pytest.mark.parametrize(
    "settings", ["{", "[1]", '[{"confirm": 3}]', '[{"confirm": {"steps": 1}}]']
)
def test_strange_settings_select_as_usual(settings):
    (told,) = choices(labelled(made().assign_attrs(settings=settings)))
    assert (told[0]["rule"], told[0]["step"]) == ("steady", 10)


def test_nothing_is_selected_without_losses_of_the_start():
    assert choices(labelled(made(steps=(5, 10)))) == [[]]


def test_classes_come_by_frequency_with_their_last_losses():
    dataset = made()
    losses = np.random.default_rng(1).random((2, 3, 2, 3, 8))
    dims = ("optimizer", "learning_rate", "seed", "step", "class")
    (found,) = classes(labelled(dataset.assign(class_loss=(dims, losses))))
    assert found["counts"] == sorted(found["counts"], reverse=True)
    assert found["buckets"] == dataset["bucket_of_class"].values.tolist()
    np.testing.assert_allclose(found["losses"], losses[..., -1, :].reshape(12, 8), rtol=5e-4)
    assert classes(labelled(dataset.drop_vars("class_count"))) == [None]


def test_colours_of_the_page_are_colours_whatever_a_file_says():
    looks = curves(labelled(hostile()))["optimizers"]
    assert all(re.fullmatch(r"#[0-9a-f]{6}", look["colour"], re.I) for look in looks)
    assert [look["dashed"] for look in looks] == [False, True]


@pytest.mark.parametrize("name", ["learning_rate", "seed", "optimizer"])
def test_a_dimension_that_was_selected_away_comes_back(name):
    dataset = made()
    found = curves(labelled(dataset.isel({name: 0})))
    assert len(found["runs"]) == 12 // dataset.sizes[name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.drop_vars("loss"), "it has no loss, so it is no dataset of runs"),
        (lambda d: xr.Dataset({"x": 3}), "no loss and no bucket_loss"),
        (lambda d: d.expand_dims(a=[1, 2]).expand_dims(b=[1, 2]), r"differ in b, a; .*\.sel\(b="),
        (lambda d: d.rename(step="time"), "no dimension step"),
        (lambda d: d.isel(step=[]), "dimension step is empty"),
        (lambda d: d.assign(loss=d["loss"].astype(str)), "its loss holds <U"),
        (lambda d: d.assign(bucket_loss=d["bucket_loss"].isel(seed=0)), "has dimensions"),
    ],
)
def test_other_datasets_are_refused_with_the_reason(change, said):
    with pytest.raises(ValueError, match=said):
        labelled(change(made()))


# Files ------------------------------------------------------------------------------------------


def test_datasets_of_ours_plain_ones_and_records_are_read(here):
    made().to_netcdf(here / "plain.nc", engine="h5netcdf")
    paths = [saved(made(), here / "ours.nc"), here / "plain.nc", write_record(here / "a.record")]
    found = from_files(paths)
    assert [exhibit.name for exhibit in found.exhibits] == ["ours", "plain", "a"]
    assert found.problems == found.remarks == []
    record = unpacked(found.exhibits[2].runs.data)
    assert record["classes"][0]["step"] == 40
    assert len(record["classes"][0]["losses"][0]) == len(record["classes"][0]["counts"])


def test_records_are_joined_and_saved_as_the_page_of_the_report_says(here):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/report.md").read_text(), re.DOTALL)
    for name in ("a", "b"):
        write_record(here / f"{name}.record")
    exec(compile(block, "report.md", "exec"), {})
    (one,) = from_files([here / "both.nc"]).exhibits
    data = unpacked(one.runs.data)
    assert [look["name"] for look in data["optimizers"]] == ["small rate", "large rate"]


def damaged(path):
    """Ways in which a stored dataset can be wrong."""
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    return {
        "short.nc": data[:-300],
        "shorter.nc": data[: len(data) // 3],
        "flipped.nc": bytes(flipped),
        "start.nc": data[:8] + bytes(200),
        "text.nc": b"hello",
        "none.nc": b"",
        "numpy.nc": b"\x93NUMPY" + bytes(300),
    }


def test_damaged_files_are_named_and_the_others_shown(here):
    wrong = damaged(saved(made(), here / "right.nc"))
    for name, data in wrong.items():
        (here / name).write_bytes(data)
    xr.Dataset({"x": 3}).to_netcdf(here / "other.nc", engine="h5netcdf")
    names = [*wrong, "other.nc", "missing.nc"]
    told = call(*names[:3], "right.nc", *names[3:], "--output", "report.html")
    assert re.findall(r"^(\S+\.nc): ", told, re.MULTILINE) == names
    assert "missing.nc: it cannot be read: No such file" in told
    assert "other.nc: it has no loss and no bucket_loss" in told
    read = Page((here / "report.html").read_text())
    assert len(read.packed()) == 1
    assert all(name in "".join(read.text) for name in names)


def test_with_nothing_to_show_nothing_is_written(here):
    (here / "folder").mkdir()
    told = call("folder", "no.nc", "--output", "report.html")
    assert "there is nothing to show" in told
    assert "folder: it is a folder without .nc files" in told
    assert not (here / "report.html").exists()


def test_a_folder_is_all_its_datasets(here):
    for name in ("b", "a"):
        saved(made(), here / "folder" / f"{name}.nc")
    assert [one.name for one in gather([here / "folder"], Where()).exhibits] == ["a", "b"]


def test_a_run_that_diverged_is_a_remark_and_no_error(here, capsys):
    write_record(here / "a.record", diverges=True)
    assert call("a.record", "--output", "report.html") is None
    assert "The run has diverged" in capsys.readouterr().out
    (data,) = Page((here / "report.html").read_text()).packed()
    assert data["runs"] == [[0, 0, 0, 0, 1]]
    assert [loss is None for loss in data["kinds"][0]["all"][0]] == [False, True, True, True]


# The page ---------------------------------------------------------------------------------------


def test_hostile_names_stay_text():
    claim = Claim(
        HOSTILE[0], HOSTILE[1], HOSTILE[0], HOSTILE[3], False, "before any run", reason="<b>"
    )
    one = Exhibit(HOSTILE[0], HOSTILE[1], (HOSTILE[0],), HOSTILE[1], explored(labelled(hostile())))
    plain_ = shown(Exhibit("a", "a", ("a",), "a", explored(labelled(made()))))
    problems = Gathered([replace(one, claims=(claim,))], [(HOSTILE[0], HOSTILE[1])])
    read = Page(page.render(problems, HOSTILE[0]).decode())
    for tag in ("script", "iframe", "object", "link", "base", "form", "b"):
        extra = {"form": 1}.get(tag, 0)  # the filter of claims
        assert len(read.all(tag)) == len(plain_.all(tag)) + extra, tag
    assert not read.all("img")
    assert not [attrs for _, attrs in read.elements if any(name.startswith("on") for name in attrs)]
    text = "".join(read.text)
    assert all(name in text for name in HOSTILE[:2])
    assert "49" not in text  # no template is evaluated
    (data,) = read.packed()
    assert data["over"]["name"] == "__proto__"
    assert data["classes"][0]["names"][0].startswith("</script>")


def test_the_page_runs_its_own_scripts_and_loads_nothing():
    read = shown(Exhibit("a", "a", runs=explored(labelled(made()))))
    (policy,) = [one["content"] for one in read.all("meta") if "http-equiv" in one]
    own = [text for attrs, text in read.scripts if not attrs][1:]  # the first is the style
    assert len(own) == 1 + len(page.SCRIPTS)
    for text in own:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe-eval" not in policy
    addresses = [attrs.get("href", attrs.get("src")) for _, attrs in read.elements]
    assert all(one.startswith(("#", "data:")) for one in addresses if one)


def test_every_link_has_a_place_and_places_are_unique():
    runs = explored(labelled(made()))
    names = ["one", "one", "ÄÖ", "#?", "x" * 200, "gallery"]
    read = shown(*(Exhibit(name, name, runs=runs) for name in names))
    ids = [attrs["id"] for _, attrs in read.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {one["href"] for one in read.all("a")}
    assert len(links) >= len(names)
    assert {link[1:] for link in links} <= set(ids)


def test_the_style_and_scripts_of_the_page_are_plain_files_and_small():
    sizes = {name: len(page.asset(name)) for name in (*page.SCRIPTS, "report.css", "report.html")}
    assert sum(sizes[name] for name in page.SCRIPTS) < 50_000
    assert max(page.asset(name).count("\n") for name in sizes) < 400
    assert not [name for name in sizes if "http" in page.asset(name).replace("http-equiv", "")]


def test_claims_stand_in_the_page_with_verdict_reason_and_picture():
    rows = (
        Claim("one", "a < b", "≥ 1", "2", True, "before any run", headline=True),
        Claim("two", "b", "≥ 1", "0", False, "before any run", reason="too small"),
        Claim("three", "c", "", "5", None, "no threshold"),
        Claim("four", "d", "≥ 1", "-", None, "arithmetic"),
    )
    read = shown(Exhibit("linear", "Linear", claims=rows))
    told = [one for one in read.all("tr") if "data-verdict" in one]
    verdicts = ["holds", "fails", "reported", "not-decided"]
    assert [one["data-verdict"] for one in told] == 2 * verdicts  # its own page, and all claims
    assert [one["data-kind"] for one in told][:4] == ["tests", "tests", "other", "other"]
    text = re.sub(r"\s+", " ", "".join(read.text))
    assert "Why: too small." in text and "1 holds" in text
    assert {"href": "#of-linear"} in read.all("a")


def test_text_between_backticks_is_code_and_all_else_is_escaped():
    assert page.coded("the rule `a<b` & ``c``") == (
        "the rule <code>a&lt;b</code> &amp; <code>c</code>"
    )
    assert page.coded("one ` alone <") == "one ` alone &lt;"


def test_numbers_of_verdicts_are_english():
    told = [page.counted(n, v) for n in (1, 2) for v in ("holds", "FAILS", "not decided")]
    assert told == ["1 holds", "1 fails", "1 not decided", "2 hold", "2 fail", "2 not decided"]


def test_what_is_packed_is_the_same_every_time_and_small():
    dataset = labelled(datasets.read(ROOT / "figures" / "data" / "fig4_linear.nc"))
    data = plain(dataset)
    assert unpacked(pack(data)) == data
    assert pack(data) == pack(data)
    assert len(pack(data)) < 80_000


def test_pictures_are_smaller_and_as_large():
    path = ROOT / "figures" / "fig4_linear.png"
    address, width, height = embedded(path.read_bytes())
    kind, _, data = address.partition(",")
    found = base64.b64decode(data)
    assert kind == "data:image/png;base64"
    assert len(found) < path.stat().st_size / 2
    with Image.open(path) as before, Image.open(io.BytesIO(found)) as after:
        assert before.size == after.size == (width, height)
        pixels = [np.asarray(one.convert("RGB"), float) for one in (before, after)]
    assert abs(pixels[0] - pixels[1]).mean() < 1.0  # of 255


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(50), b"<svg/>"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(ValueError, match="no picture that can be shown"):
        embedded(data)


# Experiments ------------------------------------------------------------------------------------


@pytest.fixture
def folder(here, tiny_dataset):
    """Two experiments with their data; the claims of one cannot be checked."""
    for name, claims in (("right", ""), ("wrong", "raise KeyError('<b>')")):
        script = here / "experiments" / f"{name}.py"
        script.parent.mkdir(exist_ok=True)
        script.write_text(SCRIPT.format(name=name, claims=claims))
        saved(tiny_dataset, here / "figures" / "data" / f"{name}.nc")
    (here / "experiments" / "later.py").write_text(SCRIPT.format(name="later", claims=""))
    Image.new("RGB", (20, 10), "red").save(here / "figures" / "right.png")
    (here / "figures" / "wrong.png").write_bytes(b"nothing")
    return here


def test_experiments_have_words_picture_runs_and_claims(folder):
    found = gather([], Where())
    shown_ = {exhibit.name: exhibit for exhibit in found.exhibits}
    right, wrong, later = (shown_[name] for name in ("right", "wrong", "later"))
    assert right.title == "A small comparison of `two` optimizers."
    assert right.text == ("What is claimed: nothing < everything.",)
    assert right.commands == "Run:    python experiments/right.py"
    assert [claim.name for claim in right.claims] == ["gap"]
    assert (right.picture.width, right.picture.height) == (20, 10)
    assert wrong.runs and not wrong.claims and wrong.picture is None
    assert later.runs is None
    assert [place for place, _ in found.problems] == ["figures/wrong.png", "claims of wrong"]
    read = shown(*found.exhibits)
    assert len(read.packed()) == 2
    assert "There are no results yet." in "".join(read.text)


def test_an_experiment_is_named_or_given_by_its_script(folder):
    for given in ("right", "experiments/right.py"):
        (one,) = gather([Path(given)], Where()).exhibits
        assert (one.name, len(one.claims)) == ("right", 1)


def test_what_has_not_changed_is_not_read_again(folder):
    known, script = Known(), [folder / "experiments" / "right.py"]
    first = from_scripts(script, Options(), known).exhibits[0]
    assert from_scripts(script, Options(), known).exhibits[0] is first
    script[0].write_text(script[0].read_text().replace("small", "large"))
    assert "large" in from_scripts(script, Options(), known).exhibits[0].title


def test_the_words_of_a_script_are_read_without_running_it(here):
    path = here / "x.py"
    path.write_text('"""Title."""\nraise SystemExit("run")')
    assert words(path).title == "Title."
    path.write_text("this is no Python")
    assert words(path).title == "x"


# Live -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def stored_runs(tiny_sweep, tmp_path_factory):
    """A folder of results with all runs of a sweep, and no joined dataset."""
    folder = tmp_path_factory.mktemp("stored")
    run(tiny_sweep, folder)
    return folder


@pytest.fixture
def store(here, stored_runs):
    shutil.copytree(stored_runs, here / "results")
    return Store(here / "results" / "runs")


def test_finished_runs_are_shown_before_they_are_joined(store, tiny_dataset):
    finished = Finished(store)
    runs = finished.renew([])
    (one,) = so_far(runs).exhibits
    assert one.number_of_runs == 10
    data = unpacked(one.runs.data)
    assert {look["name"] for look in data["optimizers"]} == {"gd", "adam"}
    assert data["steps"] == [0, 4, 12]
    expected = curves(labelled(tiny_dataset))
    places = [expected["optimizers"].index(look) for look in data["optimizers"]]
    order = {(places[o], r, s): i for i, (_, o, r, s, _) in enumerate(data["runs"])}
    for i, (_, optimizer, rate, seed, _) in enumerate(expected["runs"]):
        j = order[optimizer, rate, seed]
        assert data["kinds"][0]["buckets"][j] == expected["kinds"][0]["buckets"][i]


def test_joined_and_damaged_runs_are_left_out(store, here, tiny_dataset):
    keys = sorted(path.stem for path in store.folder.glob("??/*.nc"))
    store.path(keys[0]).write_bytes(b"damaged")
    place = here / "results" / "one" / "laptop.nc"
    datasets.save(tiny_dataset, place, {"runs": json.dumps(keys[1:4])})
    finished = Finished(store)
    assert set(finished.renew([place])) == set(keys[4:])
    assert set(finished.renew([])) == set(keys[1:])


def test_a_live_page_is_written_until_it_is_to_end(store, here, folder, tiny_dataset):
    saved(tiny_dataset.assign_attrs(runs="[]"), here / "results" / "right" / "laptop.nc")
    keys = sorted(path.stem for path in store.folder.glob("??/*.nc"))
    wanted = {key: agendas.Wanted("<b>", 0.1, 0, 12, 1e9) for key in [*keys[:2], "f" * 32]}
    agenda = agendas.Agenda(wanted, False, 0.0, time.time())
    agendas.write("going", "laptop", here / "results", agenda)
    agendas.keep_failure("going", "laptop", here / "results", "<script>no</script>", "")
    looks = iter([0, 1])
    written = []

    def stopping():
        if (here / "live.html").exists():
            written.append((here / "live.html").read_text())
        return next(looks, 1)

    found = Live([], Where(), here / "live.html", "title", 1).go_on(stopping)
    on_the_way, last = Page(written[-1]), Page((here / "live.html").read_text())
    assert on_the_way.all("body")[0]["data-reload"] == "1"
    assert "data-reload" not in last.all("body")[0]
    assert [exhibit.number_of_runs for exhibit in found.exhibits] == [10, 0, 0, 0]
    text = re.sub(r"\s+", " ", "".join(last.text))
    assert "Experiments: 1 failed, 1 finished." in text and "more runs follow" in text
    assert re.search(r"going ?failed ?2 ?1\+ ?\? ?<script>no</script>", text)


@pytest.mark.parametrize("arguments", [("--every", "0", "--live"), ("--scale", "huge")])
def test_options_that_make_no_sense_are_refused(here, arguments):
    assert call(*arguments)


def test_read_runs_names_what_a_file_is_not(here):
    (here / "x").write_bytes(b"hello")
    with pytest.raises(ValueError, match="neither a dataset .* nor a record"):
        read_runs(here / "x")
