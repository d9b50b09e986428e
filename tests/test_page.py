"""The page of figures: what `finish` puts on it."""

import io

import numpy as np
import pytest
import xarray as xr

from imbalance.reporting import page


@pytest.fixture
def drawn():
    figure, axes = page.panels(1, 3)
    for axis in axes[0, :2]:
        axis.plot([0, 1, 2], [1, 2, 3], label="one")
        axis.plot([0, 1, 2], [3, 2, 1], label=f"two in {axis.get_subplotspec().colspan.start}")
    axes[0, 0].set_title("first")
    axes[0, 2].set_axis_off()
    return figure, axes


def test_panels_have_letters_where_something_is_drawn(drawn):
    figure, axes = drawn
    page.finish(figure)
    titles = [axis.get_title(loc="left") for axis in axes[0]]
    assert titles == ["$\\mathbf{a}$  first", "$\\mathbf{b}$  ", ""]
    assert not any(axis.get_title() for axis in axes[0])


def test_a_single_panel_has_no_letter():
    figure, axes = page.panels(1, 1)
    page.finish(figure)
    assert axes[0, 0].get_title(loc="left") == ""


def test_one_legend_names_every_curve_once(drawn):
    figure, _ = drawn
    page.finish(figure)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two in 0", "two in 1"]


def test_a_curve_that_leaves_its_panel_is_marked_with_its_value(drawn):
    figure, axes = drawn
    axes[0, 0].set_ylim(0, 2)
    page.finish(figure)
    assert [text.get_text() for text in axes[0, 0].texts] == ["↑ 3"]
    assert not axes[0, 1].texts


def test_what_lies_beyond_the_sides_or_is_not_finite_is_not_marked():
    figure, axes = page.panels(1, 1)
    axes[0, 0].plot([0, 1, 2, 50], [1, np.nan, 1, 9])
    axes[0, 0].set(xlim=(0, 2), ylim=(0, 2))
    page.finish(figure)
    assert not axes[0, 0].texts


def test_the_caption_says_how_rates_were_chosen_and_which_seeds_are_shown(drawn):
    figure, _ = drawn
    chosen = xr.Dataset(
        coords={"seed": [1, 2]}, attrs={"search_seeds": [0], "selection": "best, rule steady"}
    )
    page.headline(figure, chosen, "What one sees", "10 examples.")
    page.finish(figure)
    caption = figure.legends[0].get_title().get_text().replace("\n", " ")
    assert caption == (
        "10 examples. Learning rates: best, rule steady. Curves: mean and range of seeds 1, 2 "
        "(rates searched on seed 0)."
    )
    assert figure.get_suptitle() == "What one sees"


@pytest.mark.parametrize("seed", [0, [0]])
def test_a_single_seed_is_named(seed):
    assert page.seeds(xr.Dataset(coords={"seed": seed})) == "Curves: seed 0."


def test_a_figure_is_as_wide_as_a_page_and_its_caption_fits(drawn):
    figure, _ = drawn
    page.headline(figure, None, "Title", "word " * 60)
    page.finish(figure)
    assert figure.get_size_inches()[0] == 7
    figure.savefig(io.BytesIO())
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
