"""Curvature against dense float64 matrices, and its errors against what they promise."""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from matfree import decomp

from imbalance.curvature.operators import (
    Operator,
    Spectrum,
    dense,
    density,
    directional_sharpness,
    empirical_fisher,
    gauss_newton,
    hessian,
    spectrum,
    subset,
    tensor_sizes,
    top_eigenvalues,
    trace,
)
from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Batch, Examples, Task, quadratic
from imbalance.training.engine import microbatched

EXACT = 1e-9  # of products in float64, whose entries are of order one; found: 1e-15

# These programs run for microseconds and take seconds to compile; so, half as long.
compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

CLASS_WEIGHT = np.array([0.5, 2.0, 1.0])
OBJECTIVES = {"mean": Objective(), "penalised": Objective(jnp.asarray(CLASS_WEIGHT), l2=0.3)}
PENALISED = OBJECTIVES["penalised"]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class Model(NamedTuple):
    """A task, and the two steps that it is made of."""

    task: Task
    outputs: object
    output_loss: object
    params: object
    batch: Batch  # [row, ...]


def make_model(outputs, params, batch):
    def output_loss(logits, batch):
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
        return Examples(loss, batch.label, batch.weight)

    def per_example(params, batch, key):
        assert key is None, "curvature is of the deterministic loss"
        return output_loss(outputs(params, batch), batch)

    return Model(Task(lambda key: params, per_example), outputs, output_loss, params, batch)


def mlp():
    """3 inputs, 4 hidden units, 3 classes; 31 parameters in 2 layers; 14 rows, 2 of them masked."""
    random = np.random.default_rng(0)
    params = {
        "layers": [
            {"kernel": random.normal(size=(3, 4)), "bias": random.normal(size=4)},
            {"kernel": random.normal(size=(4, 3)), "bias": random.normal(size=3)},
        ]
    }
    weight = random.uniform(0.5, 2, 14) * (np.arange(14) % 6 > 0)
    label = random.integers(0, 3, 14, dtype=np.int32)

    def outputs(params, batch):
        first, second = params["layers"]
        hidden = jnp.tanh(batch.input @ first["kernel"] + first["bias"][None])
        return hidden @ second["kernel"] + second["bias"][None]

    return make_model(outputs, params, Batch(random.normal(size=(14, 3)), label, weight))


def linear():
    """Softmax regression: 5 inputs, 3 classes, 14 rows."""
    random = np.random.default_rng(1)
    label = random.integers(0, 3, 14, dtype=np.int32)
    batch = Batch(random.normal(size=(14, 5)), label, random.uniform(0.5, 2, 14))
    params = {"weight": random.normal(size=(3, 5)), "bias": random.normal(size=3)}

    def outputs(params, batch):
        return batch.input @ params["weight"].T + params["bias"][None]

    return make_model(outputs, params, batch)


MODELS = {"linear": linear(), "mlp": mlp()}
MLP = MODELS["mlp"]


@lru_cache
def dense_hessian(name, objective="mean"):
    """Of the objective in one piece, as the docstring of `Objective` writes it."""
    model, whole = MODELS[name], OBJECTIVES[objective]
    class_weight, l2 = whole.class_weight, whole.l2
    vector, unravel = ravel_pytree(model.params)

    def value(vector):
        params = unravel(vector)
        examples = model.task.per_example(params, model.batch, None)
        weight = (
            examples.weight
            if class_weight is None
            else examples.weight * class_weight[examples.label]
        )
        value = jnp.sum(weight * examples.loss) / jnp.sum(weight)
        matrices = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
        return value + (l2 or 0) / 2 * sum(jnp.sum(leaf**2) for leaf in matrices)

    return np.asarray(compiled(jax.hessian(value))(vector))


def positions(params, *names, **rows):
    """Where the coordinates of a subset stand among all parameters."""
    vector, unravel = ravel_pytree(params)
    numbered = compiled(lambda v: subset(unravel(v), *names, **rows).vector)
    return np.asarray(numbered(jnp.arange(vector.size) * 1.0), int)


def matrix_operator(matrix):
    matrix = jnp.asarray(matrix)
    return Operator(lambda v: matrix @ v, jnp.zeros(len(matrix), matrix.dtype))


def rotated(eigenvalues, seed=0):
    """A symmetric matrix of these eigenvalues."""
    random = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(random.normal(size=(len(eigenvalues), len(eigenvalues))))
    return (basis * np.asarray(eigenvalues, float)) @ basis.T


# --- Subsets


@pytest.mark.parametrize(
    ("names", "rows", "expected"),
    [
        (["['layers'][0]['bias']"], ..., range(4)),
        (["['layers'][0]"], ..., range(16)),
        (["['layers'][1]['bias']", "['layers'][0]['bias']"], ..., [0, 1, 2, 3, 16, 17, 18]),
        (["['layers'][1]['kernel']"], 2, [25, 26, 27]),
        (["['layers'][1]['kernel']"], np.s_[:, 1], [20, 23, 26, 29]),
        (["['layers'][1]['kernel']"], [0, 3], [19, 20, 21, 28, 29, 30]),
        (["['layers'][1]"], [1], [17, 22, 23, 24]),
        ([], ..., range(31)),
    ],
)
def test_names_and_rows_choose_coordinates(names, rows, expected):
    np.testing.assert_array_equal(positions(MLP.params, *names, rows=rows), list(expected))

    @compiled
    def changed(params):
        at = subset(params, *names, rows=rows)
        return ravel_pytree(at.put(at.vector + 1))[0] - ravel_pytree(params)[0]

    where = np.isin(np.arange(31), list(expected))
    np.testing.assert_allclose(changed(MLP.params), where, atol=1e-15)


def test_names_are_told_with_their_sizes():
    sizes = tensor_sizes(MLP.params)
    assert sizes["['layers'][1]['kernel']"] == 12 and sum(sizes.values()) == 31
    with pytest.raises(ValueError, match=r"'head'.*\['layers'\]\[1\]\['kernel'\] \(12\)"):
        subset(MLP.params, "['layers'][0]", "['head']")


def test_names_match_whole_keys():
    params = {"block": np.ones(2), "block2": np.ones(3)}
    assert subset(params, "['block']").vector.size == 2
    with pytest.raises(ValueError, match="whole key"):
        subset(params, "['block")


def test_what_is_not_floating_point_is_no_parameter():
    params = {"key": np.arange(2, dtype=np.uint32), "weight": np.ones(3)}
    at = subset(params)
    assert at.vector.size == 3
    np.testing.assert_array_equal(at.put(at.vector)["key"], params["key"])
    with pytest.raises(ValueError, match=r"\['weight'\] \(3\)"):
        subset(params, "['key']")


@pytest.mark.parametrize(
    ("rows", "error"), [(4, IndexError), ([0, 7], IndexError), ([1, 1], ValueError)]
)
def test_rows_that_are_not_there_or_repeat_are_refused(rows, error):
    with pytest.raises(error, match="out of bounds|repeat"):
        subset(MLP.params, "['layers'][1]['kernel']", rows=rows)


# --- Products


def test_hessian_is_the_dense_one_whatever_the_microbatches():
    @compiled
    def found(params, batch):
        return dense(hessian(MLP.task, subset(params), batch, PENALISED))

    batch = microbatched(MLP.batch, 4).batch  # 14 rows: the last microbatch has padding
    expected = dense_hessian("mlp", "penalised")
    np.testing.assert_allclose(found(MLP.params, batch), expected, atol=EXACT)


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["['layers'][0]"], ...),
        (["['layers'][0]['bias']", "['layers'][1]['kernel']"], [0, 2]),
    ],
)
def test_a_subset_has_the_block_of_the_dense_matrix(names, rows):
    where = positions(MLP.params, *names, rows=rows)
    block = dense_hessian("mlp", "penalised")[np.ix_(where, where)]
    v = np.random.default_rng(0).normal(size=len(where))

    @compiled
    def found(params, batch):
        return hessian(MLP.task, subset(params, *names, rows=rows), batch, PENALISED)(v)

    product = found(MLP.params, microbatched(MLP.batch).batch)
    np.testing.assert_allclose(product, block @ v, atol=EXACT)


def test_gauss_newton_is_the_hessian_where_outputs_are_linear():
    model = MODELS["linear"]

    @compiled
    def found(params, batch):
        at = subset(params)
        whole = hessian(model.task, at, batch, PENALISED)
        return dense(whole), dense(
            gauss_newton(model.outputs, model.output_loss, at, batch, PENALISED)
        )

    expected = dense_hessian("linear", "penalised")
    for matrix in found(model.params, microbatched(model.batch, 4).batch):
        np.testing.assert_allclose(matrix, expected, atol=EXACT)


@pytest.mark.slow
def test_gauss_newton_of_an_mlp_is_the_product_of_its_factors():
    vector, unravel = ravel_pytree(MLP.params)

    def outputs(params):
        return MLP.outputs(params, MLP.batch)

    def output_loss(logits):
        examples = MLP.output_loss(logits, MLP.batch)
        return jnp.sum(examples.weight * examples.loss) / jnp.sum(examples.weight)

    @compiled
    def product():
        jacobian = jax.jacobian(lambda x: outputs(unravel(x)).ravel())(vector)
        logits = outputs(MLP.params)
        inner = jax.hessian(lambda z: output_loss(z.reshape(logits.shape)))(logits.ravel())
        return jacobian.T @ inner @ jacobian

    expected = product()
    assert np.abs(expected - dense_hessian("mlp")).max() > 0.01, "they must differ"

    at = subset(MLP.params)
    plain = compiled(lambda: dense(gauss_newton(outputs, output_loss, at)))()
    np.testing.assert_allclose(plain, expected, atol=EXACT)


def test_empirical_fisher_is_the_sum_over_examples():
    vector, unravel = ravel_pytree(MLP.params)
    weight = MLP.batch.weight * CLASS_WEIGHT[MLP.batch.label]

    @compiled
    def gradient(row):
        def loss(x):
            one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[row][None], MLP.batch)
            return MLP.task.per_example(unravel(x), one, None).loss[0]

        return jax.grad(loss)(vector)

    expected = np.zeros((len(vector), len(vector)))
    for row, share in enumerate(weight / weight.sum()):
        g = gradient(row)
        expected += share * np.outer(g, g)

    @compiled
    def found(params, batch):
        return dense(empirical_fisher(MLP.task, subset(params), batch, PENALISED))

    batch = microbatched(MLP.batch, 4).batch
    np.testing.assert_allclose(found(MLP.params, batch), expected, atol=EXACT)


def test_hessian_of_a_plain_function():
    matrix = rotated([1, 2, -3])
    at = subset({"x": jnp.ones(3), "y": jnp.ones(2)}, "['x']")
    operator = hessian(lambda p: p["x"] @ matrix @ p["x"] / 2 + jnp.sum(p["y"] ** 3), at)
    np.testing.assert_allclose(compiled(lambda: dense(operator))(), matrix, atol=EXACT)


def test_a_batch_goes_with_a_task():
    at, batch = subset(MLP.params), microbatched(MLP.batch).batch
    for loss, data in ((MLP.task, None), (lambda params: 0.0, batch)):
        with pytest.raises(TypeError, match="a Task and its batch"):
            hessian(loss, at, data)


def test_the_quadratic_has_its_class_probabilities(problem):
    probability = np.array([0.6, 0.3, 0.1])
    batch = microbatched(Batch(None, np.arange(3), probability)).batch
    task = quadratic(3)
    found = compiled(lambda p: dense(hessian(task, subset(p), batch)))(task.init(None))
    np.testing.assert_allclose(found, np.diag(probability), atol=1e-7)  # its start is float32


def test_traces_of_all_rows_in_one_program_are_their_closed_form(problem):
    """In float32, with a class of the model's head a traced number."""
    batch = problem.batch(0)
    with jax.enable_x64(False):
        params = jax.tree.map(np.asarray, compiled(problem.task.init)(jax.random.key(0)))
    logits = np.float64(batch.input) @ np.float64(params["weight"]).T + params["bias"]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = (p * (1 - p) * (np.float64(batch.input) ** 2).sum(1)[:, None]).mean(0)

    @compiled
    def found(params, batch, key):
        def one(row):
            return trace(hessian(problem.task, subset(params, "['weight']", rows=row), batch), key)

        return jax.vmap(one)(jnp.arange(7))

    estimate = found(params, microbatched(batch).batch, jax.random.key(1))
    assert estimate.mean.dtype == jnp.float32
    distance = np.abs(estimate.mean - expected) / estimate.standard_error
    assert distance.max() < 4  # of 7 classes, at a fixed key


@pytest.mark.slow
def test_memory_does_not_grow_with_microbatches():
    model = MODELS["linear"]

    def scratch(microbatches):
        rows = 256 * microbatches
        batch = Batch(np.ones((rows, 5)), np.zeros(rows, np.int32), np.ones(rows))
        product = jax.jit(lambda batch, v: hessian(model.task, subset(model.params), batch)(v))
        program = product.lower(microbatched(batch, microbatches).batch, jnp.ones(18)).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert scratch(16) < 1.1 * scratch(4)


def test_sharpness_along_a_direction():
    matrix = rotated([5, 1, -2])
    direction = np.array([1.0, -2, 3])
    expected = direction @ matrix @ direction / 14
    found = directional_sharpness(matrix_operator(matrix), jnp.asarray(direction))
    assert found == pytest.approx(expected, abs=EXACT)


def test_a_dense_matrix_that_is_too_large_is_refused():
    operator = Operator(lambda v: v, jnp.zeros(1000))
    with pytest.raises(ValueError, match="1000 coordinates takes 8,000,000 bytes, more than"):
        dense(operator, max_bytes=7_999_999)


# --- Traces, eigenvalues and spectra of matrices


PROBES = 48


@compiled
def measured(matrix, key):
    """All of them, of ``matrix [6, 6]``: one program for many tests."""
    operator = matrix_operator(matrix)
    pairs = top_eigenvalues(operator, key, count=6, steps=6)
    return trace(operator, key, PROBES), pairs, spectrum(operator, key, steps=4, probes=PROBES)


@partial(compiled, static_argnums=(2, 3))
def eigenpairs(matrix, key, count, steps):
    return top_eigenvalues(matrix_operator(matrix), key, count, steps)


def test_the_standard_error_of_the_trace_covers_the_truth_as_often_as_it_says():
    matrix = rotated(range(6))
    found = [measured(matrix, jax.random.key(seed))[0] for seed in range(200)]
    mean, told = np.array(found).T
    error = np.abs(mean - np.trace(matrix)) / told
    # 94.9 % for Student's t of 47 degrees of freedom; 3.3 binomial standard deviations around it.
    assert 0.898 < np.mean(error < 2) < 1
    assert error[0] < 4
    # The errors that are told agree with the scatter that is seen, up to 3.3 / sqrt(2 * 200).
    assert np.sqrt(np.mean(told**2)) == pytest.approx(np.std(mean, ddof=1), rel=0.17)


def test_the_trace_of_a_diagonal_is_exact():
    found, _, _ = measured(np.diag([3.0, -1, 0.5, 0, 2, 2]), jax.random.key(0))
    assert float(found.mean) == pytest.approx(6.5, abs=EXACT)
    assert found.standard_error < EXACT


def test_one_probe_tells_no_error():
    with pytest.raises(ValueError, match="1 probes tell no standard error; give 2"):
        trace(matrix_operator(np.eye(3)), jax.random.key(0), probes=1)


def test_results_depend_on_the_key_alone():
    matrix, key = rotated(range(6)), jax.random.key(0)
    one, again, other = (measured(matrix, jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert one[0].mean != other[0].mean and not np.array_equal(one[2].node, other[2].node)

    two_at_once = compiled(lambda key: trace(matrix_operator(matrix), key, PROBES, at_once=7))(key)
    np.testing.assert_allclose(two_at_once, one[0], atol=EXACT)


def test_top_eigenvalues_are_those_of_the_dense_hessian():
    expected, vectors = np.linalg.eigh(dense_hessian("mlp"))

    @compiled
    def found(params, batch, key):
        return top_eigenvalues(hessian(MLP.task, subset(params), batch), key, count=5, steps=31)

    pairs = found(MLP.params, microbatched(MLP.batch).batch, jax.random.key(0))
    np.testing.assert_allclose(pairs.value, expected[::-1][:5], atol=EXACT)
    assert pairs.converged.all() and pairs.residual.max() < EXACT
    overlap = np.abs(np.sum(pairs.vector * vectors.T[::-1][:5], axis=1))
    np.testing.assert_allclose(overlap, 1, atol=EXACT)


def test_residuals_bound_the_errors_of_eigenvalues_that_have_not_converged():
    eigenvalues = 1 / np.arange(1, 41.0)  # the small ones are close together
    pairs = eigenpairs(rotated(eigenvalues), jax.random.key(0), 8, 12)
    value, residual = np.asarray(pairs.value), np.asarray(pairs.residual)
    nearest = np.abs(value[:, None] - eigenvalues[None]).min(1)
    assert (nearest <= residual + EXACT).all()
    np.testing.assert_array_equal(pairs.converged, residual <= 1e-3 * value)
    np.testing.assert_allclose(value[:3], eigenvalues[:3], rtol=1e-5)
    assert pairs.converged[:2].all()
    assert not pairs.converged[-1] and value[-1] < 0.9 * eigenvalues[7], "it is no eigenvalue yet"


REPEATED = np.concatenate([[4.0, 4, 4, 3], np.linspace(0, 2, 36)])


def test_a_repeated_eigenvalue_shows_once():
    """The space of one start holds one direction of each eigenspace, and residuals cannot tell."""
    pairs = eigenpairs(rotated(REPEATED), jax.random.key(0), 8, 12)
    np.testing.assert_allclose(pairs.value[:2], [4, 3], atol=1e-6)
    assert pairs.converged[:2].all(), "both are eigenvalues, but 3 is not the second largest"


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "copies"), [(16, 1), (30, 2), (40, 3)])
def test_rounding_brings_out_the_copies_in_the_end(steps, copies):
    pairs = eigenpairs(rotated(REPEATED), jax.random.key(0), 5, steps)
    assert np.sum(np.abs(pairs.value - 4) < 1e-6) == copies
    wrong = np.abs(pairs.value[:, None] - REPEATED[None]).min(1) > 4e-3
    assert not (pairs.converged & wrong).any()


@pytest.mark.parametrize(
    "eigenvalues", [[1.0] * 6, [0.0] * 6, [3.0, 3, 2, 2, -1, -1]], ids=["one", "zero", "three"]
)
def test_where_the_krylov_space_ends_there_is_no_value(eigenvalues):
    # Diagonal, so that it ends without rounding, in the first two at once.
    _, pairs, quadrature = measured(np.diag(eigenvalues), jax.random.key(0))
    found = ~np.isnan(pairs.value)
    np.testing.assert_array_equal(found, pairs.converged)
    assert len(set(eigenvalues)) <= found.sum() < 6  # rounding may bring out a copy
    assert {float(v) for v in np.round(pairs.value[found], 9)} == set(eigenvalues)
    np.testing.assert_allclose(np.linalg.norm(pairs.vector, axis=1), found, atol=EXACT)
    assert np.isfinite(quadrature.node).all()
    np.testing.assert_allclose(quadrature.weight.sum(1), 1, atol=EXACT)
    # A copy in the making has no weight yet.
    outside = np.abs(quadrature.node[..., None] - np.asarray(eigenvalues)[None, None]).min(-1)
    assert np.sum(quadrature.weight * (outside > EXACT)) < EXACT


def test_a_constant_start_would_fail_where_a_random_one_does_not():
    """Constants are in the null space of a softmax's Hessian, and Lanczos divides by 0 there."""

    def loss(params):
        return jax.nn.logsumexp(params["logits"]) - params["logits"][0]

    @compiled
    def constant_start():
        softmax = hessian(loss, subset({"logits": jnp.zeros(6)}))
        return dense(softmax), decomp.tridiag_sym(4)(softmax, jnp.ones(6)).J_small

    softmax, matrix = constant_start()
    assert np.isnan(matrix).any(), "matfree has changed: is the guard still needed?"
    _, pairs, quadrature = measured(softmax, jax.random.key(0))
    assert float(pairs.value[0]) == pytest.approx(1 / 6, abs=EXACT)  # of I/6 - 1/36
    assert pairs.converged[0] and np.isfinite(quadrature.node).all()


def test_nan_of_the_operator_stays_nan():
    _, pairs, quadrature = measured(np.full((6, 6), np.nan), jax.random.key(0))
    assert np.isnan(pairs.value).all() and not pairs.converged.any()
    assert np.isnan(quadrature.node).all()


@pytest.mark.parametrize(("count", "steps"), [(0, 5), (6, 5), (11, 20)])
def test_more_eigenvalues_than_steps_or_coordinates_are_refused(count, steps):
    with pytest.raises(ValueError, match=f"{count} eigenvalues from {steps} steps in 10"):
        top_eigenvalues(matrix_operator(np.eye(10)), jax.random.key(0), count, steps)


def test_the_spectrum_has_the_moments_of_the_dense_one():
    eigenvalues = np.arange(6.0) - 1
    _, _, quadrature = measured(rotated(eigenvalues), jax.random.key(2))
    quadrature = jax.tree.map(np.asarray, quadrature)
    assert quadrature.node.shape == quadrature.weight.shape == (PROBES, 4)
    for power in range(4):
        by_probe = np.sum(quadrature.weight * quadrature.node**power, axis=1)
        error = np.std(by_probe, ddof=1) / PROBES**0.5
        assert np.abs(by_probe.mean() - np.mean(eigenvalues**power)) <= 4 * error + EXACT

    width = 0.02
    grid = np.arange(-1.2, 4.2, width)
    smooth = density(quadrature, grid, width)
    assert np.trapezoid(smooth, grid) == pytest.approx(1, abs=1e-8)
    assert np.trapezoid(smooth * grid, grid) == pytest.approx(
        np.sum(quadrature.weight * quadrature.node) / PROBES, abs=1e-7
    )


def test_the_density_integrates_to_one_and_keeps_the_moments():
    node = np.array([[-1.0, 0.2, 3.0], [-0.9, 0.3, 2.5]])
    weight = np.array([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]])
    width = 0.05
    grid = np.arange(-2, 4, width)
    found = density(Spectrum(node, weight), grid, width)
    assert np.trapezoid(found, grid) == pytest.approx(1, abs=1e-8)  # 5e-9, see `density`
    mean, square = np.sum(weight * node) / 2, np.sum(weight * node**2) / 2
    assert np.trapezoid(found * grid, grid) == pytest.approx(mean, abs=1e-7)
    assert np.trapezoid(found * grid**2, grid) == pytest.approx(square + width**2, abs=1e-6)


@pytest.mark.parametrize(
    "grid", [np.linspace(0, 1, 10), np.zeros(5), np.array([[0.0, 0.1]]), np.array([0.0])]
)
def test_a_grid_that_would_lose_nodes_is_refused(grid):
    with pytest.raises(ValueError, match="cannot show Gaussians of width 0.1"):
        density(Spectrum(np.zeros((1, 1)), np.ones((1, 1))), grid, 0.1)
