"""Chunked cross-entropy: a float64 oracle, optax, and the memory of a single chunk."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imbalance.ondevice.cross_entropy import chunked_cross_entropy

SINGLE = 1e-5  # of numbers of size one, float32
NUM_CLASSES, NUM_FEATURES = 17, 6


class Drawn(NamedTuple):
    hidden: np.ndarray
    weight: np.ndarray
    label: np.ndarray
    bias: np.ndarray
    scale: np.ndarray  # of each loss in the sum that is differentiated


def draw(num_examples=24, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return np.asarray(rng.normal(size=shape), dtype)

    label = rng.integers(0, NUM_CLASSES, num_examples, dtype=np.int32)
    hidden, weight = normal(num_examples, NUM_FEATURES), normal(NUM_CLASSES, NUM_FEATURES)
    return Drawn(hidden, weight, label, normal(NUM_CLASSES), np.float32(normal(num_examples)))


def oracle(drawn, smoothing=0.0):
    """Losses, and gradients of ``Σ scale ℓ`` to hidden states, weights and biases, in float64."""
    hidden, weight, bias, scale = (np.float64(drawn[i]) for i in (0, 1, 3, 4))
    logits = hidden @ weight.T + bias
    logits -= logits.max(1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    wanted = (1 - smoothing) * np.eye(NUM_CLASSES)[drawn.label] + smoothing / NUM_CLASSES
    error = scale[:, None] * (np.exp(log_p) - wanted)
    return -(wanted * log_p).sum(1), (error @ weight, error.T @ hidden, error.sum(0)), error


def chunked(drawn, **options):
    """The same of `chunked_cross_entropy`."""

    def total(hidden, weight, bias):
        loss = chunked_cross_entropy(hidden, weight, drawn.label, bias, **options)
        return (drawn.scale * loss).sum(), loss

    given = drawn.hidden, drawn.weight, drawn.bias
    (_, loss), grads = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(*given)
    return loss, grads


def assert_close(found, expected, tolerance=SINGLE):
    def compare(found, expected):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)

    jax.tree.map(compare, found, expected)


@pytest.mark.parametrize(
    ("num_examples", "chunk", "smoothing", "keep"),
    [
        (24, 8, 0.0, False),
        (23, 8, 0.1, False),
        (23, 8, 0.1, True),
        (5, None, 0.1, True),
        (0, 8, 0.0, False),
    ],
)
def test_losses_and_gradients_are_those_of_float64(num_examples, chunk, smoothing, keep):
    drawn = draw(num_examples)
    loss, grads = chunked(drawn, chunk=chunk, smoothing=smoothing, keep=keep)
    assert loss.shape == (num_examples,) and loss.dtype == jnp.float32
    assert_close((loss, grads), oracle(drawn, smoothing)[:2])


def test_weights_may_lie_as_in_flax():
    drawn = draw()
    turned = drawn._replace(weight=drawn.weight.T)
    loss, (hidden, weight, bias) = chunked(turned, chunk=7, class_axis=1, smoothing=0.1)
    assert_close((loss, (hidden, weight.T, bias)), oracle(drawn, 0.1)[:2])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_it_agrees_with_optax_without_bias(smoothing):
    hidden, weight, label, _, scale = draw()

    def plain(hidden, weight):
        wanted = optax.smooth_labels(jax.nn.one_hot(label, NUM_CLASSES), smoothing)
        return (scale * optax.softmax_cross_entropy(hidden @ weight.T, wanted)).sum()

    def ours(hidden, weight):
        loss = chunked_cross_entropy(hidden, weight, label, chunk=7, smoothing=smoothing)
        return (scale * loss).sum()

    found, expected = (
        jax.jit(jax.value_and_grad(f, (0, 1)))(hidden, weight) for f in (ours, plain)
    )
    assert_close(found, expected)


@pytest.mark.parametrize("shape", [(), (2, 3, 4)])
def test_losses_have_the_shape_of_the_labels(shape):
    drawn = draw(int(np.prod(shape)))
    hidden, label = drawn.hidden.reshape(*shape, NUM_FEATURES), drawn.label.reshape(shape)
    losses = jax.jit(partial(chunked_cross_entropy, chunk=5))
    loss = losses(hidden, drawn.weight, label, drawn.bias)
    assert_close(loss, oracle(drawn)[0].reshape(shape))


def test_a_small_loss_keeps_its_digits():
    # Logits are 1000 and 990. The loss is less than the rounding of 1000, and much more than that
    # of 1 + exp(-10), which is 1e-3 of it.
    losses = jax.jit(chunked_cross_entropy)
    loss = losses(np.float32([[1e3]]), np.float32([[1], [0.99]]), np.array([0]))
    assert loss[0] == pytest.approx(np.log1p(np.exp(-10)), rel=2e-3)


# Masked examples ----------------------------------------------------------------------------------


def test_ignored_and_impossible_labels_count_for_nothing_whatever_the_hidden_states():
    drawn = draw(23)
    wrong = np.arange(23) % 3 == 0
    label = np.where(wrong, np.resize([-100, NUM_CLASSES, -1, 2**31 - 1, 5], 23), drawn.label)
    label[~wrong & (label == 5)] = 6
    wrong |= label == 5
    poison = np.resize(np.float32([np.nan, np.inf, 0]), (23, 1))
    hidden = np.where(wrong[:, None], poison, drawn.hidden)
    loss, (of_hidden, *grads) = chunked(
        drawn._replace(hidden=hidden, label=np.int32(label)), chunk=8, ignore_index=5, smoothing=0.1
    )
    kept = [drawn.hidden, drawn.weight, label, drawn.bias, drawn.scale]
    kept[0], kept[2], kept[4] = (kept[i][~wrong] for i in (0, 2, 4))
    expected, (of_kept, *others), _ = oracle(Drawn(*kept), 0.1)
    np.testing.assert_array_equal(loss[wrong], 0)
    np.testing.assert_array_equal(of_hidden[wrong], 0)
    assert_close((loss[~wrong], of_hidden[~wrong], grads), (expected, of_kept, others))


@pytest.mark.parametrize("keep", [False, True])
def test_nothing_comes_of_masked_examples_alone_even_with_diverged_weights(keep):
    drawn = draw(5)._replace(label=np.full(5, -1, np.int32), weight=np.full((17, 6), np.nan))
    loss, (hidden, _, _) = chunked(drawn, keep=keep)
    np.testing.assert_array_equal(loss, 0)
    np.testing.assert_array_equal(hidden, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_labels_may_be_of_any_integers(dtype):
    weight, hidden = np.zeros((1000, 2), np.float32), np.ones((3, 2), np.float32)
    losses = jax.jit(partial(chunked_cross_entropy, ignore_index=4))
    assert_close(losses(hidden, weight, np.array([3, 255, 4], dtype)), np.log([1000, 1000, 1]))


# Precision ----------------------------------------------------------------------------------------


def test_bfloat16_is_rounded_where_it_must_be_and_nowhere_else():
    drawn = draw(2048, jnp.bfloat16)
    loss, grads = chunked(drawn, chunk=8)  # 256 sums: in bfloat16 these would be far off
    expected, of_all, error = oracle(drawn)
    assert loss.dtype == jnp.float32
    assert_close(loss, expected, 2 * SINGLE)
    # u is half a unit in the last of 8 places. The gradient of the logits is rounded before it is
    # multiplied, but not before it is summed for the biases; then each gradient is.
    u = 2.0**-8
    size, hidden, weight = (np.abs(np.float64(a)) for a in (error, drawn.hidden, drawn.weight))
    rounded = size @ weight, size.T @ hidden, 0.0
    for found, wanted, before in zip(grads, of_all, rounded, strict=True):
        assert found.dtype == jnp.bfloat16
        bound = u * (before + np.abs(wanted)) * (1 + u) + 10 * SINGLE
        assert (np.abs(np.float64(found) - wanted) <= bound).all()


def test_hidden_states_in_bfloat16_go_with_weights_in_float32():
    drawn = draw()._replace(hidden=draw(dtype=jnp.bfloat16).hidden)
    loss, (hidden, weight, _) = chunked(drawn, chunk=8)
    assert (loss.dtype, hidden.dtype, weight.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    expected, (_, of_weight, _), _ = oracle(drawn)
    assert_close((loss, weight), (expected, of_weight))


# Transformations ----------------------------------------------------------------------------------


def test_it_maps_over_runs_inside_a_scan():
    drawn = draw(20)
    weights = np.stack([draw(seed=seed).weight for seed in range(3)])

    def descend(weight, _):
        def total(weight):
            loss = chunked_cross_entropy(drawn.hidden, weight, drawn.label, chunk=8)
            return (drawn.scale * loss).sum()

        value, grad = jax.value_and_grad(total)(weight)
        return weight - 0.1 * grad, value

    def expected(weight):
        values = []
        for _ in range(3):
            same = drawn._replace(weight=weight, bias=np.zeros(NUM_CLASSES))
            loss, grads, _ = oracle(same)
            values.append((drawn.scale * loss).sum())
            weight = weight - 0.1 * grads[1]
        return weight, np.array(values)

    def run(weight):
        return jax.lax.scan(descend, weight, length=3)

    last, values = jax.jit(jax.vmap(run))(weights)
    for i, weight in enumerate(weights):
        assert_close((last[i], values[i]), expected(weight), 3 * SINGLE)


@pytest.mark.parametrize("keep", [False, True])
def test_hessian_products_are_those_of_the_plain_loss(keep):
    drawn = draw(20)

    def ours(weight):
        return chunked_cross_entropy(drawn.hidden, weight, drawn.label, chunk=8, keep=keep).sum()

    def plain(weight):
        logits = drawn.hidden @ weight.T
        return optax.softmax_cross_entropy_with_integer_labels(logits, drawn.label).sum()

    tangent = draw(seed=1).weight
    found, expected = (
        jax.jit(lambda w, t, f=f: jax.jvp(jax.grad(f), (w,), (t,))[1])(drawn.weight, tangent)
        for f in (ours, plain)
    )
    assert_close(found, expected)


SHARDED = """
import jax
from jax.sharding import AxisType, PartitionSpec as P
from imbalance.ondevice.cross_entropy import chunked_cross_entropy
from test_cross_entropy import assert_close, draw, oracle

def sum_and_losses(hidden, weight, bias, label, scale):
    loss = chunked_cross_entropy(hidden, weight, label, bias, chunk=4)
    return jax.lax.psum((scale * loss).sum(), "x"), loss

def grads_within(*args):
    return jax.grad(sum_and_losses, (0, 1, 2), has_aux=True)(*args)

def grads_around(*args):
    return jax.grad(jax.shard_map(sum_and_losses, in_specs=specs, out_specs=(P(), P("x"))),
                    (0, 1, 2), has_aux=True)(*args)

drawn = draw(22)
expected = oracle(drawn)[1::-1]
specs = P("x"), P(), P(), P("x"), P("x")
within = jax.shard_map(grads_within, in_specs=specs, out_specs=((P("x"), P(), P()), P("x")))
for kind, grads in ((AxisType.Auto, within), (AxisType.Explicit, grads_around)):
    jax.set_mesh(jax.make_mesh((2,), ("x",), axis_types=(kind,)))
    given = drawn.hidden, drawn.weight, drawn.bias, drawn.label, drawn.scale
    args = [jax.device_put(a, spec) for a, spec in zip(given, specs)]
    assert_close(jax.device_get(jax.jit(grads)(*args)), expected)
"""


def test_examples_spread_over_two_devices():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    path = os.pathsep.join(
        [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    command = [sys.executable, "-W", "error", "-c", SHARDED]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# Memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_features", "class_axis"), [(64, 1), (128, 0)])
def test_memory_is_that_of_one_chunk(num_features, class_axis):
    """Temporary memory of the compiled value_and_grad, to hidden states and weights.

    A chunk's own need is the temporary memory of the plain value_and_grad, optax on full logits, of
    as many examples as the default chunk has. Neither contains arguments and results, the gradient
    of the weights among them; the sum over chunks must therefore happen inside that result.
    """
    num_classes, num_examples, chunk = 2**18, 4096, num_features

    def plain(hidden, weight, label):
        logits = jnp.tensordot(hidden, weight, (1, 1 - class_axis))
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).sum()

    def ours(hidden, weight, label):
        return chunked_cross_entropy(hidden, weight, label, class_axis=class_axis).sum()

    def temporary(function, count):
        weight = (num_classes, num_features)[:: 1 - 2 * class_axis]
        shapes = ((count, num_features), weight)
        floats = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        label = jax.ShapeDtypeStruct((count,), jnp.int32)
        compiled = jax.jit(jax.value_and_grad(function, (0, 1))).lower(*floats, label).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(ours, num_examples) <= 1.25 * temporary(plain, chunk)


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"label": np.zeros(24)}, TypeError, "labels are of dtype float.*integers"),
        ({"label": np.zeros(24, bool)}, TypeError, "labels are of dtype bool"),
        ({"hidden": np.zeros((24, 6), int)}, TypeError, "hidden states are of dtype int"),
        ({"label": np.zeros(23, int)}, ValueError, r"\(24, 6\), labels \(23,\)"),
        ({"weight": np.zeros((17, 5))}, ValueError, r"\(17, 5\).*\[class, feature\]"),
        ({"class_axis": 1}, ValueError, r"\(17, 6\).*\[feature, class\]"),
        ({"class_axis": -1}, ValueError, "class_axis is -1"),
        ({"bias": np.zeros(6)}, ValueError, r"biases have shape \(6,\).*\(17,\)"),
        ({"chunk": 0}, ValueError, "chunk is 0; give 1 or more"),
        ({"smoothing": 1.0}, ValueError, r"smoothing is 1.0.*\[0, 1\)"),
        ({"smoothing": -0.1}, ValueError, "smoothing is -0.1"),
    ],
)
def test_errors_say_what_was_given(change, error, message):
    given = draw()._asdict() | change
    del given["scale"]
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda: chunked_cross_entropy(**given))
