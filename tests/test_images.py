import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance.data import images as im
from imbalance.data.digits import rendered_digits
from imbalance.data.zipf import power_law_counts

BITS = 4


@pytest.fixture(scope="module")
def digits():
    """400 train and 100 val images; every digit is in both."""
    return im.split(rendered_digits(50), num_train=400, seed=1)


@pytest.fixture(scope="module")
def only(digits):
    return im.barcoded_only(digits, BITS, seed=5)


def rows_of(image):
    return [row.tobytes() for row in image]


def test_split_parts_the_images_by_a_seeded_permutation(digits):
    whole = rendered_digits(50)
    assert len(digits.train.label) == 400 and len(digits.val.label) == 100
    both = rows_of(digits.train.image) + rows_of(digits.val.image)
    assert sorted(both) == sorted(rows_of(whole.image))
    label_of = dict(zip(rows_of(whole.image), whole.label, strict=True))
    for part in digits:
        assert [label_of[row] for row in rows_of(part.image)] == part.label.tolist()
    again = im.split(whole, 400, seed=1)
    np.testing.assert_array_equal(again.train.label, digits.train.label)
    assert (im.split(whole, 400, seed=2).train.label != digits.train.label).any()


@pytest.mark.parametrize("num_train", [0, 500, 501, -1])
def test_split_leaves_no_part_empty(num_train):
    with pytest.raises(ValueError, match="1 or more"):
        im.split(rendered_digits(50), num_train)


@pytest.mark.parametrize("num_bits", [1, 3, 10])
def test_barcodes_are_in_the_order_of_the_product(num_bits):
    expected = np.array(list(itertools.product([0, 1], repeat=num_bits)))
    np.testing.assert_array_equal(im.barcodes(num_bits), expected)
    np.testing.assert_array_equal(im.barcodes(num_bits, zero_barcode=False), expected[1:])


@pytest.mark.parametrize("num_bits", [0, 17])
def test_barcodes_have_1_to_16_bits(num_bits):
    with pytest.raises(ValueError, match="1 to 16"):
        im.barcodes(num_bits)


def check_barcoded(part, source, per_class, codes):
    """By a loop over examples, from the words of A.3."""
    assert (np.bincount(part.label) == per_class).all()
    assert len(part.label) == per_class * 10 * len(codes)
    of_digit = [set(rows_of(source.image[source.label == d])) for d in range(10)]
    for image, label in zip(part.image, part.label, strict=True):
        code, digit = codes[label // 10], label % 10
        assert (image[0, : len(code)] == 255 * np.array(code)).all()
        plain = image.copy()
        plain[0, : len(code)] = 0
        assert plain.tobytes() in of_digit[digit]


def test_barcoded_images_are_stamped_digits_of_their_own_part(digits, only):
    codes = list(itertools.product([0, 1], repeat=BITS))
    check_barcoded(only.train, digits.train, 5, codes)
    check_barcoded(only.val, digits.val, 1, codes)
    assert (np.diff(only.train.label) >= 0).all()


def test_without_the_zero_barcode_every_image_is_marked(digits):
    codes = list(itertools.product([0, 1], repeat=BITS))[1:]
    part = im.barcoded(digits.train, 2, BITS, zero_barcode=False)
    check_barcoded(part, digits.train, 2, codes)
    assert part.image[:, 0, :BITS].any(axis=1).all()


def test_draws_are_with_replacement_and_seeded(digits, only):
    # 60 draws for digit 0 of at most 20 images.
    few = im.Images(digits.train.image[:200], digits.train.label[:200])
    many = im.barcoded(few, 60, 1, seed=0)
    first = many.image[many.label == 0]
    of_digit = few.image[few.label == 0]
    assert len(np.unique(first, axis=0)) <= len(of_digit) < 60
    # 60 draws of n = 20 miss an image with probability (1 - 1/n)^60 = .05.
    assert len(np.unique(first, axis=0)) > 0.8 * len(of_digit)
    again = im.barcoded_only(digits, BITS, seed=5)
    np.testing.assert_array_equal(again.train.image, only.train.image)
    other = im.barcoded_only(digits, BITS, seed=6)
    assert (other.train.image != only.train.image).any()
    assert not few.image[:, 0].any(), "stamping must not write into its source"


def test_unset_bits_leave_pixels_untouched(digits):
    grey = im.Images(np.maximum(digits.val.image, 7), digits.val.label)
    part = im.barcoded(grey, 1, 2)
    np.testing.assert_array_equal(part.image[part.label // 10 == 1][:, 0, :3], [[7, 255, 7]] * 10)


def test_combined_puts_the_digits_first_and_shifts_the_others(digits, only):
    both = im.combined(digits, BITS, seed=5)
    for part, plain, rare in zip(both, digits, only, strict=True):
        n = len(plain.label)
        np.testing.assert_array_equal(part.image[:n], plain.image)
        np.testing.assert_array_equal(part.label[:n], plain.label)
        np.testing.assert_array_equal(part.image[n:], rare.image)
        np.testing.assert_array_equal(part.label[n:], rare.label + 10)
        assert part.image.dtype == np.uint8 and part.label.dtype == np.int32


def test_barcodes_need_the_ten_digits(digits):
    some = digits.train.take(digits.train.label != 3)
    with pytest.raises(ValueError, match="no image has label 3"):
        im.barcoded(some, 1, 2)
    more = im.Images(digits.val.image, digits.val.label + np.int32(1))
    with pytest.raises(ValueError, match="labels reach 10"):
        im.barcoded(more, 1, 2)
    with pytest.raises(ValueError, match="per_class is 0"):
        im.barcoded(digits.val, 0, 2)
    narrow = im.Images(digits.val.image[:, :, :3], digits.val.label)
    with pytest.raises(ValueError, match="4 bits do not fit in 3 columns"):
        im.barcoded(narrow, 1, 4)


# On images of 2 x 10 pixels: the paper's numbers are about labels and row 0.
def test_the_papers_sizes():
    label = np.arange(60_000, dtype=np.int32) % 10
    image = np.zeros((60_000, 2, 10), np.uint8)
    image[:, 1, 0] = label
    digits = im.split(im.Images(image, label))
    only, both = im.barcoded_only(digits), im.combined(digits)
    assert [len(part.label) for part in (*only, *both)] == [51_200, 10_240, 101_200, 20_240]
    codes = np.array(list(itertools.product([0, 255], repeat=10)))
    for part, per_class in zip(only, (5, 1), strict=True):
        np.testing.assert_array_equal(np.bincount(part.label), np.full(10_240, per_class))
        np.testing.assert_array_equal(part.image[:, 0], codes[part.label // 10])
        np.testing.assert_array_equal(part.image[:, 1, 0], part.label % 10)
    counts = np.bincount(both.train.label)
    assert len(counts) == 10_250 and (counts[10:] == 5).all()
    assert counts[:10].sum() / counts.sum() == pytest.approx(0.494, abs=5e-4)
    # K.4: bits off and on are -.58 and 1.72 after standardisation; which digits were drawn has no
    # part in it, so the values are exact: mean 255 q, variance 255² q (1 - q) n / (n - 1).
    n, q = 101_200, 25_600 / 101_200
    values = np.unique(
        im.standardise(both.train.image, im.pixel_statistics(both.train.image))[:, 0]
    )
    spread = np.sqrt(q * (1 - q) * n / (n - 1))
    # Three roundings of float32 and that of the values as such.
    np.testing.assert_allclose(values, [-q / spread, (1 - q) / spread], rtol=4e-7)
    assert values == pytest.approx([-0.58, 1.72], abs=0.005)


def test_standardised_pixels_have_mean_0_and_unbiased_std_1(digits):
    both = im.combined(digits, BITS)
    statistics = im.pixel_statistics(both.train.image)
    dense = both.train.image.astype(np.float64)
    np.testing.assert_allclose(statistics.mean, dense.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, dense.std(axis=0, ddof=1), rtol=1e-12)
    out = im.standardise(both.train.image, statistics)
    assert out.dtype == np.float32
    varies = statistics.std > 0
    assert varies.any() and not varies.all()
    wide = out.astype(np.float64)
    # Rounding of float32, 6e-8, of values up to about 36.
    np.testing.assert_allclose(wide.mean(axis=0), 0, atol=2e-6)
    np.testing.assert_allclose(wide.std(axis=0, ddof=1), varies, atol=2e-6)
    # The same statistics for validation.
    val = im.standardise(both.val.image, statistics)
    expected = (both.val.image - statistics.mean) / np.where(varies, statistics.std, 1)
    np.testing.assert_allclose(val, expected, atol=1e-5, rtol=1e-6)


def test_constant_pixels_stay_raw():
    image = np.full((5, 1, 2), 9, np.uint8)
    image[0, 0, 1] = 4
    statistics = im.pixel_statistics(image)
    assert statistics.std[0, 0] == 0
    out = im.standardise(image, statistics)
    assert (out[:, 0, 0] == 9).all()
    # Mean 8, variance (16 + 4) / 4 = 5.
    np.testing.assert_allclose(out[:, 0, 1], np.array([-4, 1, 1, 1, 1]) / 5**0.5, rtol=3e-7)


def test_one_image_has_no_deviation():
    with pytest.raises(ValueError, match="two or more"):
        im.pixel_statistics(np.zeros((1, 2, 2), np.uint8))


def test_sums_run_over_all_chunks():
    image = np.full((10_000, 1, 1), 255, np.uint8)
    image[-1] = 0
    statistics = im.pixel_statistics(image)
    assert statistics.mean[0, 0] == pytest.approx(255 * 0.9999, rel=1e-14)
    assert statistics.std[0, 0] == pytest.approx(2.55, rel=1e-14)


def test_the_quirk_of_plain_mnist_is_switchable():
    image = np.array([[[0, 255]]], np.uint8)
    quirk = im.normalise_plain(image)
    np.testing.assert_allclose(quirk[0, 0], [-0.1307 / 0.3081, 254.8693 / 0.3081], rtol=1e-6)
    assert 827 <= quirk.max() < 828
    usual = im.normalise_plain(image, divide_by_255=True)
    np.testing.assert_allclose(usual[0, 0], [-0.1307 / 0.3081, 0.8693 / 0.3081], rtol=1e-6)


SET = im.Images(
    np.arange(300, dtype=np.uint16).view(np.uint8).reshape(300, 1, 2),
    np.arange(300, dtype=np.int32) % 6,
)


@settings(max_examples=60)
@given(st.integers(6, 300), st.floats(0, 3), st.integers(0, 9))
def test_power_law_resampling(num_examples, exponent, seed):
    counts = power_law_counts(num_examples, 6, exponent)
    if counts[0] > 50:
        with pytest.raises(ValueError, match=f"class 0 has 50 images.*need {counts[0]}"):
            im.resample_power_law(SET, num_examples, exponent, seed)
        return
    part = im.resample_power_law(SET, num_examples, exponent, seed)
    np.testing.assert_array_equal(np.bincount(part.label), counts)
    index = np.ascontiguousarray(part.image).view(np.uint16).ravel()
    assert (np.diff(index.astype(int)) > 0).all(), "without replacement, in order"
    np.testing.assert_array_equal(part.label, index % 6)


def test_resampling_names_an_empty_class():
    with pytest.raises(ValueError, match="class 2 has 0 images"):
        im.resample_power_law(SET.take(SET.label != 2), 20, 0.0)


@pytest.mark.parametrize(
    ("image", "label", "error"),
    [
        (np.zeros((2, 3, 3)), [0, 1], TypeError),
        (np.zeros((2, 3, 3), np.uint8), [0.0, 1.0], TypeError),
        (np.zeros((2, 3, 3), np.uint8), [0], ValueError),
        (np.zeros((2, 9), np.uint8), [0, 1], ValueError),
        (np.zeros((2, 3, 3), np.uint8), [0, -1], ValueError),
        (np.zeros((0, 3, 3), np.uint8), np.zeros(0, int), ValueError),
    ],
)
def test_arrays_that_are_no_labelled_images_are_refused(image, label, error):
    with pytest.raises(error, match="give"):
        im.images_from_arrays(image, label)


def test_halved_images_are_means_of_four_pixels_inside_a_border(digits):
    small = im.halved(digits.train)
    assert small.image.shape == (400, 16, 16) and small.image.dtype == np.uint8
    np.testing.assert_array_equal(small.label, digits.train.label)
    for row, column in ((0, 0), (5, 9), (13, 13)):
        block = digits.train.image[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        expected = block.astype(float).mean(axis=(1, 2)).round()
        np.testing.assert_array_equal(small.image[:, 1 + row, 1 + column], expected)
    assert not small.image[:, [0, 15]].any() and not small.image[:, :, [0, 15]].any()


def test_images_of_odd_sides_are_not_halved():
    with pytest.raises(ValueError, match="27 x 28 pixels; give even sides"):
        im.halved(im.Images(np.zeros((1, 27, 28), np.uint8), np.zeros(1, np.int32)))
