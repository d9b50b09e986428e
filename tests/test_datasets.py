"""Labelled datasets: joined from runs, kept in one file, never mistaken for another."""

import json

import numpy as np
import pytest
import xarray as xr

from imbalance.analysis.labelled import DIVERGED, NOT_RUN
from imbalance.storage import datasets, files
from imbalance.storage.datasets import FINISHED, RUN_DIMS


def piece(optimizer="gd", seed=0, rates=(0.1, 1.0), status=None, looks=None):
    """Two steps and two buckets; losses tell apart every entry."""
    shape = (1, len(rates), 1)
    losses = np.arange(len(rates) * 4, dtype=np.float32).reshape(*shape, 2, 2) + 10 * seed
    status = [FINISHED] * len(rates) if status is None else status
    found = xr.Dataset(
        {
            "bucket_loss": ((*RUN_DIMS, "step", "bucket"), losses, {"units": "nats"}),
            "status": (RUN_DIMS, np.int8(status).reshape(shape), datasets.STATUS),
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


# Joining ----------------------------------------------------------------------------------------


@pytest.fixture
def joined():
    """GD and Adam, two seeds each, whose grids share one rate; in one run GD diverged."""
    diverged = piece("gd", 1, status=[FINISHED, DIVERGED])
    diverged["bucket_loss"][0, 1, 0, 1] = np.nan
    pieces = [piece("gd", 0), diverged]
    pieces += [piece("adam", seed, (0.01, 0.1)) for seed in (0, 1)]
    return datasets.join(pieces)


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
    found = datasets.join(parts, over="weighting")
    assert found["weighting"].values.tolist() == [0.5, 0.0]
    assert found["status"].dims == ("weighting", *RUN_DIMS)


GD, ADAM = ("GD", "black", False), ("Adam", "", True)


def test_the_looks_of_optimizers_stay_with_them():
    pieces = [piece("gd", s, looks=GD) for s in (0, 1)] + [
        piece("adam", s, looks=ADAM) for s in (0, 1)
    ]
    found = datasets.join(pieces)
    for name, values in zip(
        ("label", "colour", "momentum"), zip(GD, ADAM, strict=True), strict=True
    ):
        assert found[name].dims == ("optimizer",)
        assert found[name].values.tolist() == list(values)


def test_the_looks_are_known_of_optimizers_that_only_one_sweep_has():
    one = datasets.join([piece("gd", looks=GD), piece("adam", looks=ADAM)])
    other = datasets.join([piece("adam", looks=ADAM), piece("sign", looks=("Sign", "", False))])
    parts = [p.expand_dims({"weighting": [w]}) for p, w in ((one, 0.0), (other, 0.5))]
    found = datasets.concat(parts, "weighting")
    looks = dict(
        zip(found["optimizer"].values.tolist(), found["label"].values.tolist(), strict=True)
    )
    assert looks == {"gd": "GD", "adam": "Adam", "sign": "Sign"}
    assert found["momentum"].dtype == bool
    assert found["status"].sel(optimizer="sign", weighting=0.0).values.tolist() == [[0], [0]]


def test_records_without_looks_are_joined_with_runs_that_have_them():
    found = datasets.join([piece("gd", looks=GD), piece("mine")])
    assert found["optimizer"].values.tolist() == ["gd", "mine"]
    assert found["status"].values.min() == FINISHED


def test_coordinates_say_what_they_are(joined, tiny_dataset):
    assert joined["learning_rate"].attrs == {"long_name": "learning rate"}
    assert joined["step"].attrs["units"] == "steps"
    ours = set(tiny_dataset.coords)
    assert ours <= set(datasets.COORDINATES)
    assert all(tiny_dataset[name].attrs["long_name"] for name in ours)


# Saving and reading -----------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path, joined):
    """A stored dataset."""
    path = datasets.dataset_path("tiny", "laptop", tmp_path)
    datasets.save(joined, path, {"runs": json.dumps(["a", "b"]), "scale": "laptop"})
    return path


def test_a_stored_dataset_comes_back_as_it_was(path, joined):
    found = datasets.read(path)
    xr.testing.assert_equal(found, joined)
    assert found["status"].dtype == np.int8
    assert found["bucket_loss"].attrs["units"] == "nats"
    assert found["status"].attrs["flag_meanings"] == "not_run finished diverged"
    assert (found.attrs["scale"], found.attrs["wall_seconds"]) == ("laptop", 6.0)
    assert datasets.stored_runs(path) == ["a", "b"]


def test_a_dataset_that_was_read_can_be_saved_again(path):
    datasets.save(datasets.read(path), path, {"runs": json.dumps(["c"])})
    assert datasets.stored_runs(path) == ["c"]


def test_other_programs_open_it_as_netcdf(path, joined):
    with xr.open_dataset(path, engine="h5netcdf") as found:
        xr.testing.assert_equal(found.load(), joined)


def test_large_variables_are_compressed():
    large = xr.Dataset({"zeros": ("x", np.zeros(100_000, np.float32))})
    assert len(datasets.to_bytes(large)) < 40_000
    xr.testing.assert_equal(datasets.from_bytes(datasets.to_bytes(large)), large)


def test_a_failing_write_leaves_the_old_file_alone(path, joined, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(files.os, "fsync", lambda file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        datasets.save(joined, path, {"runs": "[]"})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def text(path):
    path.write_text("not a netCDF file\n")


def text_with_a_checksum(path):
    files.write(path, b"not a netCDF file\n")


def foreign(path):
    files.write(path, datasets.to_bytes(xr.Dataset({"x": 1})))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "laptop.nc is damaged or cut short: .* checksum .*Delete it"),
        (flipped, "laptop.nc is damaged or cut short"),
        (text, "laptop.nc is damaged or cut short"),
        (text_with_a_checksum, "laptop.nc cannot be read as netCDF.*Delete it"),
        (foreign, "laptop.nc has the format None, expected 'imbalance dataset 2'"),
    ],
)
def test_a_file_that_is_no_dataset_is_refused_and_left_alone(path, spoil, message):
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        datasets.read(path)
    with pytest.raises(ValueError, match=message):
        datasets.load("tiny", "laptop", path.parents[1])
    assert datasets.stored_runs(path) is None
    assert path.read_bytes() == before


# Loading ----------------------------------------------------------------------------------------


def test_results_are_loaded_by_name_and_scale(path, joined):
    xr.testing.assert_equal(datasets.load("tiny", "laptop", path.parents[1]), joined)
    assert datasets.stored_runs(path.with_name("paper.nc")) is None


def test_an_unknown_name_is_answered_with_what_is_stored(path):
    folder = path.parents[1]
    with pytest.raises(FileNotFoundError, match="no results of 'tinny' at scale 'laptop'") as error:
        datasets.load("tinny", "laptop", folder)
    assert "tiny at laptop" in str(error.value)
    assert "python experiments/tinny.py --scale laptop" in str(error.value)
    with pytest.raises(FileNotFoundError, match="there are: none"):
        datasets.load("tiny", "laptop", folder / "nowhere")
