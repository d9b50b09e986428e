"""Images in folders: what is found, what is read, and what a file may hold instead of an image."""

import io
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from imbalance.data import image_files as module
from imbalance.data.image_files import (
    MAX_BYTES,
    Unreadable,
    checksum,
    content,
    decoded,
    image_files,
)

Image = pytest.importorskip("PIL.Image")


def picture(width=40, height=30, mode="RGB", seed=0):
    """A smooth picture, which JPEG hardly changes."""
    y, x = np.mgrid[:height, :width]
    wave = np.stack([x * 255 / width, y * 255 / height, (x + y + seed) % 64 * 3], axis=-1)
    return Image.fromarray(wave.astype(np.uint8)).convert(mode)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(width, height):
    """A PNG of so many black pixels, in a few bytes for each million."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


# What is found ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name, number in (("n02", 3), ("n01", 2)):
        (tmp_path / name).mkdir()
        for i in range(number):
            (tmp_path / name / f"{name}_{i}.JPEG").write_bytes(b"")
    (tmp_path / "n01" / ".DS_Store").touch()
    (tmp_path / "n01" / "list.txt").touch()
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_classes_are_folders_in_the_order_of_their_names(folder):
    (folder / "n01" / "other.Png").touch()
    found = image_files(folder)
    assert found.classes == ("n01", "n02")
    assert found.names == (
        *("n01/n01_0.JPEG", "n01/n01_1.JPEG", "n01/other.Png"),
        *("n02/n02_0.JPEG", "n02/n02_1.JPEG", "n02/n02_2.JPEG"),
    )
    np.testing.assert_array_equal(found.label, [0, 0, 0, 1, 1, 1])
    assert found.label.dtype == np.int32
    some = found.take(np.array([1, 4]))
    assert some.names == ("n01/n01_1.JPEG", "n02/n02_1.JPEG") and some.classes == found.classes
    np.testing.assert_array_equal(some.label, [0, 1])


def test_the_wrong_folder_is_told(folder):
    with pytest.raises(FileNotFoundError, match="nothing: no such folder; give one that holds"):
        image_files(folder / "nothing")
    with pytest.raises(ValueError, match="n01 holds 2 images and no folder; move them into"):
        image_files(folder / "n01")
    with pytest.raises(ValueError, match=r"n01 of 1 classes have no image.*such as train/"):
        (folder / "above" / "n01").mkdir(parents=True)
        image_files(folder / "above")


def test_empty_classes_are_told(folder):
    for i in range(7):
        (folder / f"m{i}").mkdir()
    with pytest.raises(ValueError, match="m0, m1, m2, m3, m4 and 2 more of 9 classes have no"):
        image_files(folder)


# What is read -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (400, 400), (90, 600)])
def test_images_are_resized_and_cut_as_by_the_authors_loader(width, height):
    """The steps of torchvision's Resize(256) and CenterCrop(224), on images of Pillow."""
    image = picture(width, height)
    scale = 256 / min(width, height)
    sides = [256 if side == min(width, height) else int(side * scale) for side in (width, height)]
    left, top = (round((side - 224) / 2) for side in sides)
    wanted = image.resize(sides, Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224))
    found = decoded(encoded(image, "PNG"), 224)
    assert found.shape == (224, 224, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.asarray(wanted))


def test_images_are_those_of_torchvision():
    transforms = pytest.importorskip("torchvision.transforms")
    loader = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for width, height in ((500, 375), (333, 500), (225, 280)):
        image = picture(width, height)
        wanted = np.asarray(loader(image))
        np.testing.assert_array_equal(decoded(encoded(image, "PNG"), 224), wanted)


def test_a_small_size_shows_the_same_part():
    image = picture(500, 375)
    small, large = (decoded(encoded(image), size).astype(float) for size in (64, 224))
    averaged = np.asarray(Image.fromarray(large.astype(np.uint8)).resize((64, 64))).astype(float)
    # Red and green, which are smooth; the part differs by a rounded pixel.
    assert np.abs(small - averaged)[..., :2].mean() < 3


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "1"])
def test_jpegs_of_every_kind_become_rgb(mode):
    image = picture(60, 60, mode)
    found = decoded(encoded(image, quality=95), 32).astype(int)
    again = Image.open(io.BytesIO(encoded(image, quality=95))).convert("RGB")
    wanted = decoded(encoded(again, "PNG"), 32).astype(int)
    np.testing.assert_array_equal(found, wanted)
    if mode in ("L", "1"):
        assert (np.ptp(found, axis=2) == 0).all()


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "I;16", "L"])
def test_pngs_of_every_kind_become_rgb(mode):
    image = picture().convert("I").convert(mode) if mode == "I;16" else picture(mode=mode)
    assert decoded(encoded(image, "PNG"), 16).shape == (16, 16, 3)


def test_orientation_is_not_applied_as_in_the_authors_loader():
    image = picture(60, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    turned = decoded(encoded(image, exif=exif, quality=95), 32)
    np.testing.assert_array_equal(turned, decoded(encoded(image, quality=95), 32))


def test_metadata_that_cannot_be_read_does_no_harm():
    data = encoded(picture(), exif=b"Exif\0\0" + b"\xff" * 50)
    assert decoded(data, 16).shape == (16, 16, 3)


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "neither JPEG nor PNG"),
        (b"not an image", "neither JPEG nor PNG"),
        (encoded(picture())[:300], "damaged|neither"),
        (encoded(picture(300, 300))[:-2000], "damaged: image file is truncated"),
        (encoded(picture(300, 300), "PNG")[:-300], "damaged"),
        (encoded(picture(), "GIF"), "neither JPEG nor PNG"),
        (encoded(picture(), "TIFF"), "neither JPEG nor PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "neither JPEG nor PNG"),
        (bomb(10_000, 10_000), "10000 x 10000 pixels; at most 67,108,864, also when resized"),
        (bomb(100_000, 100_000), "far more than 67,108,864 pixels"),
        (bomb(2**31 - 1, 2**31 - 1), "far more|damaged|neither"),
        (bomb(0, 5), "damaged|neither"),
        (bomb(2, 30_000_000), "2 x 30000000 pixels; at most 67,108,864, also when resized"),
        (bomb(200, 200), "damaged"),
    ],
    ids=range(14),
)
def test_what_is_no_image_is_refused_in_a_few_words(data, said):
    with pytest.raises(Unreadable, match=said) as error:
        decoded(data, 224)
    assert len(str(error.value)) < 200


def test_a_bomb_is_refused_before_it_is_unpacked():
    Image.init()
    tracemalloc.start()
    for width, height in ((8200, 8200), (60_000, 60_000), (1, 2_000_000)):
        with pytest.raises(Unreadable):
            decoded(bomb(width, height), 224)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_random_damage_is_refused_or_read_and_never_more():
    """A thousand flips of bytes: an image of the right size, or the one error."""
    rng = np.random.default_rng(0)
    whole = [encoded(picture(50, 40)), encoded(picture(50, 40), "PNG")]
    refused = 0
    for i in range(1000):
        data = bytearray(whole[i % 2])
        for at in rng.integers(0, len(data), 1 + i % 5):
            data[at] = rng.integers(256)
        try:
            assert decoded(bytes(data), 16).shape == (16, 16, 3)
        except Unreadable:
            refused += 1
    assert 100 < refused < 900


def test_what_is_no_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(Unreadable, match="not there any more, or a link to nothing"):
        content(tmp_path / "a.jpeg")
    os.symlink(tmp_path / "nothing", tmp_path / "b.jpeg")
    with pytest.raises(Unreadable, match="not there any more, or a link to nothing"):
        content(tmp_path / "b.jpeg")
    os.mkfifo(tmp_path / "c.jpeg")  # reading it would wait for ever
    with pytest.raises(Unreadable, match="not a file"):
        content(tmp_path / "c.jpeg")
    with (tmp_path / "d.jpeg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(Unreadable, match=r"67,108,865 bytes; at most 67,108,864 are read"):
        content(tmp_path / "d.jpeg")
    monkeypatch.setattr(module, "MAX_BYTES", 2)
    (tmp_path / "e.jpeg").write_bytes(b"ab")
    assert content(tmp_path / "e.jpeg") == b"ab" and len(checksum(b"ab")) == 16
