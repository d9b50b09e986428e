"""The paper's errata (docs/method.md): the corrected statement holds, and the printed one does not.

E4, E5 and E6 are in test_theory_flows.py, E7 in test_theory_quadratic.py.
"""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from imbalance.data.zipf import grouped_counts
from imbalance.theory import gradient_flow_bounds, gradient_flow_margin, loss_of_margin


def draw(num_classes, seed=0):
    """Inputs ``[example, 3]``, labels that all occur, and weights ``[class, 3]``."""
    random = np.random.default_rng(seed)
    inputs = random.normal(0.5, 1, (8 * num_classes, 3))
    labels = np.arange(8 * num_classes) % num_classes
    labels[: 3 * num_classes] = 0  # class 0 is frequent
    return inputs, labels, random.normal(size=(num_classes, 3))


def numeric_gradient(inputs, labels, weight, step=1e-6):
    def loss(weight):
        return -log_softmax(inputs @ weight.T, axis=1)[np.arange(len(labels)), labels].mean()

    found = np.zeros_like(weight)
    for at in np.ndindex(*weight.shape):
        change = np.zeros_like(weight)
        change[at] = step
        found[at] = (loss(weight + change) - loss(weight - change)) / (2 * step)
    return found


@pytest.mark.parametrize("m", [3, 7, 8, 11])
def test_e1_the_number_of_classes(m):
    assert len(grouped_counts(m)) == 2**m - 1 != 2 ** (m + 1) - 1


def test_e2_the_sign_of_the_gradient():
    inputs, labels, weight = draw(4)
    error = softmax(inputs @ weight.T, axis=1) - np.eye(4)[labels]
    corrected = error.T @ inputs / len(labels)
    found = numeric_gradient(inputs, labels, weight)
    np.testing.assert_allclose(found, corrected, atol=1e-8)
    assert np.abs(found + corrected).max() > 0.1  # the printed one is its negative


def test_e3_proposition_2_inherits_the_sign():
    inputs, labels, weight = draw(4)
    share = np.bincount(labels) / len(labels)
    means = np.stack([inputs[labels == k].mean(0) for k in range(4)])
    corrected = inputs.mean(0) / 4 - share[:, None] * means
    found = numeric_gradient(inputs, labels, 0 * weight)
    np.testing.assert_allclose(found, corrected, atol=1e-8)
    assert np.abs(found + corrected).max() > 0.05


def traces(num_classes, weight):
    """Traces of all Hessian blocks of `draw`."""
    inputs, _, _ = draw(num_classes)
    p, square = softmax(inputs @ weight.T, axis=1), (inputs**2).sum(1)
    kept = np.einsum("nk,n->k", p, square)
    return (np.diag(kept) - np.einsum("nk,nj,n->kj", p, p, square)) / len(inputs)


def test_e8_the_diagonal_dominates_on_average_and_for_two_classes_not_at_all():
    _, _, weight = draw(2)
    two = np.abs(traces(2, weight))
    np.testing.assert_allclose(two, two[0, 0])  # "orders of magnitude" is no theorem
    _, _, weight = draw(40)
    many = np.abs(traces(40, weight))
    off = many.sum(1) - np.diag(many)
    np.testing.assert_allclose(off, np.diag(many))
    assert np.all(many[~np.eye(40, dtype=bool)].reshape(40, 39) < np.diag(many)[:, None])


def test_e9_the_rate_is_for_late_times_and_its_constants_depend_on_the_classes():
    late = 1e8
    constants = [loss_of_margin(gradient_flow_margin(late, c), c) * late for c in (2, 1000)]
    np.testing.assert_allclose(constants, [0.5, 0.999], rtol=1e-3)
    for c in (2, 1000):
        low, high = gradient_flow_bounds(late, c)
        assert low <= loss_of_margin(gradient_flow_margin(late, c), c) <= high
    # Early the loss is near log c, below any constant over the scaled time.
    early = 1e-3
    assert loss_of_margin(gradient_flow_margin(early, 2), 2) < 0.25 / early / 100
