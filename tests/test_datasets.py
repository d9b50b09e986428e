"""Labelled datasets kept in one file, never mistaken for another."""

import json

import numpy as np
import pytest
import xarray as xr
from test_joining import joined_runs

from imbalance.storage import datasets, files


@pytest.fixture
def joined():
    return joined_runs()


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
