"""Inequality of blocks, against SciPy, closed forms and Zipf laws."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from imbalance.analysis.block_measures import (
    bucket_median,
    diagonal_dominance,
    gini,
    gradient_complexity,
    gradient_heterogeneity,
    jensen_shannon,
    log_log_slope,
    mean_jensen_shannon,
    parameter_complexity,
    pearson,
    sharpness_of_classes,
    spearman,
)
from imbalance.theory import zipf_probabilities

numbers = st.lists(st.integers(-5, 5), min_size=8, max_size=8)
masses = st.lists(st.integers(0, 9), min_size=6, max_size=6).filter(any)


@given(numbers, numbers)
def test_correlations_are_scipys(x, y):
    for found, expected in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        value, of_itself = found(np.array([x, y]), np.array([y, y]))
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(expected(x, y).statistic, abs=1e-12)
            assert of_itself == pytest.approx(1)


def test_densities_that_all_but_vanish_have_a_distance():
    """Half of the smallest number is zero."""
    smallest = np.array([5e-324, 1.0])
    assert jensen_shannon(smallest, np.array([0.0, 1.0])) == 0


def test_equal_values_are_constant_however_their_mean_rounds():
    assert np.isnan(pearson(np.full(10, 0.1), np.arange(10)))
    assert np.isnan(log_log_slope(np.full(10, 0.1), np.arange(1, 11)))


def test_the_slope_is_that_of_least_squares():
    x = np.array([1.0, 10, 100, 1000])
    noisy = x ** np.array([0.9, 1.1, 1.0, 1.2])
    found = log_log_slope(np.stack([x] * 3), np.stack([3 * x**1.5, 0.1 / x, noisy]))
    expected = stats.linregress(np.log(x), np.log(noisy)).slope
    np.testing.assert_allclose(found, [1.5, -1, expected])
    with_zeros = log_log_slope(np.append(x, [0, 5]), np.append(noisy, [5, 0]))
    assert with_zeros == pytest.approx(expected)


@pytest.mark.parametrize("measure", [pearson, spearman, log_log_slope])
def test_blocks_that_are_not_finite_have_no_part(measure):
    x, y = np.array([1.0, 2, 4, np.nan, 9]), np.array([3.0, 1, 5, 7, np.inf])
    assert measure(x, y) == pytest.approx(measure(x[:3], y[:3]))
    assert np.isnan(measure(x * np.nan, y)) and np.isnan(measure(x[:1], y[:1]))


def test_medians_of_buckets():
    values = np.array([[5.0, 1, 3, 9, 100, 2], [0, 1, 1, 1, 7, 4]])
    found = bucket_median(values, [0, 1, 1, 1, -1, 3])
    np.testing.assert_array_equal(found, [[5, 3, np.nan, 2], [0, 1, np.nan, 4]])


def test_dominance_of_equal_probabilities():
    """At W = 0 a diagonal block is c - 1 times any other (Figure 9)."""
    c = 7
    traces = np.eye(c) / c - 1 / c**2
    assert diagonal_dominance(traces) == pytest.approx(c - 1)
    assert diagonal_dominance(np.stack([traces, 2 * traces])).shape == (2,)


@given(masses, masses)
def test_jensen_shannon_is_scipys(p, q):
    found = jensen_shannon(np.array(p), np.array(q))
    assert found == pytest.approx(distance.jensenshannon(p, q), abs=1e-7)  # a square root of 1e-16


def test_jensen_shannon_of_what_does_not_overlap_is_the_largest():
    p, q = np.array([1.0, 3, 0, 0]), np.array([0.0, 0, 0, 7])
    assert jensen_shannon(p, q) == pytest.approx(np.sqrt(np.log(2)))
    assert jensen_shannon(p, 5 * p) == 0


def test_the_mean_over_pairs():
    densities = np.random.default_rng(0).random((3, 4, 9))
    pairs = [(i, j) for i in range(4) for j in range(i)]
    expected = np.mean([jensen_shannon(densities[:, i], densities[:, j]) for i, j in pairs], 0)
    np.testing.assert_allclose(mean_jensen_shannon(densities), expected)


@pytest.mark.parametrize("density", [[1, -1, 2], [0, 0, 0], [1, np.nan, 1]])
def test_what_is_no_density_is_refused(density):
    with pytest.raises(ValueError, match="negative or NaN somewhere, or zero everywhere"):
        jensen_shannon(np.array(density), np.ones(3))


def test_one_block_makes_no_pair():
    with pytest.raises(ValueError, match="1 blocks make no pair"):
        mean_jensen_shannon(np.ones((1, 5)))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9).filter(any))
def test_gini_is_the_mean_absolute_difference(values):
    values = np.array(values)
    expected = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert gini(values) == pytest.approx(expected, abs=1e-12)


def test_gini_of_equals_and_of_one_that_has_all():
    assert gini(np.full(7, 3.0)) == pytest.approx(0, abs=1e-15)
    assert gini(np.eye(5)[2]) == pytest.approx(1 - 1 / 5)


def test_heterogeneity_counts_norms_per_root_of_size():
    size = np.array([4, 100, 9])
    assert gradient_heterogeneity(np.sqrt(size), size) == pytest.approx(0, abs=1e-15)
    assert gradient_heterogeneity(np.array([2.0, 10, 0]), size) == pytest.approx(1 / 3)


def test_complexities_of_zipf_classes():
    """arXiv 2502.00213: with norms and curvatures ∝ π, ``Λ_G ≈ .73 / H_c`` and ``Λ_P = 1 / c``."""
    c = 10_000
    share = zipf_probabilities(c)
    zeta = 1.2020569 / (np.pi**2 / 6)  # ζ(3) / ζ(2) = .7308
    assert gradient_complexity(share, share) == pytest.approx(zeta * share[0], rel=1e-4)
    assert parameter_complexity(np.full(c, 7), share) == pytest.approx(1 / c)


def test_sharpness_of_classes_adds_up():
    random = np.random.default_rng(0)
    square = random.normal(size=(12, 12))
    hessian, v = square @ square.T, random.normal(size=(2, 3, 4))
    product = (v.reshape(2, 12) @ hessian).reshape(v.shape)
    found = sharpness_of_classes(v, product)
    assert found.shape == (2, 3)
    for one, direction in zip(found.sum(-1), v.reshape(2, 12), strict=True):
        expected = direction @ hessian @ direction / (direction @ direction)
        assert one == pytest.approx(expected)


def test_xarray_dimensions_are_found_by_name():
    random = np.random.default_rng(0)
    x = xr.DataArray(random.random((6, 2, 3)), dims=("class", "seed", "step"))
    x = x.assign_coords(step=[0, 1, 5])
    y = x.transpose("step", "class", "seed") ** 2
    found = pearson(x, y)
    assert found.dims == ("seed", "step") and found["step"].values.tolist() == [0, 1, 5]
    last = np.moveaxis(x.values, 0, -1)
    np.testing.assert_allclose(found, pearson(last, last**2))
    np.testing.assert_allclose(gini(x, "class"), gini(last))
    np.testing.assert_allclose(
        gradient_complexity(x, y, "class"), gradient_complexity(last, last**2)
    )
    medians = bucket_median(x, xr.DataArray([0, 0, 1, 1, 1, -1], dims="class"))
    assert medians.dims == ("seed", "step", "bucket")
    np.testing.assert_allclose(spearman(medians, medians**3, "bucket"), 1)
    size = xr.DataArray(np.arange(1, 7), dims="class")
    np.testing.assert_allclose(
        gradient_heterogeneity(x, size, "class"), gradient_heterogeneity(last, np.arange(1, 7))
    )
    parts = sharpness_of_classes(x, x, ("class", "step"))
    assert parts.dims == ("seed", "class")
    np.testing.assert_allclose(parts.sum("class"), 1)
    assert mean_jensen_shannon(x, ("class", "step")).dims == ("seed",)


def test_other_labels_are_not_matched_silently():
    x = xr.DataArray(np.ones(3), {"class": [0, 1, 2]}, dims="class")
    with pytest.raises(ValueError, match="class"):
        pearson(x, x.assign_coords({"class": [0, 1, 3]}))
