"""Curvature of any loss in any part of the parameters: products, traces, eigenvalues, spectra.

A `Subset` is some of the parameters as one flat vector. An `Operator` is a symmetric matrix over
that vector, known only by its products: the Hessian, the Gauss-Newton matrix or the empirical
Fisher matrix. All but `density` works inside ``jit`` and ``vmap``, and belongs there: outside,
every call compiles anew. Make operators inside the compiled function, so that data are arguments
of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jax.tree_util import keystr, tree_flatten_with_path
from matfree import decomp, stochtrace

from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Batch, Params, Task, accumulate


class Subset(NamedTuple):
    """Some of the parameters as a flat vector, and the way back."""

    vector: jax.Array  # [coordinate]
    put: Callable[[jax.Array], Params]  # [coordinate] -> all parameters, the others unchanged


class Operator(NamedTuple):
    """A symmetric matrix ``[coordinate, coordinate]``, known by its products with vectors."""

    product: Callable[[jax.Array], jax.Array]  # linear, [coordinate] -> [coordinate]
    like: jax.Array  # any vector [coordinate]: says their number and dtype

    def __call__(self, vector: jax.Array) -> jax.Array:
        """The product with ``vector [coordinate]``."""
        # Accelerators round the factors of matrix products, which would show as curvature.
        with jax.default_matmul_precision("highest"):
            return self.product(vector)


class Estimate(NamedTuple):
    """A mean over random probes, with its standard error."""

    mean: jax.Array
    standard_error: jax.Array


class Eigenpairs(NamedTuple):
    """Approximate eigenvalues, largest first, with what shows how good they are."""

    value: jax.Array  # [eigen]; NaN where the start's Krylov space holds no more
    residual: jax.Array  # ‖Hv - λv‖ [eigen]: some eigenvalue lies so close to λ
    converged: jax.Array  # bool [eigen]
    vector: jax.Array  # of length 1, or 0 without a value; [eigen, coordinate]


class Spectrum(NamedTuple):
    """Quadrature of the spectral density: ``tr f(H) / n ≈ Σ weight f(node) / probes``."""

    node: jax.Array  # Ritz values [probe, lanczos]
    weight: jax.Array  # sum to 1 for every probe, [probe, lanczos]


def tensor_sizes(params: Params) -> dict[str, int]:
    """Numbers of parameters by path name, as ``subset`` takes them: ``"['weight']": 12``."""
    leaves, _ = tree_flatten_with_path(params)
    return {keystr(path): jnp.size(leaf) for path, leaf in leaves if _is_float(leaf)}


def subset(params: Params, *names: str, rows: Any = ...) -> Subset:
    """The parameters of named tensors or layers; without a name, all of them.

    Args:
      params: any pytree; tensors that are not floating point are no parameters.
      names: paths as `jax.tree_util.keystr` prints them, whole or up to some key:
        ``"['block'][0]"`` is all tensors of that layer.
      rows: only this part of every one of these tensors, any NumPy index: ``3`` is row 3,
        ``np.s_[:, 3]`` column 3. A traced index is not checked.

    Raises:
      ValueError: if a name is unknown, or rows repeat.
      IndexError: if rows are out of range.
    """
    paths, treedef = tree_flatten_with_path(params)
    leaves = [leaf for _, leaf in paths]
    called = [
        {keystr(path[:end]) for end in range(len(path) + 1)} if _is_float(leaf) else set()
        for path, leaf in paths
    ]
    if unknown := [name for name in names if not any(name in those for those in called)]:
        known = ", ".join(f"{name} ({size})" for name, size in tensor_sizes(params).items())
        raise ValueError(
            f"no parameters are called {', '.join(unknown)}; give names of these, or what they "
            f"begin with, up to a whole key (sizes in brackets): {known}."
        )
    chosen = [i for i, those in enumerate(called) if not those.isdisjoint(names or ("",))]
    rows = np.asarray(rows) if isinstance(rows, list) else rows
    if not (rows is ... or isinstance(rows, Tracer)):
        for i in chosen:
            hit = np.zeros(np.shape(leaves[i]), bool)
            wanted = hit[rows].size  # an IndexError of NumPy says what is out of range
            hit[rows] = True
            if np.count_nonzero(hit) != wanted:
                raise ValueError(f"rows {rows} of {keystr(paths[i][0])} repeat; give each once.")
    vector, unravel = ravel_pytree([jnp.asarray(leaves[i])[rows] for i in chosen])

    def put(vector: jax.Array) -> Params:
        new = list(leaves)
        for i, part in zip(chosen, unravel(vector), strict=True):
            new[i] = jnp.asarray(leaves[i]).at[rows].set(part)
        return treedef.unflatten(new)

    return Subset(vector, put)


def hessian(
    loss: Task | Callable[[Params], jax.Array],
    at: Subset,
    batch: Batch | None = None,
    objective: Objective = Objective(),  # noqa: B008 - immutable
) -> Operator:
    """Hessian of a loss in the parameters ``at``, the others held where they are.

    Args:
      loss: a task, which needs a batch, or any function of the parameters.
      at: which parameters.
      batch: in microbatches ``[micro, row, ...]``; one at a time is in memory.
      objective: what is minimised; the penalty counts for a plain function too.
    """
    if isinstance(loss, Task) == (batch is None):
        raise TypeError("give a Task and its batch [micro, row, ...], or a function and no batch.")

    def part(v: jax.Array, *microbatch: Batch):
        def weighted(x: jax.Array):
            if isinstance(loss, Task):
                return objective.sums(loss.per_example(at.put(x), microbatch[0], None))
            return loss(at.put(x)), 1.0

        return _hessian_product(weighted, at.vector, v)

    return _operator(part, at, batch, objective)


def gauss_newton(
    outputs: Callable[..., Any],
    output_loss: Callable[..., Any],
    at: Subset,
    batch: Batch | None = None,
    objective: Objective = Objective(),  # noqa: B008 - immutable
) -> Operator:
    """Gauss-Newton matrix ``Jᵀ (∂²loss / ∂outputs²) J``, with J the Jacobian of the outputs.

    A task does not tell its outputs, so the model is given in two steps.

    Args:
      outputs: ``params -> outputs``, any pytree of arrays, such as logits; with a batch,
        ``(params, microbatch) -> outputs``.
      output_loss: ``outputs -> scalar``; with a batch, ``(outputs, microbatch) -> Examples``.
      at: which parameters.
      batch: as for `hessian`.
      objective: as for `hessian`; the penalty's Hessian is part of the result.
    """

    def part(v: jax.Array, *microbatch: Batch):
        def weighted(z: Any):
            found = output_loss(z, *microbatch)
            return objective.sums(found) if microbatch else (found, 1.0)

        z, push = jax.linearize(lambda x: outputs(at.put(x), *microbatch), at.vector)
        curved, weight = _hessian_product(weighted, z, push(v))
        return jax.linear_transpose(push, v)(curved)[0], weight

    return _operator(part, at, batch, objective)


def empirical_fisher(
    task: Task,
    at: Subset,
    batch: Batch,
    objective: Objective = Objective(),  # noqa: B008 - immutable
) -> Operator:
    """``Σ w ω_y g gᵀ / Σ w ω_y`` over examples, with g the gradient of one example's loss.

    No g is ever made. The penalty belongs to no example and has no part in it.
    """

    def part(v: jax.Array, microbatch: Batch):
        def losses(x: jax.Array):
            examples = task.per_example(at.put(x), microbatch, None)
            return examples.loss, objective.weight(examples)

        _, push, weight = jax.linearize(losses, at.vector, has_aux=True)
        along = weight * push(v)  # w ω g·v of every example
        return jax.linear_transpose(push, v)(along)[0], jnp.sum(weight)

    return _operator(part, at, batch, Objective())


def directional_sharpness(operator: Operator, direction: jax.Array) -> jax.Array:
    """Curvature ``vᵀ H v / ‖v‖²`` along a direction ``[coordinate]`` (section H.8).

    ``subset(update, *names).vector`` is the direction of an update that is a tree.
    """
    return direction @ operator(direction) / (direction @ direction)


def trace(
    operator: Operator, key: jax.Array, probes: int = 32, at_once: int | None = None
) -> Estimate:
    """Hutchinson's estimate of the trace, ``vᵀ H v`` with random signs v; exact for a diagonal H.

    Args:
      operator: whose trace.
      key: all that the result depends on.
      probes: products; the standard error falls with their square root.
      at_once: how many of them are worked on together: faster, and more memory. None is one.

    Raises:
      ValueError: for fewer than 2 probes, of which no error can be told.
    """
    if probes < 2:
        raise ValueError(f"{probes} probes tell no standard error; give 2 or more.")
    # matfree's own estimator of mean and error works on all probes at once and divides by their
    # number, not by one less: its error is too small, by 11 % with 5 probes.
    sample = stochtrace.sampler_signs(operator.like, num=1)
    form = stochtrace.monte_carlo_trace()

    def one(key: jax.Array) -> jax.Array:
        return form(operator, sample(key)[0])

    found = jax.lax.map(one, jax.random.split(key, probes), batch_size=at_once)
    return Estimate(jnp.mean(found), jnp.std(found, ddof=1) / probes**0.5)


def top_eigenvalues(
    operator: Operator, key: jax.Array, count: int, steps: int, tolerance: float = 1e-3
) -> Eigenpairs:
    """The largest eigenvalues, by Lanczos with full reorthogonalisation from a random start.

    For the smallest ones negate the operator. A residual proves that an eigenvalue is near, not
    that none was passed over. In exact arithmetic an eigenvalue that repeats shows once; rounding
    may bring out more copies late, so neither the count of copies nor what follows them is proved.

    Args:
      operator: whose eigenvalues.
      key: of the start.
      count: how many.
      steps: of Lanczos, at most the number of coordinates: each is a product, and a vector kept.
      tolerance: converged are those with ``residual <= tolerance * |value|``; the eigenvalue's own
        error is often far smaller, of the order of the residual's square over the gap.

    Raises:
      ValueError: if ``count`` is not in 1 to ``steps`` (or the number of coordinates, if less).
    """
    limit = min(steps, operator.like.size)
    if not 1 <= count <= limit:
        raise ValueError(
            f"cannot tell {count} eigenvalues from {steps} steps in {operator.like.size} "
            f"coordinates; give a count of 1 to {limit}, or more steps."
        )
    theta, small, basis, found = _lanczos(operator, key, steps)
    with jax.default_matmul_precision("highest"):
        vector = (small[:, -count:].T @ basis)[::-1]
    value = jnp.where(found, theta, jnp.nan)[-count:][::-1]
    residual = jax.lax.map(
        lambda pair: jnp.linalg.norm(operator(pair[1]) - pair[0] * pair[1]), (value, vector)
    )
    return Eigenpairs(value, residual, residual <= tolerance * jnp.abs(value), vector)


def spectrum(
    operator: Operator,
    key: jax.Array,
    steps: int = 100,
    probes: int = 10,
    at_once: int | None = None,
) -> Spectrum:
    """Stochastic Lanczos quadrature from random directions (section H.4), reorthogonalised.

    Args:
      operator: whose spectrum.
      key: of the probes.
      steps: of Lanczos, at most the number of coordinates: the last axis of the result.
      probes: starts; what differs between them is the error.
      at_once: as for `trace`.
    """

    def one(key: jax.Array):
        theta, small, _, found = _lanczos(operator, key, steps)
        # Steps past the end of the Krylov space have no weight, wherever they stand.
        return Spectrum(jnp.where(found, theta, theta[-1]), jnp.where(found, small[0] ** 2, 0))

    return jax.lax.map(one, jax.random.split(key, probes), batch_size=at_once)


def density(spectrum: Spectrum, grid: np.ndarray, width: float) -> np.ndarray:
    """The spectral density on a grid, every node a Gaussian of standard deviation ``width``.

    It integrates to 1, up to what lies beyond the grid. Section H.4 takes ``width² = 1e-5``. For
    eigenvalues of many scales replace the nodes by their logarithms, and give a width in decades.

    Args:
      spectrum: nodes and weights ``[probe, lanczos]``.
      grid: increasing, ``[point]``.
      width: of the Gaussians, in the units of the grid.

    Raises:
      ValueError: if the grid does not increase, or has gaps wider than the Gaussians, between which
        they would be lost.
    """
    grid = np.asarray(grid, np.float64)
    gaps = np.diff(grid)
    # Sums over points one width apart are integrals to 5e-9; at three widths they are 22 % off.
    if grid.ndim != 1 or len(grid) < 2 or not (0 < gaps.min() and gaps.max() <= width * (1 + 1e-9)):
        raise ValueError(
            f"a grid of shape {grid.shape} with gaps of {gaps.min(initial=np.inf):.3g} to "
            f"{gaps.max(initial=-np.inf):.3g} cannot show Gaussians of width {width:.3g}; give "
            "increasing points [point], no more than a width apart."
        )
    node, weight = (np.asarray(array, np.float64) for array in spectrum)
    total = np.zeros_like(grid)
    for place, mass in zip(node.ravel(), weight.ravel(), strict=True):
        total += mass * np.exp(-(((grid - place) / width) ** 2) / 2)
    return total / (len(node) * width * np.sqrt(2 * np.pi))


def dense(operator: Operator, max_bytes: int = 2**28) -> jax.Array:
    """The matrix itself, ``[coordinate, coordinate]``, of a few coordinates.

    Raises:
      ValueError: if it would take more than ``max_bytes``.
    """
    size, dtype = operator.like.size, operator.like.dtype
    needed = size**2 * dtype.itemsize
    if needed > max_bytes:
        raise ValueError(
            f"a dense matrix of {size} coordinates takes {needed:,} bytes, more than max_bytes = "
            f"{max_bytes:,}; give a smaller subset or a larger max_bytes."
        )
    return jax.lax.map(lambda i: operator(jnp.zeros(size, dtype).at[i].set(1)), jnp.arange(size))


def _lanczos(operator: Operator, key: jax.Array, steps: int):
    """Ritz values, ascending; their vectors in the basis; the basis; which values are any.

    The start is random: a constant vector is in the null space of softmax Hessians.
    """
    steps = min(steps, operator.like.size)
    start = stochtrace.sampler_normal(operator.like, num=1)(key)[0]
    # `decomp.tridiag_sym` is this and then averages the entries beside the diagonal, which hides
    # the end of a Krylov space: there only the lower one is 0.
    reduce = decomp.hessenberg(steps, reortho="full", custom_vjp=False)
    with jax.default_matmul_precision("highest"):
        found: Any = reduce(operator, start)
    basis, matrix = found.Q_tall, found.J_small
    # At that end the next vector is rounding, or 0 / 0. Cut there: no vectors and a value below all
    # others (no Ritz value exceeds 3 times the largest entry) stand for what is missing. NaN that
    # comes from the operator is no such end and stays.
    largest = jnp.nanmax(jnp.abs(matrix))
    ended = jnp.diag(matrix, -1) <= jnp.finfo(matrix.dtype).eps * largest
    inside = jnp.concatenate([jnp.ones(1, bool), jnp.cumsum(ended) == 0])
    below = jnp.where(largest > 0, -4 * largest, -1) * jnp.eye(steps, dtype=matrix.dtype)
    theta, small = jnp.linalg.eigh(jnp.where(inside[:, None] & inside[None], matrix, below))
    basis = jnp.where(inside[:, None], basis, 0)
    return theta, small, basis, jnp.arange(steps) >= steps - jnp.sum(inside)


def _operator(part: Callable, at: Subset, batch: Batch | None, objective: Objective) -> Operator:
    """``Σ part / Σ weight`` over microbatches, and the Hessian of the penalty."""

    def penalty(x: jax.Array):
        return objective.penalty(at.put(x)), 1.0

    def product(v: jax.Array) -> jax.Array:
        if batch is None:
            total, weight = part(v)
        else:
            total, weight = accumulate(lambda microbatch, _: part(v, microbatch), batch)
        mean = total / weight
        if objective.l2 is None:
            return mean
        return mean + _hessian_product(penalty, at.vector, v)[0]

    return Operator(product, at.vector)


def _hessian_product(weighted: Callable, x: Any, v: Any) -> tuple[Any, Any]:
    """``∇²Σwℓ v``, forward over reverse, and ``Σw``, of ``weighted(x) = (Σwℓ, Σw)``."""
    (_, weight), (product, _) = jax.jvp(jax.grad(weighted, has_aux=True), (x,), (v,))
    return product, weight


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
