"""The data kept beside the pictures: pictures and claims can be made of them alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from imbalance.reporting.claims import claims_table
from imbalance.reporting.evidence import LARGE, data_path, keep, kept_claims
from imbalance.reporting.experiment import Options, scripts
from imbalance.reporting.overview import SOURCES, draw_from_kept
from imbalance.reporting.redraw import RedrawOptions, redraw
from imbalance.storage import datasets

ROOT = Path(__file__).resolve().parents[1]
KEPT = sorted((ROOT / "figures" / "data").glob("*.nc"))


def test_small_arrays_are_kept_to_the_last_bit_and_large_ones_to_four_digits(tmp_path):
    rng = np.random.default_rng(0)
    small, large = (rng.normal(size=n).astype(np.float32) for n in (9, LARGE + 1))
    large[:3] = np.nan, np.inf, -np.inf
    dataset = xr.Dataset({"small": ("x", small), "large": ("y", large)})
    kept = keep(dataset, tmp_path / "data" / "one.nc")
    np.testing.assert_array_equal(kept["small"], small)
    np.testing.assert_array_equal(kept["large"][:3], large[:3])
    np.testing.assert_allclose(kept["large"][3:], large[3:], rtol=2.0**-14)
    again = keep(kept, tmp_path / "data" / "two.nc")
    np.testing.assert_array_equal(again["large"], kept["large"])
    assert (tmp_path / "data" / "one.nc").stat().st_size < 0.8 * large.nbytes


def test_of_commands_the_name_is_kept_and_no_folder(tmp_path):
    made = json.dumps([{"command": "fig4_linear.py --results /home/me/there", "runs": 3}])
    kept = keep(xr.Dataset(attrs={"provenance": made}), tmp_path / "one.nc")
    assert json.loads(kept.attrs["provenance"]) == [{"command": "fig4_linear.py", "runs": 3}]


def test_nothing_is_kept_at_smoke_scale(tmp_path):
    assert data_path("one", Options("smoke", figures=tmp_path)) is None
    assert data_path("one", Options("laptop", figures=tmp_path)) == tmp_path / "data" / "one.nc"


def test_what_is_kept_is_small():
    assert sum(path.stat().st_size for path in KEPT) < 12e6


def test_every_kept_dataset_has_a_script_and_names_its_makers():
    known = {path.stem for path in scripts(ROOT / "experiments", every=True)}
    assert {path.stem for path in KEPT} <= known
    for path in KEPT:
        attrs = datasets.read(path).attrs
        assert attrs["experiment"] == path.stem and "versions" in attrs["provenance"]


@pytest.mark.slow
def test_the_page_of_claims_follows_from_what_is_kept():
    options = Options(figures=ROOT / "figures")
    claims = kept_claims(scripts(ROOT / "experiments", every=True), options)
    assert claims_table(claims, "laptop") == (ROOT / "figures" / "CLAIMS.md").read_text()


def test_a_picture_is_redrawn_from_what_is_kept_alone(tmp_path):
    name = "fig6_quadratic"
    kept = ROOT / "figures" / "data" / f"{name}.nc"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / kept.name).write_bytes(kept.read_bytes())
    assert redraw(RedrawOptions(tmp_path, ROOT / "experiments")) == 1
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert f"## {name}" in (tmp_path / "CLAIMS.md").read_text()


def test_the_overview_is_drawn_where_the_data_of_both_its_figures_are_kept(tmp_path):
    options = Options(figures=tmp_path)
    assert draw_from_kept(options) is None
    (tmp_path / "data").mkdir()
    for name in SOURCES:
        kept = ROOT / "figures" / "data" / f"{name}.nc"
        (tmp_path / "data" / kept.name).write_bytes(kept.read_bytes())
    assert draw_from_kept(options) == tmp_path / "overview.png"
    assert (tmp_path / "overview.png").stat().st_size > 10_000
