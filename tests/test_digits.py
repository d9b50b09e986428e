import numpy as np
import pytest

from imbalance.data.digits import SIDE, rendered_digits


@pytest.fixture(scope="module")
def digits():
    return rendered_digits(150, seed=3)


def test_rendered_digits_are_labelled_bytes_with_an_empty_border(digits):
    assert digits.image.dtype == np.uint8 and digits.image.shape == (1500, SIDE, SIDE)
    assert digits.label.dtype == np.int32
    assert (np.bincount(digits.label) == 150).all()
    # Barcodes go into row 0.
    assert not digits.image[:, [0, -1]].any() and not digits.image[:, :, [0, -1]].any()


def test_every_image_shows_a_digit_on_a_dark_ground(digits):
    inked = (digits.image > 100).mean(axis=(1, 2))
    # The least is a thin 1, upright: 14 pixels or so of 784.
    assert inked.min() > 0.01 and inked.max() < 0.5
    assert digits.image.max(axis=(1, 2)).min() >= 140
    # Mostly empty, as MNIST is (mean .1307).
    assert 0.06 < digits.image.mean() / 255 < 0.2
    # Strokes stay inside: the outermost rows and columns that may hold ink seldom do.
    rim = digits.image[:, 1:-1, 1:-1].astype(int)
    rim[:, 1:-1, 1:-1] = 0
    assert rim.sum() < 0.02 * digits.image.sum(dtype=np.int64)


def test_the_seed_decides_the_images(digits):
    again = rendered_digits(150, seed=3)
    np.testing.assert_array_equal(digits.image, again.image)
    assert (rendered_digits(150, seed=4).image != digits.image).any(axis=(1, 2)).all()
    assert len(np.unique(digits.image.reshape(1500, -1), axis=0)) == 1500


def test_counts_may_differ_by_digit():
    counts = [3, 0, 1, 0, 0, 2, 0, 0, 0, 5]
    np.testing.assert_array_equal(np.bincount(rendered_digits(counts).label), counts)


@pytest.mark.parametrize("per_class", [[1, 2], np.ones((2, 10), int), 0, -1])
def test_bad_counts_are_refused(per_class):
    with pytest.raises(ValueError, match="per_class|class 0 has count|all 10 counts are 0"):
        rendered_digits(per_class)


def test_fractions_of_images_are_refused():
    with pytest.raises(TypeError, match="give integers"):
        rendered_digits(1.5)


def accuracy_of_ridge(train, test):
    x = train.image.reshape(len(train.label), -1) / 255 - 0.1
    one_hot = np.eye(10)[train.label]
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ (one_hot - 0.1))
    guess = ((test.image.reshape(len(test.label), -1) / 255 - 0.1) @ weights).argmax(axis=1)
    return (guess == test.label).mean()


def accuracy_of_nearest(train, test):
    a = train.image.reshape(len(train.label), -1) / 255
    b = test.image.reshape(len(test.label), -1) / 255
    nearest = ((a * a).sum(axis=1) - 2 * b @ a.T).argmin(axis=1)
    return (train.label[nearest] == test.label).mean()


def test_digits_can_be_told_apart_but_not_by_a_linear_classifier(digits):
    train = rendered_digits(400, seed=0)
    linear = accuracy_of_ridge(train, digits)
    assert 0.4 < linear < 0.9
    assert accuracy_of_nearest(train, digits) > linear + 0.05
