"""Figures are functions of labelled data: what is drawn, not how it looks."""

import numpy as np
import pytest
import xarray as xr

from imbalance import FrequencyBuckets, LossByClass
from imbalance.analysis.comparison import compare
from imbalance.analysis.selection import DIVERGED, at_best, at_fixed
from imbalance.reporting import plots
from imbalance.storage.joining import join
from imbalance.storage.record_dataset import load_record
from imbalance.storage.records import Record
from imbalance.training.optimizers import OPTIMIZERS


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


def test_curves_are_mean_and_range_over_seeds(axes, chosen):
    plots.overall(axes, chosen, ("gd", "adam"))
    for line, band, optimizer in zip(axes.lines, axes.collections, ("gd", "adam"), strict=True):
        loss = chosen["loss"].sel(optimizer=optimizer)
        np.testing.assert_allclose(line.get_ydata(), loss.mean("seed"), rtol=1e-6)
        edge = band.get_paths()[0].vertices[:, 1]
        assert (edge.min(), edge.max()) == (loss.min().item(), loss.max().item())
    assert axes.get_legend_handles_labels()[1] == ["GD", "Adam"]


def test_the_title_of_an_optimizer_names_its_rate(chosen):
    assert plots.optimizer_title("gd", chosen) == "GD\nη = $10^{0}$"


def test_a_rate_at_the_edge_is_named_in_the_title(tiny_dataset):
    title = plots.optimizer_title("adam", at_best(tiny_dataset, 12, "stable"))
    assert title.endswith("(largest tried)")


def test_an_optimizer_of_which_no_rate_qualifies_is_named_in_the_title(tiny_dataset):
    hopeless = tiny_dataset.sel(learning_rate=[3e38, 1.0], optimizer=["gd"])
    hopeless["train_loss"] = hopeless["train_loss"] * np.nan
    assert plots.optimizer_title("gd", at_best(hopeless, 12)) == "GD\nno rate qualifies"


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
    titles[2:] = [title.split("\n")[0] for title in titles[2:]]
    assert titles == ["Class frequencies", "Overall loss", "GD", "Adam"]
    assert all(axes.get_ylim() == (0, 4) for axes in figure.axes[1:4])
    assert [len(axes.lines) for axes in figure.axes[2:4]] == [3, 3]
    assert figure.get_suptitle() == "Tiny" and "fixed" in figure.get_supxlabel()


def test_the_fan_has_a_row_for_each_selection_of_rates(tiny_dataset, chosen):
    figure = plots.fan([chosen, at_best(tiny_dataset, 12)], ("gd", "adam"), top=4, title="Tiny")
    words, overall, *others = figure.axes[4:8]
    assert "rule steady" in words.texts[0].get_text().replace("\n", " ")
    assert [len(axes.lines) for axes in (overall, *others)] == [2, 3, 3]


def test_rows_compare_a_group_and_show_each_by_bucket(chosen):
    figure, axes = plots.panels(2, 3)
    plots.in_rows(axes, chosen, [("gd", "adam"), ("adam",)], top=4.0)
    figure.draw_without_rendering()
    assert [len(axis.lines) for axis in axes.flat] == [2, 3, 3, 1, 3, 0]
    assert [axis.get_title().split("\n")[0] for axis in axes.flat] == [
        "Overall loss", "GD", "Adam", "Overall loss", "Adam", ""
    ]  # fmt: skip
    drawn = axes.flat[:-1]
    assert all(axis.get_ylim() == (0, 4) and axis.axison for axis in drawn)
    assert not axes[1, 2].axison  # nothing is drawn in it


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
        (10**-1.75, "$10^{-7/4}$"),
        (10**0.125, "1.33"),
        (np.nan, "nan"),
    ],
)
def test_rates_are_written_as_powers_of_ten(rate, text):
    assert plots.exponent(rate) == text


@pytest.mark.parametrize(
    ("optimizer", "name", "line"),
    [
        ("gd", "GD", "--"),
        ("gd+m", "GD +m", "-"),
        ("adam", "Adam", "-"),
        ("adam_without_momentum", "Adam, no momentum", "--"),
        ("adamw", "AdamW", "-"),
        ("sign_of_momentum", "sign of momentum", "-"),
        ("mine", "mine", "-"),
    ],
)
def test_momentum_is_named_and_drawn_solid(optimizer, name, line):
    assert plots.label(optimizer) == name
    assert plots.line_style(optimizer)["linestyle"] == line


@pytest.mark.parametrize("known", ["gd", "adam"])
def test_optimizers_without_a_colour_get_different_ones(known):
    names = [known, "mine", "ours", "yours"]
    colours = [plots.line_style(name, names)["color"] for name in names]
    assert colours == [OPTIMIZERS[known].colour, *plots.OTHER_COLOURS[:3]]


@pytest.fixture
def own(chosen):
    """Results in which Adam has other looks, as its experiment declared them."""
    changed = {"label": ["GD", "mine"], "colour": ["#000000", "pink"], "momentum": [False, False]}
    return chosen.assign_coords({name: ("optimizer", v) for name, v in changed.items()})


def test_an_optimizer_looks_as_its_results_say(own, axes):
    assert plots.label("adam", own) == "mine" and plots.label("adam") == "Adam"
    assert plots.line_style("adam", (), own) == {"color": "pink", "linestyle": "--"}
    assert plots.line_style("adam") == {"color": OPTIMIZERS["adam"].colour, "linestyle": "-"}
    one = own.sel(optimizer="adam")  # of which the looks are single values
    assert plots.label("adam", one) == "mine"
    plots.overall(axes, own, ("gd", "adam"))
    assert [line.get_color() for line in axes.lines] == ["#000000", "pink"]
    assert axes.get_legend_handles_labels()[1] == ["GD", "mine"]


def test_an_optimizer_without_a_colour_in_its_results_gets_one(own):
    plain = own.assign_coords(colour=("optimizer", ["", ""]))
    colours = [plots.line_style(o, ("gd", "adam"), plain)["color"] for o in ("gd", "adam")]
    assert colours == list(plots.OTHER_COLOURS[:2])


def test_figures_of_whole_sweeps_use_the_looks_of_their_results(own):
    figure = plots.fan([own], ("gd", "adam"), top=4.0, title="Tiny")
    assert names(figure.axes[2:4]) == ["GD", "mine"]
    figure = plots.training(own)
    assert names(figure.axes[2:4]) == ["GD", "mine"]
    assert figure.axes[1].lines[1].get_color() == "pink"


# Records and steps of one's own -------------------------------------------------------------------

BUCKETS = FrequencyBuckets.from_counts([8, 4, 2, 2], 3)


def steps_of(speed, at):
    """Losses by class that fall to nothing at ``speed``."""
    label = np.repeat(np.arange(4), BUCKETS.counts)
    steps = {}
    for step in at:
        steps[step] = LossByClass(4)
        steps[step].update(2 * np.exp(-speed * step / (1 + label)), label)
    return steps


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Records of three runs by optimizer; their steps and learning rates differ."""
    folder, found = tmp_path_factory.mktemp("records"), {}
    for optimizer, speed, at, rate in (
        ("gd", 0.1, range(0, 21, 4), 0.1),
        ("adam", 0.5, range(0, 16, 5), 0.01),
        ("mine", 0.2, range(0, 21, 4), np.nan),
    ):
        with Record(folder / optimizer, 4, optimizer, rate) as record:
            for step, losses in steps_of(speed, at).items():
                record.append(step, losses)
        found[optimizer] = load_record(folder / optimizer, BUCKETS)
    return found


def names(panels):
    """First lines of their titles."""
    return [title_of(axes).split("\n")[0] for axes in panels]


def title_of(axes):
    """With its letter or without."""
    return axes.get_title() or axes.get_title(loc="left").split("$  ", 1)[-1]


def lines_of(axes):
    """Without the ticks of the unigram losses."""
    return [line for line in axes.lines if line.get_clip_on()]


def test_training_draws_a_record_in_the_layout_of_the_paper(recorded):
    figure = plots.training(recorded["gd"], title="Mine")
    figure.draw_without_rendering()
    assert names(figure.axes[:3]) == ["Class frequencies", "Overall loss", "GD"]
    frequencies, overall, by_bucket, bar = figure.axes
    assert overall.get_ylabel() == "loss (nats)" and figure.get_suptitle() == "Mine"
    assert frequencies.collections[0].get_offsets()[:, 1].tolist() == [8, 4, 2, 2]
    assert [text.get_text() for text in bar.get_yticklabels()] == ["frequent", "rare"]
    for bucket, line in enumerate(lines_of(by_bucket)):
        expected = recorded["gd"]["bucket_loss"].squeeze().sel(bucket=bucket)
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-12)
        np.testing.assert_array_equal(line.get_color(), plots.bucket_colours(3)[bucket])
    ticks = [line.get_ydata()[0] for line in by_bucket.lines if not line.get_clip_on()]
    np.testing.assert_array_equal(ticks, recorded["gd"]["bucket_unigram_loss"])
    assert max(ticks) < by_bucket.get_ylim()[1]


def test_training_draws_joined_records_each_at_its_own_steps(recorded):
    figure = plots.training(join(recorded.values()))
    figure.draw_without_rendering()
    _, overall, *panels, _ = figure.axes
    assert names(panels) == ["GD", "Adam", "mine"]
    assert [line.get_xdata().tolist() for line in overall.lines] == [
        [0, 4, 8, 12, 16, 20],
        [0, 5, 10, 15],
        [0, 4, 8, 12, 16, 20],
    ]
    assert all(len(lines_of(axes)) == 3 for axes in panels)
    assert all(axes.get_ylim() == overall.get_ylim() for axes in panels)
    assert all(axes.get_xlim() == (0, 20) for axes in panels)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["GD", "Adam", "mine"]
    rates = [title_of(axes).split("\n")[1:] for axes in panels]
    assert rates == [["η = $10^{-1}$"], ["η = $10^{-2}$"], []]  # NaN: no rate


def test_training_draws_runs_of_one_optimizer_by_name_or_says_how(recorded):
    one = recorded["gd"]
    other = one.assign({name: one[name] / 2 for name in ("loss", "bucket_loss")})
    other = other.assign_coords(learning_rate=[0.2])
    said = r"have \[2\] learning rates; choose one .* at_best\(runs, step\), .* name them: join\({"
    for over in (None, "learning_rate"):
        together = join([one, other], over)
        with pytest.raises(ValueError, match=said):
            plots.training(together)
        for chosen in (
            together.sel(learning_rate=[0.2]),
            at_fixed(together, {"gd": 0.2}),
            at_best(together, 20, "final"),
        ):
            assert title_of(plots.training(chosen).axes[2]).startswith("GD\nη = 0.2")
    figure = plots.training(join({"small rate": one, "large rate": other}))
    figure.draw_without_rendering()
    _, overall, *parts, _ = figure.axes
    assert names(parts) == ["small rate", "large rate"]
    assert [title_of(part).split("\n")[1] for part in parts] == ["η = $10^{-1}$", "η = 0.2"]
    assert len({line.get_color() for line in overall.lines}) == 2


def test_training_draws_steps_of_ones_own():
    steps = steps_of(0.1, range(0, 9, 2))
    parts = [losses.to_dataset(BUCKETS) for losses in steps.values()]
    figure = plots.training(xr.concat(parts, xr.Variable("step", list(steps))))
    figure.draw_without_rendering()
    _, overall, by_bucket, _ = figure.axes
    expected = [losses.overall for losses in steps.values()]
    np.testing.assert_allclose(overall.lines[0].get_ydata(), expected, rtol=1e-14)
    assert len(lines_of(by_bucket)) == 3
    assert len([line for line in by_bucket.lines if not line.get_clip_on()]) == 3


def test_steps_with_different_buckets_are_refused():
    steps = steps_of(0.1, range(3))
    steps[2].update([1.0] * 20, [3] * 20)
    parts = [losses.to_dataset(num_buckets=2) for losses in steps.values()]
    with pytest.raises(ValueError, match=r"class_count is not the same .* losses.to_dataset\(buck"):
        plots.training(xr.concat(parts, "step"))


def test_training_draws_a_sweep_at_one_rate_each(tiny_dataset, chosen):
    figure = plots.training(at_best(tiny_dataset, 12))
    figure.draw_without_rendering()
    caption = figure.legends[0].get_title().get_text()
    assert caption.startswith("Learning rates: best rate at step 12, rule steady")
    _, overall, gd, adam, _ = plots.training(chosen).axes
    assert len(overall.collections) == 2  # a band of seeds for each
    assert len(lines_of(gd)) == len(lines_of(adam)) == 3
    one = chosen.sel(optimizer="adam", seed=1)
    _, overall, adam, _ = plots.training(one).axes
    np.testing.assert_array_equal(overall.lines[0].get_ydata(), one["loss"])
    with pytest.raises(ValueError, match=r"have \[3, 2\] learning rates; choose one"):
        plots.training(tiny_dataset)


def test_a_run_that_explodes_does_not_flatten_the_others(recorded):
    exploding = recorded["adam"].copy()
    exploding["bucket_loss"] = exploding["bucket_loss"] * np.array([1, 1e6, 1, 1e9])[:, None]
    figure = plots.training(join([recorded["gd"], exploding]))
    highest = 1.05 * float(recorded["gd"]["bucket_unigram_loss"].max())
    assert figure.axes[1].get_ylim() == (0, pytest.approx(max(1.05 * 1.5 * 2, highest)))


def test_a_diverged_run_is_named_so(recorded):
    diverged = recorded["gd"].copy()
    diverged["status"] = diverged["status"] * 0 + DIVERGED
    diverged["bucket_loss"], diverged["loss"] = (
        diverged["bucket_loss"] * np.nan,
        diverged["loss"] * np.nan,
    )
    figure = plots.training(diverged)
    figure.draw_without_rendering()
    assert names(figure.axes[2:3]) == ["GD"] and "(diverged)" in title_of(figure.axes[2])


def test_a_bucket_that_is_not_seen_at_a_step_has_a_line_all_the_same(axes, recorded):
    one = recorded["gd"].isel(optimizer=0, learning_rate=0)
    one["bucket_loss"] = one["bucket_loss"].where((one["bucket"] < 2) | (one["step"] != 4))
    plots.by_bucket(axes, one)
    assert axes.lines[1].get_xdata().tolist() == [0, 4, 8, 12, 16, 20]
    assert axes.lines[2].get_xdata().tolist() == [0, 8, 12, 16, 20]


def test_a_comparison_shows_both_times_and_what_never_gets_there(recorded):
    compared = compare(recorded["gd"], recorded["adam"], 0.25)
    figure = plots.comparison(compared)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    gd, gd_never, adam, adam_never = axes.collections
    np.testing.assert_array_equal(gd.get_offsets()[:, 1], compared["time_one"])
    np.testing.assert_array_equal(adam.get_offsets()[:, 1], compared["time_other"])
    never = [np.round(points.get_offsets()[:, 0]).tolist() for points in (gd_never, adam_never)]
    assert never == [
        np.flatnonzero(compared[t].isnull()).tolist() for t in ("time_one", "time_other")
    ]
    assert never[0] and not never[1]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["GD", "Adam"]
    assert axes.get_ylabel() == "steps to 0.25 × initial loss"


def test_a_comparison_shows_every_seed_and_leaves_out_empty_buckets(chosen):
    compared = compare(chosen.sel(optimizer="adam"), chosen.sel(optimizer="gd"))
    compared["bucket_classes"] = compared["bucket_classes"].where(compared["bucket"] != 1, 0)
    axes = plots.comparison(compared).axes[0]
    buckets = [np.round(points.get_offsets()[:, 0].compressed()) for points in axes.collections]
    for there, never in (buckets[:2], buckets[2:]):
        assert sorted([*there, *never]) == [0, 0, 2, 2]


def test_two_runs_of_one_optimizer_look_different(recorded):
    other = recorded["gd"].assign_coords(learning_rate=[0.2])
    axes = plots.comparison(compare(recorded["gd"], other)).axes[0]
    one, _, two, _ = axes.collections
    assert len(one.get_facecolors()) and not len(two.get_facecolors())
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["GD, learning_rate 0.1", "GD, learning_rate 0.2"]
