"""Probes of the classes of a softmax layer, against autodiff of the loss they are about."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imbalance.probes import block_spectra, block_traces, class_statistics, hessian_entries
from imbalance.problems.tasks import quadratic
from imbalance.training.engine import microbatched


def flat_loss(problem, params):
    """Mean loss as a function of the layer's weight."""
    batch = problem.batch(0)

    def loss(weight):
        examples = problem.task.per_example({**params, "weight": weight}, batch, None)
        return jnp.sum(examples.weight * examples.loss) / jnp.sum(examples.weight)

    return loss


@pytest.mark.parametrize("microbatches", [1, 5])
def test_class_statistics_are_those_of_the_training_loss(problem, microbatches):
    params = problem.task.init(jax.random.key(0))
    data = microbatched(problem.batch(0), microbatches).batch
    found = jax.jit(class_statistics(problem.task).measure)(params, data)
    for prefix, sign in (("", 1), ("flipped_", -1)):
        here = jax.tree.map(lambda leaf, sign=sign: sign * leaf, params)
        loss = flat_loss(problem, here)
        gradient, hessian = (f(loss)(here["weight"]) for f in (jax.grad, jax.hessian))
        np.testing.assert_allclose(
            found[f"{prefix}gradient_norm"], np.linalg.norm(gradient, axis=1), rtol=1e-4
        )
        traces = np.einsum("kfkf->k", hessian)
        np.testing.assert_allclose(found[f"{prefix}hessian_trace"], traces, rtol=1e-4)


def test_block_traces_are_those_of_the_dense_hessian(problem):
    params = problem.task.init(jax.random.key(1))
    probe = block_traces(problem.task, (0, 3, 6))
    found = jax.jit(probe.measure)(params, microbatched(problem.batch(0)).batch)["block_trace"]
    hessian = jax.hessian(flat_loss(problem, params))(params["weight"])
    traces = np.einsum("kfjf->kj", hessian)[np.ix_([0, 3, 6], [0, 3, 6])]
    np.testing.assert_allclose(found, traces, rtol=1e-4, atol=1e-6)
    assert probe.coords["block_row"].tolist() == [0, 3, 6]


def test_hessian_entries_are_those_of_the_dense_hessian(problem):
    params = problem.task.init(jax.random.key(1))
    classes, inputs = [0, 3, 6], [1, 8]
    probe = hessian_entries(problem.task, "some", tuple(classes), tuple(inputs))
    data = microbatched(problem.batch(0), 5).batch
    found = jax.jit(probe.measure)(params, data)["entry_some"]
    hessian = np.asarray(jax.hessian(flat_loss(problem, params))(params["weight"]))
    expected = hessian[np.ix_(classes, inputs, classes, inputs)].reshape(6, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert probe.coords["some_row"].tolist() == [0, 0, 3, 3, 6, 6]


@pytest.mark.parametrize("microbatches", [1, 5])
def test_block_spectra_have_the_moments_of_the_dense_blocks(problem, microbatches):
    """Lanczos of more steps than a block has eigenvalues is exact, up to the random starts."""
    params = problem.task.init(jax.random.key(1))
    classes, starts = (0, 3, 6), 64
    probe = block_spectra(problem.task, classes, steps=28, starts=starts)
    data = microbatched(problem.batch(0), microbatches).batch
    found = jax.jit(probe.measure)(params, data)
    value, weight = (np.asarray(found[name], np.float64) for name in ("ritz_value", "ritz_weight"))
    assert value.shape == weight.shape == (3, starts, 28)
    hessian = np.asarray(jax.hessian(flat_loss(problem, params))(params["weight"]))
    for k, one, mass in zip(classes, value, weight, strict=True):
        block = hessian[k, :, k]
        np.testing.assert_allclose(one.max(1), np.linalg.eigvalsh(block)[-1], rtol=1e-3)
        means = np.sum(one * mass, 1)  # of vᵀHv, |v| = 1: each start estimates tr H / n
        error = np.std(means, ddof=1) / starts**0.5
        assert abs(means.mean() - np.trace(block) / len(block)) < 4 * error


def test_a_task_without_a_softmax_layer_is_refused():
    for make in (
        class_statistics,
        lambda task: block_traces(task, (0, 1)),
        lambda task: hessian_entries(task, "some", (0, 1), (0,)),
        lambda task: block_spectra(task, (0, 1)),
    ):
        with pytest.raises(ValueError, match="does not say where its linear softmax layer is"):
            make(quadratic(4))
