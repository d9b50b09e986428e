import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import chdtrc

from imbalance.data.tokens import SyntheticTokens
from imbalance.data.zipf import grouped_counts, power_law_counts, uniform_counts

some_counts = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


def transition_matrix(law: SyntheticTokens) -> np.ndarray:
    """P(next | current) of classes that occur, from the losses of all pairs."""
    current, following = np.indices((len(law.counts),) * 2)
    return np.exp(-law.losses(current, following))


@given(some_counts, st.floats(0, 0.99), st.integers(0, 5))
def test_the_law_is_stationary_and_the_best_loss_is_that_of_the_dense_chain(
    counts, predictability, seed
):
    law = SyntheticTokens(np.array(counts), predictability, seed)
    share = law.counts / law.counts.sum()
    occur = law.counts > 0
    matrix = transition_matrix(law)
    np.testing.assert_allclose(matrix[occur].sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(share @ matrix, share, atol=1e-12)

    joint = share[:, None] * matrix
    terms = np.where(joint > 0, -joint * np.log(np.where(matrix > 0, matrix, 1)), 0)
    np.testing.assert_allclose(law.lowest_loss[occur], terms.sum(0)[occur] / share[occur])
    assert np.isnan(law.lowest_loss[~occur]).all()
    np.testing.assert_allclose(law.conditional_entropy, terms.sum(), atol=1e-12)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50).filter(any), st.integers(0, 5))
def test_the_rule_leads_each_seat_to_one_of_about_the_same_frequency(counts, seed):
    counts = np.array(counts)
    current, following, seats = SyntheticTokens(counts, 0.5, seed).successors
    assert (seats > 0).all()
    assert (np.bincount(current, seats, len(counts)) == counts).all()
    assert (np.bincount(following, seats, len(counts)) == counts).all()
    octave = np.frexp(counts)[1]
    assert (octave[current] == octave[following]).all()
    assert np.bincount(current).max() <= 3
    alone = np.isin(octave, np.flatnonzero(np.bincount(octave) == 1))
    mixed = ~alone[current]
    # With others to follow, no class is followed by itself alone.
    itself = mixed & (current == following)
    assert (seats[itself] < counts[current[itself]]).all()


def test_equal_counts_follow_each_other_in_one_cycle():
    current, following, seats = SyntheticTokens(uniform_counts(700, 7), seed=3).successors
    assert current.tolist() == list(range(7)) and (seats == 100).all()
    seen, at = [], 0
    for _ in range(7):
        seen.append(at)
        at = following[at]
    assert at == 0 and sorted(seen) == list(range(7))
    other = SyntheticTokens(uniform_counts(700, 7), seed=4).successors.following
    assert (following != other).any()


def test_by_hand():
    # Two classes of 2 and 3 seats share a circle of 5 and move by 3: whatever the order, each seat
    # of the smaller class leads to the larger, which keeps one of its three seats.
    law = SyntheticTokens(np.array([3, 2]), predictability=0.5)
    expected = 0.5 * np.array([[1 / 3, 2 / 3], [1, 0]]) + 0.5 * np.array([0.6, 0.4])
    np.testing.assert_allclose(transition_matrix(law), expected)


def test_without_a_rule_the_best_loss_is_the_unigram_loss():
    counts = power_law_counts(10_000, 100, 1.0)
    law = SyntheticTokens(counts, predictability=0.0)
    np.testing.assert_allclose(law.lowest_loss, -np.log(counts / 10_000))


# Tokens `gap` apart are independent unless all between them followed by the rule, which happens
# with probability predictability^gap: with what is left, 1e-5 and less, no test can tell every
# gap-th token from independent draws.
@pytest.mark.parametrize(
    ("counts", "predictability", "gap"),
    [
        (power_law_counts(100, 6, 1.0), 0.5, 17),
        (grouped_counts(7), 0.9, 110),
        (grouped_counts(11), 0.5, 17),
        (power_law_counts(1_000_000, 2_000, 1.0), 0.3, 10),
        (power_law_counts(10_000_000, 50_000, 1.0), 0.5, 17),
        (power_law_counts(10_000_000, 50_000, 0.5), 0.5, 17),
    ],
    ids=["6", "grouped 127", "grouped 2047", "2000", "50000", "50000 flat"],
)
def test_the_unigram_law_passes_a_chi_square_test(counts, predictability, gap):
    tokens = SyntheticTokens(counts, predictability).stream(1_500_000, seed=1)
    thinned = tokens[gap // 2 :: gap]
    share = counts / counts.sum()
    # In cells as fine as a chi-square test allows, and in about a hundred by frequency.
    coarse = max(10, len(thinned) // 100)
    for cell in (10, coarse):
        assert 1e-4 < chi_square_p(thinned, share, cell) < 1 - 1e-4
    # It would not pass as the law of an exponent that is 5 % larger.
    steeper = share**1.05
    assert chi_square_p(thinned, steeper / steeper.sum(), coarse) < 1e-6


def chi_square_p(tokens: np.ndarray, share: np.ndarray, cell: int) -> float:
    """p-value of independent draws, neighbouring rare classes pooled to about `cell` expected."""
    expected = share * len(tokens)
    _, pool = np.unique(np.cumsum(expected) // cell, return_inverse=True)
    pool = np.minimum(pool, pool[-1] - 1)  # the last one is not full
    pooled, seen = (
        np.bincount(pool, by_class)
        for by_class in (expected, np.bincount(tokens, minlength=len(share)))
    )
    assert pooled.min() > 5
    return float(chdtrc(len(pooled) - 1, ((seen - pooled) ** 2 / pooled).sum()))


@pytest.mark.parametrize("predictability", [0.5, 0.9])
def test_a_brute_force_count_finds_the_stated_entropy(predictability):
    counts = power_law_counts(200, 10, 1.0)
    law = SyntheticTokens(counts, predictability)
    tokens = law.stream(1_000_000, seed=7)
    current, following = tokens[:-1], tokens[1:]
    pairs = np.zeros((10, 10))
    np.add.at(pairs, (current, following), 1)
    counted = pairs / pairs.sum(1, keepdims=True)  # knows nothing of the construction
    loss = -np.log(counted[current, following])
    # Standard errors from 200 blocks, long against the memory of the chain; the plug-in bias,
    # 100 pairs / (2 * 1e6 examples), is far below them.
    blocks = np.array_split(np.arange(len(loss)), 200)
    for examples, stated in [
        (np.ones(len(loss), bool), law.conditional_entropy),
        *((following == k, law.lowest_loss[k]) for k in range(10)),
    ]:
        means = [loss[block][examples[block]].mean() for block in blocks]
        error = np.std(means) / np.sqrt(len(blocks))
        assert abs(loss[examples].mean() - stated) < 4.5 * error
        assert error < 0.02 * stated


def test_streams_are_fixed_by_their_seed():
    law = SyntheticTokens(grouped_counts(5))
    first, again, other = law.stream(1000, 0), law.stream(1000, 0), law.stream(1000, 1)
    assert first.dtype == np.int32 and first.shape == (1000,)
    assert (first == again).all() and (first != other).any()
    assert law.stream(1, 0).shape == (1,)


def test_classes_in_any_order_and_absent_ones():
    counts = np.array([0, 5, 1, 0, 7, 4, 1])
    law = SyntheticTokens(counts, 0.5)
    seen = np.bincount(law.stream(20_000, 0), minlength=7)
    assert (seen[counts == 0] == 0).all() and (seen[counts > 0] > 0).all()
    assert law.losses(np.array([[1]]), np.array([[0]])).tolist() == [[np.inf]]


@pytest.mark.parametrize(
    ("counts", "predictability", "error", "words"),
    [
        ([0.5, 0.5], 0.5, TypeError, "give integers"),
        ([[1, 2]], 0.5, ValueError, "one integer per class"),
        ([0, 0], 0.5, ValueError, "not all 0"),
        ([3, -1], 0.5, ValueError, "0 or more"),
        ([2**53, 1], 0.5, ValueError, r"less than 2\^53"),
        ([3, 1], 1.0, ValueError, "below 1"),
        ([3, 1], float("nan"), ValueError, "below 1"),
        ([3, 1], -0.1, ValueError, "from 0"),
    ],
)
def test_refuses_laws_that_cannot_be(counts, predictability, error, words):
    with pytest.raises(error, match=words):
        SyntheticTokens(np.array(counts), predictability)


def test_refuses_streams_and_pairs_that_cannot_be():
    law = SyntheticTokens(np.array([3, 1]))
    with pytest.raises(ValueError, match="give 1 or more"):
        law.stream(0, 0)
    with pytest.raises(ValueError, match="0 or more"):
        law.stream(5, -1)
    with pytest.raises(ValueError, match="equal shapes"):
        law.losses(np.zeros(2, int), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"give 0 \.\. 1"):
        law.losses(np.array([0]), np.array([2]))
