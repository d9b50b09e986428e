import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance.analysis.counts import class_counts, entropy, rank_order


@given(st.lists(st.integers(0, 20), min_size=1))
def test_class_counts_counts(labels):
    counts = class_counts(np.array(labels), 21)
    assert counts.dtype == np.int64
    assert counts.tolist() == [labels.count(k) for k in range(21)]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_class_counts_takes_every_integer_dtype(dtype):
    assert class_counts(np.array([2, 0, 2], dtype)).tolist() == [1, 0, 2]


def test_class_counts_of_no_labels():
    assert class_counts(np.array([], np.int32), 3).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="number of classes is unknown"):
        class_counts(np.array([], np.int32))


def test_a_label_out_of_range_is_named_with_its_position():
    with pytest.raises(ValueError, match=r"2 of 4 labels .* first is 3 at position 1.*0 \.\. 2"):
        class_counts([0, 3, 1, -1], 3)
    with pytest.raises(ValueError, match="first is -1 at position 2"):
        class_counts([0, 3, -1])


@pytest.mark.parametrize(
    ("label", "num_classes", "error", "message"),
    [
        ([0.0, 1.0], 2, TypeError, "dtype float64"),
        ([True, False], 2, TypeError, "dtype bool"),
        ([[0, 1]], 2, ValueError, r"shape \(1, 2\)"),
        ([0], 0, ValueError, "num_classes is 0"),
    ],
)
def test_class_counts_refuses(label, num_classes, error, message):
    with pytest.raises(error, match=message):
        class_counts(label, num_classes)


def test_masked_labels_are_not_counted():
    label = np.ma.masked_array([2, 0, 7, 2], mask=[False, False, True, False])
    assert class_counts(label, 3).tolist() == [1, 0, 2]
    assert class_counts(label).tolist() == [1, 0, 2]
    assert class_counts(np.ma.masked_array([2, 0]), 3).tolist() == [1, 0, 1]


def test_masked_masses_are_refused():
    """A class of unknown count is neither a class of none nor no class."""
    with pytest.raises(TypeError, match="1 of 2 values are masked"):
        rank_order(np.ma.masked_array([3, 1], mask=[False, True]))


def test_rank_order_breaks_ties_by_class_index():
    assert rank_order([1, 5, 0, 5, 1]).tolist() == [1, 3, 0, 4, 2]
    assert rank_order(np.full(1000, 7)).tolist() == list(range(1000))


@given(st.lists(st.integers(0, 2**62), min_size=1).filter(any))
def test_rank_order_is_non_increasing_for_large_counts(counts):
    order = rank_order(counts)
    assert sorted(order) == list(range(len(counts)))
    ranked = [(-counts[k], k) for k in order]
    assert ranked == sorted(ranked)


def test_entropy_of_equal_classes_is_log_of_their_number():
    assert entropy([3] * 8 + [0]) == pytest.approx(np.log(8), rel=1e-14)
    assert entropy([5]) == 0
    assert entropy([0.5, 0.25, 0.25]) == pytest.approx(1.5 * np.log(2), rel=1e-14)


@pytest.mark.parametrize("function", [rank_order, entropy])
@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ([], ValueError, r"shape \(0,\)"),
        (3, ValueError, r"shape \(\)"),
        ([[1, 2]], ValueError, r"shape \(1, 2\)"),
        ([1, -2], ValueError, "class 1 has mass -2"),
        ([1.0, np.nan], ValueError, "class 1 has mass nan"),
        ([np.inf], ValueError, "class 0 has mass inf"),
        ([0, 0], ValueError, "all 2 classes have mass 0"),
        (["a"], TypeError, "dtype <U1"),
    ],
)
def test_masses_are_checked(function, counts, error, message):
    with pytest.raises(error, match=message):
        function(counts)
