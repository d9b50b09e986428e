"""Products in bfloat16 are products of rounded factors, wherever in a program they stand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imbalance.problems import heavy_tailed_linear
from imbalance.training.precision import in_precision
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

DRAWN = np.random.default_rng(0)
LEFT = DRAWN.normal(size=(7, 300)).astype(np.float32)
RIGHT = DRAWN.normal(size=(300, 5)).astype(np.float32)


def rounded(values):
    """Float64 numbers of eight significant bits."""
    return np.asarray(jnp.asarray(values).astype(jnp.bfloat16)).astype(np.float64)


def multiply(a, b):
    return a @ b


def of_transposed(a, b):
    turned, other = jnp.asarray(a).T, jnp.asarray(b).T
    return turned.T @ other.T + jnp.einsum("ji,kj->ik", turned, other) - (other @ turned).T


def in_batches(a, b):
    return jnp.einsum("bij,bjk->bik", jnp.stack([a, 0 * a]), jnp.stack([b, b]))[0]


def by_vector(a, b):
    return jnp.stack([a @ column for column in b.T], 1)


def in_loop(a, b):
    return jax.lax.fori_loop(0, 3, lambda i, total: total + a @ b, jnp.zeros((7, 5))) / 3


def in_scan(a, b):
    return jax.lax.scan(lambda total, row: (total, row @ b), 0.0, a)[1]


def in_branch(a, b):
    return jax.lax.cond(a.sum() < 1e9, multiply, lambda a, b: jnp.zeros((7, 5)), a, b)


def in_remat(a, b):
    return jax.checkpoint(multiply)(a, b)


@partial(jax.custom_vjp)
def with_own_gradient(a, b):
    return a @ b


with_own_gradient.defvjp(lambda a, b: (a @ b, (a, b)), lambda kept, g: (g @ kept[1].T, None))


@pytest.mark.parametrize(
    "function",
    [
        multiply,
        jax.jit(multiply),
        of_transposed,
        in_loop,
        in_scan,
        in_branch,
        in_remat,
        with_own_gradient,
    ],
)
@pytest.mark.parametrize("jitted", [False, True])
def test_a_product_is_that_of_rounded_factors(function, jitted):
    computed = in_precision("bfloat16", function)
    found = (jax.jit(computed) if jitted else computed)(LEFT, RIGHT)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, rounded(LEFT) @ rounded(RIGHT), rtol=2e-5, atol=2e-5)
    exact = LEFT.astype(np.float64) @ RIGHT
    assert np.abs(found - exact).max() > 1e-3  # rounding is seen
    whole = in_precision("float32", function)(LEFT, RIGHT)
    np.testing.assert_allclose(whole, exact, rtol=2e-5, atol=2e-5)


def test_a_gradient_is_rounded_in_both_directions():
    def loss(a, b):
        return jnp.sum(jnp.sin(a @ b))

    found = in_precision("bfloat16", jax.grad(loss))(LEFT, RIGHT)
    outer = np.cos(rounded(LEFT) @ rounded(RIGHT))
    expected = rounded(outer.astype(np.float32)) @ rounded(RIGHT).T
    # One number of the outer gradient may be rounded the other way: 2^-8 of it, times a factor.
    np.testing.assert_allclose(found, expected, atol=2e-2)
    assert np.mean(np.abs(found - expected) < 1e-4) > 0.9


def test_a_convolution_is_that_of_rounded_factors():
    images = DRAWN.normal(size=(2, 9, 9, 3)).astype(np.float32)
    kernel = DRAWN.normal(size=(3, 3, 3, 4)).astype(np.float32)
    convolve = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    found = in_precision("bfloat16", convolve)(images, kernel)
    expected = convolve(*(rounded(x).astype(np.float32) for x in (images, kernel)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_other_types_are_left_alone():
    whole = np.arange(6).reshape(2, 3)
    found = in_precision("bfloat16", multiply)(whole, whole.T)
    np.testing.assert_array_equal(found, whole @ whole.T)


def test_a_run_in_bfloat16_is_near_that_in_float32_and_says_so():
    runs = {
        precision: run(
            Sweep(heavy_tailed_linear(4), {"gd": (0.1,)}, 20, stops=(0, 20), precision=precision)
        )
        for precision in ("float32", "bfloat16")
    }
    losses = {name: dataset["loss"].sel(step=20).item() for name, dataset in runs.items()}
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=5e-3)
    assert '"precision": "bfloat16"' in runs["bfloat16"].attrs["settings"]


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision 'half'; known are float32, tensorfloat32"):
        Sweep(heavy_tailed_linear(4), {"gd": (0.1,)}, 20, precision="half")
