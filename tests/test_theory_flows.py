"""Theorem 3 against its implicit equation, an ODE solver, the reference table and the engine."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from imbalance.problems import simple_imbalanced
from imbalance.theory import (
    frequent_ranks,
    gradient_flow_bounds,
    gradient_flow_loss,
    gradient_flow_margin,
    loss_of_margin,
    sign_flow_loss,
    zipf_probabilities,
)
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

TABLE = [  # c, π, t, u, ℓ, and digits after the point that are printed
    (2, 0.5, 10, 2.177325, 0.107368),
    (3, 0.2, 100, 3.971372, 0.037002),
    (10, 0.1, 50, 3.128620, 0.332180),
    (100, 0.19, 100, 7.089370, 0.079327),
    (100, 0.0019, 100, 0.189808, 4.417450),
    (100, 0.0019, 1e4, 7.089370, 0.079327),
    (1000, 1.3e-4, 1e6, 11.681245, 0.008407),
]
SIGN = {  # c: losses at t = 0, 1, 2, 5
    3: (1.098612, 0.239545, 0.0359763, 9.0796e-5),
    100: (4.605170, 2.667103, 1.034340, 0.00448452),
}


@given(st.integers(2, 10**6), st.floats(0, 1e12), st.floats(1e-9, 1))
def test_the_margin_solves_the_implicit_equation(num_classes, time, probability):
    tau = probability * time
    margin = gradient_flow_margin(tau, num_classes)
    left = np.expm1(margin) + (num_classes - 1) * margin
    assert margin >= 0
    assert abs(left - num_classes * tau) <= 1e-10 * (1 + num_classes * tau)


@pytest.mark.parametrize("num_classes", [2, 10, 1000, 10**6])
def test_the_margin_is_that_of_the_differential_equation(num_classes):
    times = np.geomspace(1e-3, 1e4, 15)
    found = solve_ivp(
        lambda t, u: num_classes / (np.exp(u) + num_classes - 1),
        (0, times[-1]), [0.0], t_eval=times, rtol=1e-10, atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(gradient_flow_margin(times, num_classes), found.y[0], atol=1e-6)


@pytest.mark.parametrize(("c", "p", "t", "u", "loss"), TABLE)
def test_the_reference_table(c, p, t, u, loss):
    assert gradient_flow_margin(p * t, c) == pytest.approx(u, abs=1e-6)
    assert gradient_flow_loss([p], [t], c).item() == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("c", SIGN)
def test_sign_flow_is_the_same_for_all_and_has_no_rate_that_depends_on_the_classes(c):
    np.testing.assert_allclose(sign_flow_loss([0, 1, 2, 5], c), SIGN[c], rtol=1e-4)
    late = np.log(sign_flow_loss([10, 11], c))
    assert late[0] - late[1] == pytest.approx(2, abs=1e-5)  # E5: the paper prints c
    assert abs((late[0] - late[1]) - c) > 0.5


@given(st.integers(2, 10**5), st.floats(1, 1e12))
def test_bounds_hold_from_one_on(num_classes, tau):
    low, high = gradient_flow_bounds(tau, num_classes)
    loss = loss_of_margin(gradient_flow_margin(tau, num_classes), num_classes)
    assert low * (1 - 1e-12) <= loss <= high * (1 + 1e-12)


def test_late_losses_are_inverse_to_time_and_collapse():
    times = np.array([1e8, 1e9])
    loss = gradient_flow_loss([0.2, 0.002], times, 10)
    np.testing.assert_allclose(loss[:, 0] * 0.2 * times, 0.9, rtol=1e-4)
    slope = np.diff(np.log(loss), axis=0) / np.log(10)
    np.testing.assert_allclose(slope, -1, atol=1e-4)
    np.testing.assert_allclose(
        gradient_flow_loss([0.2], [30.0], 10), gradient_flow_loss([0.002], [3000.0], 10)
    )


def test_entries_of_the_weights_have_opposite_signs():
    """E4, by Euler steps of the flow itself: the row of a class and the others, c = 10, π = .1."""
    a = b = 0.0
    for _ in range(50_000):
        rest = 9 / (math.exp(a - b) + 9)
        a, b = a + 1e-3 * 0.1 * rest, b - 1e-3 * 0.1 * rest / 9
    assert (a, b) == pytest.approx((2.81577, -0.31286), abs=1e-5)
    assert a == pytest.approx(-9 * b) and a != pytest.approx(9 * b)
    margin = gradient_flow_margin(5.0, 10).item()
    assert (a, b) == pytest.approx((0.9 * margin, -margin / 10), abs=2e-5)


def test_frequent_classes_are_fewer_than_the_paper_says():
    """E6: at K = c / log² c the product c π_K grows; at the printed c / log c it goes to one."""
    sizes = [10**3, 10**4, 10**5, 10**6, 10**7]
    corrected, printed = [], []
    for c in sizes:
        harmonic = np.log(c) + np.euler_gamma
        corrected.append(c / (frequent_ranks(c) * harmonic))
        printed.append(c / (math.ceil(c / math.log(c)) * harmonic))
    assert frequent_ranks(10**6) == 5240
    assert corrected[3] == pytest.approx(13.3, abs=0.05)
    assert np.all(np.diff(corrected) > 1) and corrected[-1] > math.log(10**7) * 0.9
    assert max(printed) < 1.0
    share = zipf_probabilities(10**6)
    assert share[:5240].sum() == pytest.approx(0.64, abs=0.005)


@pytest.mark.parametrize(("name", "rate"), [("gd", 0.1), ("sign", 0.01)])
def test_the_engine_walks_on_the_curves(name, rate):
    probability = zipf_probabilities(8)
    sweep = Sweep(simple_imbalanced(probability), {name: (rate,)}, 400, stops=(0, 50, 400))
    found = run(sweep)["bucket_loss"].isel(optimizer=0, learning_rate=0, seed=0)
    times = rate * found["step"].values
    bucket_of_class = sweep.problem.buckets.bucket_of_class
    for bucket in np.unique(bucket_of_class):
        shares = probability[bucket_of_class == bucket]
        exact = np.repeat(sign_flow_loss(times, 8)[:, None], len(shares), 1)
        if name == "gd":
            exact = gradient_flow_loss(shares, times, 8)
        np.testing.assert_allclose(found[:, bucket], exact @ shares / shares.sum(), rtol=0.01)
    assert found[-1, 0] < 0.9 * found[0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_flow_margin(1.0, 1), "1 classes; give 2 or more"),
        (lambda: gradient_flow_margin(-1.0, 3), "negative or not finite"),
        (lambda: sign_flow_loss([np.nan], 3), "negative or not finite"),
        (lambda: gradient_flow_bounds(0.5, 3), "smallest scaled time is 0.5"),
        (lambda: frequent_ranks(2), "2 classes; give 3 or more"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
