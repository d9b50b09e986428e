"""Runs that are joined: each at its labels, none lost, nothing joined that does not fit."""

import re

import numpy as np
import pytest
import xarray as xr

from imbalance import FrequencyBuckets, LossByClass, Record, load_record
from imbalance.analysis.selection import DIVERGED, NOT_RUN
from imbalance.storage.datasets import COORDINATES, FINISHED, RUN_DIMS, STATUS
from imbalance.storage.joining import concat, join


def piece(optimizer="gd", seed=0, rates=(0.1, 1.0), status=None, looks=None):
    """Two steps and two buckets; losses tell apart every entry."""
    shape = (1, len(rates), 1)
    losses = np.arange(len(rates) * 4, dtype=np.float32).reshape(*shape, 2, 2) + 10 * seed
    status = [FINISHED] * len(rates) if status is None else status
    found = xr.Dataset(
        {
            "bucket_loss": ((*RUN_DIMS, "step", "bucket"), losses, {"units": "nats"}),
            "status": (RUN_DIMS, np.int8(status).reshape(shape), STATUS),
            "class_count": ("class", [3, 1]),
        },
        {"optimizer": [optimizer], "learning_rate": list(rates), "seed": [seed], "step": [0, 2]},
        {"wall_seconds": 1.5},
    )
    if looks is None:
        return found
    names = ("label", "colour", "momentum")
    return found.assign_coords(
        {name: ("optimizer", [look]) for name, look in zip(names, looks, strict=True)}
    )


def joined_runs():
    """GD and Adam, two seeds each, whose grids share one rate; in one run GD diverged."""
    diverged = piece("gd", 1, status=[FINISHED, DIVERGED])
    diverged["bucket_loss"][0, 1, 0, 1] = np.nan
    pieces = [piece("gd", 0), diverged]
    pieces += [piece("adam", seed, (0.01, 0.1)) for seed in (0, 1)]
    return join(pieces)


@pytest.fixture
def joined():
    return joined_runs()


def test_joining_keeps_dimensions_and_order(joined):
    assert joined["bucket_loss"].dims == (*RUN_DIMS, "step", "bucket")
    assert joined["optimizer"].values.tolist() == ["gd", "adam"]  # as given, not sorted
    assert joined["learning_rate"].values.tolist() == [0.01, 0.1, 1.0]
    assert joined["seed"].values.tolist() == [0, 1]
    assert joined["class_count"].dims == ("class",)
    assert joined["status"].dtype == np.int8
    assert joined["status"].attrs["flag_meanings"] == "not_run finished diverged"
    assert joined.attrs["wall_seconds"] == 6.0


def test_values_stay_with_their_labels(joined):
    one = joined["bucket_loss"].sel(optimizer="adam", learning_rate=0.1, seed=1)
    expected = piece("adam", 1, (0.01, 0.1))["bucket_loss"][0, 1, 0]
    np.testing.assert_array_equal(one, expected)


def test_a_rate_that_was_not_in_the_grid_was_not_run(joined):
    status = joined["status"].sel(seed=0)
    assert status.sel(optimizer="gd").values.tolist() == [NOT_RUN, FINISHED, FINISHED]
    assert status.sel(optimizer="adam").values.tolist() == [FINISHED, FINISHED, NOT_RUN]


def test_nan_stands_only_where_the_status_says_so(joined):
    missing = joined["bucket_loss"].isnull().any(("step", "bucket"))
    np.testing.assert_array_equal(missing, joined["status"] != FINISHED)


def test_sweeps_that_differ_are_laid_along_their_difference():
    parts = [piece().expand_dims({"weighting": [w]}) for w in (0.5, 0.0)]
    found = join(parts, over="weighting")
    assert found["weighting"].values.tolist() == [0.5, 0.0]
    assert found["status"].dims == ("weighting", *RUN_DIMS)


GD, ADAM = ("GD", "black", False), ("Adam", "", True)


def test_the_looks_of_optimizers_stay_with_them():
    pieces = [piece("gd", s, looks=GD) for s in (0, 1)] + [
        piece("adam", s, looks=ADAM) for s in (0, 1)
    ]
    found = join(pieces)
    for name, values in zip(
        ("label", "colour", "momentum"), zip(GD, ADAM, strict=True), strict=True
    ):
        assert found[name].dims == ("optimizer",)
        assert found[name].values.tolist() == list(values)


def test_the_looks_are_known_of_optimizers_that_only_one_sweep_has():
    one = join([piece("gd", looks=GD), piece("adam", looks=ADAM)])
    other = join([piece("adam", looks=ADAM), piece("sign", looks=("Sign", "", False))])
    parts = [p.expand_dims({"weighting": [w]}) for p, w in ((one, 0.0), (other, 0.5))]
    found = concat(parts, "weighting")
    looks = dict(
        zip(found["optimizer"].values.tolist(), found["label"].values.tolist(), strict=True)
    )
    assert looks == {"gd": "GD", "adam": "Adam", "sign": "Sign"}
    assert found["momentum"].dtype == bool
    assert found["status"].sel(optimizer="sign", weighting=0.0).values.tolist() == [[0], [0]]


def test_records_without_looks_are_joined_with_runs_that_have_them():
    found = join([piece("gd", looks=GD), piece("mine")])
    assert found["optimizer"].values.tolist() == ["gd", "mine"]
    assert found["status"].values.min() == FINISHED


def test_coordinates_say_what_they_are(joined, tiny_dataset):
    assert joined["learning_rate"].attrs == {"long_name": "learning rate"}
    assert joined["step"].attrs["units"] == "steps"
    ours = set(tiny_dataset.coords)
    assert ours <= set(COORDINATES)
    assert all(tiny_dataset[name].attrs["long_name"] for name in ours)


# Labels and buckets that do not fit -------------------------------------------------------------


def test_runs_at_different_rates_are_all_kept():
    """Two records of one optimizer, in any order; with `over` they are the same."""
    pieces = [piece(rates=(rate,)) for rate in (0.2, 0.05, 0.1)]
    pieces[0]["bucket_loss"] += 7
    for joined in (join(pieces), join(pieces, over="learning_rate")):
        assert joined["learning_rate"].values.tolist() == [0.05, 0.1, 0.2]  # ascending, as grids
        assert (joined["status"] == FINISHED).all() and joined["status"].dims == RUN_DIMS
        found = joined["bucket_loss"].sel(learning_rate=0.2).isel(optimizer=0, seed=0)
        np.testing.assert_array_equal(found, pieces[0]["bucket_loss"][0, 0, 0])


def test_rates_that_are_unknown_are_a_rate():
    pieces = [piece("gd", rates=(np.nan,)), piece("adam", rates=(np.nan,)), piece("gd", 0, (0.1,))]
    joined = join(pieces)
    np.testing.assert_array_equal(joined["learning_rate"], [0.1, np.nan])
    status = joined["status"].squeeze("seed").sel(optimizer=["gd", "adam"])
    assert status.values.tolist() == [[FINISHED, FINISHED], [NOT_RUN, FINISHED]]


@pytest.mark.parametrize(
    ("rates", "same"),
    [
        ([(0.1,), (0.1,)], "optimizer 'gd', learning_rate 0.1. Name them"),
        ([(np.nan,), (np.nan,)], "optimizer 'gd', learning_rate nan. Name"),
        ([(0.1, 1.0), (0.01, 1.0)], "optimizer 'gd', learning_rate 1.0. Name them"),
    ],
)
def test_runs_with_the_same_labels_are_refused(rates, same):
    """None is kept in silence while another is lost."""
    pieces = [piece("adam"), *(piece("gd", rates=one) for one in rates)]
    said = f"pieces 1 and 2 have the same labels: seed 0, {same}"
    for over in (None, "learning_rate"):
        with pytest.raises(ValueError, match=re.escape(said) + '.*join\\({"first": one, "second"'):
            join(pieces, over)
    apart = [one.expand_dims(width=[i]) for i, one in enumerate(pieces)]
    assert join(apart, over="width").sizes["width"] == 3  # what the message advises
    with pytest.raises(
        ValueError, match="1 and 2 have the same labels: seed 0, .*, width 4, learn"
    ):
        join([one.expand_dims(width=[4 * (i > 0)]) for i, one in enumerate(pieces)], over="width")


def test_a_rate_that_a_piece_did_not_run_is_no_label_of_it():
    one = piece(rates=(0.1, 1.0), status=[FINISHED, NOT_RUN])
    other = piece(rates=(0.1, 1.0), status=[NOT_RUN, FINISHED])
    with pytest.raises(ValueError, match="learning_rate 0.1"):
        join([one, one])
    other = other.sel(learning_rate=[1.0])
    assert join([one.sel(learning_rate=[0.1]), other])["status"].values.ravel().tolist() == [1, 1]


def test_runs_whose_rates_were_selected_are_joined_or_refused():
    """The rate is then a coordinate and no dimension."""
    gd, adam = (
        piece(name, rates=(rate,)).squeeze("learning_rate")
        for name, rate in (("gd", 1.0), ("adam", 0.1))
    )
    gd, adam = (
        one.assign_coords(learning_rate=("optimizer", [one["learning_rate"].item()]))
        for one in (gd, adam)
    )
    assert join([gd, adam])["learning_rate"].values.tolist() == [1.0, 0.1]
    with pytest.raises(ValueError, match="pieces 0 and 1 have the same labels"):
        join([gd, gd.assign_coords(learning_rate=("optimizer", [0.5]))])


def test_a_mapping_names_its_pieces():
    looks = ("GD", "black", False)
    one, other = piece(rates=(np.nan,), looks=looks), piece(rates=(np.nan,), looks=looks)
    joined = join({"narrow": one, "wide": other})
    assert joined["optimizer"].values.tolist() == ["narrow", "wide"]
    assert "label" not in joined.coords  # the looks of gd are not theirs
    assert one["optimizer"].item() == "gd"  # and stays so


def test_two_records_without_labels_are_named_to_be_joined(tmp_path):
    buckets = FrequencyBuckets.from_counts([2, 1], 2)
    found = []
    for name, loss in (("one", 2.0), ("other", 1.0)):
        losses = LossByClass(2)
        losses.update([loss] * 3, [0, 0, 1])
        with Record(tmp_path / name, 2) as record:
            record.append(0, losses)
        found.append(load_record(tmp_path / name, buckets))
    with pytest.raises(ValueError, match="0 and 1 have the same labels: seed 0, optimizer 'mine'"):
        join(found)
    joined = join(dict(zip("ab", found, strict=True)))
    assert joined["loss"].squeeze().values.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("counts", "num_buckets", "message"),
    [
        ([8, 4, 2, 2], 2, "piece 0 has 3 buckets and piece 2 has 2. Give both the same buckets"),
        ([8, 4, 2], 3, "piece 0 has 4 classes and piece 2 has 3. Give"),
        ([2, 4, 8, 2], 3, "class 0 is in bucket 0 of piece 0 and in bucket 2 of piece 2, and so "),
        ([9, 4, 2, 2], 3, "class 0 has 8 examples in piece 0 and 9 in piece 2. Give both the same"),
    ],
)
def test_runs_with_other_buckets_are_refused_in_our_words(tmp_path, counts, num_buckets, message):
    found = []
    for name, of, number in (
        ("gd", [8, 4, 2, 2], 3),
        ("adam", [8, 4, 2, 2], 3),
        ("mine", counts, num_buckets),
    ):
        losses = LossByClass(len(of))
        losses.update(np.ones(sum(of)), np.repeat(np.arange(len(of)), of))
        with Record(tmp_path / name, len(of), name) as record:
            record.append(0, losses)
        found.append(load_record(tmp_path / name, num_buckets=number))
    with pytest.raises(ValueError, match=re.escape(message) + r".*load_record\(path, buckets\)"):
        join(found)


def test_sweeps_whose_buckets_differ_by_over_are_joined():
    parts = [
        piece().assign(bucket_of_class=("class", of)).expand_dims(text=[name])
        for name, of in (("a", [0, 1]), ("b", [1, 0]))
    ]
    assert join(parts, over="text")["bucket_of_class"].values.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (lambda: [], "there are no pieces to join"),
        (lambda: piece(), "pieces are a single dataset; give several in a list"),
        (lambda: [xr.Dataset()], "piece 0 has no dimension seed; give records, by load_record"),
        (lambda: {"a": xr.Dataset()}, "'a' has no dimension optimizer; give records"),
        (lambda: [piece(), piece().isel(seed=0)], r"piece 1 has no .* as by .sel\(seed=\[...\]\)"),
        (
            lambda: [join([piece("gd"), piece("adam")])],
            r"piece 0 has optimizer gd, adam; give a piece for each",
        ),
    ],
)
def test_what_is_no_run_is_refused(pieces, message):
    with pytest.raises(ValueError, match=message):
        join(pieces())
