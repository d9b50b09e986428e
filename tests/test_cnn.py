"""The convolutional network, and its convolution, against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imbalance.models import convolution
from imbalance.models.cnn import SimpleCNN
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Batch, classification
from imbalance.training import engine
from imbalance.training.engine import Engine, microbatched
from imbalance.training.optimizers import OPTIMIZERS

start = jax.jit(engine.start, static_argnums=0)
advance = jax.jit(engine.advance, static_argnums=0, donate_argnums=1)

# Independent NumPy --------------------------------------------------------------------------------
# Images [example, row, column, channel], kernels [row, column, input, output].


def pad(images, kernel):
    rows, columns = (side // 2 for side in kernel.shape[:2])
    return np.pad(images, [(0, 0), (rows, rows), (columns, columns), (0, 0)])


def patches(images, kernel):
    """[tap, example, row, column, channel]: what each position of the kernel lies on."""
    padded, (_, height, width, _) = pad(images, kernel), images.shape
    return np.stack(
        [padded[:, i : i + height, j : j + width] for i, j in np.ndindex(kernel.shape[:2])]
    )


def correlate(images, kernel):
    taps = kernel.reshape(-1, *kernel.shape[2:])
    return np.einsum("tnhwc,tco->nhwo", patches(images, kernel), taps)


def correlate_gradients(images, kernel, gradient):
    """Gradients to images and kernel."""
    to_kernel = np.einsum("tnhwc,nhwo->tco", patches(images, kernel), gradient)
    turned = np.flip(kernel, (0, 1)).swapaxes(2, 3)
    return correlate(gradient, turned), to_kernel.reshape(kernel.shape)


def windows(images):
    """[example, row, column, channel, 4]: 2 x 2 windows in reading order."""
    count, height, width, channels = images.shape
    split = images.reshape(count, height // 2, 2, width // 2, 2, channels)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(count, height // 2, width // 2, channels, 4)


def unpool(images, gradient):
    first = windows(images).argmax(-1)[..., None] == np.arange(4)
    count, height, width, channels = gradient.shape
    spread = (first * gradient[..., None]).reshape(count, height, width, channels, 2, 2)
    return spread.transpose(0, 1, 4, 2, 5, 3).reshape(images.shape)


def loss_and_gradients(params, images, labels):
    """Mean cross-entropy of the network and its gradients, by hand."""
    layers, found = [], images[..., None]
    for index in params["kernels"]:
        kernel, shift = params["kernels"][index], params["shifts"][index]
        before = correlate(found, kernel) + shift
        layers.append((index, kernel, found, before))
        found = windows(np.maximum(before, 0)).max(-1)  # in the paper's order: ReLU, then pooling
    features, rows = found.reshape(len(images), -1), np.arange(len(images))
    logits = features @ params["weight"].T + params["bias"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    error = (np.exp(log_p) - np.eye(logits.shape[1])[labels]) / len(images)
    grads = {"weight": error.T @ features, "bias": error.sum(0), "kernels": {}, "shifts": {}}
    back = (error @ params["weight"]).reshape(found.shape)
    for index, kernel, entered, before in layers[::-1]:
        back = unpool(np.maximum(before, 0), back) * (before > 0)
        grads["shifts"][index] = back.sum((0, 1, 2))
        back, grads["kernels"][index] = correlate_gradients(entered, kernel, back)
    return -log_p[rows, labels].mean(), grads


def examples_last(images):
    return np.moveaxis(images, 0, -1)


def relative(found, expected):
    """Largest difference, as a share of the largest entry."""
    return np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max()


# The convolution ----------------------------------------------------------------------------------

# Rows and columns, kernel, channels, outputs, examples.
SIZES = [
    ((14, 14), (5, 5), 32, 100, 6),
    ((7, 5), (3, 5), 3, 2, 1),
    ((3, 4), (7, 1), 1, 3, 5),
]


def draw(image, kernel, channels, outputs, examples, seed=0):
    """Images, kernel and a gradient of the convolved images."""
    rng = np.random.default_rng(seed)
    shapes = (examples, *image, channels), (*kernel, channels, outputs), (examples, *image, outputs)
    return [rng.normal(size=shape) for shape in shapes]


def value_and_gradients(function, images, kernel, gradient):
    value, back = jax.vjp(function, images, kernel)
    return value, *back(gradient)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_convolution_by_frequencies_is_the_plain_one(sizes, wide):
    images, kernel, gradient = draw(*sizes)
    to_images, to_kernel = correlate_gradients(images, kernel, gradient)
    expected = examples_last(correlate(images, kernel)), examples_last(to_images), to_kernel
    given = examples_last(images), kernel, examples_last(gradient)
    function = jax.jit(partial(value_and_gradients, convolution.convolve_by_frequencies))
    with jax.enable_x64(wide):
        found = function(*(jnp.asarray(array, float if wide else jnp.float32) for array in given))
    for one, other in zip(found, expected, strict=True):
        # Exact but for rounding: in float32 3e-6 were seen.
        assert relative(one, other) < (1e-13 if wide else 1e-5)


@pytest.mark.parametrize(
    ("channels", "runs"),
    [
        pytest.param(1, 1, id="by shifts", marks=pytest.mark.slow),
        pytest.param(1, 2, id="by shifts, mapped"),
        pytest.param(7, 1, id="by frequencies", marks=pytest.mark.slow),
        pytest.param(7, 2, id="by frequencies, mapped"),
    ],
)
def test_convolution_and_pooling_in_a_loop_over_mapped_runs(channels, runs):
    drawn = [draw((8, 6), (3, 5), channels, 5, 4, seed) for seed in range(runs)]
    images = np.stack([examples_last(d[0]) for d in drawn]).astype(np.float32)
    kernels = np.stack([d[1] for d in drawn]).astype(np.float32)
    weights = np.stack([examples_last(d[2][:, ::2, ::2]) for d in drawn]).astype(np.float32)

    def plain(images, kernel):
        layout = ("HWCN", "HWIO", "HWCN")
        found = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=layout
        )
        return jax.lax.reduce_window(
            found, -jnp.inf, jax.lax.max, (2, 2, 1, 1), (2, 2, 1, 1), "VALID"
        )

    def steps(function, images, kernels):
        each = jax.vmap(partial(value_and_gradients, function))

        def body(_, carry):
            value, *gradients = each(images, carry[0], weights)
            return carry[0] - 1e-4 * gradients[1], value, *gradients

        first = (kernels, *each(images, kernels, weights))
        return jax.lax.fori_loop(0, 2, body, first)

    found = jax.jit(partial(steps, convolution.convolve_and_pool))(images, kernels)
    expected = jax.jit(partial(steps, plain))(images, kernels)
    for one, other in zip(found, expected, strict=True):
        assert relative(one, np.asarray(other)) < 1e-5


def test_of_equal_entries_the_first_takes_the_gradient():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (50, 4, 6, 3)).astype(np.float32)  # all patterns of ties
    gradient = rng.normal(size=(50, 2, 3, 3)).astype(np.float32)
    given = examples_last(images), examples_last(gradient)
    pooled, back = jax.vjp(convolution.max_pool, given[0])
    np.testing.assert_array_equal(pooled, examples_last(windows(images).max(-1)))
    np.testing.assert_array_equal(back(given[1])[0], examples_last(unpool(images, gradient)))

    entries = np.moveaxis(windows(images), -1, 0)
    pooled, back = jax.vjp(convolution.largest, entries)
    first = entries.argmax(0) == np.arange(4).reshape(4, 1, 1, 1, 1)
    np.testing.assert_array_equal(pooled, entries.max(0))
    np.testing.assert_array_equal(back(gradient)[0], first * gradient)


@pytest.mark.parametrize(
    ("image", "kernel", "message"),
    [
        ((3, 4, 1, 1), (3, 3, 1, 2), "images of 3 x 4 pixels; give even"),
        ((4, 4, 1, 1), (3, 2, 1, 2), "kernel of 3 x 2 positions; give odd"),
        ((4, 4, 1, 1), (3, 3, 2, 2), "kernel for 2 channels, images with 1"),
    ],
)
def test_sizes_that_do_not_fit_are_named(image, kernel, message):
    with pytest.raises(ValueError, match=message):
        convolution.convolve_and_pool(jnp.zeros(image), jnp.zeros(kernel))


# The network --------------------------------------------------------------------------------------


def small(rngs):
    """The first convolution goes by shifts, the second by frequencies."""
    return SimpleCNN(5, side=8, channels=(8, 3), kernel=3, rngs=rngs)


def test_start_of_the_papers_network():
    params = nnx.to_pure_dict(nnx.state(SimpleCNN(10, rngs=nnx.Rngs(0))))
    shapes = jax.tree.map(np.shape, params)
    assert shapes == {
        "kernels": {0: (5, 5, 1, 32), 1: (5, 5, 32, 100)},
        "shifts": {0: (32,), 1: (100,)},
        "weight": (10, 4900),
        "bias": (10,),
    }
    fan_in = {"kernels": {0: 25, 1: 800}, "shifts": {0: 25, 1: 800}, "weight": 4900, "bias": 4900}
    for leaf, inputs in zip(jax.tree.leaves(params), jax.tree.leaves(fan_in), strict=True):
        scaled = np.asarray(leaf).ravel() * inputs**0.5
        assert np.abs(scaled).max() <= 1
        assert abs(scaled.mean()) < 5 / (3 * scaled.size) ** 0.5  # five standard errors
        assert abs(scaled.var() - 1 / 3) < 5 * (4 / 45 / scaled.size) ** 0.5


@pytest.mark.parametrize(
    "microbatches",  # of 6, of 2, and, with padding, of 2 rows
    [*(pytest.param(count, marks=pytest.mark.slow) for count in (1, 3)), 4],
)
def test_the_first_step_is_that_of_numpy_whatever_the_microbatch(microbatches):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(6, 8, 8)).astype(np.float32)
    labels = rng.integers(0, 5, 6).astype(np.int32)
    data = microbatched(Batch(images, labels, np.ones(6, np.float32)), microbatches)
    descent = Engine(classification(small), OPTIMIZERS["gd"].rule)
    rate = 0.5
    state = start(descent, jax.random.key(0), jnp.asarray([rate]))
    before = jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), state.params)
    state, (loss, weight) = advance(descent, state, data, Objective(), 1)
    expected, grads = loss_and_gradients(before, images.astype(np.float64), labels)
    assert float(loss[0, 0] / weight[0, 0]) == pytest.approx(expected, rel=1e-6)
    after = jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), state.params)
    found = jax.tree.map(lambda old, new: (old - new) / rate, before, after)
    assert jax.tree.structure(found) == jax.tree.structure(grads)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(grads), strict=True):
        assert relative(one, other) < 1e-5


def test_logits_are_those_of_the_head():
    model = small(nnx.Rngs(0))
    images = np.random.default_rng(2).normal(size=(3, 8, 8)).astype(np.float32)
    logits, head = jax.jit(lambda images: (model(images), model.head(images)))(images)
    features, weight, bias = (np.asarray(part, np.float64) for part in head)
    assert features.shape == (3, 2 * 2 * 3) and weight.shape == (5, 12) and bias.shape == (5,)
    assert model.class_axis == 0
    assert relative(logits, weight @ features.T + bias[:, None]) < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"side": 30}, "give a multiple of 4"), ({"kernel": 4}, "give an odd number")],
)
def test_networks_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        SimpleCNN(2, rngs=nnx.Rngs(0), **changes)
