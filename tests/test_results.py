"""Pieces on disk: whole or not there, never mistaken for another, joined with their labels."""

import json

import numpy as np
import pytest
import xarray as xr

from imbalance.storage import results
from imbalance.storage.results import DIVERGED, FINISHED, NOT_RUN

SETTINGS = {"problem": {"name": "tiny", "m": 3}, "optimizer": "gd", "seed": 0, "steps": 2}


def piece(optimizer="gd", seed=0, rates=(0.1, 1.0), status=None, order="0"):
    """Two steps and two buckets; losses tell apart every entry."""
    shape = (1, len(rates), 1)
    losses = np.arange(len(rates) * 4, dtype=np.float32).reshape(*shape, 2, 2) + 10 * seed
    status = [FINISHED] * len(rates) if status is None else status
    run = results.RUN_DIMS
    return xr.Dataset(
        {
            "bucket_loss": ((*run, "step", "bucket"), losses, {"units": "nats"}),
            "status": (run, np.int8(status).reshape(shape), results.STATUS),
            "class_count": ("class", [3, 1]),
        },
        {"optimizer": [optimizer], "learning_rate": list(rates), "seed": [seed], "step": [0, 2]},
        {"wall_seconds": 1.5, "order": order, "over": ""},
    )


@pytest.fixture
def path(tmp_path):
    """A stored piece."""
    path = tmp_path / "tiny" / "laptop" / "gd-seed0.nc"
    results.save(piece(), path, SETTINGS)
    return path


# Saving and reading -----------------------------------------------------------------------------


def test_a_stored_piece_comes_back_as_it_was(path):
    found = results.read(path)
    xr.testing.assert_equal(found, piece())
    assert found["status"].dtype == np.int8
    assert found["bucket_loss"].attrs["units"] == "nats"
    assert found["status"].attrs["flag_meanings"] == "not_run finished diverged"
    assert json.loads(found.attrs["settings"]) == SETTINGS


def test_a_stored_piece_says_who_made_it_and_with_what(path):
    attrs = results.read(path).attrs
    assert {"created_at", "command", "python", "git_commit", "git_dirty"} <= set(attrs)
    assert {"jax", "optax", "flax", "numpy"} <= set(json.loads(attrs["versions"]))
    assert attrs["wall_seconds"] == 1.5


def test_a_failing_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def half_written(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", half_written)
    with pytest.raises(OSError, match="disk full"):
        results.save(piece(), tmp_path / "piece.nc", SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_leaves_the_old_piece_alone(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(xr.Dataset, "to_netcdf", lambda self, path, **_: path.mkdir())
    with pytest.raises(OSError):
        results.save(piece(seed=1), path, SETTINGS)
    assert path.read_bytes() == before


# Finding stored pieces ----------------------------------------------------------------------------


def test_a_piece_is_finished_if_it_is_there_with_the_same_settings(path):
    assert results.is_finished(path, SETTINGS)
    assert not results.is_finished(path.with_name("adam-seed0.nc"), SETTINGS)


def test_a_piece_of_another_sweep_is_refused_and_left_alone(path):
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="steps: stored 2, asked 5.*--overwrite") as error:
        results.is_finished(path, SETTINGS | {"steps": 5})
    assert "seed" not in str(error.value).replace(path.name, "")  # only what differs is named
    assert path.read_bytes() == before


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    xr.Dataset({"x": 1}).to_netcdf(path, engine="h5netcdf")


def foreign_with_settings(path):
    xr.Dataset({"x": 1}, attrs={"settings": json.dumps(SETTINGS)}).to_netcdf(
        path, engine="h5netcdf"
    )


def text(path):
    path.write_text("not a netCDF file\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "gd-seed0.nc cannot be read as a netCDF file.*truncated.*--overwrite"),
        (text, "gd-seed0.nc cannot be read as a netCDF file.*--overwrite"),
        (foreign, "gd-seed0.nc is a netCDF file but not .* expected 'imbalance piece 1'"),
        (foreign_with_settings, "gd-seed0.nc is a netCDF file but not"),
    ],
)
def test_a_file_that_is_no_piece_is_refused_and_left_alone(path, spoil, message):
    spoil(path)
    before = path.read_bytes()
    for look in (results.read, lambda path: results.is_finished(path, SETTINGS)):
        with pytest.raises(ValueError, match=message):
            look(path)
    with pytest.raises(ValueError, match=message):
        results.load("tiny", "laptop", path.parents[2])
    assert path.read_bytes() == before


# Joining ----------------------------------------------------------------------------------------


@pytest.fixture
def joined():
    """GD and Adam, two seeds each, whose grids share one rate; in one run GD diverged."""
    diverged = piece("gd", 1, status=[FINISHED, DIVERGED])
    diverged["bucket_loss"][0, 1, 0, 1] = np.nan
    pieces = [piece("gd", 0), diverged]
    pieces += [piece("adam", seed, (0.01, 0.1), order=str(seed)) for seed in (0, 1)]
    return results.join(pieces)


def test_joining_keeps_dimensions_and_order(joined):
    assert joined["bucket_loss"].dims == (*results.RUN_DIMS, "step", "bucket")
    assert joined["optimizer"].values.tolist() == ["gd", "adam"]  # as given, not sorted
    assert joined["learning_rate"].values.tolist() == [0.01, 0.1, 1.0]
    assert joined["seed"].values.tolist() == [0, 1]
    assert joined["class_count"].dims == ("class",)
    assert joined["status"].dtype == np.int8
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


def test_a_sweep_in_memory_is_labelled_the_same_way(tiny_dataset):
    assert tiny_dataset["bucket_loss"].dims == (*results.RUN_DIMS, "step", "bucket")
    missing = tiny_dataset["loss"].sel(step=12).isnull()
    np.testing.assert_array_equal(missing, tiny_dataset["status"] != FINISHED)
    assert " x " in tiny_dataset.attrs["device"]
    assert tiny_dataset["class_count"].values.tolist() == [8, 4, 4, 2, 2, 2, 2]
    assert tiny_dataset["bucket_classes"].values.tolist() == [1, 2, 4]
    assert tiny_dataset["bucket_mass"].values == pytest.approx([1 / 3] * 3)


# Loading ----------------------------------------------------------------------------------------


def test_loading_joins_all_pieces_in_the_order_they_were_declared(tmp_path):
    declared = ["sign", "gd", "adam"]
    for i, optimizer in enumerate(declared):
        path = tmp_path / "tiny" / "smoke" / f"{optimizer}-seed0.nc"
        results.save(piece(optimizer, order=str(i)), path, SETTINGS)
    found = results.load("tiny", "smoke", tmp_path)
    assert found["optimizer"].values.tolist() == declared
    assert (found.attrs["experiment"], found.attrs["scale"]) == ("tiny", "smoke")


def test_sweeps_that_differ_are_laid_along_their_difference(tmp_path):
    for i, weighting in enumerate((0.5, 0.0)):
        one = piece(order=str(i)).expand_dims({"weighting": [weighting]})
        one.attrs["over"] = "weighting"
        path = tmp_path / "tiny" / "smoke" / f"weighting={weighting}" / "gd-seed0.nc"
        results.save(one, path, SETTINGS)
    found = results.load("tiny", "smoke", tmp_path)
    assert found["weighting"].values.tolist() == [0.5, 0.0]
    assert found["status"].dims == ("weighting", *results.RUN_DIMS)


def test_an_unknown_name_is_answered_with_what_is_stored(path):
    folder = path.parents[2]
    with pytest.raises(FileNotFoundError, match="no results of 'tinny' at scale 'laptop'") as error:
        results.load("tinny", "laptop", folder)
    assert "tiny/laptop" in str(error.value)
    with pytest.raises(FileNotFoundError, match="there are: none"):
        results.load("tiny", "laptop", folder / "nowhere")
