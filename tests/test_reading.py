"""What is read from sums: accuracies, means over classes, names, tables and prints."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance import FrequencyBuckets, LossByClass, difference
from imbalance.analysis import checks

pytestmark = pytest.mark.filterwarnings("ignore:.*They are in no mean")

C = 6
NAMES = ["the", "of", " and", "\n", "", "zebra"]


def stream(seed=0, number=400):
    rng = np.random.default_rng(seed)
    label = rng.zipf(1.4, number).clip(max=C) - 1
    prediction = np.where(rng.random(number) < 0.6, label, rng.integers(0, C, number))
    return rng.exponential(1 + label), label, rng.choice([0.0, 0.5, 2.0], number), prediction


def filled(weighted=False, seed=0, **options):
    loss, label, weight, prediction = stream(seed)
    losses = LossByClass(C, **options)
    losses.update(loss, label, weight if weighted else None, correct=prediction == label)
    return losses


# Accuracies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_accuracies_are_those_of_scikit_learn(weighted):
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        losses = filled(weighted, seed)
        loss, label, weight, prediction = stream(seed)
        weight = weight if weighted else np.ones(len(label))
        arguments = {"y_true": label, "y_pred": prediction, "sample_weight": weight}
        recall = metrics.recall_score(
            **arguments, average=None, labels=np.unique(label[weight > 0]), zero_division=0
        )
        seen = losses.count > 0
        np.testing.assert_allclose(losses.accuracy[seen], recall, rtol=1e-12)
        assert losses.overall_accuracy == pytest.approx(metrics.accuracy_score(**arguments))
        assert losses.balanced_accuracy == pytest.approx(
            metrics.balanced_accuracy_score(**arguments), rel=1e-12
        )
        assert losses.balanced_accuracy == pytest.approx(recall.mean(), rel=1e-12)


def by_hand(values, mean):
    """The three means over classes, from their definitions."""
    values = [value for value in values if value == value]
    if not values:
        return np.nan
    if mean == "arithmetic":
        return sum(values) / len(values)
    if min(values) == 0:
        return 0.0
    if mean == "harmonic":
        return len(values) / sum(1 / value for value in values)
    return np.prod(values) ** (1 / len(values))


MEANS = {
    "balanced_accuracy": "arithmetic",
    "harmonic_recall": "harmonic",
    "geometric_recall": "geometric",
}


@given(
    st.lists(st.tuples(st.integers(0, C - 1), st.booleans()), max_size=30),
    st.lists(st.integers(0, 30), max_size=3),
    st.lists(st.integers(-1, 2), min_size=C, max_size=C).filter(lambda b: max(b) >= 0),
)
def test_means_over_classes_are_those_of_loops_for_any_split(rows, cuts, grouping):
    label = np.array([row[0] for row in rows], int)
    correct = np.array([row[1] for row in rows], bool)
    loss = 1.5 + label + correct
    losses = LossByClass(C)
    parts = (np.split(array, sorted(cuts)) for array in (loss, label, correct))
    for part in zip(*parts, strict=True):
        losses.update(part[0], part[1], correct=part[2])
    recall = [correct[label == k].mean() if k in label else np.nan for k in range(C)]
    mean = [loss[label == k].mean() if k in label else np.nan for k in range(C)]
    np.testing.assert_allclose(losses.accuracy, recall)
    np.testing.assert_allclose(losses.macro, by_hand(mean, "arithmetic"))
    for name, kind in MEANS.items():
        np.testing.assert_allclose(getattr(losses, name), by_hand(recall, kind), err_msg=name)
    grouping = np.array(grouping)
    buckets = FrequencyBuckets((grouping >= 0).astype(int), grouping, 3)
    read = losses.by_bucket(buckets)
    for b in range(3):
        inside = np.flatnonzero(grouping == b)
        values = [recall[k] for k in inside]
        np.testing.assert_allclose(read.macro[b], by_hand([mean[k] for k in inside], "arithmetic"))
        for name, kind in MEANS.items():
            np.testing.assert_allclose(getattr(read, name)[b], by_hand(values, kind), err_msg=name)
        hits = correct[np.isin(label, inside)]
        np.testing.assert_allclose(read.accuracy[b], hits.mean() if hits.size else np.nan)
        known = [k for k in inside if mean[k] == mean[k]]
        assert read.worst_class[b] == max(known, key=lambda k: (mean[k], -k), default=-1)


def test_the_accuracy_of_shots_is_a_mean_over_their_classes():
    """As shot_acc of OLTR computes it: the mean of class accuracies, not of examples."""
    buckets = FrequencyBuckets.shots([500, 100, 50, 20, 3, 7])
    losses = filled()
    read = losses.by_bucket(buckets)
    for b, classes in enumerate([[0, 1], [2], [3, 4, 5]]):
        assert read.balanced_accuracy[b] == pytest.approx(losses.accuracy[classes].mean())


def test_the_error_of_an_accuracy_is_the_binomial_one():
    losses = LossByClass(1)
    correct = np.arange(50) % 5 == 0
    losses.update(np.ones(50), np.zeros(50, int), correct=correct)
    assert losses.accuracy[0] == 0.2
    assert losses.accuracy_standard_error[0] == pytest.approx(np.sqrt(0.2 * 0.8 / 49), rel=1e-12)


def test_accuracies_are_of_the_examples_with_predictions():
    losses = LossByClass(3, ignore_index=2)
    losses.update([1.0, 1.0], [0, 0])  # not known
    losses.update([1.0, np.nan, 1.0, 1.0], [0, 0, 1, 2], [1, 1, 0, 1], correct=[True, False, 1, 1])
    assert losses.accuracy[0] == 0.5  # of a diverged loss, too
    assert losses.correct.count.tolist() == [2, 0, 0] and losses.count.tolist() == [4, 0, 0]
    merged = LossByClass(3, ignore_index=2).merge(losses).merge(losses)
    assert merged.correct.count.tolist() == [4, 0, 0] and merged.accuracy[0] == 0.5


def test_an_accuracy_that_is_not_known_is_an_error():
    losses = LossByClass(2)
    losses.update([1.0], [0])
    for sums in (losses, losses.by_bucket()):
        for name in ("accuracy", "overall_accuracy", "accuracy_standard_error", *MEANS):
            with pytest.raises(ValueError, match="no prediction is known: give update the keyword"):
                getattr(sums, name)


# Means ------------------------------------------------------------------------------------------


def test_perplexity_and_errors_of_the_whole():
    loss, label, weight, _ = stream()
    losses = filled(weighted=True)
    np.testing.assert_array_equal(losses.perplexity, np.exp(losses.mean))
    assert losses.overall_perplexity == pytest.approx(np.exp(np.average(loss, weights=weight)))
    one = LossByClass(1)
    one.update(loss, np.zeros_like(label), weight)
    assert losses.overall_standard_error == pytest.approx(one.standard_error[0], rel=1e-12)
    losses.update([1e6], [0])
    assert losses.perplexity[0] == np.inf or losses.perplexity[0] > 1e100


def test_macro_counts_every_class_the_same():
    losses = LossByClass(3)
    losses.update([1.0] * 99 + [5.0], [0] * 99 + [2])
    assert losses.overall == pytest.approx(1.04) and losses.macro == 3.0
    read = losses.by_bucket(num_buckets=1)
    assert read.macro.tolist() == [3.0] and read.worst_class.tolist() == [2]
    assert np.isnan(LossByClass(3).macro)


# Worst, tables and prints -----------------------------------------------------------------------


def test_the_worst_classes():
    losses = LossByClass(5, names=["a", "b", " c", "d", "e"])
    losses.update([1, 1, 9, 4, 6, 5, 5, np.nan], [0, 0, 1, 2, 2, 3, 3, 4], correct=[1, 0] * 4)
    worst = losses.worst(3)
    assert worst.class_index.tolist() == [1, 2, 3] and worst.name == ["b", " c", "d"]
    assert worst.mean.tolist() == [9, 5, 5] and worst.count.tolist() == [1, 2, 2]
    assert np.isnan(worst.standard_error[0]) and worst.standard_error[1] == 1
    assert str(worst).splitlines() == [
        "class  name  examples   loss  accuracy",
        "    1  b            1  9 ± -         1",
        "    2  ' c'         2  5 ± 1       0.5",
        "    3  d            2  5 ± 0       0.5",
    ]
    assert losses.worst(9, least=2).class_index.tolist() == [2, 3, 0]
    assert losses.worst(9, least=3).class_index.tolist() == []
    assert "name" not in str(filled().worst(2)).split()
    for wrong in ({"k": 0}, {"least": 0}):
        with pytest.raises(ValueError, match="give 1 or more"):
            losses.worst(**wrong)


@pytest.mark.parametrize(
    "names",
    [NAMES, np.array(NAMES), dict(enumerate(NAMES)), NAMES.__getitem__],
    ids=["list", "array", "mapping", "function"],
)
def test_names_of_any_kind(names):
    losses = filled(names=names)
    assert losses.worst(1).name == [NAMES[losses.worst(1).class_index[0]]]
    assert losses.table()["name"].tolist() == NAMES
    assert losses.to_dataset()["class_name"].values.tolist() == NAMES
    again = pickle.loads(pickle.dumps(losses))
    assert again.table()["name"].tolist() == NAMES
    assert LossByClass(C).merge(losses).worst(1).name == losses.worst(1).name
    np.testing.assert_array_equal(again.moments, losses.moments)


def test_a_mapping_may_have_gaps_and_a_function_is_called_for_few():
    losses = filled(names={0: "the"})
    assert losses.table()["name"].tolist() == ["the", "1", "2", "3", "4", "5"]
    called = []

    def name(k):
        called.append(k)
        return f"token {k}"

    losses = filled(names=name)
    losses.by_bucket()
    assert called == []
    assert losses.worst(2).name == [f"token {k}" for k in losses.worst(2).class_index]
    assert len(set(called)) == 2


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a"], ValueError, "there are 1 names for 6 classes"),
        ("abcdef", TypeError, "names is 'abcdef'; give a sequence of 6 names, a mapping"),
        ({"a", "b"}, TypeError, "give a sequence of 6 names"),
        ({"the": 0}, TypeError, "keys that are text; give a mapping from class to name"),
        (6, TypeError, "names is 6"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, error, message):
    with pytest.raises(error, match=message):
        LossByClass(C, names=names)


def test_diverged_classes_are_named():
    losses = LossByClass(C, names=NAMES)
    with pytest.warns(UserWarning, match=r"in class 0 \(the\), 2 \(' and'\)\. They are in no"):
        losses.update([np.nan, np.nan, 1.0], [0, 2, 2])
    assert "in class 0 (the), 2 (' and')" in repr(losses)


def test_the_print_of_buckets():
    losses = LossByClass(5, ignore_index=4, names=["the", "of", "and", "zebra", ""])
    loss = [1.0, 3.0, 2.0, 2.0, 4.0, 5.0, 0.0]
    losses.update(loss, [0, 0, 1, 1, 2, 3, 4], correct=[1, 1, 1, 0, 0, 0, 1])
    buckets = FrequencyBuckets.shots([300, 25, 25, 2, 0])
    assert str(losses.by_bucket(buckets)).splitlines() == [
        "bucket  name    classes    counts  examples          loss  macro       accuracy  balanced"
        "  such as",
        "     0  many          1  300..300         2         2 ± 1      2          1 ± 0         1"
        "  the",
        "     1  medium        2    25..25         3  2.667 ± 0.67      3  0.3333 ± 0.33      0.25"
        "  of, and",
        "     2  few           1      2..2         1         5 ± -      5          0 ± -         0"
        "  zebra",
        "overall loss 2.833 ± 0.6",
        "1 examples ignored",
    ]
    assert repr(losses.by_bucket(buckets)) == str(losses.by_bucket(buckets))


def test_the_print_says_what_buckets_hide():
    losses = LossByClass(4)
    losses.update([1.0, np.inf, 2.0, 2.0], [0, 1, 2, 9])
    text = str(losses.by_bucket(FrequencyBuckets([900, 50, 0, 1], [0, 2, -1, 2], 3)))
    assert "no class is in bucket 1" in text
    assert "bucket 2 mixes classes of 1 to 50 examples; FrequencyBuckets.shots" in text
    assert "1 examples out of range" in text and "1 examples of classes in no bucket" in text
    assert text.splitlines()[0].split()[-1] == "diverged"
    tidy = str(losses.by_bucket(FrequencyBuckets([9, 5, 0, 4], [0, 1, -1, 1], 2)))
    assert "mixes" not in tidy and "no class is in" not in tidy


def test_the_table_of_classes_and_of_buckets():
    losses = filled(names=NAMES)
    buckets = FrequencyBuckets.shots([500, 100, 50, 20, 3, 0])
    table = losses.table(buckets)
    assert table["class"].tolist() == list(range(C))
    assert table["bucket"].tolist() == [0, 0, 1, 2, 2, -1]
    assert table["class_examples"].tolist() == [500, 100, 50, 20, 3, 0]
    read = losses.by_bucket(buckets)
    bucketed = read.table()
    assert bucketed["name"].tolist() == ["many", "medium", "few"]
    assert bucketed["classes"].tolist() == [2, 1, 2]
    assert bucketed["smallest_count"].tolist() == [100, 50, 3]
    assert bucketed["largest_count"].tolist() == [500, 50, 20]
    columns = {"loss": "mean", "examples": "count"} | {
        name: name
        for name in ("weight", "standard_error", "share", "diverged", "accuracy")
        + ("accuracy_standard_error",)
    }
    for frame, sums in ((table, losses), (bucketed, read)):
        for column, name in columns.items():
            np.testing.assert_array_equal(frame[column], getattr(sums, name), err_msg=column)
    for name in ("macro", "balanced_accuracy"):
        np.testing.assert_array_equal(bucketed[name], getattr(read, name))
    frame = LossByClass(2).table()
    assert frame.columns.tolist() == "class examples weight loss standard_error share".split() + [
        "diverged"
    ]
    frame["examples"] += 1  # a frame is its owner's
    with pytest.raises(ValueError, match="buckets are of 6 classes, losses of 2"):
        LossByClass(2).table(buckets)


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(checks.importlib, "import_module", missing)
    message = r"table needs pandas, .*: pip install 'imbalance\[analysis\]'"
    for make in (filled().table, filled().by_bucket().table):
        with pytest.raises(ImportError, match=message):
            make()
    with pytest.raises(ImportError, match="to_dataset needs xarray"):
        filled().to_dataset()


def test_a_dataset_has_accuracies_where_they_are_known():
    losses = filled(names=NAMES)
    buckets = FrequencyBuckets.shots([500, 100, 50, 20, 3, 7])
    dataset = losses.to_dataset(buckets)
    assert dataset["accuracy"] == losses.overall_accuracy
    np.testing.assert_array_equal(dataset["class_accuracy"], losses.accuracy)
    np.testing.assert_array_equal(
        dataset["bucket_accuracy_standard_error"],
        losses.by_bucket(buckets).accuracy_standard_error,
    )
    assert dataset["bucket_name"].values.tolist() == ["many", "medium", "few"]
    plain = LossByClass(2)
    plain.update([1.0], [0])
    assert not [name for name in plain.to_dataset() if "accuracy" in name or "name" in name]


# Differences ------------------------------------------------------------------------------------


def test_the_error_of_a_difference_is_that_of_independent_evaluations():
    """Over many draws of both, the differences scatter by as much as is told."""
    rng = np.random.default_rng(0)
    found, told, overall, overall_told = [], [], [], []
    for _ in range(400):
        pair = []
        for scale in (1.0, 1.5):
            losses = LossByClass(2)
            label = np.repeat([0, 1], [60, 20])
            losses.update(scale * rng.gamma(4, 1, 80), label)
            pair.append(losses)
        one = difference(*pair)
        found.append(one.mean)
        told.append(one.standard_error)
        overall.append(one.overall)
        overall_told.append(one.overall_standard_error)
    # The standard deviation of 400 draws is known to 1 / √800 = 3.5 %: within three of these.
    np.testing.assert_allclose(np.std(found, axis=0), np.mean(told, axis=0), rtol=0.11)
    np.testing.assert_allclose(np.std(overall), np.mean(overall_told), rtol=0.11)
    assert np.mean(overall) == pytest.approx(-2, abs=0.05)


def test_a_difference_prints_by_class_and_by_bucket():
    one, other = filled(seed=0), filled(seed=1)
    buckets = FrequencyBuckets.shots([500, 100, 50, 20, 3, 7])
    found = difference(one.by_bucket(buckets), other.by_bucket(buckets))
    lines = str(found).splitlines()
    assert lines[0].split() == ["bucket", "name", "classes", "counts", "difference"]
    assert lines[1].split()[1] == "many" and lines[-1].startswith("overall difference ")
    assert str(difference(one, other)).splitlines()[0].split() == ["class", "difference"]
    assert "of 40 groups" in repr(difference(LossByClass(40), LossByClass(40)))
    accuracies = difference(one.correct, other.correct)
    np.testing.assert_array_equal(accuracies.mean, one.accuracy - other.accuracy)


def test_differences_of_different_things_are_refused():
    one, other = filled(seed=0), filled(seed=1)
    shots = one.by_bucket(FrequencyBuckets.shots([500, 100, 50, 20, 3, 7]))
    thirds = other.by_bucket(FrequencyBuckets.quantile([500, 100, 50, 20, 3, 7], 3))
    with pytest.raises(ValueError, match="the two are by different buckets; give both the same"):
        difference(shots, thirds)
    with pytest.raises(TypeError, match="one is by class and the other by bucket"):
        difference(one, shots)
    with pytest.raises(TypeError, match="of type ndarray; give LossByClass objects"):
        difference(one, other.mean)
    with pytest.raises(ValueError, match="one is of 6 classes, the other of 2"):
        difference(one, LossByClass(2))
