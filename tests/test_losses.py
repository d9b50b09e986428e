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


MEASURES = pytest.mark.parametrize(
    "measure",
    [
        lambda loss, label, weight: loss_by_class(loss, label, NUM_CLASSES, weight),
        lambda loss, label, weight: loss_by_bucket(loss, label, BUCKETS, weight),
    ],
    ids=["loss_by_class", "loss_by_bucket"],
)


@MEASURES
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**41])
def test_a_loss_that_is_not_finite_is_left_out_and_named(measure, bad):
    """As LossByClass does: one such loss among many leaves the mean of the others standing."""
    with pytest.warns(UserWarning, match="1 of 4 losses are NaN, .*, in class 0") as said:
        means = measure([1.0, bad, 3.0, 5.0], [0, 0, 0, 1], None)
    assert said[0].filename == __file__.replace(".pyc", ".py")
    assert means[:2].tolist() == [2.0, 5.0]
    with pytest.warns(UserWarning, match="in class 0"):
        assert np.isnan(measure([bad], [0], None)).all()
    assert measure([bad, 3.0], [0, 0], [0, 1])[0] == 3.0  # masked: no warning


@MEASURES
def test_masked_arrays_keep_their_mask(measure):
    label = np.ma.array([0, 0, -100, 1], mask=[False, False, True, False])
    loss = np.ma.array([1.0, 9.0, 2.0, 3.0], mask=[False, True, False, False])
    assert measure(loss, label, None)[:2].tolist() == [1.0, 3.0]


@MEASURES
def test_no_examples_are_no_error(measure):
    assert np.isnan(measure([], [], None)).all()


def test_buckets_are_asked_for_by_name():
    with pytest.raises(TypeError, match="buckets is 3; give FrequencyBuckets, as FrequencyBuckets"):
        loss_by_bucket([1.0], [0], 3)


@MEASURES
@pytest.mark.parametrize(
    ("loss", "label", "weight", "error", "message"),
    [
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
