"""The command `imbalance`: what files are taken for, what is said of them, and what is refused."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import imbalance
from imbalance import LossByClass, Record
from imbalance.analysis.buckets import FrequencyBuckets
from imbalance.analysis.frequency import zipf_fit
from imbalance.commands import counts as counts_command
from imbalance.commands.main import COMMANDS, INSTALLED_BY, main
from imbalance.commands.output import write_json
from imbalance.commands.reading import read_classes
from imbalance.commands.tables import Choice
from imbalance.data.zipf import power_law_counts

ROOT = Path(__file__).resolve().parents[1]


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def counts_of(path, **choice):
    table = read_classes(path, Choice(**choice))
    assert table.counts.dtype == np.int64
    return dict(zip(table.names, table.counts.tolist(), strict=True))


def call(*arguments):
    """The exit status of a command, or what it says of an error."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


# Files to counts --------------------------------------------------------------------------------

CAT = {"cat": 3, "dog": 2, "emu": 1}
LABELS = ["cat", "dog", "cat", "emu", "cat", "dog"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "name,count\ncat,3\ndog,2\nemu,1\n", "CSV, column 'count', counts, names in"),
        ("a.csv", "\ufeffname;Count\r\ncat;3\r\n\r\ndog;2\r\nemu;1\r\n", "counts, names in 'name'"),
        ("a.tsv", "cat\t3\ndog\t2\nemu\t1", "CSV, column '2', counts, names in '1'"),
        ("a.csv", "id,name,image_count\n7,cat,3\n8,dog,2\n9,emu,1\n", "'image_count', counts, nam"),
        ("a.csv", 'label,n\n"cat",3.0\n"dog", 2 \nemu,1e0\n', "column 'n', counts"),
        ("a.csv", "class,count\ncat,1\ndog,2\ncat,2\nemu,1\n", "1 names that come again"),
        ("a.csv", "file,label\na,cat\nb,dog\nc,cat\nd,emu\ne,cat\nf,dog\n", "labels of single"),
        ("a.csv", "text,label\n" + "\n".join(f"{i},{x}" for i, x in enumerate(LABELS)), "labels"),
        ("a.csv", "animal\n" + "\n".join(LABELS), "column 'animal', labels of single examples"),
        ("a.csv", "\n".join(LABELS), "column '1', labels of single examples"),
        (
            "a.csv",
            "label,x\ncat,0\n,0\ndog,1\ncat,1\nemu,2\ncat,2\ndog,3",
            "1 empty cells are left",
        ),
        ("a.json", '{"cat": 3, "dog": 2, "emu": 1}', "JSON, an object of counts"),
        ("a.json", json.dumps(LABELS), "labels of single examples"),
        ("a.json", '[["cat", 3], ["dog", 2], ["emu", 1]]', "JSON, column '2', counts"),
        ("a.json", json.dumps([{"label": x} for x in LABELS]), "JSON, column 'label', labels"),
        ("a.json", json.dumps({"label": LABELS, "x": LABELS}), "JSON, column 'label', labels"),
        ("a.txt", "\n".join(LABELS), "labels, one a line"),
        ("a", "Cat dog cat,\nEMU -- cat 12 Dog!", "text, its words in lower case"),
    ],
)
def test_a_file_is_taken_for_what_it_is_and_says_so(tmp_path, name, content, said):
    path = written(tmp_path, name, content)
    assert counts_of(path) == CAT
    assert said in read_classes(path).taken_as


def test_integer_labels_keep_their_names(tmp_path):
    path = written(tmp_path, "a.csv", "label\n3\n5\n3\n")
    assert counts_of(path) == {"3": 2, "5": 1}
    path = written(tmp_path, "a.csv", "x\n3\n5\n3\n")
    assert counts_of(path, holds="labels") == {"3": 2, "5": 1}
    assert counts_of(path, holds="counts") == {"0": 3, "1": 5, "2": 3}


def test_a_table_of_texts_and_integer_labels_is_no_table_of_counts(tmp_path):
    path = written(tmp_path, "a.csv", "text,label\ngood,1\nbad,0\nfine,1\n")
    assert counts_of(path) == {"1": 2, "0": 1}


def test_words_keep_apostrophes_and_letters_of_every_script(tmp_path):
    path = written(tmp_path, "a.txt", "Don't stop, naïve Ωmega don't_stop 3rd\n")
    assert counts_of(path) == {"don't": 2, "stop": 2, "naïve": 1, "ωmega": 1, "rd": 1}
    assert counts_of(path, format="tokens") == {
        "Don't": 1, "stop,": 1, "naïve": 1, "Ωmega": 1, "don't_stop": 1, "3rd": 1,
    }  # fmt: skip
    assert counts_of(path, format="lines") == {"Don't stop, naïve Ωmega don't_stop 3rd": 1}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"column": "a"}, {"x": 1, "y": 2}),
        ({"column": "3"}, {"x": 4, "y": 6}),
        ({"column": "b", "names": "a"}, {"1": 4, "2": 6}),
        ({"column": "name", "holds": "labels"}, {"x": 1, "y": 1}),
    ],
)
def test_columns_are_chosen_by_name_or_number(tmp_path, choice, expected):
    path = written(tmp_path, "a.csv", "name,a,b\nx,1,4\ny,2,6\n")
    assert counts_of(path, **{"holds": "counts", **choice}) == expected


@pytest.mark.parametrize(
    ("name", "content", "choice", "message"),
    [
        ("a.csv", "", {}, "is empty"),
        ("a.txt", " \n\n\t\n", {}, "is empty"),
        ("a.csv", "x\n1\n2\n1\n", {}, "counts of examples, or labels of single ones.*--holds"),
        ("a.json", "[3, 1, 2]", {}, "counts of examples, or labels of single ones.*--holds"),
        ("a.csv", "word,occ\na,3\nb,2\n", {}, "columns 'word', 'occ'; say with --column"),
        ("a.csv", "word,occ\na,3\nb,2\n", {"column": "count"}, "no column 'count'; there are 'wo"),
        ("a.csv", "word,occ\na,3\nb,2\n", {"column": "0"}, "no column '0'"),
        ("a.csv", "x,count,n\na,3,3\n", {}, "say with --column"),
        ("a.csv", "x,x\na,3\nb,c\n", {}, "two columns are called alike"),
        ("a.csv", "name,count\ncat,3\ndog,2,1\n", {}, "row 3 has 3 cells and the first 2"),
        (
            "a.csv",
            "name,count\ncat,3\ndog,-2\n",
            {},
            "class 'dog' has count '-2'; counts are whole",
        ),
        ("a.csv", "name,count\ncat,3\ndog,\n", {}, "class 'dog' has count ''"),
        ("a.csv", "name,count\ncat,3\ndog,2.5\n", {}, "class 'dog' has count '2.5'"),
        ("a.csv", "name,count\ncat,inf\ndog,2\n", {}, "class 'cat' has count 'inf'"),
        ("a.csv", "name,count\ncat,0\ndog,0\n", {}, "holds no example"),
        ("a.csv", f"name,count\ncat,{2**62}\ndog,1\n", {}, "at most 2\\^62"),
        ("a.csv", "label\na\nb\n", {"names": "label"}, "class 'a' has count 'a'"),
        ("a.csv", "label\na\nb\n", {"names": "1", "holds": "labels"}, "--names goes with counts"),
        ("a.csv", "a\n" + "x" * 200_000, {}, "field larger than field limit"),
        ("a.json", "{", {}, "is not JSON"),
        ("a.json", '{"a": 1, "a": 2}', {}, "'a' stands twice"),
        ("a.json", "[" * 100_000, {}, "nested too deeply|is not JSON"),
        ("a.json", '{"a": {"b": 1}}', {}, "is none of"),
        ("a.json", "3", {}, "is none of"),
        ("a.json", "[]", {}, "is none of"),
        ("a.json", '{"a": true}', {}, "class 'a' has count 'True'"),
        ("a.json", '{"a": 1%s}' % ("0" * 400), {}, "at most 2\\^62"),
        ("a.json", '{"a": NaN}', {}, "class 'a' has count 'nan'"),
        ("a.json", '{"a": null}', {}, "class 'a' has count 'None'"),
        ("a.txt", "a b c", {"column": "a"}, "taken for text, which has no columns"),
        ("a.txt", b"abc \xff\xfe", {}, "byte 0xff is not UTF-8"),
        ("a.txt", "a b".encode("utf-16-le"), {}, "has zero bytes.*UTF-16"),
        ("a.csv", b"\x1f\x8b\x08\x00", {}, "is a gzip file; unpack"),
        ("a.xlsx", b"PK\x03\x04....", {}, "is a zip file"),
        ("a.txt", "-- 12 ..", {}, "holds no example"),
    ],
)
def test_what_is_no_file_of_classes_is_refused_in_words(tmp_path, name, content, choice, message):
    path = written(tmp_path, name, content)
    with pytest.raises(ValueError, match=message):
        read_classes(path, Choice(**choice))


def test_a_folder_and_an_absent_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder; give a file"):
        read_classes(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_classes(tmp_path / "none.csv")
    assert call("counts", tmp_path / "none.csv").endswith("none.csv: No such file or directory")


def test_parquet_of_counts_labels_and_lists_of_tokens(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def table(**columns):
        parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    assert counts_of(table(name=["cat", "dog", "emu"], count=[3, 2, 1])) == CAT
    assert counts_of(table(label=[3, None, 3, 5], x=[0.1, 0.2, 0.3, 0.4])) == {"3": 2, "5": 1}
    assert counts_of(table(input_ids=[[3, 5], [3], []])) == {"3": 2, "5": 1}
    assert counts_of(table(a=[1, 2], b=[3, 3]), column="b", holds="labels") == {"3": 2}
    with pytest.raises(ValueError, match="is no Parquet file or is damaged"):
        read_classes(written(tmp_path, "b.parquet", "name,count\n"))


def test_parquet_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = written(tmp_path, "a.parquet", b"PAR1")
    assert call("counts", path) == "imbalance counts needs pyarrow: pip install pyarrow"


# imbalance counts -------------------------------------------------------------------------------


@pytest.fixture
def zipf_file(tmp_path):
    """A thousand classes by Zipf's law, and three that do not occur."""
    ranked = [*power_law_counts(100_000, 1000, 1), 0, 0, 0]
    rows = [f"class {k},{count}" for k, count in enumerate(ranked)]
    return written(tmp_path, "zipf.csv", "\n".join(["name,count", *rows]))


def test_counts_says_what_the_functions_say(zipf_file, capsys):
    assert call("counts", zipf_file, "--ranks", 5, 500, "--num-buckets", 4) is None
    said = capsys.readouterr().out
    table = read_classes(zipf_file)
    assert said.startswith(f"{zipf_file}: taken as CSV, column 'count', counts, names in 'name'.\n")
    assert "1000 classes, 100000 examples; 3 more classes have none" in said
    assert " ".join(str(zipf_fit(table.counts, ranks=(5, 500))).split()) in " ".join(said.split())
    assert str(FrequencyBuckets.from_counts(table.counts, 4)) in said
    assert str(FrequencyBuckets.shots(table.counts)) in said
    assert "1  class 0     13359  13.4%" in said


def test_counts_as_json(zipf_file, tmp_path, capsys):
    assert call("counts", zipf_file, "--json", "-", "--shots", "lvis") is None
    found = json.loads(capsys.readouterr().out)
    counts = read_classes(zipf_file).counts
    fit = zipf_fit(counts)
    assert found["zipf"]["exponent"] == fit.exponent
    assert found["zipf"]["says"] == str(fit)
    assert found["zipf"]["is_power_law"] == fit.is_power_law
    assert found["num_classes"] == 1000 and found["num_absent"] == 3
    assert found["num_examples"] == 100_000
    assert found["classes"][0] == {"name": "class 0", "count": int(counts[0])}
    assert [row["name"] for row in found["shots"]] == ["frequent", "common", "rare"]
    for rows in (found["buckets"], found["shots"]):
        assert sum(row["examples"] for row in rows) == 100_000
        assert sum(row["classes"] for row in rows) == 1000
        assert sum(row["share"] for row in rows) == pytest.approx(1)
    cumulative = np.cumsum(np.sort(counts)[::-1])
    assert found["tail"]["classes_with_half"] == 1 + int(np.sum(cumulative < 50_000))
    assert found["tail"]["share_of_rarer_half"] == imbalance.tail_mass(counts, 0.5)
    assert call("counts", zipf_file, "--json", tmp_path / "a.json", "--shots", "lvis") is None
    printed = capsys.readouterr()
    assert "Zipf: exponent" in printed.out and "wrote" in printed.err
    assert json.loads((tmp_path / "a.json").read_text()) == found


def test_counts_draws(zipf_file, tmp_path, capsys):
    place = tmp_path / "a $x$ picture.png"
    assert call("counts", zipf_file.rename(tmp_path / "a$b$.csv"), "--figure", place) is None
    assert place.read_bytes().startswith(b"\x89PNG")
    assert "drew" in capsys.readouterr().err
    assert "not supported" in call("counts", tmp_path / "a$b$.csv", "--figure", tmp_path / "a.xyz")


def test_the_picture_shows_the_counts_and_the_law():
    from imbalance.commands.pictures import rank_picture

    counts = np.random.default_rng(0).permutation(power_law_counts(10**6, 5000, 1))
    fit, buckets = zipf_fit(counts, num_draws=20), FrequencyBuckets.from_counts(counts, 5)
    by_rank, by_share = rank_picture(counts, fit, buckets, "title").axes
    rank, drawn = np.asarray(by_rank.collections[0].get_offsets()).T
    assert len(rank) <= 2000 and rank[0] == 1 and rank[-1] == 5000
    np.testing.assert_array_equal(drawn, np.sort(counts)[::-1][rank.astype(int) - 1])
    law = by_rank.lines[0].get_ydata()
    assert law[0] == pytest.approx(counts.max(), rel=0.02)
    share = np.asarray(by_share.collections[0].get_offsets())[:, 1]
    assert share[-1] == 1 and (np.diff(share) > 0).all()
    colours = by_rank.collections[0].get_facecolors()
    assert len(np.unique(colours, axis=0)) == 5


def test_a_single_class_and_strange_names(tmp_path, capsys):
    path = written(tmp_path, "a.json", json.dumps(["x" * 100] * 3))
    assert call("counts", path, "--figure", tmp_path / "a.png") is None
    said = capsys.readouterr().out
    assert "a single class has no exponent" in said
    assert "x" * 28 + ".." in said and "x" * 29 not in said
    assert call("counts", path, "--json", "-") is None
    assert json.loads(capsys.readouterr().out)["zipf"] is None
    path = written(tmp_path, "a.json", json.dumps(["\x1b[31mred", "b", "b"]))
    assert call("counts", path) is None
    said = capsys.readouterr().out
    assert "\x1b[31mred" not in said and r"\x1b[31mred" in said


def test_a_long_fit_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(counts_command, "MANY", 2)
    path = written(tmp_path, "a.txt", "a b c a b a")
    assert call("counts", path) is None
    assert "fitting 3 classes" in capsys.readouterr().err


def test_options_that_do_not_fit_are_said(zipf_file):
    assert "ranks are (1, 2000); give the first" in call("counts", zipf_file, "--ranks", 1, 2000)
    assert call("counts", zipf_file, "--format", "excel") == 2


# imbalance compare ------------------------------------------------------------------------------


def record(path, num_classes=4, rate=0.1, lost=0):
    """Losses that fall at a rate; the rarer a class, the slower."""
    label = np.repeat(np.arange(num_classes), 2 ** np.arange(num_classes, 0, -1))
    with Record(path, num_classes, "sgd", rate) as made:
        for step in range(0, 101, 10):
            losses = LossByClass(num_classes)
            loss = np.exp(-rate * step / (1 + label)) + 0.01 * (np.arange(len(label)) % 2)
            loss[:lost] = np.nan
            with warnings.catch_warnings():  # of those that are lost on purpose
                warnings.simplefilter("ignore", UserWarning)
                losses.update(loss, label)
            made.append(step, losses)
    return path


def test_compare_is_the_comparison_in_common_buckets(tmp_path, capsys):
    one, other = record(tmp_path / "one", rate=0.1), record(tmp_path / "other", rate=0.05)
    assert call("compare", one, other, "--num-buckets", 3, "--json", tmp_path / "a.json") is None
    said = capsys.readouterr().out
    counts = imbalance.load_record(one)["class_count"].values.astype(int)
    buckets = FrequencyBuckets.from_counts(counts, 3).without_empty()
    table = imbalance.compare(*(imbalance.load_record(path, buckets) for path in (one, other)))
    found = json.loads((tmp_path / "a.json").read_text())
    for name in ("time_one", "time_other", "time_ratio", "final_difference"):
        expected = [None if np.isnan(value) else value for value in table[name].values.tolist()]
        assert [row[name] for row in found["buckets"]] == expected
    assert "sgd, learning rate 0.1 " in said.replace("learning_rate", "learning rate")
    assert f"{table['final_difference'].values[0]:.4g}" in said
    assert f"in nats at step {table.attrs['final_step']:g}" in said
    assert len(found["buckets"]) == buckets.num_buckets
    assert call("compare", one, other, "--json", "-") is None
    assert json.loads(capsys.readouterr().out)["fraction"] == 0.5


def test_compare_refuses_records_of_other_classes_and_tells_of_lost_losses(tmp_path, capsys):
    one, other = record(tmp_path / "one"), record(tmp_path / "other", num_classes=5)
    assert f"{one} has 4 classes and {other} 5" in call("compare", one, other)
    assert "no record" in call("compare", one, written(tmp_path, "text", "no record of a run"))
    assert "none: No such file" in call("compare", one, tmp_path / "none")
    lost = record(tmp_path / "lost", rate=0.2, lost=1)
    capsys.readouterr()
    assert call("compare", one, lost) is None
    told = capsys.readouterr().err
    assert told.count("imbalance compare: ") == 1  # once, though the record is read twice
    assert f"{lost}: 11 of 330 losses are NaN" in told


# The entry --------------------------------------------------------------------------------------


def test_help_names_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        main(arguments)
        said = capsys.readouterr().out
        assert all(name in said for name in COMMANDS)
    main(["--version"])
    assert capsys.readouterr().out.strip() == imbalance.__version__
    for name in COMMANDS:
        assert call(name, "--help") == 0
        assert name in capsys.readouterr().out


@pytest.mark.parametrize("library", ["tyro", "matplotlib", "xarray"])
def test_what_is_missing_is_said_by_its_extra(library, zipf_file, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("imbalance.reporting")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "imbalance.commands.pictures", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    said = call("counts", zipf_file, "--figure", zipf_file.with_suffix(".png"))
    assert said == f"imbalance counts needs {library}: pip install 'imbalance[analysis]'"
    assert INSTALLED_BY[library] == "'imbalance[analysis]'"


def test_a_module_that_nobody_promised_is_an_error_of_ours(zipf_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "imbalance.commands.counts", None)
    with pytest.raises(ModuleNotFoundError):
        main(["counts", str(zipf_file)])


def in_a_process(*arguments, **options):
    command = [sys.executable, "-m", "imbalance.commands.main", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def test_as_a_process_it_prints_and_ends_as_shells_expect(zipf_file):
    done = in_a_process("counts", zipf_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Zipf: exponent 1.0" in done.stdout
    done = in_a_process("counts", zipf_file.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("imbalance counts: ") and "Traceback" not in done.stderr


def test_counts_without_a_picture_loads_no_heavy_library(zipf_file):
    code = (
        "import sys\n"
        "from imbalance.commands.main import run\n"
        f"assert run('counts', [{str(zipf_file)!r}]) is None\n"
        "heavy = {'jax', 'matplotlib', 'xarray', 'pandas', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_enough_is_no_error(zipf_file):
    command = [sys.executable, "-m", "imbalance.commands.main", "counts", zipf_file, "--json", "-"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_json_has_no_number_that_is_none(tmp_path):
    write_json({"a": [np.nan, (1.5, float("inf"))]}, str(tmp_path / "a.json"))
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [None, [1.5, None]]}
