"""Figures are functions of labelled data: what is drawn, not how it looks."""

import numpy as np
import pytest

from imbalance import plots
from imbalance.analysis.labelled import at_best, at_fixed


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def chosen(tiny_dataset):
    return at_fixed(tiny_dataset, {"gd": 1.0, "adam": 0.1})


@pytest.fixture
def axes():
    figure, axes = plots.panels(1, 1)
    yield axes[0, 0]
    figure.draw_without_rendering()  # labels and titles can be laid out


def test_by_bucket_draws_one_line_for_each_bucket(axes, chosen):
    one = chosen.sel(optimizer="gd")
    plots.by_bucket(axes, one)
    assert len(axes.lines) == one.sizes["bucket"] == 3
    for bucket, line in enumerate(axes.lines):
        expected = one["bucket_loss"].sel(bucket=bucket).mean("seed")
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
        assert line.get_xdata().tolist() == [0, 4, 12]


def test_by_bucket_can_show_one_seed_on_another_scale(axes, chosen):
    one = chosen.sel(optimizer="gd")
    plots.by_bucket(axes, one, seed=1, steps=np.array([0.0, 0.4, 1.2]))
    expected = one["bucket_loss"].sel(bucket=2, seed=1)
    np.testing.assert_array_equal(axes.lines[2].get_ydata(), expected)
    assert axes.lines[2].get_xdata().tolist() == [0.0, 0.4, 1.2]


def test_frequent_and_rare_buckets_have_different_colours():
    colours = plots.bucket_colours(10)
    assert colours.shape == (10, 4)
    assert len(np.unique(colours, axis=0)) == 10
    assert colours[0].sum() < colours[-1].sum()  # purple to yellow


def test_the_overall_loss_shows_the_worst_seed_and_names_the_rate(axes, chosen):
    plots.overall(axes, chosen, ("gd", "adam"))
    for line, optimizer in zip(axes.lines, ("gd", "adam"), strict=True):
        expected = chosen["loss"].sel(optimizer=optimizer).max("seed")
        np.testing.assert_array_equal(line.get_ydata(), expected)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["GD, η = $10^{0}$", "Adam, η = $10^{-1}$"]


def test_a_rate_at_the_edge_is_named_in_the_legend(axes, tiny_dataset):
    plots.overall(axes, at_best(tiny_dataset, 12), ("adam",))
    assert "(largest tried)" in axes.get_legend().get_texts()[0].get_text()


def test_an_optimizer_of_which_no_rate_qualifies_is_named_in_the_legend(axes, tiny_dataset):
    hopeless = tiny_dataset.sel(learning_rate=[3e38])
    plots.overall(axes, at_best(hopeless, 12), ("gd",))
    assert "no rate qualifies" in axes.get_legend().get_texts()[0].get_text()


def test_rank_frequency_shows_every_class_in_the_colour_of_its_bucket(axes, tiny_dataset):
    plots.rank_frequency(axes, tiny_dataset)
    (points,) = axes.collections
    offsets = points.get_offsets()
    assert offsets[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert offsets[:, 1].tolist() == [8, 4, 4, 2, 2, 2, 2]
    expected = plots.bucket_colours(3)[[0, 1, 1, 2, 2, 2, 2]]
    np.testing.assert_allclose(points.get_facecolors(), expected)
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_rank_frequency_sorts_classes(axes, tiny_dataset):
    shuffled = tiny_dataset.isel({"class": [3, 1, 0, 6, 5, 4, 2]})
    plots.rank_frequency(axes, shuffled)
    assert axes.collections[0].get_offsets()[:, 1].tolist() == [8, 4, 4, 2, 2, 2, 2]


def test_the_fan_has_frequencies_overall_and_a_panel_for_each_optimizer(chosen):
    figure = plots.fan([chosen], ("gd", "adam"), top=4.0, title="Tiny")
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["Class frequencies", "Overall loss", "GD", "Adam"]
    assert all(axes.get_ylim() == (0, 4) for axes in figure.axes[1:4])
    assert [len(axes.lines) for axes in figure.axes[2:4]] == [3, 3]
    assert "Tiny" in figure.get_suptitle() and "fixed" in figure.get_suptitle()


def test_the_fan_has_a_row_for_each_selection_of_rates(tiny_dataset, chosen):
    figure = plots.fan([chosen, at_best(tiny_dataset, 12)], ("gd", "adam"), top=4, title="Tiny")
    words, overall, *others = figure.axes[4:8]
    assert "rule S" in words.texts[0].get_text().replace("\n", " ")
    assert [len(axes.lines) for axes in (overall, *others)] == [2, 3, 3]


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (10**-2.5, "$10^{-5/2}$"),
        (10**0.5, "$10^{1/2}$"),
        (1e-3, "$10^{-3}$"),
        (float(np.float32(10**-3.5)), "$10^{-7/2}$"),
        (100, "$10^{2}$"),
        (0.7, "0.7"),
        (2 / 3, "0.667"),
        (10**0.25, "1.78"),
        (np.nan, "nan"),
    ],
)
def test_rates_are_written_as_half_powers_of_ten(rate, text):
    assert plots.exponent(rate) == text


@pytest.mark.parametrize(
    ("optimizer", "name", "line"),
    [
        ("gd", "GD", "--"),
        ("gd+m", "GD +m", "-"),
        ("adamw+m", "AdamW +m", "-"),
        ("sign_of_momentum", "sign of momentum", "-"),
        ("mine", "mine", "--"),
    ],
)
def test_momentum_is_named_and_drawn_solid(optimizer, name, line):
    assert plots.label(optimizer) == name
    assert plots.line_style(optimizer)["linestyle"] == line
