"""One contract for every task: losses of single examples, of which all else is made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imbalance.analysis import FrequencyBuckets
from imbalance.probes import loss_by_bucket
from imbalance.problems import heavy_tailed_linear, power_law_linear, weighted_quadratic
from imbalance.problems.tasks import Batch, accumulate, next_token
from imbalance.training.engine import microbatched, total

SINGLE_STEP = 1e-6  # relative, float32: sums of a few dozen numbers in another order

PROBLEMS = {
    "linear": heavy_tailed_linear(3),
    "linear, bias column": power_law_linear(3, 1.0, bias_column=True),
    "quadratic": weighted_quadratic(7),
}
LINEAR = [PROBLEMS["linear"], PROBLEMS["linear, bias column"]]


@pytest.fixture(params=PROBLEMS.values(), ids=PROBLEMS.keys())
def each(request):
    return request.param


def losses(problem, params, batch):
    return problem.task.per_example(params, batch, None)


def test_the_start_depends_on_the_key_and_on_nothing_else(each):
    first, again = (each.task.init(jax.random.key(0)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(first))


@pytest.mark.parametrize("linear", LINEAR, ids=["linear", "bias column"])
def test_another_key_starts_elsewhere_within_the_bounds_of_pytorch(linear):
    one, other = (linear.task.init(jax.random.key(seed)) for seed in (0, 1))
    num_inputs = linear.shapes.input.shape[1]
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert not np.array_equal(a, b)
        assert np.abs(a).max() <= num_inputs**-0.5


def test_losses_are_one_finite_number_an_example(each):
    batch = each.batch(0)
    found = losses(each, each.task.init(jax.random.key(0)), batch)
    assert found.loss.shape == found.label.shape == found.weight.shape == batch.weight.shape
    assert found.loss.dtype == jnp.float32
    assert np.isfinite(found.loss).all()
    np.testing.assert_array_equal(found.label, batch.label)
    assert found.label.min() >= 0 and found.label.max() < len(each.counts)


def test_the_mean_is_the_weighted_mean_of_the_examples(each):
    batch, params = each.batch(0), each.task.init(jax.random.key(0))
    found = losses(each, params, batch)
    expected = np.average(np.float64(found.loss), weights=np.float64(found.weight))
    loss, weight = total(found)
    assert loss / weight == pytest.approx(expected, rel=SINGLE_STEP)
    probe = loss_by_bucket(each.task, each.buckets)
    measured = jax.jit(probe.measure)(params, microbatched(batch).batch)
    assert measured["loss"] == pytest.approx(expected, rel=SINGLE_STEP)


def test_weight_zero_masks(each):
    batch, params = each.batch(0), each.task.init(jax.random.key(0))
    keep = np.arange(len(batch.weight)) % 3 > 0
    masked = batch._replace(weight=np.where(keep, batch.weight, 0))
    left = jax.tree.map(lambda leaf: leaf[keep], batch)
    measure = jax.jit(loss_by_bucket(each.task, each.buckets).measure)
    with_mask, without = (measure(params, microbatched(b).batch) for b in (masked, left))
    for name in without:
        np.testing.assert_allclose(with_mask[name], without[name], rtol=SINGLE_STEP)


@pytest.mark.parametrize("microbatches", [2, 5, 7])
def test_microbatches_add_up_to_the_batch(each, microbatches):
    batch, params = each.batch(0), each.task.init(jax.random.key(0))

    def sums(batch, _):
        return total(losses(each, params, batch))

    whole = sums(batch, 0)
    parts = accumulate(sums, microbatched(batch, microbatches).batch)
    np.testing.assert_allclose(parts, whole, rtol=SINGLE_STEP)


def test_microbatches_are_numbered(problem):
    batch = microbatched(problem.batch(0), 4).batch
    assert accumulate(lambda _, index: jnp.asarray(index), batch) == 0 + 1 + 2 + 3


@pytest.mark.parametrize("linear", LINEAR, ids=["linear", "bias column"])
def test_a_zero_head_knows_nothing(linear):
    zeros = jax.tree.map(jnp.zeros_like, linear.task.init(jax.random.key(0)))
    found = losses(linear, zeros, linear.batch(0))
    np.testing.assert_allclose(found.loss, np.log(len(linear.counts)), rtol=SINGLE_STEP)


@pytest.mark.parametrize("linear", LINEAR, ids=["linear", "bias column"])
def test_the_gradient_of_the_softmax_is_its_closed_form(linear):
    batch, params = linear.batch(0), linear.task.init(jax.random.key(0))
    found = jax.grad(lambda params: losses(linear, params, batch).loss.mean())(params)

    inputs, n = np.float64(batch.input), len(batch.label)
    logits = inputs @ np.float64(params["weight"]).T + np.float64(params["bias"])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = p - np.eye(len(linear.counts))[batch.label]  # P - Y
    np.testing.assert_allclose(found["weight"], error.T @ inputs / n, atol=SINGLE_STEP)
    np.testing.assert_allclose(found["bias"], error.mean(0), atol=SINGLE_STEP)
    # The probabilities of an example sum to one, so the classes' gradients cancel.
    np.testing.assert_allclose(found["weight"].sum(0), 0, atol=SINGLE_STEP)
    assert found["bias"].sum() == pytest.approx(0, abs=SINGLE_STEP)


def test_the_quadratic_weighs_half_squares_by_class_probability():
    quadratic = PROBLEMS["quadratic"]
    weight = np.linspace(-2, 3, 7, dtype=np.float32)
    loss, mass = total(losses(quadratic, {"weight": weight}, quadratic.batch(0)))
    expected = quadratic.counts @ np.float64(weight) ** 2 / 2
    assert loss / mass == pytest.approx(expected, rel=SINGLE_STEP)


class Echo(nnx.Module):
    """A language model whose features are its inputs, with noise where there is a key."""

    def __init__(self, rngs):
        self.weight = nnx.Param(jax.random.normal(rngs.params(), (5, 2)))

    def head(self, inputs, key=None):
        noise = 0 if key is None else jax.random.normal(key, inputs.shape)
        return (inputs + noise).reshape(-1, 2), self.weight[...], None


def text_batch():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, (3, 4)).astype(np.int32)
    return Batch(
        rng.normal(size=(3, 4, 2)).astype(np.float32), label, rng.random((3, 4), np.float32)
    )


@pytest.mark.parametrize("chunk", [None, 5])
def test_every_position_is_an_example_of_its_next_token(chunk):
    task, batch = next_token(Echo, chunk=chunk), text_batch()
    params = task.init(jax.random.key(0))
    found = task.per_example(params, batch, None)
    logits = np.float64(batch.input).reshape(12, 2) @ np.float64(params["weight"]).T
    label = batch.label.reshape(12)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(12), label]
    np.testing.assert_allclose(found.loss, expected, atol=SINGLE_STEP)
    np.testing.assert_array_equal(found.label, label)
    np.testing.assert_array_equal(found.weight, batch.weight.reshape(12))
    assert task.head is not None
    np.testing.assert_array_equal(task.head(params, batch).features, batch.input.reshape(12, 2))


def test_dropout_is_off_without_a_key_unless_evaluation_is_to_be_as_the_authors():
    """B.7: they never switched it off. What each evaluation drops is the same."""
    batch, key = text_batch(), jax.random.key(0)
    quiet, authors = next_token(Echo), next_token(Echo, noisy_evaluation=True)
    params = quiet.init(key)
    trained = {task: task.per_example(params, batch, key).loss for task in (quiet, authors)}
    np.testing.assert_array_equal(trained[quiet], trained[authors])
    first, second = (authors.per_example(params, batch, None).loss for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first != quiet.per_example(params, batch, None).loss).all()
    assert (quiet.per_example(params, batch, None).loss != trained[quiet]).all()


def test_language_models_are_measured_by_bucket_like_any_other():
    task, batch = next_token(Echo), text_batch()
    params, buckets = task.init(jax.random.key(0)), FrequencyBuckets.from_counts([4, 3, 2, 2, 1], 2)
    found = task.per_example(params, batch, None)
    measure = jax.jit(loss_by_bucket(task, buckets).measure)
    measured = measure(params, microbatched(batch, 3).batch)
    loss, weight = np.float64(found.loss), np.float64(found.weight)
    assert measured["loss"] == pytest.approx(np.average(loss, weights=weight), rel=SINGLE_STEP)
    bucket = np.asarray(buckets.bucket_of_class)[found.label]
    expected = [np.average(loss[bucket == b], weights=weight[bucket == b]) for b in range(2)]
    np.testing.assert_allclose(measured["bucket_loss"], expected, rtol=SINGLE_STEP)
