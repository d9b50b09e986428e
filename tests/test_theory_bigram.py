"""Scaling laws of the bigram model against their tables, a dense loop and scipy's own integrals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expn

from imbalance.theory import (
    Bigrams,
    bigrams_of,
    gd_relative_loss,
    sign_relative_loss,
    steps_to,
    zipf_gd,
    zipf_gd_limit,
    zipf_gd_time,
    zipf_probabilities,
    zipf_sign,
    zipf_sign_best,
    zipf_sign_limit,
    zipf_sign_time,
)


@pytest.mark.parametrize(
    ("dimension", "exponent", "steps", "expected"),
    [  # computed independently of this code
        (10**3, 1.0, [1, 10, 100, 1000], [0.7214, 0.4449, 0.1631, 0.0065]),
        (10**4, 1.0, [1, 10, 100, 1000], [0.7867, 0.5736, 0.3425, 0.1249]),
        (10**5, 1.0, [1, 10, 100, 1000], [0.8273, 0.6547, 0.4662, 0.2775]),
        (10**4, 0.5, [100], [0.0371]),
        (10**5, 1.5, [100], [0.1146]),
        (10**6, 1.0, [10**1.5 / 2, 10**3 / 2, 10**4.5 / 2], [0.6787, 0.4399, 0.2020]),
    ],
)
def test_gradient_descent_has_the_printed_losses(dimension, exponent, steps, expected):
    np.testing.assert_allclose(zipf_gd(dimension, exponent, steps), expected, atol=5.1e-5, rtol=0)


@pytest.mark.parametrize(
    ("dimension", "exponent", "steps", "expected"),
    [
        (10**3, 1.0, [10, 32, 100], [0.456, 0.119, 0.0152]),
        (10**4, 1.0, [10, 32, 50, 100, 316], [0.795, 0.453, 0.309, 0.1235, 0.0152]),
        (10**5, 1.0, [32, 100, 316, 1000], [0.791, 0.456, 0.1296, 0.0152]),
        (10**4, 0.5, [2, 10, 100], [0.518, 0.237, 0.0208]),
        (10**3, 0.25, [10], [0.018]),
        (10**4, 0.25, [10], [0.024]),
        (10**5, 0.25, [10], [0.027]),
    ],
)
def test_sign_descent_has_the_printed_losses(dimension, exponent, steps, expected):
    found = [zipf_sign_best(dimension, exponent, t)[0] for t in steps]
    np.testing.assert_allclose(found, expected, atol=5.1e-4, rtol=0)


@pytest.mark.parametrize(
    ("dimension", "gd", "sign"),
    [
        (10**3, (7, 48, 187, 350), (9, 20, 36, 56)),
        (10**4, (21, 256, 1361, 2818), (29, 62, 126, 186)),
        (10**5, (67, 1405, 10168, 23253), (93, 205, 404, 595)),
    ],
)
def test_steps_to_a_loss_are_the_printed_ones(dimension, gd, sign):
    grid, horizons = 1, []
    while grid < 1000:  # a grid of about 10 %
        horizons.append(grid)
        grid = int(1.1 * grid) + 1
    losses = np.array([zipf_sign_best(dimension, 1.0, t)[0] for t in horizons])
    for target, steps, horizon in zip((0.5, 0.25, 0.1, 0.05), gd, sign, strict=True):
        assert steps_to(lambda t: float(zipf_gd(dimension, 1.0, t)[0]), target) == steps  # noqa: B023
        assert horizons[int(np.argmax(losses <= target))] == horizon


def test_limits_of_gradient_descent():
    times = np.array([0.1, 1.0, 2.0, 5.0])
    np.testing.assert_allclose(zipf_gd_limit(0.5, times), expn(2, times), atol=1e-6)
    # α = 1/3: ((1-α)/α) E_3 = 2 E_3.
    np.testing.assert_allclose(zipf_gd_limit(1 / 3, times), 2 * expn(3, times), atol=1e-6)
    assert zipf_gd_limit(1.0, [0.0, 0.25, 1.0, 2.0]).tolist() == [1, 0.75, 0, 0]
    steps = np.array([30, 100, 300, 1000])
    found = zipf_gd(10**6, 1.5, steps)
    slope = np.polyfit(np.log(steps), np.log(found), 1)[0]
    assert slope == pytest.approx(-1 / 3, abs=0.03)
    np.testing.assert_allclose(zipf_gd_limit(1.5, steps), found, rtol=0.05)
    np.testing.assert_allclose(zipf_gd_limit(2.0, 1e6) / zipf_gd_limit(2.0, 1e4), 0.1, rtol=1e-3)


@pytest.mark.parametrize(("exponent", "most"), [(0.5, 0.05), (1.0, 0.1)])
def test_curves_of_ten_times_as_many_tokens_collapse(exponent, most):
    small, large = 10**4, 10**5
    if exponent == 1:
        steps = (
            [small**x / 2 for x in np.linspace(0.1, 1, 10)],
            [large**x / 2 for x in np.linspace(0.1, 1, 10)],
        )
    else:
        times = np.linspace(0.1, 4, 10)
        steps = times * small**exponent / 2, times * large**exponent / 2
    np.testing.assert_allclose(
        zipf_gd_time(small, exponent, steps[0]), zipf_gd_time(large, exponent, steps[1])
    )
    one, other = zipf_gd(small, exponent, steps[0]), zipf_gd(large, exponent, steps[1])
    assert np.abs(one - other).max() < most


def test_limits_of_sign_descent():
    assert zipf_sign_limit(1.0, [1.0, 2.0]) == pytest.approx([0.304, 0.1216], abs=1e-4)
    assert np.isnan(zipf_sign_limit(1.0, 0.5))
    assert zipf_sign_time(10**4, 1.0, 100) == pytest.approx(2)
    for steps in (50, 100):
        limit = zipf_sign_limit(1.0, zipf_sign_time(10**4, 1.0, steps))
        assert zipf_sign_best(10**4, 1.0, steps)[0] == pytest.approx(limit, rel=0.02)
    assert zipf_sign_best(10**6, 0.25, 10)[0] == pytest.approx(
        zipf_sign_limit(0.25, 10.0), rel=0.05
    )
    # Θ(τ^(4α-2)), with c_2^2α (2τ)^(4α-2) for late times.
    late = zipf_sign_limit(0.25, np.array([1e3, 1e4]))
    np.testing.assert_allclose(late, (1 / 3) ** 0.5 / (2 * np.array([1e3, 1e4])), rtol=0.01)
    assert zipf_sign_limit(0.5, zipf_sign_time(10**4, 0.5, 10)) == pytest.approx(0.35, abs=0.01)


def test_parity_decides_the_exact_loss_of_sign_descent():
    share = zipf_probabilities(10**4)
    one_context = Bigrams(np.ones(10**4), share)
    phi = (10**4) ** (1 / 32)
    rate = share[0] / phi  # over T: it suits the horizon
    assert zipf_sign(10**4, 1.0, 100, phi).item() == pytest.approx(0.1235, abs=1e-4)
    assert sign_relative_loss(one_context, rate / 100, 100) == pytest.approx(0.0443, abs=1e-4)
    assert sign_relative_loss(one_context, rate / 101, 101) == pytest.approx(0.335, abs=5e-4)


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=40),
    st.integers(0, 30),
    st.sampled_from([0.251, 0.0937, 0.0101]),  # no conditional is a multiple of these
)
def test_a_text_agrees_with_dense_descent(tokens, steps, rate):
    """On the whole matrix, with all entries that do not occur."""
    x, y = np.eye(5)[tokens[:-1]], np.eye(5)[tokens[1:]]
    n = len(x)

    def loss(weight):
        return ((x @ weight - y) ** 2).sum() / (2 * n)

    best = np.linalg.lstsq(x, y, rcond=None)[0]
    by_gd, by_sign = np.zeros((5, 5)), np.zeros((5, 5))
    eta = n / np.bincount(tokens[:-1]).max()
    for _ in range(steps):
        by_gd = by_gd - eta * x.T @ (x @ by_gd - y) / n
        gradient = x.T @ (x @ by_sign - y) / n
        by_sign = by_sign - rate * np.sign(np.where(np.abs(gradient) < 1e-12, 0, gradient))
    start = loss(np.zeros((5, 5))) - loss(best)
    bigrams = bigrams_of(tokens)
    found = gd_relative_loss(bigrams, steps).item()
    assert found == pytest.approx((loss(by_gd) - loss(best)) / start, abs=1e-9)
    dense = (loss(by_sign) - loss(best)) / start
    assert sign_relative_loss(bigrams, rate, steps) == pytest.approx(dense, abs=1e-9)


def test_zipf_is_the_case_of_equal_conditionals():
    share = zipf_probabilities(30)
    entries = Bigrams(np.repeat(share, 30), np.tile(share, 30))
    np.testing.assert_allclose(gd_relative_loss(entries, [0, 1, 9]), zipf_gd(30, 1.0, [0, 1, 9]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zipf_gd(0, 1.0, 1), "0 tokens"),
        (lambda: zipf_gd(10, 0.0, 1), "an exponent above 0"),
        (lambda: zipf_gd(10, 1.0, -1), "smallest step is -1"),
        (lambda: zipf_sign(10, 1.0, 0, 1), "0 steps; give 1 or more"),
        (lambda: zipf_sign(10, 1.0, 5, 11), "give numbers from 1 to 10"),
        (lambda: bigrams_of([1]), "two or more"),
        (lambda: steps_to(lambda t: 1.0, 0.5, most=8), "step 8 is still above 0.5"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
