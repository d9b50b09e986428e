"""The cache of images: what it holds, what interrupts it, what it refuses; ImageNet's subsets."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from imbalance.data import image_cache, image_decoding
from imbalance.data.image_cache import cached, open_cache
from imbalance.data.image_files import image_files
from imbalance.data.imagenet import CHANNELS, imagenet, normalised
from imbalance.data.resampling import choose, heavy_tailed_counts, small_counts
from imbalance.storage.files import Damaged

Image = pytest.importorskip("PIL.Image")
SIZE = 8


def colour(k, j):
    return (10 + 40 * k, 5 * j % 256, j // 50 * 20)


def paint(folder, counts):
    """Images of one colour, told by class and place, in folders ``n00``, ``n01``, ..."""
    for k, count in enumerate(counts):
        (folder / f"n{k:02d}").mkdir(parents=True)
        for j in range(count):
            path = folder / f"n{k:02d}" / f"{j:03d}.JPEG"
            Image.new("RGB", (12 + j % 5, 14), colour(k, j)).save(path, "PNG")


@pytest.fixture
def folder(tmp_path):
    paint(tmp_path / "train", (5, 3, 4))
    return tmp_path / "train"


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(image_decoding, "_IMAGES", 2)


def make(folder, size=SIZE, processes=1):
    return cached(image_files(folder), size, folder.parent / "cache", processes)


def assert_right(found, folder):
    """Every pixel is that of the image's class and place."""
    names = [name for name in image_files(folder).names if name not in found.skipped]
    wanted = [colour(int(name[1:3]), int(name[4:7])) for name in names]
    images = found.everything()
    np.testing.assert_array_equal(images.label, [int(name[1:3]) for name in names])
    assert images.image.shape == (len(names), SIZE, SIZE, 3) and images.image.dtype == np.uint8
    assert (images.image == np.array(wanted, np.uint8)[:, None, None]).all()


# What it holds ----------------------------------------------------------------------------------


def test_images_are_cached_with_labels_and_names(folder, small_shards):
    found = make(folder)
    assert_right(found, folder)
    assert found.classes == ("n00", "n01", "n02") and not found.skipped
    assert found.label.dtype == np.int32 and isinstance(found.pixels, np.memmap)
    some = found.take(np.array([11, 0, 5]))
    np.testing.assert_array_equal(some.label, [2, 0, 1])
    np.testing.assert_array_equal(some.image[:, 0, 0], [colour(2, 3), colour(0, 0), colour(1, 0)])
    found.verify()
    assert sorted(path.name for path in found.place.iterdir()) == [
        "cache.json", "files.npy", "images.npy", "names.json",
    ]  # fmt: skip
    np.testing.assert_array_equal(np.load(found.place / "images.npy"), found.pixels)


def test_a_second_call_decodes_nothing(folder, monkeypatch):
    first = make(folder)
    monkeypatch.setattr(image_cache, "decode_all", None)
    second = make(folder)
    assert second.place == first.place and second.sha256 == first.sha256
    assert_right(second, folder)
    assert_right(open_cache(first.place), folder)


def test_other_files_or_another_size_are_another_cache(folder):
    first = make(folder)
    assert make(folder, 2 * SIZE).pixels.shape == (12, 16, 16, 3)
    (folder / "n00" / "004.JPEG").unlink()
    fewer = make(folder)
    assert fewer.place != first.place and fewer.sha256 != first.sha256
    assert_right(fewer, folder)
    some = image_files(folder).take(np.array([0, 4, 7]))
    few = cached(some, SIZE, folder.parent / "cache", 1)
    assert len(few.label) == 3 and few.classes == ("n00", "n01", "n02")


def test_several_processes_make_the_same(folder, small_shards):
    found = make(folder, processes=2)
    assert_right(found, folder)
    shutil.rmtree(found.place)
    again = make(folder, processes=1)
    assert again.sha256 == found.sha256


# Bad files --------------------------------------------------------------------------------------


def test_bad_files_are_skipped_named_and_counted(folder, small_shards, capsys):
    whole = (folder / "n01" / "000.JPEG").read_bytes()
    (folder / "n00" / "001.JPEG").write_bytes(whole[:50])
    (folder / "n02" / "000.JPEG").write_bytes(b"<html>not found</html>")
    (folder / "n02" / "003.JPEG").unlink()
    os.symlink("nowhere", folder / "n02" / "003.JPEG")
    os.mkfifo(folder / "n00" / "000.JPEG.png")
    found = make(folder)
    assert list(found.skipped) == [
        *("n00/000.JPEG.png", "n00/001.JPEG", "n02/000.JPEG", "n02/003.JPEG"),
    ]
    assert found.skipped["n02/000.JPEG"] == "neither JPEG nor PNG"
    assert found.skipped["n02/003.JPEG"] == "not there any more, or a link to nothing"
    assert found.skipped["n00/000.JPEG.png"] == "not a file"
    assert_right(found, folder)
    np.testing.assert_array_equal(np.bincount(found.label), [4, 3, 2])
    said = capsys.readouterr().err
    assert said.startswith("4 of 13 images skipped: n00/000.JPEG.png (not a file), n00/001.JPEG (")
    again = make(folder)  # unchanged, as far as it could be read
    assert again.skipped == found.skipped


def test_a_class_that_is_left_without_an_image_is_an_error(folder):
    for path in (folder / "n01").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="1 classes are left without an image, n01 for one: n01/0"):
        make(folder)


def test_a_file_that_cannot_be_opened_stops_it_and_loses_nothing(folder, small_shards, monkeypatch):
    bad = folder / "n02" / "002.JPEG"

    def content(path):
        if path == bad:
            raise PermissionError(13, "Permission denied", str(path))
        return path.read_bytes()

    monkeypatch.setattr(image_decoding, "content", content)
    with pytest.raises(PermissionError, match="002.JPEG"):
        make(folder)
    monkeypatch.undo()
    monkeypatch.setattr(image_decoding, "_IMAGES", 2)
    assert_right(make(folder), folder)


# Kills ------------------------------------------------------------------------------------------


def test_it_goes_on_where_it_was_interrupted(folder, small_shards, monkeypatch):
    seen = []
    decode = image_decoding.decode

    def counting(shard, work, offset, stop=3):
        seen.append(shard.first)
        if len(seen) == stop:
            raise KeyboardInterrupt
        return decode(shard, work, offset)

    monkeypatch.setattr(image_decoding, "decode", counting)
    with pytest.raises(KeyboardInterrupt):
        make(folder)
    (work,) = (folder.parent / "cache").glob("*.unfinished")
    with pytest.raises(FileNotFoundError, match="no cache of images, or an unfinished one"):
        open_cache(work)
    assert_right(make(folder), folder)
    assert seen == [0, 2, 4, 4, 6, 8, 10]
    assert not work.exists()


def test_a_shard_whose_note_is_damaged_is_decoded_again(folder, small_shards, monkeypatch):
    monkeypatch.setattr(image_cache, "_finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(folder)
    monkeypatch.undo()
    monkeypatch.setattr(image_decoding, "_IMAGES", 2)
    (work,) = (folder.parent / "cache").glob("*.unfinished")
    note = work / "shard-00000004.json"
    note.write_bytes(note.read_bytes()[:-70])
    assert_right(make(folder), folder)


SCRIPT = """
import sys
from pathlib import Path
from imbalance.data import image_decoding
from imbalance.data.image_cache import cached
from imbalance.data.image_files import image_files

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    image_decoding._IMAGES = 2
    cached(image_files(folder), 8, folder.parent / "cache", int(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 3])
def test_kills_lose_nothing_and_leave_no_process(tmp_path, processes):
    """Killed at random times until it is done: the same pixels, and no orphans."""
    paint(tmp_path / "train", [200] * 5)
    script = tmp_path / "make.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    rng, kills = np.random.default_rng(processes), 0
    command = [sys.executable, str(script), str(tmp_path / "train"), str(processes)]
    while True:
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            # Longer every time: where the machine is busy, to begin takes seconds.
            assert process.wait(timeout=rng.uniform(1, 2 + kills)) == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert_right(make(tmp_path / "train"), tmp_path / "train")
    assert kills
    time.sleep(1)
    alive = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in alive if str(tmp_path).encode() in line]


@pytest.mark.slow
def test_two_at_once_share_the_work(folder, tmp_path):
    script = tmp_path / "make.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(script), str(folder), "1"]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert_right(make(folder), folder)


# Stale and damaged caches -----------------------------------------------------------------------


def test_a_file_changed_in_place_is_told(folder):
    found = make(folder)
    path = folder / "n01" / "001.JPEG"
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    os.utime(path, (1, 1))
    with pytest.raises(ValueError, match=r"1 of 12 images were changed.*n01/001\.JPEG.*delete"):
        make(folder)
    shutil.rmtree(found.place)
    make(folder)


def test_a_folder_that_was_copied_is_the_same(folder, monkeypatch):
    found = make(folder)
    for path in folder.glob("*/*"):
        os.utime(path, (2, 2))
    calls = []
    content = image_cache.content
    monkeypatch.setattr(image_cache, "content", lambda path: calls.append(path) or content(path))
    assert make(folder).sha256 == found.sha256
    assert len(calls) == 12
    make(folder)  # the new times are known now
    assert len(calls) == 12


@pytest.mark.parametrize("name", ["cache.json", "files.npy", "names.json"])
def test_a_damaged_cache_is_told(folder, name):
    found = make(folder)
    data = bytearray((found.place / name).read_bytes())
    data[len(data) // 2] ^= 1
    (found.place / name).write_bytes(data)
    with pytest.raises(Damaged, match="checksum does not fit"):
        make(folder)


def test_damaged_pixels_are_told(folder):
    found = make(folder)
    path = found.place / "images.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match=r"rows 0 to 12 of images\.npy are damaged; delete"):
        make(folder).verify()
    (found.place / "cache.json").unlink()
    with pytest.raises(Damaged, match=r"lacks cache\.json; delete the folder"):
        make(folder)


def test_pixels_of_another_shape_are_told(folder):
    found = make(folder)
    np.save(found.place / "images.npy", np.zeros((12, 4, 4, 3), np.uint8))
    with pytest.raises(Damaged, match=r"holds uint8 \(12, 4, 4, 3\) and should hold"):
        open_cache(found.place)


def test_a_cache_of_another_version_is_told(folder, monkeypatch):
    found = make(folder)
    monkeypatch.setattr(image_cache, "_VERSION", 2)
    with pytest.raises(ValueError, match="another version of this package"):
        open_cache(found.place)


@pytest.mark.parametrize("size", [7, 1025])
def test_the_wrong_size_is_told(folder, size):
    with pytest.raises(ValueError, match=f"size is {size}; give 8 to 1024 pixels"):
        make(folder, size)


def test_no_file_is_told(folder):
    with pytest.raises(ValueError, match="no image to cache"):
        cached(image_files(folder).take(np.array([], int)), SIZE, folder.parent)


# Resampling -------------------------------------------------------------------------------------


def test_the_papers_counts():
    """PAPER: ⌈1300/k⌉ for k = 1 .. 1000, 10,217 in all; 10 each, 10,000 in all."""
    counts = heavy_tailed_counts()
    assert counts.sum() == 10_217 and len(counts) == 1000
    assert (counts[0], counts[1], counts[2], counts[-1]) == (1300, 650, 434, 2)
    assert small_counts().sum() == 10_000 and set(small_counts()) == {10}
    # The mass of the paper's ten buckets, of so many classes each.
    ends = np.cumsum([1, 2, 3, 7, 15, 33, 70, 142, 270, 457])
    mass = np.diff(np.cumsum(counts)[ends - 1], prepend=0)
    np.testing.assert_array_equal(mass, [1300, 1084, 802, 952, 978, 1017, 1022, 1021, 1021, 1020])


def test_examples_are_chosen_by_counts_and_seed():
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [50, 40, 30, 20]))
    chosen = choose(label, [50, 3, 0, 7], seed=1)
    np.testing.assert_array_equal(np.bincount(label[chosen], minlength=4), [50, 3, 0, 7])
    assert (np.diff(chosen) > 0).all() and chosen.dtype == np.int64
    np.testing.assert_array_equal(choose(label, [50, 3, 0, 7], seed=1), chosen)
    assert set(chosen) < set(choose(label, [50, 10, 30, 8], seed=1))
    assert set(choose(label, [50, 3, 0, 7], seed=2)) != set(chosen)
    # Recorded: the choice is the same with every version.
    np.testing.assert_array_equal(choose(np.zeros(10, int), [3], seed=2**64 - 1), [0, 8, 9])


@pytest.mark.parametrize(
    ("label", "counts", "seed", "said"),
    [
        ([0, 1, 1], [1, 3], 0, "class 1 has 2, and 3 are wanted"),
        ([0, 2], [1, 1], 0, r"labels are 0 \.\. 2, and counts are of 2 classes"),
        ([-1, 0], [1], 0, r"labels are -1 \.\. 0"),
        ([0], [-1], 0, "a count is -1; give 0 or more"),
        ([0], [1], -1, "seed is -1; give 0"),
    ],
)
def test_what_cannot_be_chosen_is_refused(label, counts, seed, said):
    with pytest.raises(ValueError, match=said):
        choose(label, counts, seed)


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="largest 0, num_classes 5; give 1 or more each"):
        heavy_tailed_counts(0, 5)
    with pytest.raises(ValueError, match="each 0, num_classes 5; give 1 or more each"):
        small_counts(0, 5)


# ImageNet ---------------------------------------------------------------------------------------


def test_subsets_of_imagenet(tmp_path, monkeypatch):
    monkeypatch.setenv("IMBALANCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("imbalance.data.imagenet.LARGEST", 12)
    paint(tmp_path / "train", (12, 12, 11))
    paint(tmp_path / "val", (2, 2, 2))
    counts = {"full": [12, 12, 11], "small": [10, 10, 10], "heavy_tailed": [12, 6, 4]}
    for subset, wanted in counts.items():
        parts = imagenet(tmp_path, subset, SIZE, processes=1)
        np.testing.assert_array_equal(np.bincount(parts.train.label), wanted)
        np.testing.assert_array_equal(parts.val.label, [0, 0, 1, 1, 2, 2])
        assert len(parts.train.pixels) == sum(wanted)  # no more is decoded
    assert imagenet(tmp_path, "small", SIZE, processes=1).train.place.is_relative_to(tmp_path)
    with pytest.raises(ValueError, match="subset is 'tiny'; give one of full, small, heavy_tailed"):
        imagenet(tmp_path, "tiny")
    (tmp_path / "val" / "n01").rename(tmp_path / "val" / "n07")
    with pytest.raises(ValueError, match="3 classes and val/ 3; n01 is in one of them only"):
        imagenet(tmp_path, "full", SIZE)
    with pytest.raises(FileNotFoundError, match="nothing/train: no such folder"):
        imagenet(tmp_path / "nothing")


@pytest.mark.parametrize("subset", CHANNELS)
def test_pixels_are_normalised_by_channel(subset):
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    mean, std = (np.array(part, float) for part in CHANNELS[subset])
    found = normalised(image, CHANNELS[subset])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (image / 255 - mean) / std, atol=1e-6)


def test_what_is_told_of_a_cache_is_json(folder):
    """Names that are no text, as a folder may hold, survive."""
    os.rename(os.fsencode(folder / "n00" / "001.JPEG"), os.fsencode(folder / "n00") + b"/\xff.JPEG")
    found = make(folder)
    assert len(found.label) == 12
    names = (found.place / "names.json").read_bytes().split(b"\nsha256")[0]
    assert "n00/\udcff.JPEG" in json.loads(names)
