"""LossByClass on the host: NumPy in, tables out."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance import FrequencyBuckets, LossByClass, loss_by_bucket, loss_by_class
from imbalance.analysis.sums import LARGEST_LOSS
from imbalance.analysis.tokens import next_token_labels

pytestmark = pytest.mark.filterwarnings("ignore:.*They are in no mean")

C = 7  # classes in most tests
IGNORE = 2
READS = ("count", "diverged", "weight", "mean", "standard_error", "share")


def oracle(loss, label, weight, ignore_index, num_classes=C):
    """Everything that can be read, by hand in float64, from lists of examples."""
    kept = [[] for _ in range(num_classes)]
    count = np.zeros(num_classes, int)
    ignored = out_of_range = 0
    for ell, k, w in zip(map(float, loss), label, map(float, weight), strict=True):
        if k == ignore_index or w == 0:
            ignored += 1
        elif not 0 <= k < num_classes:
            out_of_range += 1
        else:
            count[k] += 1
            if abs(ell) <= LARGEST_LOSS:
                kept[k].append((w, ell))
    table = {"count": count, "ignored": ignored, "out_of_range": out_of_range}
    table["diverged"] = count - [len(rows) for rows in kept]
    total = sum(w * ell for rows in kept for w, ell in rows)
    for name in ("weight", "mean", "standard_error", "share"):
        table[name] = np.zeros(num_classes)
    for k, rows in enumerate(kept):
        w, ell = np.array(rows, float).reshape(-1, 2).T
        n, mean = len(w), np.sum(w * ell) / np.sum(w) if len(w) else np.nan
        spread = np.sum(w**2 * (ell - mean) ** 2) * n / (n - 1) if n > 1 else np.nan
        table["weight"][k], table["mean"][k] = np.sum(w), mean
        table["standard_error"][k] = np.sqrt(spread) / np.sum(w) if n > 1 else np.nan
        table["share"][k] = np.sum(w * ell) / total if total else np.nan
    return table


def assert_reads(losses, table, rtol=1e-12):
    assert (losses.ignored, losses.out_of_range) == (table["ignored"], table["out_of_range"])
    for name in READS:
        # The spread of losses is a difference of sums: nothing below the error of its terms.
        atol = 1e-7 * np.nanmax(np.abs(table["mean"]), initial=0) if name == "standard_error" else 0
        np.testing.assert_allclose(
            getattr(losses, name), table[name], rtol=rtol, atol=atol, err_msg=name
        )


rows = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 100, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 1e20])),
        st.integers(-2, C + 1),
        st.sampled_from([0.0, 0.01, 1.0, 3.0]),
    ),
    max_size=30,
)


def columns(rows):
    loss, label, weight = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(loss, np.float32), np.array(label, np.int64), np.array(weight, np.float32)


@given(rows, st.booleans(), st.sampled_from([None, IGNORE, -1]))
def test_reads_agree_with_an_oracle(rows, weighted, ignore_index):
    loss, label, weight = columns(rows)
    losses = LossByClass(C, ignore_index)
    losses.update(loss, label, weight if weighted else None)
    ones = np.ones(len(rows))
    assert_reads(losses, oracle(loss, label, weight if weighted else ones, ignore_index))


@given(rows, st.lists(st.integers(0, 30), max_size=4), st.booleans())
def test_any_split_of_a_stream_gives_the_same_table(rows, cuts, merged):
    arrays = columns(rows)
    whole = LossByClass(C)
    whole.update(*arrays)
    parts = [LossByClass(C)]
    for batch in zip(*(np.split(a, sorted(cuts)) for a in arrays), strict=True):
        if merged:
            parts.append(LossByClass(C))
        parts[-1].update(*batch)
    left = parts[0]
    for part in parts[1:]:
        left = left.merge(part)
    right = parts[-1]
    for part in parts[-2::-1]:
        right = part.merge(right)
    for table in (left, right):
        np.testing.assert_array_equal(table.count, whole.count)
        np.testing.assert_array_equal(table.diverged, whole.diverged)
        np.testing.assert_allclose(table.moments, whole.moments, rtol=1e-14)
        assert (table.ignored, table.out_of_range) == (whole.ignored, whole.out_of_range)


def test_what_was_read_does_not_change_with_later_batches():
    losses = LossByClass(3)
    losses.update([1.0, 2.0], [0, 2], correct=[True, False])
    names = ("count", "diverged", "weight", "moments")
    read = {name: getattr(losses, name) for name in names}
    bucketed = losses.by_bucket(num_buckets=2)
    dataset = losses.to_dataset(num_buckets=2)
    copies = {name: array.copy() for name, array in read.items()}
    count, stored, accuracy = bucketed.count.copy(), dataset.copy(deep=True), losses.correct
    losses.update([5.0, 7.0], [1, 2], correct=[True, True])
    for name in names:
        np.testing.assert_array_equal(read[name], copies[name], err_msg=name)
    np.testing.assert_array_equal(bucketed.count, count)
    assert dataset.identical(stored)
    assert np.nansum(accuracy.mean) == 1


def test_what_was_read_cannot_change_the_sums():
    losses = LossByClass(2)
    losses.update([1.0, 3.0], [0, 1])
    for name in ("count", "diverged", "weight"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(losses, name)[0] = 9
    dataset = losses.to_dataset(num_buckets=2)
    for name in ("class_loss_count", "class_loss_weight", "class_count", "bucket_of_class"):
        dataset[name] += 1  # a dataset is its owner's
    assert losses.count.tolist() == losses.weight.tolist() == [1, 1]


@given(rows, st.lists(st.booleans(), min_size=4, max_size=4), st.data())
def test_masked_arrays_are_the_arrays_without_what_is_masked(rows, which, data):
    loss, label, weight = columns(rows)
    correct = np.arange(len(rows)) % 3 == 0
    masks = [
        np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
        for _ in range(4)
    ]
    arrays, hidden = [], np.zeros(len(rows), bool)
    for array, mask, masked in zip((loss, label, weight, correct), masks, which, strict=True):
        arrays.append(np.ma.array(array, mask=mask) if masked else array)
        hidden |= mask & masked
    got, wanted = LossByClass(C), LossByClass(C)
    got.update(*arrays)
    wanted.update(*(array[~hidden] for array in (loss, label, weight, correct)))
    assert got.ignored == wanted.ignored + np.count_nonzero(hidden)
    assert got.out_of_range == wanted.out_of_range
    for name in READS:
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
    np.testing.assert_array_equal(got.accuracy, wanted.accuracy)


def test_a_mask_that_would_be_lost_is_refused():
    losses = LossByClass(2)
    with pytest.raises(TypeError, match="1 of 4 values are masked, and a mask is not honoured"):
        losses.update_soft(np.ma.masked_equal([[1.0, 2.0], [3.0, 4.0]], 2), np.eye(2))
    losses.update_soft(np.ones((2, 2)), np.eye(2), np.ma.masked_equal([1.0, 2.0], 2))
    assert losses.count.tolist() == [1, 0] and losses.ignored == 1
    with pytest.raises(TypeError, match="1 of 3 values are masked"):
        next_token_labels(np.ma.masked_equal([1, 2, 3], 2))


def test_no_examples_are_no_error():
    losses = LossByClass(2)
    losses.update([], [])
    losses.update(np.zeros((0, 4), np.float32), np.zeros((0, 4)))
    assert losses.count.tolist() == [0, 0] and losses.ignored == 0


def test_empty_classes_are_nan_and_a_zero_loss_is_zero():
    losses = LossByClass(3)
    losses.update([0.0, 0.0], [1, 1])
    assert np.isnan(losses.mean).tolist() == [True, False, True]
    assert losses.mean[1] == 0 and losses.standard_error[1] == 0
    assert np.isnan(losses.share).all()  # of nothing
    assert np.isnan(LossByClass(3).overall)


def test_weights_enter_once():
    """Losses equal to one are one on average, whatever the weights (w² in one sum would show)."""
    losses = LossByClass(2)
    losses.update([1.0, 1.0, 1.0], [0, 0, 1], [1, 0.01, 0.01])
    assert losses.mean.tolist() == [1.0, 1.0]
    assert losses.overall == 1.0
    assert losses.weight.tolist() == [1.01, 0.01]
    assert losses.count.tolist() == [2, 1]


def test_the_standard_error_is_the_usual_one_for_equal_weights():
    loss = np.random.default_rng(0).normal(3, 1, 500)
    for weight in (None, np.full(500, 0.25)):
        losses = LossByClass(1)
        losses.update(loss, np.zeros(500, int), weight)
        usual = loss.std(ddof=1) / np.sqrt(500)
        assert losses.standard_error[0] == pytest.approx(usual, rel=1e-12)


def test_left_out_examples_are_counted_and_said_once():
    losses = LossByClass(3, ignore_index=-100)
    with pytest.warns(UserWarning, match="2 of 5 labels are out of range, the first is 7 at pos"):
        losses.update(np.ones(5), [0, 7, -100, -1, 2])
    losses.update([1.0], [9])  # said already
    assert (losses.ignored, losses.out_of_range) == (1, 3)
    with pytest.warns(UserWarning, match="2 of 3 losses are NaN, infinite .*, in class 1, 2"):
        losses.update([np.nan, 1.0, np.inf], [1, 1, 2])
    assert losses.diverged.tolist() == [0, 1, 1]
    assert losses.mean.tolist() == [1.0, 1.0, 1.0]
    with warnings.catch_warnings():  # where warnings are errors, the batch is not half counted
        warnings.simplefilter("error")
        fresh = LossByClass(3, ignore_index=0)
        for batch in (([1.0, 1.0, 1.0], [0, 1, 5]), ([1.0, 1.0, np.nan], [0, 1, 1])):
            with pytest.raises(UserWarning):
                fresh.update(*batch)
        assert not fresh.count.any() and fresh.ignored == fresh.out_of_range == 0
    for words in ("overall loss 1,", "examples: 5", "1 ignored", "3 out of range", "class 1, 2"):
        assert words in repr(losses)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.uint64, np.int64])
def test_labels_of_any_integer_type(dtype):
    losses = LossByClass(300, ignore_index=-100)
    losses.update([1.0, 2.0], np.array([3, 200]).astype(dtype).clip(0))
    assert losses.mean[3] == 1 and losses.count.sum() == 2 - losses.out_of_range
    top = np.array([np.iinfo(dtype).max], dtype)
    losses.update([1.0], top)
    assert losses.out_of_range == (top[0] >= 300)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0], [0, 1]), ValueError, r"losses have shape \(1,\), labels \(2,\)"),
        (([[1.0], [1.0]], [0, 1]), ValueError, r"losses have shape \(2, 1\)"),
        (([1.0], [0], [1.0, 1.0]), ValueError, r"weights have shape \(2,\), labels \(1,\)"),
        ((2.5, [0, 1]), ValueError, r'losses have shape \(\), .* as by reduction="none"'),
        (([[1.0, 2.0]], [0]), ValueError, "give the loss of every example; are these logits"),
        (([1.0], [0], None, [True, False]), ValueError, r"values of correct have shape \(2,\)"),
        (([1.0, 1.0], [0, 2], None, [1, 2]), ValueError, "correct is 2 at pos.* prediction == lab"),
        (([1.0], [0.0]), TypeError, "dtype float64; give integers, or soft labels"),
        (([1.0], [True]), TypeError, "dtype bool"),
        ((["a"], [0]), TypeError, "losses have dtype <U1; give real numbers"),
        (([1j], [0]), TypeError, "losses have dtype complex128"),
        (([1.0, 1.0], [0, 1], [1, -1]), ValueError, "first is -1.0 at position 1"),
        (([1.0, 1.0], [0, 1], [np.nan, 1]), ValueError, "first is nan at position 0"),
    ],
)
def test_wrong_batches_are_refused_and_lose_nothing(arguments, error, message):
    losses = LossByClass(3)
    losses.update([2.0], [1])
    with pytest.raises(error, match=message):
        losses.update(*arguments)
    assert losses.count.tolist() == [0, 1, 0] and losses.overall == 2


def test_wrong_classes_and_merges_are_refused():
    with pytest.raises(ValueError, match="num_classes is 0; give 1 or more"):
        LossByClass(0)
    with pytest.raises(TypeError, match="num_classes is 2.0; give an integer"):
        LossByClass(2.0)
    with pytest.raises(TypeError, match="ignore_index is 'pad'; give an integer or None"):
        LossByClass(2, ignore_index="pad")
    with pytest.raises(ValueError, match="num_classes is 2 here and 3 there"):
        LossByClass(2).merge(LossByClass(3))
    with pytest.raises(ValueError, match="ignore_index is None here and 0 there"):
        LossByClass(2).merge(LossByClass(2, 0))


def test_it_agrees_with_the_one_shot_functions():
    rng = np.random.default_rng(1)
    loss, label = rng.exponential(2, (4, 50)), rng.integers(0, 9, (4, 50))
    weight = rng.choice([0.0, 0.5, 2.0], (4, 50))
    losses = LossByClass(9)
    for batch in zip(loss, label, weight, strict=True):
        losses.update(*batch)
    flat = loss.reshape(-1), label.reshape(-1)
    by_class = loss_by_class(*flat, 9, weight.reshape(-1))
    np.testing.assert_allclose(losses.mean, by_class, rtol=1e-13)
    buckets = FrequencyBuckets.from_counts(losses.count, 3)
    by_bucket = loss_by_bucket(*flat, buckets, weight.reshape(-1))
    np.testing.assert_allclose(losses.by_bucket(buckets).mean, by_bucket, rtol=1e-13)


def test_buckets_are_decided_at_reading_and_are_exact():
    """Re-bucketing from class sums is the same as having known the buckets from the start."""
    rng = np.random.default_rng(2)
    label = rng.zipf(1.5, 4000).clip(max=50) - 1
    loss = rng.exponential(1 + label / 10)
    losses = LossByClass(50)
    losses.update(loss, label)
    for buckets in (
        FrequencyBuckets.from_counts(losses.count, 4),
        FrequencyBuckets.levels(losses.count),
    ):
        known = LossByClass(buckets.num_buckets)
        known.update(loss, buckets.bucket_of_class[label])
        read = losses.by_bucket(buckets)
        for name in READS:
            np.testing.assert_allclose(
                getattr(read, name), getattr(known, name), rtol=1e-11, err_msg=name
            )
    learnt = losses.by_bucket(num_buckets=4)  # from the counts seen
    np.testing.assert_array_equal(
        learnt.count, FrequencyBuckets.from_counts(losses.count, 4).num_examples
    )
    np.testing.assert_allclose(learnt.share.sum(), 1)


def test_classes_without_a_bucket_are_counted():
    buckets = FrequencyBuckets.from_counts([5, 3, 0], 2)
    losses = LossByClass(3)
    losses.update([1.0, 2.0, 3.0, 3.0], [0, 1, 2, 2])
    read = losses.by_bucket(buckets)
    assert read.mean.tolist() == [1.0, 2.0] and read.unbucketed == 2
    with pytest.raises(ValueError, match="buckets are of 3 classes, losses of 4"):
        LossByClass(4).by_bucket(buckets)
    with pytest.raises(ValueError, match="no example was seen, .* or pass the buckets of the tr"):
        LossByClass(4).by_bucket()
    for wrong, what in ((5, "5"), ([3, 1], "of type list"), (losses.count, "of type ndarray")):
        with pytest.raises(TypeError, match=f"buckets is {what}; give FrequencyBuckets, as"):
            losses.by_bucket(wrong)


def test_default_buckets_are_never_empty():
    losses = LossByClass(4)
    losses.update(np.ones(10), [1] * 8 + [2, 3])
    read = losses.by_bucket(num_buckets=5)  # from_counts has five: 1, 0, 0, 0 and 2 classes
    assert read.buckets.num_classes.tolist() == [1, 2]
    assert read.count.tolist() == [8, 2]
    assert losses.to_dataset(num_buckets=5).sizes["bucket"] == 2
    given = losses.by_bucket(FrequencyBuckets.from_counts(losses.count, 5))  # as they are
    assert given.count.tolist() == [8, 0, 0, 0, 2]


def test_soft_labels():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 10, C))
    cost = -(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    label = rng.integers(0, C, (2, 10))
    weight = rng.choice([0.0, 1.0, 2.0], (2, 10))
    one_hot = np.eye(C)[label]
    hard, soft = LossByClass(C), LossByClass(C)
    hard.update(np.take_along_axis(cost, label[..., None], -1)[..., 0], label, weight)
    soft.update_soft(cost, one_hot, weight)
    assert_reads(soft, {n: getattr(hard, n) for n in (*READS, "ignored", "out_of_range")})
    smooth = 0.9 * one_hot + 0.1 / C
    spread = LossByClass(C)
    spread.update_soft(cost, smooth, weight)
    expected = np.sum(weight[..., None] * smooth * cost) / weight.sum()
    assert spread.overall == pytest.approx(expected, rel=1e-12)
    assert spread.count.tolist() == [np.count_nonzero(weight)] * C
    with pytest.raises(ValueError, match=r"targets have shape \(2, 10\); give one share for each"):
        spread.update_soft(cost, label)
    with pytest.raises(ValueError, match="first is -1.0 at position"):
        spread.update_soft(cost, -one_hot)


@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_next_token_labels(num_rows, length, data):
    token = data.draw(st.lists(st.integers(0, 9), min_size=length, max_size=length))
    mask = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    expected = [k if m else -100 for k, m in zip(token[1:], mask[1:], strict=True)] + [-100]
    tokens, masks = np.array([token] * num_rows, np.uint16), np.array([mask] * num_rows)
    label = next_token_labels(tokens, masks)
    assert label.dtype == np.int32 and label.tolist() == [expected] * num_rows
    with pytest.raises(ValueError, match="the mask has shape"):
        next_token_labels(tokens, masks[:, :-1])
    with pytest.raises(TypeError, match="tokens have dtype float64"):
        next_token_labels(tokens * 1.0)


def test_to_dataset_has_the_names_of_a_sweep(tiny_dataset):
    losses = LossByClass(7)
    losses.update([1.0, 2.0, 4.0], [0, 0, 3])
    dataset = losses.to_dataset(num_buckets=2)
    assert dataset["loss"] == pytest.approx(7 / 3)
    assert dataset["bucket_loss"].values.tolist() == [1.5, 4.0]
    assert dataset["class_loss"].values[[0, 3]].tolist() == [1.5, 4.0]
    shared = {name for name in tiny_dataset if "step" not in tiny_dataset[name].dims}
    assert {name for name in shared if name.startswith(("class", "bucket"))} <= set(dataset)
    for name in ("class_count", "bucket_mass"):
        assert dataset[name].dims == tiny_dataset[name].dims


def test_it_pickles_as_workers_send_it():
    losses = LossByClass(3, 1)
    losses.update([1.0], [0])
    again = pickle.loads(pickle.dumps(losses)).merge(losses)
    assert again.count.tolist() == [2, 0, 0] and again.ignore_index == 1


def test_torch_tensors_are_taken_as_they_are():
    torch = pytest.importorskip("torch")
    loss = torch.tensor([1.0, 2.0, 3.5], requires_grad=True)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        losses = LossByClass(3)
        losses.update(loss.to(dtype), torch.tensor([0, 0, 2]), torch.tensor([True, True, True]))
        assert losses.mean[[0, 2]].tolist() == [1.5, 3.5]
    assert next_token_labels(torch.tensor([[1, 2, 3]])).tolist() == [[2, 3, -100]]


def test_it_needs_no_jax():
    code = (
        "import sys, numpy as np, imbalance\n"
        "losses = imbalance.LossByClass(3)\n"
        "losses.update(np.ones(2), np.array([0, 2]))\n"
        "losses.by_bucket(num_buckets=2).mean\n"
        "sys.exit(any(name in sys.modules for name in ('jax', 'xarray', 'torch')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
