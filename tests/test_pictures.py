"""Problems of pictures: which images and classes they have, in which order, and what is learnt."""

import jax
import numpy as np
import pytest

from imbalance.data import glyphs, imagenet, zipf
from imbalance.data.images import Images
from imbalance.problems import pictures
from imbalance.training.plan import plans, runs
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

SMALL = {"width": 2, "blocks": (1,), "stem": "16"}
COUNTS = zipf.power_law_counts(40, 6, 1.0)


def test_glyphs_are_all_there_and_shuffled_always_alike():
    found, again = (pictures.glyphs(COUNTS, 8) for _ in range(2))
    image, label = found.train
    assert image.dtype == np.uint8 and image.shape == (40, 8, 8)
    np.testing.assert_array_equal(np.bincount(label), COUNTS)
    np.testing.assert_array_equal(image, again.train.image)
    assert (np.diff(label) < 0).any()
    drawn = glyphs.glyphs(COUNTS, 0, 8)
    rows = {bytes(one) + bytes([k]) for one, k in zip(drawn.image, drawn.label, strict=True)}
    assert rows == {bytes(one) + bytes([k]) for one, k in zip(image, label, strict=True)}


def test_both_laws_have_as_many_pictures_and_one_program():
    """Nothing but the data differs, so what is compiled for one serves the other."""
    both = [
        pictures.resnet_problem(pictures.glyphs(counts, 8), bucketing=2, **SMALL)
        for counts in (COUNTS, zipf.uniform_counts(40, 6))
    ]
    heavy, uniform = ([one for one in runs(plans(Sweep(p, {"gd": (0.1,)}, 1)))] for p in both)
    assert heavy[0].key != uniform[0].key
    digests = {one.plan.alone.advance.digest for one in (*heavy, *uniform)}
    assert len(digests) == 1


def test_a_seed_of_the_run_changes_the_start_and_not_the_pictures():
    problem = pictures.resnet_problem(pictures.glyphs(COUNTS, 8), bucketing=2, **SMALL)
    np.testing.assert_array_equal(problem.batch(0).input, problem.batch(1).input)
    first, second = (problem.task.init(jax.random.key(seed)) for seed in (0, 1))
    assert not np.array_equal(first["weight"], second["weight"])


@pytest.mark.parametrize("kind", ["resnet", "transformer"])
def test_a_network_learns_glyphs(kind):
    data = pictures.glyphs(zipf.uniform_counts(24, 4), 8)
    if kind == "resnet":
        problem = pictures.resnet_problem(data, bucketing=2, **(SMALL | {"width": 4}))
    else:
        size = {"patch": 4, "width": 8, "num_layers": 1, "num_heads": 2}
        problem = pictures.transformer_problem(data, bucketing=2, **size)
    assert problem.settings["pictures"]["name"] == "glyphs"
    assert problem.flops_per_step > 0
    found = run(Sweep(problem, {"adam": (0.02,)}, 40, stops=(0, 40)))
    assert float(found["loss"].isel(step=-1).squeeze()) < 0.5 * float(
        found["loss"].isel(step=0).squeeze()
    )


def test_imagenet_comes_with_the_channels_of_its_subset(monkeypatch, tmp_path):
    label = np.repeat(np.arange(3, dtype=np.int32), 2)
    image = np.zeros((6, 8, 8, 3), np.uint8)
    image[:, 0, 0, 0] = label

    class Cached:
        @staticmethod
        def everything():
            return Images(image, label)

    asked = []

    def read(*arguments):
        asked.append(arguments)
        return imagenet.Parts(Cached(), Cached())

    monkeypatch.setattr(imagenet, "imagenet", read)
    for subset in ("full", "small", "heavy_tailed"):
        found = pictures.imagenet(tmp_path, subset, 8)
        assert asked[-1] == (tmp_path, subset, 8)
        assert found.num_classes == 3 and found.pixels.channels == 3
        assert found.pixels.mean == imagenet.CHANNELS[subset].mean
        np.testing.assert_array_equal(found.train.image[:, 0, 0, 0], found.train.label)
        assert (found.train.label != label).any()


def test_wrong_sizes_of_a_model_are_named():
    data = pictures.glyphs(COUNTS, 8)
    with pytest.raises(ValueError, match="8 x 8 pixels cannot be cut into patches of 3"):
        pictures.transformer_problem(data, patch=3)
    with pytest.raises(TypeError, match="depth"):
        pictures.resnet_problem(data, depth=3)
