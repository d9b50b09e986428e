import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imbalance.analysis.counts import class_counts, entropy
from imbalance.data.linear import Normal, Uniform, random_inputs
from imbalance.data.zipf import (
    grouped_counts,
    labels_from_counts,
    power_law_counts,
    uniform_counts,
)


# Sizes of the paper's data; the number of inputs d is tested with the problems.
@pytest.mark.parametrize(
    ("m", "n", "c", "nats"),
    [(7, 896, 127, 4.025), (8, 2048, 255, 4.505), (11, 22_528, 2047, 5.864)],
)
def test_grouped_counts_are_those_of_the_paper(m, n, c, nats):
    counts = grouped_counts(m)
    assert counts.dtype == np.int64
    assert (counts.sum(), len(counts)) == (n, c)
    assert counts.max() * m == n  # π_max = 1/m
    assert counts.min() == 2
    assert entropy(counts) == pytest.approx(nats, abs=0.0005)
    for i in range(m):
        # Group i is classes 2^i - 1 .. 2^(i+1) - 2.
        assert (counts[2**i - 1 : 2 ** (i + 1) - 1] == 2 ** (m - i)).all()


@pytest.mark.parametrize("m", [0, -1, 21, 2.0, "7"])
def test_grouped_counts_refuse_other_sizes(m):
    with pytest.raises(ValueError, match=r"integer in 1 \.\. 20"):
        grouped_counts(m)


sizes = st.tuples(st.integers(1, 2000), st.integers(0, 2**40 - 2000)).map(
    lambda pair: (pair[0] + pair[1], pair[0])
)


@given(sizes, st.floats(0, 20) | st.sampled_from([0.0, 1e-300, 1e-16, 0.5, 1.0, 2.0, 1000.0]))
def test_power_law_counts_keep_their_promises(size, exponent):
    num_examples, num_classes = size
    counts = power_law_counts(num_examples, num_classes, exponent)
    assert counts.dtype == np.int64 and counts.shape == (num_classes,)
    assert counts.sum() == num_examples
    assert counts.min() >= 1
    assert (np.diff(counts) <= 0).all()


@given(st.integers(1, 200), st.integers(0, 5000), st.floats(0, 5))
def test_power_law_counts_are_proportional_above_the_floor(num_classes, more, exponent):
    counts = power_law_counts(num_classes + more, num_classes, exponent)
    share = np.arange(1.0, num_classes + 1) ** -exponent
    # One scale for all: n_k is within one of max(1, s k^-a).
    lower, upper = (counts - 1) / share, (counts + 1) / share
    above = counts > 1
    assume(above.any())
    assert lower[above].max() <= upper.min() * (1 + 1e-9)


def test_power_law_counts_by_hand():
    # 12 / (1 + 1/2 + 1/3 + 1/4) = 5.76: 5.76, 2.88, 1.92, 1.44 -> 5, 2, 1, 1 and 3 left.
    assert power_law_counts(12, 4, 1.0).tolist() == [6, 3, 2, 1]
    # Exponent 3: classes 3 and 4 would get less than one; 8 - 2 is divided 8 to 1.
    assert power_law_counts(8, 4, 3.0).tolist() == [5, 1, 1, 1]


@given(sizes)
def test_exponent_zero_is_uniform(size):
    assert power_law_counts(*size, 0.0).tolist() == uniform_counts(*size).tolist()


@given(sizes)
def test_uniform_counts_differ_by_at_most_one(size):
    num_examples, num_classes = size
    counts = uniform_counts(num_examples, num_classes)
    assert counts.dtype == np.int64 and counts.shape == (num_classes,)
    assert counts.sum() == num_examples
    assert counts[0] - counts[-1] <= 1
    assert (np.diff(counts) <= 0).all()


@pytest.mark.parametrize("make", [uniform_counts, lambda n, c: power_law_counts(n, c, 1.0)])
@pytest.mark.parametrize(("n", "c"), [(3, 4), (3, 0), (0, 0), (-1, -1), (4.0, 2), (4, 2.0)])
def test_sizes_that_do_not_fit_are_refused(make, n, c):
    with pytest.raises(ValueError, match="give"):
        make(n, c)


@pytest.mark.parametrize("exponent", [-0.5, float("nan"), float("inf")])
def test_power_law_counts_refuse_the_exponent(exponent):
    with pytest.raises(ValueError, match="exponent is"):
        power_law_counts(10, 3, exponent)


def test_power_law_counts_refuse_more_examples_than_their_arithmetic_carries():
    with pytest.raises(ValueError, match="2\\^40"):
        power_law_counts(2**40 + 1, 3, 1.0)


@given(st.lists(st.integers(0, 9), max_size=30).filter(any))
def test_labels_are_sorted_and_have_their_counts(counts):
    labels = labels_from_counts(np.array(counts, np.int64))
    assert labels.dtype == np.int32
    assert (np.diff(labels) >= 0).all()
    assert class_counts(labels, len(counts)).tolist() == counts


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ([1.0], TypeError, "dtype float64"),
        ([[1]], ValueError, r"shape \(1, 1\)"),
        ([2, 0, -3], ValueError, "class 2 has count -3"),
        ([0, 0, 0], ValueError, "all 3 counts are 0; give at least one example"),
        (np.zeros(0, int), ValueError, "all 0 counts are 0; give at least one example"),
    ],
)
def test_labels_refuse_other_counts(counts, error, message):
    with pytest.raises(error, match=message):
        labels_from_counts(counts)


DISTRIBUTIONS = [Uniform(), Uniform(-2.0, 5.0), Normal(), Normal(1.0, 0.1)]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_same_seed_same_bits_other_seed_other_inputs(distribution):
    first, again, other = (random_inputs(distribution, 50, 30, seed) for seed in (3, 3, 4))
    assert first.dtype == np.float32 and first.shape == (50, 30)
    assert first.tobytes() == again.tobytes()
    # Equal float32 values turn up by chance: 24 bits, 1500 entries.
    assert np.mean(first == other) < 0.01
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(first.size)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_moments(distribution):
    values = random_inputs(distribution, 400, 500, 0).astype(np.float64)
    if isinstance(distribution, Uniform):
        mean = (distribution.low + distribution.high) / 2
        scale = (distribution.high - distribution.low) / np.sqrt(12)
        assert values.min() >= distribution.low and values.max() <= distribution.high
    else:
        mean, scale = distribution.mean, distribution.scale
    # Four standard errors.
    assert values.mean() == pytest.approx(mean, abs=4 * scale / np.sqrt(values.size))
    assert values.std() == pytest.approx(scale, rel=4 / np.sqrt(values.size))


def test_the_bias_column_leaves_the_others_alone():
    plain = random_inputs(Normal(), 20, 7, 0)
    biased = random_inputs(Normal(), 20, 7, 0, bias_column=True)
    assert biased.dtype == np.float32 and biased.shape == (20, 8)
    assert np.array_equal(biased[:, :-1], plain)
    assert (biased[:, -1] == 1).all()


@pytest.mark.parametrize("pair", [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0)])
def test_uniform_refuses(pair):
    with pytest.raises(ValueError, match="low < high"):
        Uniform(*pair)


@pytest.mark.parametrize("pair", [(0.0, 0.0), (0.0, -1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_normal_refuses(pair):
    with pytest.raises(ValueError, match="scale > 0"):
        Normal(*pair)


@pytest.mark.parametrize(
    ("arguments", "message"), [((0, 3, 0), "shape"), ((3, 0, 0), "shape"), ((3, 3, -1), "seed")]
)
def test_random_inputs_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_inputs(Uniform(), *arguments)
