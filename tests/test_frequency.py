import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pydoc_data import topics

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.special import logsumexp

from imbalance.analysis.counts import rank_order
from imbalance.analysis.frequency import (
    ZipfFit,
    rank_frequency,
    tail_mass,
    zipf_fit,
)
from imbalance.analysis.power_law import RankRange, SortedTables, rank_nodes
from imbalance.data.zipf import grouped_counts, power_law_counts, uniform_counts

some_counts = st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(any).map(np.array)


def power_law(num_classes, exponent):
    share = np.arange(1.0, num_classes + 1) ** -exponent
    return share / share.sum()


def maximum_likelihood(ranked, first=1):
    """Exponent of sorted counts, sorting ignored, by the score equation in plain float64."""
    rank = np.arange(first, first + len(ranked), dtype=float)

    def score(exponent):
        weight = (rank / first) ** -exponent
        return ranked @ np.log(rank) / ranked.sum() - weight @ np.log(rank) / weight.sum()

    if score(0) >= -1e-14:  # all counts the same, but for rounding
        return 0.0
    return optimize.root_scalar(score, bracket=(0, 1000), xtol=1e-13).root


def english_words():
    """Counts of the words of a manual, 500,000 letters."""
    text = " ".join(topics.topics.values()).lower()
    return np.array(list(Counter(re.findall(r"[a-z]+", text)).values()))


TABLES = {
    "shifted": lambda: (1e10 / (np.arange(1, 2001) + 20)).astype(int),
    "one over rank": lambda: (1e5 / np.arange(1, 1204)).astype(int),
    "words": english_words,
    "sample": lambda: np.random.default_rng(0).multinomial(10**6, power_law(1500, 1)),
    "large": lambda: np.random.default_rng(0).multinomial(10**6, power_law(30_000, 0.7)),
}


@pytest.mark.parametrize("ranks", [None, (10, 1000), (300, 900)])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_the_exponent_is_the_maximum_of_the_likelihood(table, ranks):
    """Of the likelihood itself, summed rank by rank, and not of an equation derived from it."""
    counts = np.sort(table())[::-1]
    first, last = ranks or (1, len(counts))
    log_rank, ranked = np.log(np.arange(first, last + 1)), counts[first - 1 : last]

    def surprise(exponent):
        return exponent * (ranked @ log_rank) / ranked.sum() + logsumexp(-exponent * log_rank)

    least = optimize.minimize_scalar(surprise, bounds=(0, 10), options={"xatol": 1e-8}).x
    # The minimum of a function that rounds at 1e-16 of itself is flat to about the root of that.
    assert zipf_fit(counts, ranks=ranks, num_draws=20).exponent == pytest.approx(least, abs=1e-5)


def test_a_range_of_a_law_that_is_only_like_a_power_law():
    """The truncated maximum likelihood, 0.80858; the fit used to drift to 0.821135 ± 0.000005."""
    fit = zipf_fit(TABLES["shifted"](), ranks=(10, 1000))
    assert fit.exponent == pytest.approx(0.80858, abs=5e-6)
    assert not fit.is_power_law
    # Of 1 / (r + 20) the slope in logs is r / (r + 20): 1/3 at rank 10 and 0.98 at rank 1000.
    assert fit.local_ranks == (10, 100, 1000)
    assert 1 / 3 < fit.local_exponents[0] < 0.7 < 0.9 < fit.local_exponents[1] < 0.98
    low, high = fit.exponent - fit.standard_error, fit.exponent + fit.standard_error
    assert low < min(fit.local_exponents) + 1e-9 and max(fit.local_exponents) < high
    assert np.isnan(fit.corrected) and np.isnan(fit.corrected_error)
    assert "not a power law (p = 0.005); local exponents run from 0.62 to 0.93" in str(fit)


@st.composite
def counts_and_ranks(draw):
    counts = np.array(draw(st.lists(st.integers(0, 1000), min_size=2, max_size=12)))
    first = draw(st.integers(1, len(counts) - 1))
    last = draw(st.integers(first + 1, len(counts)))
    return counts, first, last


@example((np.array([1, 1, 1]), 2, 3))  # some samples have no second class
@example((np.ones(60, int), 59, 60))  # no sample has sixty classes
@given(counts_and_ranks().filter(lambda given: np.sort(given[0])[::-1][given[1]] > 0))
def test_the_distance_is_that_from_the_law_of_maximum_likelihood(given):
    counts, first, last = given
    ranked = np.sort(counts)[::-1][first - 1 : last]
    fit = zipf_fit(counts, ranks=(first, last), num_draws=20)
    weight = (np.arange(first, last + 1) / first) ** -maximum_likelihood(ranked, first)
    gap = np.abs(np.cumsum(ranked) / ranked.sum() - np.cumsum(weight) / weight.sum())
    # The solver ends when the exponent moves by 1e-9 of itself.
    assert fit.distance == pytest.approx(gap.max(), abs=1e-8)
    assert gap[fit.worst_rank - first] == pytest.approx(gap.max(), abs=1e-8)
    assert (fit.first_rank, fit.num_classes) == (first, last - first + 1)
    assert fit.num_examples == ranked.sum()
    assert fit.exponent == pytest.approx(maximum_likelihood(ranked, first), abs=1e-6)
    assert fit.exponent >= 0
    assert 0 < fit.standard_error < np.inf
    assert 1 / 21 <= fit.p_value <= 1


@pytest.mark.parametrize("exponent", [0, 0.5, 1, 2, 5])
def test_exact_shares_of_many_examples_give_their_exponent(exponent):
    fit = zipf_fit(power_law_counts(2**40, 30, exponent))
    assert fit.exponent == pytest.approx(exponent, abs=fit.standard_error)
    assert fit.standard_error < 1e-4
    assert fit.p_value == 1


def test_closed_forms():
    """Two classes: 2^a is the ratio of their counts; three of a range of exact squares."""
    assert zipf_fit([10**9, 8 * 10**9]).exponent == pytest.approx(3, abs=1e-4)
    squares = np.array([7, 3600, 900, 400]) * 10**6  # the class of 7 ranks last
    assert zipf_fit(squares, ranks=(1, 3)).exponent == pytest.approx(2, abs=1e-4)
    shifted = np.array([10**12, 900 * 10**6, 400 * 10**6, 225 * 10**6])
    assert zipf_fit(shifted, ranks=(2, 4)).exponent == pytest.approx(2, abs=1e-4)


def test_two_examples_in_many_classes_tell_nothing():
    fit = zipf_fit([1, 1] + [0] * 998, num_draws=20)
    assert fit.exponent < 2 * fit.standard_error < 10
    assert fit.corrected < 2 * fit.corrected_error < 10
    assert min(fit.standard_error, fit.corrected_error) > 1
    assert fit.is_power_law


def test_steep_laws():
    fit = zipf_fit([10**15, 1000, 1, 0])
    assert fit.exponent == pytest.approx(12 / np.log10(2), abs=2 * fit.standard_error)
    assert fit.is_power_law
    counts = np.random.default_rng(0).multinomial(10**7, power_law(1000, 20))
    fit = zipf_fit(counts)
    assert fit.exponent == pytest.approx(20, abs=2 * fit.standard_error)


@pytest.mark.parametrize(
    ("num_examples", "num_classes", "exponent"),
    [(1000, 50, 1), (10_000, 100, 1), (5000, 1000, 0.5), (10**6, 1000, 2), (10**5, 1000, 1)],
)
def test_exact_power_laws_are_power_laws(num_examples, num_classes, exponent):
    """They are smoother than any sample, so nothing drawn is nearer to its fit."""
    fit = zipf_fit(power_law_counts(num_examples, num_classes, exponent))
    assert fit.p_value > 0.9
    # Rare classes cost a part of the exponent: a share below one example is rounded up to one.
    assert fit.exponent == pytest.approx(exponent, abs=0.05)
    assert fit.corrected <= fit.exponent


@pytest.mark.parametrize(("num_examples", "num_classes"), [(10, 10), (2000, 1000), (10**6, 100)])
def test_equal_counts_have_exponent_zero(num_examples, num_classes):
    fit = zipf_fit(uniform_counts(num_examples, num_classes))
    assert (fit.corrected, fit.p_value) == (0, 1)
    assert 0 <= fit.exponent < 1e-12
    assert 0 < fit.standard_error < 0.6
    assert fit.distance < 1e-9


@pytest.mark.parametrize("exponent", [0, 0.3])
def test_sorting_does_not_make_the_law_steeper(exponent):
    """Two examples per class, sorted, look like exponent 0.4 though their classes are equal."""
    counts = np.random.default_rng(0).multinomial(1000, power_law(500, exponent))
    fit = zipf_fit(counts)
    assert fit.exponent > exponent + 0.15
    assert fit.exponent == pytest.approx(exponent, abs=2 * fit.standard_error)
    assert fit.corrected == pytest.approx(exponent, abs=2 * fit.corrected_error)
    assert fit.corrected_error < 0.14
    assert fit.is_power_law
    assert str(fit).endswith("without the bias of sorting")


def test_the_bias_of_sorting_is_that_of_the_docstring():
    """``c / (2 a n V)`` where examples are many for each class."""
    num_classes, num_examples = 500, 100_000
    p, log_rank = power_law(num_classes, 1), np.log(np.arange(1, num_classes + 1))
    variance = p @ log_rank**2 - (p @ log_rank) ** 2
    samples = np.sort(np.random.default_rng(0).multinomial(num_examples, p, size=3000))[:, ::-1]
    exponents = RankRange(1, num_classes).exponents(samples)
    bias, error = np.mean(exponents) - 1, np.std(exponents) / np.sqrt(3000)
    # 10 %: normal laws and integrals stand for counts and sums.
    expected = num_classes / (2 * num_examples * variance)
    assert bias == pytest.approx(expected, abs=3 * error + 0.1 * expected)
    assert bias > 5 * error
    assert np.std(exponents) == pytest.approx(1 / np.sqrt(num_examples * variance), rel=0.1)


RANK = np.arange(1, 301)


@pytest.mark.parametrize("num_examples", [3000, 100_000])
@pytest.mark.parametrize(
    "mass",
    [
        0.97**RANK,
        0.8**RANK,
        np.exp(1.5 * stats.norm.isf((RANK - 0.5) / 300)),
        np.where(RANK <= 10, 50, 1),
        301 - RANK,
    ],
    ids=["geometric", "steep geometric", "log-normal", "two levels", "linear"],
)
def test_other_laws_are_told_apart(mass, num_examples):
    counts = np.random.default_rng(0).multinomial(num_examples, mass / mass.sum())
    fit = zipf_fit(counts)
    assert fit.p_value < 0.02
    assert not fit.is_power_law
    assert "not a power law" in str(fit)
    assert all(abs(local - fit.exponent) <= fit.standard_error for local in fit.local_exponents)
    assert np.isnan(fit.corrected)


def check_error_rates(num_sets, sample, exponent, **options):
    """Rejections at 0.1 and intervals of two errors are as often right as they should be."""
    fits = [
        zipf_fit(sample(np.random.default_rng(seed)), seed=seed, **options)
        for seed in range(num_sets)
    ]
    accepted = [fit for fit in fits if fit.is_power_law]
    assert num_sets - len(accepted) <= stats.binom.isf(1e-3, num_sets, 0.1), len(accepted)
    covered = sum(abs(fit.exponent - exponent) <= 2 * fit.standard_error for fit in fits)
    # 0.9: what is measured lies in 0.85 (60 examples of like classes) .. 1, mostly above 0.95.
    assert covered >= stats.binom.ppf(1e-3, num_sets, 0.9), covered
    covered = sum(abs(fit.corrected - exponent) <= 2 * fit.corrected_error for fit in accepted)
    # 0.92: what is measured lies in 0.91 .. 0.99, a normal error would have 0.954.
    assert covered >= stats.binom.ppf(1e-3, len(accepted), 0.92), covered
    return np.array([fit.p_value for fit in fits])


def check_coverage(num_examples, num_classes, exponent):
    """Of 200 samples, 60 to 76 % have the law within a standard error, 90 % within two."""
    p = power_law(num_classes, exponent)
    fits = [
        zipf_fit(np.random.default_rng(seed).multinomial(num_examples, p), seed=seed)
        for seed in range(200)
    ]
    apart = np.array([abs(fit.exponent - exponent) / fit.standard_error for fit in fits])
    assert 0.6 <= np.mean(apart <= 1) <= 0.76
    assert np.mean(apart <= 2) >= 0.9


@pytest.mark.parametrize(("num_examples", "num_classes"), [(500, 50), (30_000, 100), (3000, 200)])
def test_the_standard_error_covers_the_law_as_often_as_it_says(num_examples, num_classes):
    check_coverage(num_examples, num_classes, 1)


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0.5, 1, 1.5])
@pytest.mark.parametrize("num_examples", [10_000, 100_000, 1_000_000])
def test_the_standard_error_at_the_sizes_that_people_have(num_examples, exponent):
    """Here sorting moves the exponent by up to five times its spread."""
    check_coverage(num_examples, 1000, exponent)


def test_samples_of_a_power_law_are_rejected_as_often_as_nominal():
    p_value = check_error_rates(60, lambda rng: rng.multinomial(500, power_law(50, 1)), 1)
    assert 0.3 < np.mean(p_value < 0.5) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0, 0.05, 0.2, 0.5, 1, 1.5, 3])
@pytest.mark.parametrize("size", [(60, 10), (500, 50), (600, 300), (100_000, 200)])
def test_error_rates(size, exponent):
    p = power_law(size[1], exponent)
    check_error_rates(100, lambda rng: rng.multinomial(size[0], p), exponent)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(1, 54), (5, 54), (1, 27)])
def test_error_rates_of_a_range_where_only_classes_that_occur_are_given(ranks):
    """The class of rank 54 has 20 examples; two thirds of the 5000 classes occur."""

    def sample(rng):
        counts = rng.multinomial(10_000, power_law(5000, 1))
        return counts[counts > 0]

    check_error_rates(100, sample, 1, ranks=ranks)


def test_a_power_law_over_a_range_of_ranks():
    rank = np.arange(1, 1001)
    mass = np.where(rank <= 100, 1 / rank, 100 / rank**2.0)
    counts = np.random.default_rng(0).multinomial(200_000, mass / mass.sum())
    assert not zipf_fit(counts).is_power_law
    for ranks, exponent in ({(1, 90): 1, (5, 50): 1, (120, 800): 2}).items():
        fit = zipf_fit(counts, ranks=ranks)
        assert fit.is_power_law
        assert fit.exponent == pytest.approx(exponent, abs=2 * fit.standard_error)


@pytest.mark.slow
def test_a_large_vocabulary():
    counts = np.random.default_rng(0).multinomial(10**7, power_law(50_000, 1))
    fit = zipf_fit(counts)
    assert fit.is_power_law
    assert fit.exponent == pytest.approx(1, abs=2 * fit.standard_error)
    assert fit.corrected_error < 2e-4


def test_neither_the_order_of_the_classes_nor_chance_matters():
    counts = np.random.default_rng(0).multinomial(500, power_law(50, 1))
    fit = zipf_fit(counts)
    assert zipf_fit(counts[::-1]) == fit
    assert zipf_fit(counts.astype(np.uint16)) == fit
    other = zipf_fit(counts, seed=1)
    assert other.exponent == fit.exponent
    assert other.corrected != fit.corrected
    assert other.corrected == pytest.approx(fit.corrected, abs=fit.corrected_error / 2)
    assert other.standard_error == pytest.approx(fit.standard_error, rel=0.5)


def test_classes_that_do_not_occur_are_classes():
    with_zeros = zipf_fit([8, 4, 3, 2, 0, 0, 0])
    assert with_zeros.num_classes == 7
    assert with_zeros.exponent > zipf_fit([8, 4, 3, 2]).exponent


@pytest.mark.parametrize(
    ("counts", "options", "error", "message"),
    [
        ([], {}, ValueError, "shape"),
        ([3, -1], {}, ValueError, "class 1 has mass -1"),
        ([0, 0], {}, ValueError, "all 2 classes have mass 0"),
        ([3.0, 1.0], {}, TypeError, "dtype float64; give integers"),
        ([5], {}, ValueError, r"ranks 1 \.\. 1 have 5 examples, all of one class"),
        ([0, 5, 0], {}, ValueError, r"ranks 1 \.\. 3 have 5 examples, all of one class"),
        ([9, 5, 0], {"ranks": (2, 3)}, ValueError, r"ranks 2 \.\. 3 have 5 examples"),
        ([9, 5, 1], {"ranks": (0, 3)}, ValueError, r"ranks are \(0, 3\); .* of 1 \.\. 3"),
        ([9, 5, 1], {"ranks": (1, 4)}, ValueError, r"ranks are \(1, 4\); .* of 1 \.\. 3"),
        ([9, 5, 1], {"ranks": (3, 2)}, ValueError, r"ranks are \(3, 2\)"),
        ([9, 5, 1], {"num_draws": 19}, ValueError, "num_draws is 19; give 20 or more"),
    ],
)
def test_zipf_fit_refuses(counts, options, error, message):
    with pytest.raises(error, match=message):
        zipf_fit(counts, **options)


def test_a_fit_reads_as_a_sentence():
    fit = ZipfFit(
        exponent=1.0214,
        standard_error=0.0123,
        corrected=1.0201,
        corrected_error=0.011,
        local_exponents=(0.9, np.nan, 1.2),
        local_ranks=(1, 10, 100, 1000),
        first_rank=1,
        num_classes=1000,
        num_examples=50_000,
        distance=0.1234,
        worst_rank=300,
        p_value=0.43,
    )
    assert str(fit) == (
        "exponent 1.02 ± 0.01 over 1000 classes: consistent with a power law (p = 0.43)"
    )
    assert str(replace(fit, corrected=1.0001)) == (
        "exponent 1.02 ± 0.01 over 1000 classes: consistent with a power law (p = 0.43); "
        "1.00 ± 0.01 without the bias of sorting"
    )
    assert str(replace(fit, standard_error=0.1786, first_rank=10, p_value=0.005)) == (
        "exponent 1.02 ± 0.18 over 1000 classes from rank 10: not a power law (p = 0.005); local "
        "exponents run from 0.90 to 1.20, and cumulative shares differ by 0.12 at rank 300"
    )
    assert replace(fit, p_value=0.1).is_power_law
    assert not replace(fit, p_value=0.095).is_power_law


def test_local_exponents_are_those_of_ranges():
    counts = np.random.default_rng(0).multinomial(10**5, power_law(5000, 1.3))
    counts = np.append(counts, np.zeros(15_000, int))
    fit = zipf_fit(counts, num_draws=20)
    assert fit.local_ranks == (1, 12, 141, 1682, 20_000)
    for local, ranks in zip(fit.local_exponents, pairwise(fit.local_ranks), strict=True):
        assert local == pytest.approx(zipf_fit(counts, ranks=ranks, num_draws=20).exponent)
    without = zipf_fit([5, 4, 1] + [0] * 97, num_draws=20)
    assert without.local_ranks == (1, 10, 100)
    assert np.isnan(without.local_exponents).tolist() == [False, True]


@pytest.mark.parametrize(("first", "last"), [(1, 50), (1, 10_000), (7, 300_000), (900, 5000)])
def test_nodes_carry_sums_over_ranks(first, last):
    node, weight = rank_nodes(first, last)
    rank = np.arange(first, last + 1.0)
    assert weight.sum() == pytest.approx(len(rank), rel=1e-12)
    assert len(node) <= 100 + 3 * 50 * np.log(last)
    for exponent in (0, 0.5, 1, 3, 10, 100, 1000):
        for function in (np.ones_like, np.log, lambda r: np.log(r) ** 2):
            dense = np.sum((rank / first) ** -exponent * function(rank))
            sparse = weight @ ((node / first) ** -exponent * function(node))
            assert sparse == pytest.approx(dense, rel=1e-9)


@pytest.mark.parametrize("num_examples", [30, 30_000, 3_000_000])
def test_large_tables_are_drawn_as_small_ones_are(num_examples):
    """Classes drawn together have the counts of classes drawn one by one, sorted alike."""
    num_classes, num_draws = 30_000, 60
    share = power_law(num_classes, 1)
    tables = SortedTables(np.random.default_rng(2).permutation(share), num_examples)
    assert tables.together
    rng = np.random.default_rng(0)
    drawn = np.stack([tables.draw(rng) for _ in range(num_draws)])
    plain = np.sort(rng.multinomial(num_examples, share, size=num_draws))[:, ::-1]
    assert (drawn.sum(axis=1) == num_examples).all()
    assert (np.diff(drawn) <= 0).all() and drawn.min() >= 0
    log_rank = np.log(np.arange(1, num_classes + 1))
    measured = [
        lambda table: table @ log_rank / num_examples,
        lambda table: (table @ log_rank / num_examples) ** 2,
        *(lambda table, k=k: (table == k).sum(axis=1) for k in range(5)),
        *(lambda table, r=r: table[:, r] for r in (0, 10, 300, 3000, 10_000, 20_000, 29_999)),
        *(lambda table, r=r: table[:, :r].sum(axis=1) for r in (10, 300, 10_000)),
    ]
    for measure in measured:
        one, other = measure(drawn), measure(plain)
        error = np.sqrt((np.var(one) + np.var(other)) / num_draws)
        assert abs(np.mean(one) - np.mean(other)) <= 4 * error + 1e-12


def test_rank_frequency():
    table = rank_frequency([1, 0, 5, 2, 2])
    assert table.rank.tolist() == [1, 2, 3, 4]
    assert table.class_index.tolist() == [2, 3, 4, 0]
    assert table.count.tolist() == [5, 2, 2, 1]
    assert table.share.tolist() == [0.5, 0.2, 0.2, 0.1]
    assert table.cumulative_share.tolist() == [0.5, 0.7, 0.9, 1]


@given(some_counts)
def test_rank_frequency_holds_every_class_that_occurs_once(counts):
    for mass in (counts, counts / 7):
        table = rank_frequency(mass)
        assert table.class_index.tolist() == [k for k in rank_order(mass) if mass[k]]
        assert (table.count == mass[table.class_index]).all()
        assert table.rank.tolist() == list(range(1, np.count_nonzero(mass) + 1))
        assert table.cumulative_share[-1] == 1
        np.testing.assert_allclose(np.cumsum(table.share), table.cumulative_share, rtol=1e-13)


def test_tail_mass():
    counts = [0, 6, 1, 2, 1, 0]
    assert tail_mass(counts, 0.5) == 0.2
    assert tail_mass(counts, 0.74) == 0.2  # two of the four classes that occur
    assert tail_mass(counts, 0.75) == 0.4
    assert tail_mass(counts, below=2) == 0.2
    assert tail_mass(counts, below=3) == 0.4
    assert tail_mass(grouped_counts(8), below=8) == 2 / 8  # groups of 4 and of 2 examples
    assert tail_mass([2**62, 2**61, 1], below=2**62) == (2**61 + 1) / (2**62 + 2**61 + 1)
    assert tail_mass([0.5, 0.25, 0.25], 0.7) == 0.5


@given(some_counts, st.integers(0, 100))
def test_tail_mass_is_exact(counts, percent):
    """0.29 of 100 classes are 29 of them, though not as floats."""
    ranked = sorted(counts[counts > 0].tolist())
    tail = ranked[: percent * len(ranked) // 100]
    assert tail_mass(counts, percent / 100) == float(Fraction(sum(tail), sum(ranked)))
    below = [count for count in ranked if count < percent]
    assert tail_mass(counts, below=percent) == float(Fraction(sum(below), sum(ranked)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, TypeError, "classes is None and below is None; give one"),
        ({"classes": 0.5, "below": 3}, TypeError, "classes is 0.5 and below is 3"),
        ({"classes": 1.01}, ValueError, "classes is 1.01; give a share"),
        ({"classes": np.nan}, ValueError, "classes is nan"),
        ({"classes": -1}, ValueError, "classes is -1"),
    ],
)
def test_tail_mass_refuses(options, error, message):
    with pytest.raises(error, match=message):
        tail_mass([2, 1], **options)
