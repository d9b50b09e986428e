import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance.analysis import FrequencyBuckets, loss_by_bucket, loss_by_class

NUM_CLASSES = 6
BUCKETS = FrequencyBuckets.from_counts([9, 4, 3, 0, 1, 1], 3)


def by_loop(loss, group, weight, num_groups):
    total, mass = [0.0] * num_groups, [0.0] * num_groups
    for value, g, w in zip(loss, group, weight, strict=True):
        if g >= 0:
            total[g] += float(w) * float(value)
            mass[g] += float(w)
    return [t / m if m else np.nan for t, m in zip(total, mass, strict=True)]


examples = st.lists(
    st.tuples(
        st.floats(0, 100, width=32), st.integers(0, NUM_CLASSES - 1), st.sampled_from([0, 0.5, 3])
    ),
    max_size=40,
)


@given(examples, st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_both_agree_with_a_loop(rows, weighted, dtype):
    loss = np.array([row[0] for row in rows], dtype)
    label = np.array([row[1] for row in rows], np.int32)
    weight = np.array([row[2] for row in rows], dtype) if weighted else None
    ones = np.ones(len(rows)) if weight is None else weight

    by_class = loss_by_class(loss, label, NUM_CLASSES, weight)
    assert by_class.dtype == np.float64
    np.testing.assert_allclose(by_class, by_loop(loss, label, ones, NUM_CLASSES), rtol=1e-12)

    by_bucket = loss_by_bucket(loss, label, BUCKETS, weight)
    assert by_bucket.dtype == np.float64
    expected = by_loop(loss, BUCKETS.bucket_of_class[label], ones, BUCKETS.num_buckets)
    np.testing.assert_allclose(by_bucket, expected, rtol=1e-12)


def test_nothing_seen_is_nan():
    assert np.isnan(loss_by_class([1.0], [1], 3)).tolist() == [True, False, True]
    assert np.isnan(loss_by_class([1.0], [1], 3, [0.0])).all()
    assert np.isnan(loss_by_bucket([1.0], [0], BUCKETS)).tolist() == [False, True, True]


def test_examples_of_a_class_without_a_bucket_are_left_out():
    assert np.isnan(loss_by_bucket([1.0], [3], BUCKETS)).all()


def test_an_infinite_loss_reaches_its_class_only_and_can_be_masked():
    assert loss_by_class([np.inf, 1.0], [0, 1], 2).tolist() == [np.inf, 1.0]
    assert loss_by_class([np.inf, 1.0, 3.0], [0, 1, 0], 2, [0, 1, 1]).tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    "measure",
    [
        lambda loss, label, weight: loss_by_class(loss, label, NUM_CLASSES, weight),
        lambda loss, label, weight: loss_by_bucket(loss, label, BUCKETS, weight),
    ],
    ids=["loss_by_class", "loss_by_bucket"],
)
@pytest.mark.parametrize(
    ("loss", "label", "weight", "error", "message"),
    [
        ([1.0, np.nan, np.nan], [0, 1, 2], None, ValueError, "2 of 3 losses .* at position 1"),
        ([1.0], [0, 1], None, ValueError, r"losses have shape \(1,\), labels \(2,\)"),
        ([1.0, 1.0], [0, 1], [1.0], ValueError, r"weights have shape \(1,\)"),
        ([[1.0]], [[0]], None, ValueError, r"labels have shape \(1, 1\)"),
        ([1.0, 1.0], [0, 6], None, ValueError, "first is 6 at position 1"),
        ([1.0, 1.0], [0, -1], None, ValueError, "first is -1 at position 1"),
        ([1.0], [0.0], None, TypeError, "dtype float64"),
        ([1.0, 1.0], [0, 1], [1, -1], ValueError, "first is -1.0 at position 1"),
        ([1.0, 1.0], [0, 1], [1, np.nan], ValueError, "first is nan at position 1"),
    ],
)
def test_wrong_arrays_are_refused(measure, loss, label, weight, error, message):
    with pytest.raises(error, match=message):
        measure(np.array(loss), np.array(label), weight)
