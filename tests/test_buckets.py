from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance import bucket_table
from imbalance.analysis import FrequencyBuckets, loss_by_bucket
from imbalance.analysis.counts import entropy, rank_order
from imbalance.data.zipf import grouped_counts, labels_from_counts
from imbalance.theory import zipf_probabilities

# Counts, then classes, examples and unigram loss of each of ten buckets. For m=7 the
# paper's float sums give 5, 7 classes instead of 4, 8: test_float_shares_differ_from_exact_ones.
TABLES = {
    "m=11": (
        grouped_counts(11),
        [2, 2, 6, 12, 25, 55, 115, 243, 512, 1075],
        [3072, 1536, 2304, 2176, 2176, 2272, 2240, 2248, 2252, 2252],
        [2.63, 3.32, 4.02, 4.76, 5.50, 6.24, 7.00, 7.76, 8.51, 9.27],
    ),
    "m=7": (
        grouped_counts(7),
        [1, 1, 2, 3, 4, 8, 11, 21, 32, 44],
        [128, 64, 96, 96, 64, 96, 88, 88, 88, 88],
        [1.95, 2.64, 2.87, 3.33, 4.03, 4.26, 4.72, 5.35, 5.73, 6.10],
    ),
    "m=8": (
        grouped_counts(8),
        [1, 2, 2, 4, 6, 13, 23, 38, 64, 102],
        [256, 256, 128, 192, 192, 208, 208, 200, 204, 204],
        [2.08, 2.77, 3.47, 3.70, 4.16, 4.85, 5.39, 5.91, 6.42, 6.93],
    ),
    "heavy-tailed ImageNet": (
        -(-1300 // np.arange(1, 1001)),
        [1, 2, 3, 7, 15, 33, 70, 142, 270, 457],
        [1300, 1084, 802, 952, 978, 1017, 1022, 1021, 1021, 1020],
        [2.06, 2.92, 3.63, 4.30, 5.03, 5.78, 6.53, 7.24, 7.88, 8.41],
    ),
}


@pytest.mark.parametrize(
    ("counts", "classes", "examples", "unigram"), TABLES.values(), ids=TABLES.keys()
)
def test_reference_tables(counts, classes, examples, unigram):
    buckets = FrequencyBuckets.from_counts(counts, 10)
    assert buckets.num_classes.tolist() == classes
    assert buckets.num_examples.tolist() == examples
    np.testing.assert_allclose(buckets.unigram_loss, unigram, atol=0.0051, rtol=0)


def test_heavy_tailed_imagenet_totals():
    counts = TABLES["heavy-tailed ImageNet"][0]
    assert counts.sum() == 10_217
    assert entropy(counts) == pytest.approx(5.32, abs=0.005)


def test_barcoded_mnist_in_two():
    """The split function needs some barcoded classes to reach half."""
    buckets = FrequencyBuckets.from_counts([5000] * 10 + [5] * 10_240, 2)
    assert buckets.num_classes.tolist() == [130, 10_120]
    assert buckets.num_examples.tolist() == [50_600, 50_600]


def test_a_grouping_of_ones_own():
    """Digits against barcoded classes, by construction."""
    counts = np.array([5000] * 10 + [5] * 10_240)
    buckets = FrequencyBuckets(counts, (np.arange(10_250) >= 10).astype(int), 2)
    assert buckets.num_examples.tolist() == [50_000, 51_200]
    np.testing.assert_allclose(buckets.unigram_loss, [3.0, 9.92], atol=0.01)


def test_quadratic_masses():
    buckets = FrequencyBuckets.from_masses(zipf_probabilities(1000), 10)
    assert buckets.num_classes.tolist() == [1, 1, 3, 6, 13, 26, 56, 118, 249, 527]
    mass = [0.134, 0.067, 0.105, 0.098, 0.101, 0.097, 0.100, 0.100, 0.100, 0.100]
    np.testing.assert_allclose(buckets.num_examples, mass, atol=0.0005, rtol=0)
    assert buckets.counts.dtype == np.float64


@pytest.mark.parametrize(
    ("m", "num_buckets", "exact", "in_floats"),
    [
        (
            11,
            11,
            [2**i for i in range(11)],
            [1, 2, 4, 9, 16, 32, 63, 128, 256, 513, 1023],
        ),
        (7, 10, TABLES["m=7"][1], [1, 1, 2, 3, 5, 7, 11, 21, 32, 44]),
    ],
)
def test_float_shares_differ_from_exact_ones(m, num_buckets, exact, in_floats):
    """Where a class reaches a share exactly, the paper's float sums put it on either side."""
    counts = grouped_counts(m)
    reached = np.searchsorted(
        np.cumsum(counts / counts.sum()), np.linspace(0, 1, num_buckets + 1)[1:-1]
    )
    assert np.diff(np.concatenate([[0], reached + 1, [len(counts)]])).tolist() == in_floats
    assert FrequencyBuckets.from_counts(counts, num_buckets).num_classes.tolist() == exact


@pytest.mark.parametrize("m", [1, 7, 11])
def test_levels_are_the_groups_of_the_grouped_distribution(m):
    buckets = FrequencyBuckets.levels(grouped_counts(m))
    assert buckets.num_classes.tolist() == [2**i for i in range(m)]
    assert buckets.num_examples.tolist() == [2**m] * m
    # B_i = ln m + i ln 2.
    expected = np.log(m) + np.arange(m) * np.log(2)
    np.testing.assert_allclose(buckets.unigram_loss, expected, rtol=1e-12, atol=1e-15)


def test_levels_leave_out_classes_that_do_not_occur():
    buckets = FrequencyBuckets.levels([0, 5, 9, 5])
    assert buckets.bucket_of_class.tolist() == [-1, 1, 0, 1]
    assert buckets.num_buckets == 2


def test_octaves():
    buckets = FrequencyBuckets.log2([0, 40, 3, 2, 5, 63, 32])
    assert buckets.bucket_of_class.tolist() == [-1, 0, 4, 4, 3, 0, 0]
    assert buckets.num_classes.tolist() == [3, 0, 0, 1, 2]  # 32 .. 63, then 16, 8, 4, 2 and up
    np.testing.assert_array_equal(
        FrequencyBuckets.log2(grouped_counts(11)).bucket_of_class,
        FrequencyBuckets.levels(grouped_counts(11)).bucket_of_class,
    )


def test_octaves_of_counts_beyond_float64():
    buckets = FrequencyBuckets.log2([2**62, 2**62 - 1, 2**61, 2**61 - 1])
    assert buckets.bucket_of_class.tolist() == [0, 1, 1, 2]
    assert FrequencyBuckets.log2([2**63 - 1]).num_buckets == 1


def test_many_medium_and_few_shot():
    buckets = FrequencyBuckets.thresholds([19, 100, 20, 0, 99, 5000, 1], [100, 20])
    assert buckets.bucket_of_class.tolist() == [2, 0, 1, -1, 1, 0, 2]
    assert buckets.num_buckets == 3
    assert FrequencyBuckets.thresholds([7, 9], [100, 20]).num_classes.tolist() == [0, 0, 2]


def by_the_code_of_oltr(count):
    """shot_acc of the OLTR repository, many_shot_thr = 100 and low_shot_thr = 20."""
    if count >= 100:
        return "many"
    return "few" if count <= 20 else "medium"


def by_the_code_of_classifier_balancing(count):
    """shot_acc of the classifier-balancing repository, with the same two numbers."""
    if count > 100:
        return "many"
    return "few" if count < 20 else "medium"


def by_the_paper_of_lvis(images):
    """Rare: 1 to 10 images; common: 11 to 100; frequent: more than 100."""
    if images > 100:
        return "frequent"
    return "rare" if images <= 10 else "common"


DEFINITIONS = {
    "oltr": by_the_code_of_oltr,
    "classifier-balancing": by_the_code_of_classifier_balancing,
    "lvis": by_the_paper_of_lvis,
}


@pytest.mark.parametrize(("convention", "group_of"), DEFINITIONS.items(), ids=DEFINITIONS)
def test_shots_are_those_of_the_definition(convention, group_of):
    counts = np.array([0, 1, 9, 10, 11, 12, 19, 20, 21, 50, 99, 100, 101, 102, 10**9])
    buckets = FrequencyBuckets.shots(counts, convention)
    for count, bucket in zip(counts, buckets.bucket_of_class, strict=True):
        assert (bucket == -1) if count == 0 else (buckets.names[bucket] == group_of(count))


def test_the_conventions_differ_at_exactly_20_and_100():
    oltr = FrequencyBuckets.shots([100, 20])
    balancing = FrequencyBuckets.shots([100, 20], "classifier-balancing")
    assert [oltr.names[b] for b in oltr.bucket_of_class] == ["many", "few"]
    assert [balancing.names[b] for b in balancing.bucket_of_class] == ["medium", "medium"]
    with pytest.raises(ValueError, match="convention is 'LVIS'; give one of oltr, classifier-bal"):
        FrequencyBuckets.shots([1], "LVIS")
    with pytest.raises(TypeError, match="from_masses"):
        FrequencyBuckets.shots([0.5, 0.5])


def test_buckets_have_names():
    buckets = replace(FrequencyBuckets.from_counts([0, 8, 1, 1], 2), names=("head", "tail"))
    assert buckets.names == ("head", "tail")
    assert str(buckets).splitlines()[1].split()[:3] == ["0", "head", "1"]
    for names in (("head",), "ab"):
        with pytest.raises(ValueError, match="give 2, one for each bucket"):
            replace(buckets, names=names)


def test_without_empty_buckets():
    buckets = FrequencyBuckets.shots([0, 300, 5, 2000]).without_empty()
    assert buckets.names == ("many", "few") and buckets.num_buckets == 2
    assert buckets.bucket_of_class.tolist() == [-1, 0, 1, 0]
    full = FrequencyBuckets.from_counts([4, 3, 0], 2)
    np.testing.assert_array_equal(full.without_empty().bucket_of_class, full.bucket_of_class)


def test_the_range_of_counts_of_each_bucket():
    buckets = FrequencyBuckets.thresholds([120, 40, 0, 8, 4, 3], [1000, 100, 20])
    assert buckets.count_range.tolist() == [[0, 120, 40, 3], [0, 120, 40, 8]]
    masses = FrequencyBuckets.from_masses([0.5, 0.125, 0.25], 2)
    assert masses.count_range.tolist() == [[0.5, 0.125], [0.5, 0.25]]


def test_bucket_table():
    table = bucket_table(FrequencyBuckets.thresholds([120, 40, 0, 8, 4, 3], [1000, 100, 20]))
    assert table.splitlines() == [
        "bucket  classes  examples  share    counts  unigram loss",
        "     0        0         0   0.0%         -             -",
        "     1        1       120  68.6%  120..120          0.38",
        "     2        1        40  22.9%    40..40          1.48",
        "     3        3        15   8.6%      3..8          3.47",
    ]


def test_bucket_table_of_real_masses():
    table = bucket_table(FrequencyBuckets.from_masses([0.5, 0.25, 0.25], 2))
    assert table.splitlines()[1:] == [
        "     0        1       0.5  50.0%    0.5..0.5          0.69",
        "     1        2       0.5  50.0%  0.25..0.25          1.39",
    ]


def test_a_table_of_what_are_no_buckets_is_refused():
    with pytest.raises(TypeError, match="buckets is of type list; give FrequencyBuckets, as Freq"):
        bucket_table([3, 1])
    buckets = FrequencyBuckets.from_counts([3, 1], 2)
    assert str(buckets) == bucket_table(buckets)


def test_quantiles_have_equal_numbers_of_classes():
    assert FrequencyBuckets.quantile(grouped_counts(11), 4).num_classes.tolist() == [
        512,
        512,
        512,
        511,
    ]
    # Ties are split by index; classes that do not occur count for nothing.
    buckets = FrequencyBuckets.quantile([3, 0, 9, 3, 3, 0], 2)
    assert buckets.bucket_of_class.tolist() == [0, -1, 0, 1, 1, -1]
    assert FrequencyBuckets.quantile([5, 4], 5).num_classes.tolist() == [1, 0, 1, 0, 0]


def test_a_class_over_several_shares_leaves_empty_buckets():
    buckets = FrequencyBuckets.from_counts([0, 8, 1, 1], 5)
    assert buckets.bucket_of_class.tolist() == [-1, 0, 4, 4]
    assert buckets.num_classes.tolist() == [1, 0, 0, 0, 2]
    assert buckets.num_examples.tolist() == [8, 0, 0, 0, 2]
    assert np.isnan(buckets.unigram_loss).tolist() == [False, True, True, True, False]


def test_counts_beyond_float64_are_split_exactly():
    half = 2**60
    assert FrequencyBuckets.from_counts([half + 1, half], 2).num_classes.tolist() == [1, 1]
    counts = [half, half - 1, 2]
    assert FrequencyBuckets.from_counts(counts, 2).num_classes.tolist() == [2, 1]


def test_the_arrays_are_copies_that_cannot_be_changed():
    counts = np.array([3, 1])
    buckets = FrequencyBuckets.from_counts(counts, 2)
    counts[0] = 0
    assert buckets.counts.tolist() == [3, 1]
    with pytest.raises(ValueError, match="read-only"):
        buckets.counts[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        buckets.bucket_of_class[0] = 0


some_counts = st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(any).map(np.array)


def by_definition(counts, num_buckets):
    """The rule of docs/method.md, step by step, in Python integers."""
    order = sorted((k for k in range(len(counts)) if counts[k]), key=lambda k: (-counts[k], k))
    cumulative = [sum(int(counts[k]) for k in order[: i + 1]) for i in range(len(order))]
    ends = []
    for q in range(1, num_buckets):
        reached = [c * num_buckets >= q * cumulative[-1] for c in cumulative]
        ends.append(reached.index(True) + 1)
    return [part.tolist() for part in np.split(np.array(order), ends)]


@given(some_counts, st.integers(1, 15))
def test_buckets_are_those_of_the_definition(counts, num_buckets):
    buckets = FrequencyBuckets.from_counts(counts, num_buckets)
    expected = by_definition(counts, num_buckets)
    assert len(expected) == buckets.num_buckets == num_buckets
    for b, classes in enumerate(expected):
        assert np.flatnonzero(buckets.bucket_of_class == b).tolist() == sorted(classes)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30).filter(any))
def test_octaves_are_those_of_bit_length(counts):
    buckets = FrequencyBuckets.log2(counts)
    octave = [count.bit_length() for count in counts if count]
    assert buckets.num_buckets == max(octave) - min(octave) + 1
    expected = [max(octave) - count.bit_length() if count else -1 for count in counts]
    assert buckets.bucket_of_class.tolist() == expected


@given(some_counts, st.sets(st.integers(1, 60), min_size=1, max_size=8))
def test_thresholds_are_those_of_the_definition(counts, least):
    least = sorted(least, reverse=True)
    buckets = FrequencyBuckets.thresholds(counts, least)
    assert buckets.num_buckets == len(least) + 1
    for count, bucket in zip(counts, buckets.bucket_of_class, strict=True):
        first = [q for q, smallest in enumerate(least) if count >= smallest]
        assert bucket == (-1 if count == 0 else min(first, default=len(least)))


@given(some_counts, st.integers(1, 15))
def test_quantiles_are_equal_mass_where_every_class_has_one_example(counts, num_buckets):
    buckets = FrequencyBuckets.quantile(counts, num_buckets)
    by_mass = FrequencyBuckets.from_counts(np.ones(np.count_nonzero(counts), int), num_buckets)
    assert buckets.num_classes.tolist() == by_mass.num_classes.tolist()
    assert np.ptp(buckets.num_classes) <= 1
    order = [k for k in rank_order(counts) if counts[k]]
    assert (np.diff(buckets.bucket_of_class[order]) >= 0).all()


@given(some_counts, st.integers(1, 15))
def test_buckets_partition_the_classes_more_frequent_first(counts, num_buckets):
    for buckets in (
        FrequencyBuckets.from_counts(counts, num_buckets),
        FrequencyBuckets.from_masses(counts / 7, num_buckets),
        FrequencyBuckets.levels(counts),
        FrequencyBuckets.log2(counts),
        FrequencyBuckets.quantile(counts, num_buckets),
        FrequencyBuckets.thresholds(counts, [20, num_buckets]),
    ):
        bucket = buckets.bucket_of_class
        assert bucket.dtype == np.int32
        assert ((bucket == -1) == (counts == 0)).all()
        assert bucket.max() < buckets.num_buckets
        assert buckets.num_classes.sum() == np.count_nonzero(counts)
        assert buckets.num_examples.sum() == pytest.approx(buckets.counts.sum(), rel=1e-12)
        occurring = np.flatnonzero(counts)
        by_bucket = occurring[np.argsort(bucket[occurring], kind="stable")]
        smallest_so_far = np.inf
        for b in np.unique(bucket[occurring]):
            inside = counts[by_bucket[bucket[by_bucket] == b]]
            assert inside.max() <= smallest_so_far
            smallest_so_far = inside.min()


@given(some_counts, st.integers(1, 15), st.integers(0, 2**32 - 1))
def test_mass_weighted_mean_over_buckets_is_the_overall_mean(counts, num_buckets, seed):
    buckets = FrequencyBuckets.from_counts(counts, num_buckets)
    loss = np.random.default_rng(seed).exponential(size=counts.sum())
    by_bucket = loss_by_bucket(loss, labels_from_counts(counts), buckets)
    share = buckets.num_examples / counts.sum()
    assert (np.isnan(by_bucket) == (share == 0)).all()
    assert np.nansum(share * by_bucket) == pytest.approx(loss.mean(), rel=1e-10)
    # Likewise the unigram losses, whose overall mean is the entropy.
    overall = np.nansum(share * buckets.unigram_loss)
    assert overall == pytest.approx(entropy(counts), rel=1e-10, abs=1e-14)


@pytest.mark.parametrize(
    "make",
    [
        FrequencyBuckets.from_counts,
        FrequencyBuckets.levels,
        FrequencyBuckets.log2,
        lambda counts: FrequencyBuckets.quantile(counts, 3),
        lambda counts: FrequencyBuckets.thresholds(counts, [3]),
        lambda mass: FrequencyBuckets.from_masses(mass, 3),
    ],
    ids=["from_counts", "levels", "log2", "quantile", "thresholds", "from_masses"],
)
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([], "shape"),
        ([[1, 2]], "shape"),
        ([1, -2], "class 1 has mass -2"),
        ([1.0, np.nan], "class 1 has mass nan"),
        ([0, 0], "all 2 classes have mass 0"),
    ],
)
def test_wrong_counts_are_refused(make, counts, message):
    with pytest.raises(ValueError, match=message):
        make(counts)


def test_counts_must_be_integers():
    for make in (FrequencyBuckets.from_counts, FrequencyBuckets.levels, FrequencyBuckets.log2):
        with pytest.raises(TypeError, match="from_masses"):
            make([2.0, 1.0])
    with pytest.raises(TypeError, match="from_masses"):
        FrequencyBuckets.quantile([2.0, 1.0], 2)
    with pytest.raises(TypeError, match="from_masses"):
        FrequencyBuckets.thresholds([2.0, 1.0], [2])


@pytest.mark.parametrize(
    ("least", "error", "message"),
    [
        ([], ValueError, r"shape \(0,\)"),
        (20, ValueError, r"shape \(\)"),
        ([20.0], TypeError, "dtype float64"),
        ([20, 100], ValueError, r"least is \[20, 100\]; give falling counts"),
        ([20, 20], ValueError, r"least is \[20, 20\]"),
        ([20, 0], ValueError, r"least is \[20, 0\]; .* the last 1 or more"),
    ],
)
def test_thresholds_must_fall(least, error, message):
    with pytest.raises(error, match=message):
        FrequencyBuckets.thresholds([2, 1], least)


@pytest.mark.parametrize("num_buckets", [0, -1])
def test_at_least_one_bucket(num_buckets):
    for make in (
        FrequencyBuckets.from_counts,
        FrequencyBuckets.from_masses,
        FrequencyBuckets.quantile,
    ):
        with pytest.raises(ValueError, match=f"num_buckets is {num_buckets}"):
            make([2, 1], num_buckets)


@pytest.mark.parametrize(
    ("bucket", "error", "message"),
    [
        ([0, 1], ValueError, r"shape \(2,\)"),
        ([0.0, 1.0, -1.0], TypeError, "dtype float64"),
        ([0, 2, -1], ValueError, "class 1 with count 4 is in bucket 2"),
        ([0, -1, -1], ValueError, "class 1 with count 4 is in bucket -1"),
        ([0, 1, 1], ValueError, "class 2 with count 0 is in bucket 1"),
    ],
)
def test_a_grouping_that_does_not_fit_is_refused(bucket, error, message):
    with pytest.raises(error, match=message):
        FrequencyBuckets(np.array([9, 4, 0]), np.array(bucket), 2)
