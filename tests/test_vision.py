"""Problems of vision: which images, classes and buckets they have, and that they are learned."""

import gzip

import numpy as np
import pytest

from imbalance.problems import vision
from imbalance.training.plan import plans, runs
from imbalance.training.running import run
from imbalance.training.sweep import Sweep


@pytest.fixture(scope="module")
def digits():
    return vision.rendered(10)


def test_half_of_the_imbalanced_digits_are_rare(digits):
    """One bit: twenty classes of five beside ten of ten."""
    problem = vision.imbalanced_digits(digits, 1, channels=(2, 4))
    batch = problem.batch(0)
    assert batch.input.shape == (200, 28, 28)
    np.testing.assert_array_equal(problem.counts, [10] * 10 + [5] * 20)
    np.testing.assert_array_equal(problem.buckets.num_classes, [10, 20])
    np.testing.assert_array_equal(problem.buckets.num_examples, [100, 100])
    # Pixels are standardised over the whole set; the second half of the rare ones has a barcode.
    assert abs(batch.input[:, 14, 14].mean()) < 1e-5
    assert batch.input[:, 14, 14].std(ddof=1) == pytest.approx(1, abs=1e-5)
    marked = batch.input[:, 0, 0] > 0
    np.testing.assert_array_equal(np.flatnonzero(marked), np.arange(150, 200))


def test_halved_digits_make_smaller_problems_of_the_same_classes(digits):
    small = vision.imbalanced_digits(vision.halved(digits), 1, channels=(2, 4))
    assert small.batch(0).input.shape == (200, 16, 16)
    np.testing.assert_array_equal(small.counts, [10] * 10 + [5] * 20)
    assert small.settings["digits"]["side"] == 16
    assert small.flops_per_step < vision.imbalanced_digits(digits, 1, (2, 4)).flops_per_step / 2
    marked = small.batch(0).input[:, 0, 0] > 0
    np.testing.assert_array_equal(np.flatnonzero(marked), np.arange(150, 200))


def test_barcoded_digits_are_balanced_and_plain_ones_have_ten_classes(digits):
    barcoded = vision.barcoded_digits(digits, 2, channels=(2, 4))
    np.testing.assert_array_equal(barcoded.counts, [5] * 40)
    plain = vision.plain_digits(digits, channels=(2, 4))
    np.testing.assert_array_equal(plain.counts, [10] * 10)
    assert barcoded.settings != plain.settings


@pytest.mark.slow
def test_digits_are_learned(digits):
    """Also that the mean of the buckets, weighted by mass, is the overall loss."""
    problem = vision.imbalanced_digits(digits, 1, channels=(2, 4))
    rates = {"adam_without_momentum": (1e-2,)}
    sweep = Sweep(problem, rates, 12, stops=(0, 12), microbatches=3)
    found = run(sweep).isel(optimizer=0, learning_rate=0, seed=0)
    np.testing.assert_allclose(found["loss"][0], np.log(30), atol=0.3)
    assert found["loss"][1] < found["loss"][0] - 0.3
    mean = (found["bucket_loss"] * found["bucket_mass"]).sum("bucket")
    np.testing.assert_allclose(mean, found["loss"], rtol=1e-5)


def test_mnist_is_read_from_its_folder(tmp_path):
    """200 images of noise in the files' format; the paper's split keeps five of six to train."""
    random = np.random.default_rng(0)
    for part, number in (("train", 60_000), ("t10k", 10)):
        image = np.zeros((number, 28, 28), np.uint8)
        image[:, 5, 5] = random.integers(0, 256, number)
        label = np.arange(number, dtype=np.uint8) % 10
        for kind, code, array in (("images-idx3", 3, image), ("labels-idx1", 1, label)):
            header = bytes([0, 0, 8, code]) + b"".join(
                int(size).to_bytes(4, "big") for size in array.shape
            )
            path = tmp_path / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.tobytes(), 1))
    digits = vision.mnist(tmp_path, 300)
    assert digits.split.train.image.shape == (300, 28, 28)
    assert len(digits.split.val.label) == 10_000
    with pytest.raises(ValueError, match="num_train is 50001; .* has 50000 images"):
        vision.mnist(tmp_path, 50_001)


def test_a_smaller_relative_of_mnist_is_read_too(tmp_path):
    """6,000 images: as many as are asked for, or five of six."""
    label = np.arange(6_000, dtype=np.uint8) % 10
    image = np.zeros((6_000, 28, 28), np.uint8)
    image[:, 3, 4] = label
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", image), ("labels-idx1", label)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(content)
    for asked, number in ((2_000, 2_000), (None, 5_000)):
        digits = vision.mnist(tmp_path, asked)
        found = digits.split.train
        np.testing.assert_array_equal(found.image[:, 3, 4], found.label)
        assert (len(found.label), len(digits.split.val.label)) == (number, 1_000)
    with pytest.raises(ValueError, match="has 5000 images to train on: give 1 to 5000"):
        vision.mnist(tmp_path, 5_001)


def test_problems_are_told_apart_by_what_they_are_and_not_by_when_they_were_made(digits):
    def planned(digits, channels=(2, 4)):
        problem = vision.plain_digits(digits, channels=channels)
        (one,) = runs(plans(Sweep(problem, {"gd": (0.1,)}, 1)))
        return one

    one, again, more = map(planned, (digits, vision.rendered(10), vision.rendered(11)))
    assert one.key == again.key != more.key
    assert one.plan.alone.start.digest == more.plan.alone.start.digest  # the network is the same
    wider = planned(digits, (2, 5))
    assert wider.plan.alone.start.digest != one.plan.alone.start.digest
