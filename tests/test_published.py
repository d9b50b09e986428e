"""What is found in a folder of published data: whole, incomplete and damaged; the command."""

import gzip
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from imbalance.commands import data as command
from imbalance.commands.data import data
from imbalance.data.checking import examine
from imbalance.data.files import mnist_from_folder
from imbalance.data.published import PUBLISHED, Published, TextCounts
from imbalance.data.text import published_splits

LINES = {"train": "the cat \n the dog \n", "valid": " a <unk> \n", "test": "the end\n\n"}
COUNTS = {
    "train": TextCounts(2, 6, 4),  # the, cat, dog and the line break
    "validation": TextCounts(1, 3),
    "test": TextCounts(2, 4),
}
TEXT = Published("ptb", "ptb.train.txt and the others", "somewhere", text=COUNTS)
DIGITS = replace(PUBLISHED["mnist"], images={"train": 20, "test": 10}, sha256={})
FOLDERS = replace(
    PUBLISHED["imagenet"],
    images={"train": 7, "val": 4},
    per_class={"train": (3, 4), "val": (2, 2)},
    classes=2,
)


@pytest.fixture
def text(tmp_path):
    for name, content in LINES.items():
        (tmp_path / f"ptb.{name}.txt").write_text(content)
    return tmp_path


@pytest.fixture
def digits(tmp_path):
    """Blank digits in the files' format, one of them compressed."""
    for part, number in (("train", 20), ("t10k", 10)):
        label = np.arange(number, dtype=np.uint8) % 10
        image = np.zeros((number, 28, 28), np.uint8)
        for kind, array in (("images-idx3", image), ("labels-idx1", label)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(content)
    plain = tmp_path / "train-images-idx3-ubyte"
    plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    return tmp_path


def states(folder, wanted):
    return {finding.part: finding.state for finding in examine(folder, wanted)}


def words(folder, wanted, part):
    return next(finding.words for finding in examine(folder, wanted) if finding.part == part)


# What is found ----------------------------------------------------------------------------------


def test_a_text_is_right_by_its_counts_and_checksums(text):
    assert states(text, TEXT) == dict.fromkeys(COUNTS, "right")
    assert words(text, TEXT, "train") == "ptb.train.txt: 2 lines, 6 tokens, 4 classes"
    sha256 = hashlib.sha256(LINES["train"].encode()).hexdigest()
    known = replace(TEXT, sha256={"ptb.train.txt": sha256})
    assert words(text, known, "train").endswith("4 classes, checksum as published")
    (text / "ptb.train.txt").write_text(LINES["train"].replace("dog", "dig"))
    assert states(text, TEXT)["train"] == "right"  # by its counts alone
    assert states(text, known)["train"] == "wrong"
    assert words(text, known, "train").endswith("4 classes, another checksum than known")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"the cat \n the dog", "1 lines and not 2, 5 tokens and not 6, 4 classes"),
        (b"the cat \n the cat \n", "2 lines, 6 tokens, 3 classes and not 4"),
        (b"the cat \n the \xff \n", "not UTF-8, invalid start byte"),
        (b"", "0 lines and not 2, 0 tokens and not 6, 1 classes and not 4"),
    ],
    ids=["cut", "a word changed", "no text", "empty"],
)
def test_a_damaged_text_is_told(text, content, said):
    (text / "ptb.train.txt").write_bytes(content)
    assert states(text, TEXT) == {"train": "wrong", "validation": "right", "test": "right"}
    assert words(text, TEXT, "train") == f"ptb.train.txt: {said}"


def test_a_text_that_lacks_a_file_is_incomplete(text):
    (text / "ptb.test.txt").unlink()
    assert states(text, TEXT) == {"train": "right", "validation": "right", "test": "wrong"}
    (text / "ptb.valid.txt").unlink()
    assert states(text, TEXT) == {"files": "wrong"}
    assert TEXT.layout in words(text, TEXT, "files")
    assert states(text / "nothing", TEXT) == {"folder": "absent"}
    assert "somewhere" in words(text / "nothing", TEXT, "folder")


def test_raw_text_is_not_what_the_paper_has(tmp_path):
    for name in LINES:
        (tmp_path / f"wiki.{name}.raw").write_text("some text\n")
    assert set(states(tmp_path, PUBLISHED["wikitext-103"]).values()) == {"not checked"}


def test_digits_are_right_by_their_headers_and_labels(digits):
    parts = ("train images", "train labels", "test images", "test labels")
    assert states(digits, DIGITS) == dict.fromkeys(parts, "right")
    said = words(digits, DIGITS, "train images")
    assert said == "train-images-idx3-ubyte.gz: 20 images, 28x28 pixels"
    assert words(digits, DIGITS, "test labels").endswith("10 images, 10 classes")


def test_damaged_digits_are_told(digits):
    zipped = digits / "train-images-idx3-ubyte.gz"
    zipped.write_bytes(zipped.read_bytes()[:-20])
    (digits / "train-labels-idx1-ubyte").unlink()
    label = digits / "t10k-labels-idx1-ubyte"
    label.write_bytes(label.read_bytes()[:-1] + b"\0")  # the only nine
    wrong = {name for name, state in states(digits, DIGITS).items() if state == "wrong"}
    assert wrong == {"train images", "train labels", "test labels"}
    assert "damaged gzip file" in words(digits, DIGITS, "train images")
    assert "has no train labels" in words(digits, DIGITS, "train labels")
    assert words(digits, DIGITS, "test labels").endswith("9 classes and not 10")
    known = replace(DIGITS, sha256={"t10k-images-idx3-ubyte": "0" * 64})
    assert states(digits, known)["test images"] == "wrong"


@pytest.fixture
def folders(tmp_path):
    """Empty files named as images, by part and class."""
    for part, counts in (("train", (3, 4)), ("val", (2, 2))):
        for name, count in zip(("n01", "n02"), counts, strict=True):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / part / name / f"{i}.JPEG").touch()
    return tmp_path


def test_image_folders_are_counted(folders):
    (folders / "train" / "n01" / ".DS_Store").touch()
    assert states(folders, FOLDERS) == {"train": "right", "val": "right"}
    assert words(folders, FOLDERS, "train") == "train/: 7 images, 2 classes, 3 to 4 in a class"
    (folders / "train" / "n02" / "0.JPEG").unlink()
    assert words(folders, FOLDERS, "train") == (
        "train/: 6 images and not 7, 2 classes, 3 to 3 in a class and not 3 to 4 in a class"
    )
    assert states(folders / "train", FOLDERS) == {"train": "wrong", "val": "wrong"}


def test_images_without_folders_of_classes_are_told(folders):
    for path in list((folders / "val").glob("*/*")):
        path.rename(folders / "val" / f"{path.parent.name}-{path.name}")
    for name in ("n01", "n02"):
        (folders / "val" / name).rmdir()
        (folders / "train" / name / "0.JPEG").unlink()
    assert states(folders, FOLDERS) == {"train": "wrong", "val": "wrong"}
    assert "val holds 4 images and no folder; move them" in words(folders, FOLDERS, "val")


def test_an_empty_class_and_other_classes_are_told(folders):
    (folders / "val" / "n01").rename(folders / "val" / "n03")
    assert states(folders, FOLDERS) == {"train": "right", "val": "right", "classes": "wrong"}
    said = words(folders, FOLDERS, "classes")
    assert said == "2 classes are in one part only, n01 for one"
    (folders / "val" / "n00").mkdir()
    assert "n00 of 3 classes have no image" in words(folders, FOLDERS, "val")


def test_what_is_looked_for_is_what_experiments_read():
    """The words of the layout name files that the readers take."""
    for name, one in PUBLISHED.items():
        assert one.name == name and one.layout and one.source
    assert "ptb.train.txt" in PUBLISHED["ptb"].layout
    with pytest.raises(FileNotFoundError, match=r"wiki\.train\.tokens, wiki\.valid\.tokens"):
        published_splits("nowhere")
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        mnist_from_folder("nowhere")


# The command ------------------------------------------------------------------------------------


@pytest.fixture
def folder(text, monkeypatch):
    """A folder of data with a small PTB in it."""
    root = text / "data"
    (root / "ptb").mkdir(parents=True)
    for path in text.glob("*.txt"):
        path.rename(root / "ptb" / path.name)
    monkeypatch.setattr(command, "PUBLISHED", {**PUBLISHED, "ptb": TEXT})
    return root


def test_the_command_says_what_is_there(folder, monkeypatch, capsys):
    data(folder)
    said = capsys.readouterr()
    assert said.err == "checking ptb ...\n"
    rows = [line.split(maxsplit=3) for line in said.out.splitlines()]
    assert rows[0] == [str(folder)]
    assert ["ptb", "train", "right", "ptb.train.txt: 2 lines, 6 tokens, 4 classes"] in rows
    assert {row[0]: row[2] for row in rows[3:]} == {
        "ptb": "right", **dict.fromkeys(PUBLISHED.keys() - {"ptb"}, "absent"),
    }  # fmt: skip
    monkeypatch.setenv("IMBALANCE_DATA", str(folder))
    data()
    assert capsys.readouterr().out == said.out


def test_the_command_writes_json(folder, capsys):
    data(folder, only=("ptb",), json="-")
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["ptb"]
    assert found["ptb"][0] == {
        "part": "train", "state": "right", "words": "ptb.train.txt: 2 lines, 6 tokens, 4 classes",
    }  # fmt: skip


def test_the_command_fails_where_something_is_damaged_or_named_and_not_there(folder, capsys):
    with pytest.raises(ValueError, match="mnist: not there; see docs/data.md for where to get it"):
        data(folder, only=("ptb", "mnist"))
    (folder / "ptb" / "ptb.test.txt").unlink()
    with pytest.raises(ValueError, match=r"^ptb: damaged or incomplete; see docs/data.md"):
        data(folder)
    assert "wrong" in capsys.readouterr().out  # the table is printed first


def test_the_command_refuses_what_is_no_folder_of_data(folder, monkeypatch):
    monkeypatch.delenv("IMBALANCE_DATA", raising=False)
    with pytest.raises(ValueError, match="no folder: name one, or set IMBALANCE_DATA"):
        data()
    with pytest.raises(ValueError, match="nothing is not a folder; give one with mnist/"):
        data(folder / "nothing")
    with pytest.raises(
        ValueError, match="--only cifar: there is no such data set; there are mnist"
    ):
        data(folder, only=("cifar",))
