"""A record as a dataset: the names of a sweep, and losses that are not finite in no mean."""

import warnings

import numpy as np
import pytest
import xarray as xr
from test_records import BUCKETS, STEPS, C, losses_at, written

from imbalance import FrequencyBuckets, LossByClass
from imbalance.analysis.selection import DIVERGED, NOT_RUN
from imbalance.reporting import plots
from imbalance.storage import datasets
from imbalance.storage.datasets import FINISHED, LOOKS, RUN_DIMS, STATUS
from imbalance.storage.joining import join
from imbalance.storage.record_dataset import load_record
from imbalance.storage.records import Record

pytestmark = pytest.mark.filterwarnings("ignore:.*They are in no mean")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "gd.record"


def test_a_record_is_labelled_as_a_sweep_is(path, tiny_dataset):
    written(path)
    found = load_record(path, BUCKETS)
    same = set(tiny_dataset.variables) - {"train_loss", "train_step", *LOOKS}
    assert same <= set(found.variables)
    for name in same:
        assert found[name].dims == tiny_dataset[name].dims, name
        assert found[name].dtype.kind == tiny_dataset[name].dtype.kind, name
        assert found[name].attrs.get("units") == tiny_dataset[name].attrs.get("units"), name
    assert dict(found.sizes) == {
        **{"optimizer": 1, "learning_rate": 1, "seed": 1},
        **{"step": 3, "bucket": 3, "class": C},
    }
    assert found["status"].attrs == STATUS and found["status"] == FINISHED
    assert (found["optimizer"], found["learning_rate"], found["seed"]) == ("gd+m", 0.1, 2)


def test_buckets_are_summed_from_classes(path):
    written(path)
    found = load_record(path, BUCKETS).squeeze()
    for step in STEPS:
        expected, one = losses_at(step).by_bucket(BUCKETS), found.sel(step=step)
        assert one["loss"] == expected.overall
        np.testing.assert_array_equal(one["bucket_loss"], expected.mean)
        np.testing.assert_array_equal(one["bucket_loss_standard_error"], expected.standard_error)
        np.testing.assert_array_equal(one["bucket_loss_count"], expected.count)
        np.testing.assert_array_equal(one["bucket_loss_diverged"], expected.diverged)
    assert found["class_count"].values.tolist() == [16, 8, 4, 2, 2]


def test_frequencies_are_learnt_from_the_record(path):
    written(path)
    counts = sum(losses_at(step).count for step in STEPS)
    found = load_record(path, num_buckets=2)
    np.testing.assert_array_equal(found["class_count"], counts)
    expected = FrequencyBuckets.from_counts(counts, 2)
    np.testing.assert_array_equal(found["bucket_of_class"], expected.bucket_of_class)
    xr.testing.assert_identical(found, load_record(path, expected))


def test_records_join_and_are_stored_as_a_sweep(tmp_path):
    for optimizer in ("gd", "adam"):
        written(tmp_path / optimizer, optimizer=optimizer)
    pieces = [load_record(tmp_path / optimizer, BUCKETS) for optimizer in ("gd", "adam")]
    joined = join(pieces)
    assert joined["optimizer"].values.tolist() == ["gd", "adam"]
    assert joined["bucket_loss"].dims == (*RUN_DIMS, "step", "bucket")
    assert joined.attrs["wall_seconds"] == sum(one.attrs["wall_seconds"] for one in pieces) > 0
    datasets.save(joined, datasets.dataset_path("mine", "laptop", tmp_path), {})
    xr.testing.assert_equal(datasets.load("mine", directory=tmp_path), joined)


def test_records_of_other_steps_and_rates_join(tmp_path):
    written(tmp_path / "one")
    written(tmp_path / "two", (0, 7), optimizer="adam", learning_rate=np.nan)
    joined = join([load_record(tmp_path / name, BUCKETS) for name in ("one", "two")])
    assert joined["step"].values.tolist() == [0, 3, 7, 10]
    run = joined["status"].squeeze("seed") != NOT_RUN
    np.testing.assert_array_equal(run, [[True, False], [False, True]])
    measured = joined["loss"].notnull().squeeze("seed").values[run.values]
    np.testing.assert_array_equal(measured, [[1, 1, 0, 1], [1, 0, 1, 0]])


# Losses that are not finite ---------------------------------------------------------------------


def stepwise(path, *lost, number=1000):
    """A record of losses that fall from step to step, as many of them ``lost`` as is said.

    What is lost is lost by the rarest class first.
    """
    label = np.sort(np.random.default_rng(0).choice(C, number, p=[0.5, 0.25, 0.15, 0.08, 0.02]))
    kept = []
    with Record(path, C, "gd", 0.1) as found:
        for step, many in enumerate(lost):
            loss = 3.0 - step + 0.1 * label
            kept.append(loss.copy())
            loss[number - many :] = [np.nan, np.inf, 2.0**41][step % 3]
            losses = LossByClass(C)
            losses.update(loss, label)
            found.append(step, losses)
    return label, kept


def test_a_few_losses_that_are_nan_leave_the_mean_of_the_others(path):
    """One of a thousand, at the last step: counted, named, and warned of."""
    label, losses = stepwise(path, 0, 0, 1)
    said = (
        "gd.record: 1 of 3000 losses are NaN, infinite or beyond 1e[+]12, from step 2 on, in class "
        "4. They are in no mean, and are counted in bucket_loss_diverged.$"
    )
    with pytest.warns(UserWarning, match=said) as warned:
        found = load_record(path, BUCKETS).squeeze()
    assert warned[0].filename == __file__
    assert found["status"] == FINISHED
    np.testing.assert_allclose(
        found["loss"], [*(x.mean() for x in losses[:2]), losses[2][:-1].mean()]
    )
    bucket = BUCKETS.bucket_of_class[label]
    expected = [losses[2][:-1][bucket[:-1] == b].mean() for b in range(3)]
    np.testing.assert_allclose(found["bucket_loss"].sel(step=2), expected)
    assert found["bucket_loss_diverged"].sel(step=2).values.tolist() == [0, 0, 1]
    for name in ("loss", "bucket_loss", "bucket_loss_standard_error", "bucket_loss_share"):
        assert found[name].notnull().all()


def test_a_run_that_explodes_has_diverged_and_has_no_means(path):
    stepwise(path, 0, 1, 1000, 700)
    said = (
        "At 2 of 4 steps, from step 2 on, .* means of these steps are NaN. The run has diverged.$"
    )
    with pytest.warns(UserWarning, match=said):
        found = load_record(path, BUCKETS).squeeze()
    assert found["status"] == DIVERGED
    for name in ("loss", "bucket_loss", "bucket_loss_standard_error", "bucket_loss_share"):
        lost = found[name].isnull()
        assert (lost.any("bucket") if "bucket" in lost.dims else lost).values.tolist() == [
            0,
            0,
            1,
            1,
        ]
        assert (lost.all("bucket") if "bucket" in lost.dims else lost).values.tolist() == [
            0,
            0,
            1,
            1,
        ]
    assert found["bucket_loss_diverged"].sum("bucket").values.tolist() == [0, 1, 1000, 700]


@pytest.mark.parametrize(("lost", "status"), [(250, FINISHED), (251, DIVERGED)])
def test_more_than_a_quarter_is_too_much(path, lost, status):
    """Only the rarer classes exploded: the mean of the rest would look better than it is."""
    stepwise(path, 0, lost)
    assert load_record(path, BUCKETS)["status"] == status


def test_a_run_that_came_back_has_not_diverged(path):
    stepwise(path, 0, 900, 0)
    with pytest.warns(UserWarning, match="At 1 of 3 steps, from step 1 on, .* are NaN.$"):
        found = load_record(path, BUCKETS).squeeze()
    assert found["status"] == FINISHED
    assert found["loss"].isnull().values.tolist() == [False, True, False]


def test_a_last_step_without_examples_does_not_hide_that_a_run_diverged(path):
    stepwise(path, 0, 900)
    with Record(path, C, "gd", 0.1) as found:
        found.append(2, LossByClass(C))
    assert load_record(path, BUCKETS)["status"] == DIVERGED


def test_many_classes_are_named_by_the_first(path):
    losses = LossByClass(20)
    losses.update(np.full(40, np.nan), np.arange(40) % 20)
    with Record(path, 20) as found:
        found.append(7, losses)
    said = "40 of 40 losses .* from step 7 on, in class 0, 1, 2, 3, 4 and 15 more[.]"
    with pytest.warns(UserWarning, match=said):
        load_record(path)


def test_what_is_loaded_without_a_loss_lost_is_loaded_in_silence(path):
    stepwise(path, 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_record(path, BUCKETS)


@pytest.mark.parametrize(("lost", "points", "title"), [(1, 3, ""), (1000, 2, "(diverged)")])
def test_the_picture_of_a_run_shows_all_steps_that_have_means(path, lost, points, title):
    stepwise(path, 0, 1, lost)
    figure = plots.training(load_record(path, BUCKETS))
    figure.draw_without_rendering()
    _, overall, by_bucket, _ = figure.axes
    drawn = [line for line in by_bucket.lines if line.get_clip_on()]  # not the unigram losses
    assert [len(line.get_xdata()) for line in (*overall.lines, *drawn)] == [points] * 4
    assert ("(diverged)" in by_bucket.get_title(loc="left") + by_bucket.get_title()) == bool(title)


# What cannot be loaded --------------------------------------------------------------------------


def test_a_record_without_steps_or_for_other_buckets_says_so(path):
    Record(path, C).close()
    with pytest.raises(ValueError, match="gd.record holds no step yet; append one first"):
        load_record(path)
    written(path.with_name("other"))
    with pytest.raises(ValueError, match="buckets are of 2 classes, losses of 5"):
        load_record(path.with_name("other"), FrequencyBuckets.from_counts([1, 2]))
