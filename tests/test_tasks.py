"""One contract for every task: losses of single examples, of which all else is made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imbalance.engine import microbatched, total
from imbalance.probes import loss_by_bucket
from imbalance.problems import heavy_tailed_linear, power_law_linear, weighted_quadratic
from imbalance.tasks import accumulate

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
    measured = probe.measure(params, microbatched(batch).batch)
    assert measured["loss"] == pytest.approx(expected, rel=SINGLE_STEP)


def test_weight_zero_masks(each):
    batch, params = each.batch(0), each.task.init(jax.random.key(0))
    keep = np.arange(len(batch.weight)) % 3 > 0
    masked = batch._replace(weight=np.where(keep, batch.weight, 0))
    left = jax.tree.map(lambda leaf: leaf[keep], batch)
    measure = loss_by_bucket(each.task, each.buckets).measure
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
