import gzip
import hashlib
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from imbalance.data.files import MNIST_SHA256, download_mnist, mnist_from_folder, read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def to_idx(array):
    code = CODES[array.dtype.str[1:]]
    return header(code, *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """One file for all examples of hypothesis, written anew by each."""
    return tmp_path_factory.mktemp("idx") / "file"


SHAPES = hnp.array_shapes(max_dims=8, max_side=3)
ARRAYS = st.sampled_from(sorted(CODES)).flatmap(lambda code: hnp.arrays(np.dtype(code), SHAPES))


@settings(max_examples=60)
@given(array=ARRAYS, zipped=st.booleans())
def test_what_was_written_is_read(path, array, zipped):
    content = to_idx(array)
    path.write_bytes(gzip.compress(content) if zipped else content)
    read = read_idx(path)
    assert read.dtype == array.dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, array)


VALID = to_idx(np.arange(24, dtype=np.int16).reshape(2, 3, 4))


@settings(max_examples=60)
@given(cut=st.integers(0, len(VALID) - 1), zipped=st.booleans())
def test_any_truncated_file_is_refused(path, cut, zipped):
    content = gzip.compress(VALID[:cut]) if zipped else VALID[:cut]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="IDX|header|promises"):
        read_idx(path)


@settings(max_examples=60)
@given(cut=st.integers(2, len(gzip.compress(VALID)) - 1))
def test_any_truncated_gzip_is_refused(path, cut):
    path.write_bytes(gzip.compress(VALID)[:cut])
    with pytest.raises(ValueError, match="damaged|IDX"):
        read_idx(path)


@given(
    content=st.binary(max_size=80)
    | st.builds(
        lambda code, shape, data: header(code, *shape) + data,
        st.sampled_from([8, 9, 11, 12, 13, 14]),
        st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 3), max_size=9),
        st.binary(max_size=40),
    ),
    wrap=st.sampled_from([bytes, gzip.compress, lambda data: b"\x1f\x8b" + data]),
)
@example(content=header(8, 2**32 - 1), wrap=bytes)
@example(content=header(14, *[2**32 - 1] * 8), wrap=gzip.compress)
@example(content=header(8, 0, 2**32 - 1, 2**32 - 1), wrap=bytes)
def test_no_content_makes_it_crash(path, content, wrap):
    path.write_bytes(wrap(content))
    try:
        array = read_idx(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert to_idx(array) == content


@given(index=st.integers(0, 200), flip=st.integers(1, 255))
def test_a_changed_byte_of_a_gzip_is_noticed_or_harmless(path, index, flip):
    changed = bytearray(gzip.compress(VALID, mtime=0))
    changed[index % len(changed)] ^= flip
    path.write_bytes(changed)
    try:
        array = read_idx(path)
    except ValueError:
        return
    assert to_idx(array) == VALID


def peak_of_refusal(path, match, **limits):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match):
            read_idx(path, **limits)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_a_promise_allocates_nothing(path, wrap):
    path.write_bytes(wrap(header(8, 2**31) + b"few"))
    assert peak_of_refusal(path, "holds only 3") < 4e6


def test_a_gzip_bomb_is_expanded_no_further_than_its_promise(path):
    # 64 MiB of zeros behind a header that promises 100 bytes.
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(header(8, 100))]
    parts += [packer.compress(bytes(2**20)) for _ in range(64)]
    path.write_bytes(b"".join([*parts, packer.flush()]))
    assert peak_of_refusal(path, "promises 100 bytes and holds more") < 4e6


def test_an_honest_bomb_meets_the_limit(path):
    path.write_bytes(gzip.compress(header(8, 1000, 1000) + bytes(10**6)))
    assert peak_of_refusal(path, "max_bytes=999999", max_bytes=999_999) < 2e6
    assert read_idx(path, max_bytes=10**6).shape == (1000, 1000)


def test_one_byte_too_many_is_refused(path):
    path.write_bytes(VALID + b"\0")
    with pytest.raises(ValueError, match="promises 48 bytes and holds more"):
        read_idx(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


def write_mnist(folder, mark="-", suffix="", train=6, test=4):
    arrays = {}
    for part, n, shift in (("train", train, 0), ("t10k", test, 100)):
        image = (np.arange(n * 6, dtype=np.uint8) + np.uint8(shift)).reshape(n, 3, 2)
        label = np.arange(n, dtype=np.uint8)
        arrays[part] = image, label
        for name, array in ((f"images{mark}idx3", image), (f"labels{mark}idx1", label)):
            content = to_idx(array)
            target = folder / f"{part}-{name}-ubyte{suffix}"
            target.write_bytes(gzip.compress(content, mtime=0) if suffix else content)
    return arrays


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_is_found_under_all_its_names(tmp_path, mark, suffix):
    arrays = write_mnist(tmp_path, mark, suffix)
    for images, name in zip(mnist_from_folder(str(tmp_path)), ("train", "t10k"), strict=True):
        np.testing.assert_array_equal(images.image, arrays[name][0])
        np.testing.assert_array_equal(images.label, arrays[name][1])
        assert images.image.dtype == np.uint8 and images.label.dtype == np.int32


def test_a_folder_without_a_file_says_which_names_it_may_have(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"no t10k labels.*t10k-labels\.idx1-ubyte\.gz"):
        mnist_from_folder(tmp_path)


@pytest.mark.parametrize(
    "wrong", [np.zeros(5, np.uint8), np.zeros(6, np.float32), np.zeros((6, 1), np.uint8)]
)
def test_labels_that_do_not_fit_their_images_are_refused(tmp_path, wrong):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(to_idx(wrong))
    with pytest.raises(ValueError, match="give"):
        mnist_from_folder(tmp_path)


class Mirrors:
    """A downloader for pooch that copies from folders on this machine."""

    def __init__(self, folders):
        self.folders, self.asked = folders, []

    def __call__(self, url, output_file, pooch):
        self.asked.append(url)
        host, name = url.removeprefix("https://").split("/")
        if host not in self.folders:
            raise OSError("unreachable")
        output_file = Path(output_file)
        output_file.write_bytes((self.folders[host] / name).read_bytes())


@pytest.fixture
def mirrors(tmp_path):
    """One mirror that has the files, one whose files are of another sum; the sums."""
    for host in ("good", "bad"):
        (tmp_path / host).mkdir()
    write_mnist(tmp_path / "good", suffix=".gz")
    write_mnist(tmp_path / "bad", suffix=".gz", train=5, test=3)
    sha256 = {
        name: hashlib.sha256((tmp_path / "good" / name).read_bytes()).hexdigest()
        for name in MNIST_SHA256
    }
    return Mirrors({host: tmp_path / host for host in ("good", "bad")}), sha256


def test_mirrors_are_tried_in_turn_until_the_sum_is_right(tmp_path, mirrors):
    pytest.importorskip("pooch")
    downloader, sha256 = mirrors
    addresses = ["https://gone", "https://bad/", "https://good/"]
    into = download_mnist(tmp_path / "new", addresses, sha256, downloader)
    assert [len(part.label) for part in mnist_from_folder(into)] == [6, 4]
    # Each of four files needed all three mirrors.
    assert len(downloader.asked) == 12
    download_mnist(into, addresses, sha256, downloader)
    assert len(downloader.asked) == 12, "what is there with the right sum is not fetched again"
    assert sorted(file.name for file in into.iterdir()) == sorted(MNIST_SHA256)


def test_no_good_mirror_leaves_no_file(tmp_path, mirrors):
    pytest.importorskip("pooch")
    downloader, sha256 = mirrors
    with pytest.raises(OSError, match="no mirror gave train-images(.|\n)*gone(.|\n)*bad/"):
        download_mnist(tmp_path / "new", ["https://gone", "https://bad"], sha256, downloader)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("wrong", [[], "https://good"])
def test_mirrors_are_a_list(tmp_path, wrong):
    pytest.importorskip("pooch")
    with pytest.raises(ValueError, match="give a list"):
        download_mnist(tmp_path, wrong)


def test_without_pooch_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"imbalance\[images\]"):
        download_mnist(tmp_path)
