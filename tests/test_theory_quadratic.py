from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance.analysis import FrequencyBuckets, loss_by_bucket
from imbalance.theory import (
    quadratic_gd,
    quadratic_sign,
    quadratic_stability_limit,
    zipf_probabilities,
)

# Figure 6.
STEPS = [0, 1, 2, 3, 5, 10, 25, 49]
GD_TOTAL = [1, 0.8205, 0.7380, 0.6884, 0.6248, 0.5362, 0.4177, 0.3316]
SIGN_TOTAL = [1, 0.09, 0.16, 0.09, 0.09, 0.16, 0.09, 0.09]
GD_BUCKETS_AT_49 = [0, 0, 0, 0.0032, 0.0588, 0.2489, 0.5089, 0.7244, 0.8578, 0.9298]
PROBABILITY = zipf_probabilities(1000)


def test_zipf_probabilities():
    assert PROBABILITY.sum() == pytest.approx(1, rel=1e-14)
    assert PROBABILITY[0] == pytest.approx(1 / 7.48547, rel=1e-6)  # 1 / H_1000
    np.testing.assert_allclose(PROBABILITY * np.arange(1, 1001), PROBABILITY[0], rtol=1e-14)
    np.testing.assert_allclose(zipf_probabilities(4, 0.0), 0.25)
    np.testing.assert_allclose(zipf_probabilities(3, 2.0) / (36 / 49), [1, 1 / 4, 1 / 9])


def test_figure_6_gradient_descent():
    rate = 0.5 / PROBABILITY[0]
    loss = quadratic_gd(PROBABILITY, rate, STEPS) ** 2  # [step, class]
    np.testing.assert_allclose(loss @ PROBABILITY, GD_TOTAL, atol=1e-4, rtol=0)
    by_bucket = loss_by_bucket(
        loss[-1], np.arange(1000), FrequencyBuckets.from_masses(PROBABILITY, 10), PROBABILITY
    )
    np.testing.assert_allclose(by_bucket, GD_BUCKETS_AT_49, atol=1e-4, rtol=0)
    # Zipf: w_k = (1 - .5 / k)^t.
    expected = (1 - 0.5 / np.arange(1, 1001)) ** 49
    np.testing.assert_allclose(quadratic_gd(PROBABILITY, rate, [49])[0], expected, rtol=1e-12)


def test_figure_6_sign_descent():
    np.testing.assert_allclose(quadratic_sign(0.7, STEPS) ** 2, SIGN_TOTAL, atol=1e-4, rtol=0)
    np.testing.assert_allclose(quadratic_sign(0.7, range(5)), [1, 0.3, -0.4, 0.3, -0.4])


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0, 1.5, 1.99])
def test_gradient_descent_agrees_with_the_loop(fraction):
    rate = fraction / PROBABILITY[0]
    weights, loop = np.ones(1000), []
    for _ in range(101):
        loop.append(weights)
        weights = weights - rate * PROBABILITY * weights
    closed = quadratic_gd(PROBABILITY, rate, np.arange(101))
    assert closed.shape == (101, 1000)
    np.testing.assert_allclose(closed, loop, rtol=1e-12, atol=1e-12)


def test_the_stability_limit_is_twice_that_of_the_paper():
    """Erratum E7: 2 / π_1."""
    limit = quadratic_stability_limit(PROBABILITY[::-1])
    assert limit == 2 / PROBABILITY[0]
    frequent = {
        fraction: np.abs(quadratic_gd(PROBABILITY, fraction * limit / 2, [0, 1, 10, 1000])[:, 0])
        for fraction in (1.01, 1.99, 2.01)
    }
    # Beyond 1 / π_1 it still converges.
    assert (np.diff(frequent[1.01]) < 0).all() and frequent[1.01][-1] < 1e-10
    assert (np.diff(frequent[1.99]) < 0).all() and frequent[1.99][-1] < 1e-4
    assert (np.diff(frequent[2.01]) > 0).all() and frequent[2.01][-1] > 1e4


@settings(deadline=None)  # a thousand exact steps take long on a busy machine
@given(st.floats(1e-3, 10))
def test_sign_descent_agrees_with_the_exact_loop(rate):
    weight, loop = Fraction(1), []
    for _ in range(1100):
        loop.append(float(weight))
        weight -= Fraction(rate) * ((weight > 0) - (weight < 0))
    closed = quadratic_sign(rate, np.arange(1100))
    np.testing.assert_allclose(closed, loop, rtol=1e-12, atol=1e-12)
    # The cycle carries no error at all, however late.
    assert closed[-2:].tolist() == loop[-2:]


@pytest.mark.parametrize("rate", [0.25, 0.5, 1.0])
def test_sign_descent_rests_where_it_meets_zero(rate):
    steps = np.arange(10)
    assert quadratic_sign(rate, steps).tolist() == np.maximum(1 - rate * steps, 0).tolist()


def test_sign_descent_at_a_very_small_rate_and_a_very_late_step():
    assert quadratic_sign(1e-300, [0, 10]).tolist() == [1, 1]
    assert quadratic_sign(0.7, [10**15 + 1, 10**15]) == pytest.approx([0.3, -0.4])


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_the_rate_is_positive(rate):
    with pytest.raises(ValueError, match="learning rate is"):
        quadratic_gd([0.5, 0.5], rate, [1])
    with pytest.raises(ValueError, match="learning rate is"):
        quadratic_sign(rate, [1])


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ([0.0, 1.0], TypeError, "dtype float64"),
        (3, ValueError, r"shape \(\)"),
        ([2, -1], ValueError, "smallest step is -1"),
    ],
)
def test_steps_are_checked(step, error, message):
    with pytest.raises(error, match=message):
        quadratic_gd([0.5, 0.5], 0.1, step)
    with pytest.raises(error, match=message):
        quadratic_sign(0.1, step)


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        ([[0.5, 0.5]], r"shape \(1, 2\)"),
        ([0.5, -0.5], "class 1 has probability -0.5"),
        ([np.nan], "class 0 has probability nan"),
    ],
)
def test_probabilities_are_checked(probability, message):
    with pytest.raises(ValueError, match=message):
        quadratic_gd(probability, 0.1, [1])
    with pytest.raises(ValueError, match=message):
        quadratic_stability_limit(probability)


def test_no_stability_limit_without_curvature():
    for probability in ([0.0], []):
        with pytest.raises(ValueError, match="no probability is positive"):
            quadratic_stability_limit(probability)


@pytest.mark.parametrize(("num_classes", "exponent"), [(0, 1.0), (3, np.nan), (3, np.inf)])
def test_zipf_probabilities_refuse(num_classes, exponent):
    with pytest.raises(ValueError, match="give 1 class or more and a finite exponent"):
        zipf_probabilities(num_classes, exponent)
