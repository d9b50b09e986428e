"""Convolutions of any size and stride, by every way that they are computed on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imbalance.models import strided
from imbalance.models.strided import MOST_PAIRS, convolve, max_pool


def native(images, kernel, stride):
    padding = [(side // 2, side // 2) for side in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=("HWCN", "HWIO", "HWCN")
    )


def value_and_gradients(function, images, kernel, gradient):
    value, back = jax.vjp(function, images, kernel)
    return value, *back(gradient)


slow = pytest.mark.slow
QUICK = ("one matrix", "odd, stride 2", "tiles")
# Rows and columns, positions along the kernel's sides, stride.
CASES = {
    "one matrix": ((4, 4), (3, 3), 2),
    "one matrix, kernel beyond the image": ((3, 2), (5, 1), 1),
    "one pixel": ((1, 1), (3, 3), 1),
    "by frequencies": ((7, 6), (3, 3), 1),
    "odd, stride 2": ((9, 7), (3, 3), 2),
    "tiles": ((17, 12), (3, 5), 1),
    "tiles, stride 2": ((33, 20), (7, 7), 2),
    "one position, stride 2": ((5, 4), (1, 1), 2),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(CASES[name], id=name, marks=() if name in QUICK else slow) for name in CASES],
)
def test_values_and_gradients_are_those_of_the_native_convolution(case):
    size, sides, stride = case
    rng = np.random.default_rng(0)
    images = rng.normal(size=(*size, 3, 4)).astype(np.float32)
    kernel = rng.normal(size=(*sides, 3, 2)).astype(np.float32)
    after = tuple(-(-side // stride) for side in size)
    gradient = rng.normal(size=(*after, 2, 4)).astype(np.float32)
    found, expected = (
        jax.jit(lambda *given, f=function: value_and_gradients(f, *given))(images, kernel, gradient)
        for function in (
            lambda images, kernel: convolve(images, kernel, stride),
            lambda images, kernel: native(images, kernel, stride),
        )
    )
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        # Exact but for rounding: in float32 6e-7 of the largest entry was seen.
        assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()


def test_the_cases_take_each_of_the_ways(monkeypatch):
    taken = []

    def noted(name):
        original = getattr(strided, name)

        def function(*given):
            taken.append(name)
            return original(*given)

        monkeypatch.setattr(strided, name, function)

    for name in ("_by_matrix", "_phases_of_images", "convolve_by_frequencies"):
        noted(name)
    ways = {}
    for case, (size, sides, stride) in CASES.items():
        taken.clear()
        jax.eval_shape(
            lambda x, k, stride=stride: convolve(x, k, stride),
            jax.ShapeDtypeStruct((*size, 3, 4), jnp.float32),
            jax.ShapeDtypeStruct((*sides, 3, 2), jnp.float32),
        )
        ways[case] = set(taken)
    for case, way in ways.items():
        if case.startswith("one position"):
            assert way == set()
        elif case.startswith("one "):
            assert way == {"_by_matrix"}
        else:
            phases = {"_phases_of_images"} if "stride 2" in case else set()
            assert way == {"convolve_by_frequencies"} | phases
    assert MOST_PAIRS < 7 * 6 * 7 * 6


def test_in_low_precision_only_the_result_is_rounded():
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(5, 7, 3, 4)), rng.normal(size=(3, 3, 3, 2))
    narrow = [jnp.asarray(array, jnp.bfloat16) for array in (images, kernel)]
    found = jax.jit(convolve)(*narrow)
    expected = jax.jit(convolve)(*(array.astype(jnp.float32) for array in narrow))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, expected.astype(jnp.bfloat16))


def test_the_maximum_takes_a_margin_and_every_other_pixel():
    images = np.random.default_rng(0).normal(size=(5, 4, 2, 3)).astype(np.float32)
    padded = np.pad(images, [(1, 1), (1, 1), (0, 0), (0, 0)], constant_values=-np.inf)
    expected = [[padded[i : i + 3, j : j + 3].max((0, 1)) for j in (0, 2)] for i in (0, 2, 4)]
    np.testing.assert_array_equal(max_pool(images), expected)


@pytest.mark.parametrize(
    ("kernel", "stride", "message"),
    [
        ((3, 2, 1, 1), 1, "kernel of 3 x 2 positions; give odd"),
        ((3, 3, 2, 1), 1, "kernel for 2 channels, images with 1"),
        ((3, 3, 1, 1), 3, "stride 3; give 1 or 2"),
    ],
)
def test_what_does_not_fit_is_named(kernel, stride, message):
    with pytest.raises(ValueError, match=message):
        convolve(jnp.zeros((4, 4, 1, 1)), jnp.zeros(kernel), stride)
