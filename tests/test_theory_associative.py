"""The associative memory: the reference's sign step, the gaps of Theorem 5.3, spectra."""

import numpy as np
import pytest
from scipy.special import softmax

from imbalance.theory import (
    coupled_embeddings,
    decoupled_embeddings,
    descent_direction,
    fact_probabilities,
    one_step,
    spectral_entropy,
)

# The first sign step of the coupled memory is I ⊗ A + J ⊗ B.
A = np.array([[2, 0, 0], [2, 0, 2], [-2, -2, -2]])
B = np.array([[-1, -1, -1], [-1, -1, -1], [1, 1, 1]])


def test_coupled_embeddings_are_orthonormal():
    for columns in coupled_embeddings(9):
        np.testing.assert_allclose(columns.T @ columns, np.eye(9), atol=1e-12)


def test_the_first_sign_step_on_coupled_embeddings_is_the_one_in_the_reference():
    probability = fact_probabilities(90)  # 18 frequent ones: whole blocks
    found = descent_direction(coupled_embeddings(90), probability, np.zeros((90, 90)), "sign")
    blocks = np.kron(np.eye(30), A) + np.kron(np.ones((30, 30)), B)
    np.testing.assert_array_equal(found, blocks)
    size = np.linalg.svd(found, compute_uv=False)
    assert size[-1] <= 0.25 * size[0]


def test_the_direction_is_the_gradient():
    random = np.random.default_rng(0)
    embeddings, weight = coupled_embeddings(6), random.normal(size=(6, 6))
    probability = fact_probabilities(6, 0.6, 0.5)

    def loss(weight):
        logits = embeddings.values.T @ weight @ embeddings.keys
        return -probability @ np.log(np.diag(softmax(logits, axis=0)))

    numeric = np.zeros((6, 6))
    for at in np.ndindex(6, 6):
        change = np.zeros((6, 6))
        change[at] = 1e-5
        numeric[at] = (loss(weight - change) - loss(weight + change)) / 2e-5
    found = descent_direction(embeddings, probability, weight, "gd")
    np.testing.assert_allclose(found, numeric, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "rule", "low", "high"),
    [
        (decoupled_embeddings, "gd", 0.8, 0.9),
        (coupled_embeddings, "gd", 0.8, 0.9),
        (decoupled_embeddings, "sign", 0, 1e-6),
        (coupled_embeddings, "sign", 0.5, 0.9),
        (decoupled_embeddings, "muon", 0, 0.01),
        (coupled_embeddings, "muon", 0, 0.01),
    ],
)
def test_who_learns_all_facts_alike(kind, rule, low, high):
    found = one_step(kind(150), fact_probabilities(150), rule)
    assert found.max() == pytest.approx(0.9, abs=1e-6)
    assert low <= np.ptp(found) <= high


def test_gaps_of_gradient_descent_grow_with_the_facts_and_those_of_muon_fall():
    gaps = {
        rule: [
            np.ptp(one_step(decoupled_embeddings(k), fact_probabilities(k), rule))
            for k in (30, 90, 180)
        ]
        for rule in ("gd", "muon")
    }
    assert np.all(np.diff(gaps["gd"]) > 0) and np.all(np.diff(gaps["muon"]) < 0)


def test_spectral_entropy():
    assert spectral_entropy(np.eye(5)) == pytest.approx(1)
    assert spectral_entropy(np.outer(np.ones(5), np.ones(5))) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coupled_embeddings(10), "10 facts; give a multiple of 3"),
        (lambda: fact_probabilities(10, share=1.0), "share 1.0; give numbers between 0 and 1"),
        (
            lambda: one_step(decoupled_embeddings(9), fact_probabilities(9), "adam"),
            "unknown rule 'adam'",
        ),
        (
            lambda: one_step(decoupled_embeddings(9), fact_probabilities(9), "gd", 1.0),
            "epsilon is 1.0",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
