"""Glyphs: shapes from outlines, classes that can be told apart, the same bytes everywhere."""

import hashlib

import numpy as np
import pytest
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font, LoadFlags

from imbalance.data.glyph_characters import CHARACTERS
from imbalance.data.glyph_likeness import apart, likeness
from imbalance.data.glyph_shapes import BOX, FACES, FULL, _filled, _outlines, shapes
from imbalance.data.glyphs import NUM_CLASSES, glyphs

LIKE = 0.89  # what benchmarks/choose_glyphs.py chose by


@pytest.fixture(scope="module")
def images():
    return glyphs(np.full(100, 4), seed=3)


def digest(images):
    return hashlib.sha256(images.image.tobytes() + images.label.tobytes()).hexdigest()[:16]


# Shapes -----------------------------------------------------------------------------------------


def box(low, high):
    """Straight pieces around a square, clockwise where y points down."""
    corner = [(low, low), (high, low), (high, high), (low, high)]
    return np.array(list(zip(corner, corner[1:] + corner[:1], strict=True)))


def test_outlines_are_filled_by_the_nonzero_rule():
    outer, inner = box(0.1, 0.9), box(0.3, 0.5)
    for outline, area in (
        (outer, 64),
        (np.concatenate([outer, inner]), 64),  # the same turn twice is inside
        (np.concatenate([outer, inner[:, ::-1]]), 60),  # the other turn is a hole
    ):
        (inside,) = _filled([outline], 10)
        assert inside.sum() == area
    both = _filled([outer, inner], 10)
    assert both[0, 1:9, 1:9].all() and both[1, 3:5, 3:5].all() and both.sum() == 68


def test_a_shape_fills_its_box_in_the_middle():
    shape = shapes("HO.-", 64)
    assert shape.shape == (4, len(FACES), 64, 64) and shape.dtype == np.uint8
    assert shape.max() == FULL and not shape.flags.writeable
    ink = shape > FULL / 2
    for character in ink.reshape(-1, 64, 64):
        rows, columns = (np.flatnonzero(character.any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(BOX * 64, abs=2)
        for places in (rows, columns):
            assert (places[0] + places[-1]) / 2 == pytest.approx(31.5, abs=1)


def near(ink):
    """Points at most two away from ink: a renderer loses the tips of sharp corners."""
    wide = np.pad(ink, 2)
    side = len(ink)
    return np.any([wide[i : side + i, j : side + j] for i in range(5) for j in range(5)], axis=0)


@pytest.mark.parametrize("face", FACES)
def test_outlines_are_those_of_a_font_renderer(face):
    """FreeType, as matplotlib has it, without hinting, fills the same points."""
    font = FT2Font(f"{get_data_path()}/fonts/ttf/{face}.ttf")
    font.set_size(200, 72)
    characters = CHARACTERS[:60]
    for character, outline in zip(characters, _outlines(face, characters), strict=True):
        font.set_text(character, 0, flags=LoadFlags.NO_HINTING)
        font.draw_glyphs_to_bitmap()
        theirs = np.asarray(font.get_image()) > 127
        rows, columns = (np.flatnonzero(theirs.any(axis=axis)) for axis in (1, 0))
        theirs = theirs[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        side = round(max(theirs.shape) / BOX)
        (ours,) = _filled([outline], side)
        top, left = ((side - part) // 2 for part in theirs.shape)
        placed = np.zeros_like(ours)
        placed[top : top + theirs.shape[0], left : left + theirs.shape[1]] = theirs
        assert (ours <= near(placed)).all() and (placed <= near(ours)).all(), character


def test_a_character_that_a_face_lacks_or_leaves_blank_is_refused():
    with pytest.raises(ValueError, match=r"does not draw '中' \(U\+4E2D\); give characters that"):
        shapes("a\N{CJK UNIFIED IDEOGRAPH-4E2D}", 32)
    with pytest.raises(ValueError, match="does not draw ' '"):
        shapes(" ", 32)


# Classes ----------------------------------------------------------------------------------------


def test_a_thousand_distinct_characters():
    assert NUM_CLASSES == len(set(CHARACTERS)) == 1000
    assert hashlib.sha256(CHARACTERS.encode()).hexdigest()[:16] == "b911dee0f34662e8"


def test_likeness_is_one_for_equal_pictures_and_small_for_others():
    found = likeness(shapes("AA\N{GREEK CAPITAL LETTER ALPHA}\N{CYRILLIC CAPITAL LETTER A}.-", 64))
    assert found.shape == (6, 6) and (found == found.T).all() and (np.diag(found) == 1).all()
    np.testing.assert_allclose(found[:4, :4], 1, atol=1e-6)  # the same drawing three times
    assert found[:4, 4:].max() < LIKE and found[4, 5] < LIKE
    assert likeness(shapes("G\N{LATIN LETTER SMALL CAPITAL G}", 64))[0, 1] > 0.95


def test_characters_apart_are_the_most_that_a_greedy_finds():
    alike = np.eye(5)
    alike[0, 1:4] = alike[1:4, 0] = 0.9  # a star: its middle goes, its ends stay
    assert apart(alike, 0.8) == [1, 2, 3, 4]
    assert apart(alike, 0.95) == [0, 1, 2, 3, 4]


def test_the_first_classes_do_not_look_alike():
    alike = likeness(shapes(CHARACTERS[:150], 64))
    assert (alike - np.eye(150)).max() < LIKE


@pytest.mark.slow
def test_no_two_classes_look_alike():
    alike = likeness(shapes(CHARACTERS, 64))
    assert (alike - np.eye(NUM_CLASSES)).max() < LIKE


# Images -----------------------------------------------------------------------------------------


def test_images_are_labelled_bytes(images):
    assert images.image.shape == (400, 32, 32) and images.image.dtype == np.uint8
    assert images.label.dtype == np.int32
    np.testing.assert_array_equal(images.label, np.repeat(np.arange(100), 4))
    assert len(np.unique(images.image.reshape(400, -1), axis=0)) == 400


def test_every_image_has_contrast_and_a_ground_of_its_own(images):
    pixels = images.image.reshape(400, -1)
    low, high = np.percentile(pixels, (1, 99), axis=1)
    assert (high - low).min() > 60
    rim = images.image[:, [0, -1]].reshape(400, -1).mean(axis=1)  # no ink there, by and large
    assert rim.min() < 30 and rim.max() > 225
    # Dark on light as often as light on dark: a coin thrown 400 times.
    light = (pixels.mean(axis=1) > rim).mean()
    assert 0.4 < light < 0.6


def test_an_image_depends_on_seed_class_and_place_alone(images):
    np.testing.assert_array_equal(glyphs(np.full(100, 4), seed=3).image, images.image)
    # More of some classes, none of others, fewer classes: beyond the chunks that are drawn at once.
    counts = [300, 0, 7, 1, 260]
    other = glyphs(counts, seed=3)
    np.testing.assert_array_equal(np.bincount(other.label), counts)
    for k, count in enumerate(counts):
        shared = min(count, 4)
        np.testing.assert_array_equal(
            other.image[other.label == k][:shared], images.image[images.label == k][:shared]
        )
    np.testing.assert_array_equal(glyphs([520], seed=3).image[:300], other.image[:300])


def test_another_seed_gives_fresh_images(images):
    fresh = glyphs(np.full(100, 4), seed=4)
    apart = np.abs(fresh.image.astype(int) - images.image).mean(axis=(1, 2))
    assert apart.min() > 5


@pytest.mark.parametrize(
    ("counts", "seed", "size", "known"),
    [
        (np.arange(1, 41), 0, 32, "3d6f4003277a4438"),
        (np.full(60, 3), 7, 16, "810f7d4add34d802"),
        ([0, 5], 2**64 - 1, 21, "be1178c9b9048f1c"),
    ],
)
def test_the_same_bytes_everywhere(counts, seed, size, known):
    """Seen alike: Python 3.11 to 3.13, NumPy 2.0 to 2.5, matplotlib 3.8 to 3.11, without AVX."""
    assert digest(glyphs(counts, seed, size)) == known


@pytest.mark.parametrize("size", [8, 64])
def test_images_of_any_size(size):
    found = glyphs([2, 1], size=size)
    assert found.image.shape == (3, size, size)
    assert np.ptp(found.image.reshape(3, -1), axis=1).min() > 60


@pytest.mark.parametrize(
    ("counts", "seed", "size", "said"),
    [
        (np.ones(1001, int), 0, 32, "counts are of 1001 classes; give at most 1000"),
        ([-1], 0, 32, "class 0 has count -1"),
        ([0, 0], 0, 32, "all 2 counts are 0"),
        ([1], -1, 32, r"seed is -1; give 0 to 2\^64 - 1"),
        ([1], 2**64, 32, "seed is"),
        ([1], 0, 7, "size is 7; give 8 to 64 pixels"),
        ([1], 0, 65, "size is 65"),
    ],
)
def test_what_cannot_be_drawn_is_refused(counts, seed, size, said):
    with pytest.raises(ValueError, match=said):
        glyphs(counts, seed, size)


def test_fractions_of_images_are_refused():
    with pytest.raises(TypeError, match="give integers"):
        glyphs([1.5])
