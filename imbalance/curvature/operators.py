"""Curvature of any loss in any part of the parameters: products, traces, eigenvalues, spectra.

A `Subset` is a part of the parameters as one flat vector. An `Operator` is a symmetric matrix over
that vector, defined by its products with vectors: the Hessian, the Gauss-Newton matrix or the
empirical Fisher matrix. Call all functions but `density` inside ``jit``; outside, every call
compiles again. Make operators inside the compiled function, so that data are its arguments.
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
    """A part of the parameters as a flat vector, and its inverse."""

    vector: jax.Array  # [coordinate]
    put: Callable[[jax.Array], Params]  # [coordinate] -> all parameters, with the others unchanged


class Operator(NamedTuple):
    """A symmetric matrix ``[coordinate, coordinate]``, defined by its products with vectors."""

    product: Callable[[jax.Array], jax.Array]  # linear, [coordinate] -> [coordinate]
    like: jax.Array  # any vector [coordinate], for its size and dtype

    def __call__(self, vector: jax.Array) -> jax.Array:
        """The product with ``vector [coordinate]``."""
        # By default accelerators round the factors of products, which would appear as curvature.
        with jax.default_matmul_precision("highest"):
            return self.product(vector)


class Estimate(NamedTuple):
    """A mean over random probes, with its standard error."""

    mean: jax.Array
    standard_error: jax.Array


class Eigenpairs(NamedTuple):
    """Approximate eigenvalues, largest first, with their residuals."""

    value: jax.Array  # [eigen]; NaN beyond the dimension of the Krylov space
    residual: jax.Array  # ‖Hv - λv‖ [eigen], a bound of the distance of λ to an eigenvalue
    converged: jax.Array  # bool [eigen]
    vector: jax.Array  # [eigen, coordinate], of length 1, or 0 where the value is NaN


class Spectrum(NamedTuple):
    """Quadrature of the spectral density: ``tr f(H) / n ≈ Σ weight f(node) / probes``."""

    node: jax.Array  # Ritz values [probe, lanczos]
    weight: jax.Array  # [probe, lanczos], with sum 1 for every probe


def tensor_sizes(params: Params) -> dict[str, int]:
    """Number of parameters by path name, such as ``"['weight']": 12``, for ``subset``."""
    leaves, _ = tree_flatten_with_path(params)
    return {keystr(path): jnp.size(leaf) for path, leaf in leaves if _is_float(leaf)}


def subset(params: Params, *names: str, rows: Any = ...) -> Subset:
    """The parameters of named tensors or layers; without a name, all of them.

    Args:
      params: Parameters, any pytree; tensors that are not floating point are left out.
      names: Paths as `jax.tree_util.keystr` prints them, or prefixes that end at a key:
        ``"['block'][0]"`` is all tensors of that layer.
      rows: Part of each of these tensors, any NumPy index: ``3`` is row 3, ``np.s_[:, 3]`` column
        3. A traced index is not checked.

    Raises:
      ValueError: If a name is unknown, or rows repeat.
      IndexError: If rows are out of range.
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
            f"no parameters are called {', '.join(unknown)}; give these names (sizes in brackets), "
            f"or prefixes of them that end at a whole key: {known}."
        )
    chosen = [i for i, those in enumerate(called) if not those.isdisjoint(names or ("",))]
    rows = np.asarray(rows) if isinstance(rows, list) else rows
    if not (rows is ... or isinstance(rows, Tracer)):
        for i in chosen:
            hit = np.zeros(np.shape(leaves[i]), bool)
            wanted = hit[rows].size  # NumPy's IndexError says what is out of range
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
    """Hessian of a loss in the parameters ``at``, with the others fixed.

    Args:
      loss: Task, which needs a batch, or any function of the parameters.
      at: Parameters to differentiate.
      batch: Data in microbatches ``[micro, row, ...]``, of which one at a time is in memory.
      objective: Weights and penalty; the penalty also applies to a plain function.

    Raises:
      TypeError: If a task comes without a batch, or a function with one.
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

    A task does not expose its outputs, so the model is given as two functions.

    Args:
      outputs: Function ``params -> outputs``, any pytree of arrays, such as logits; with a batch,
        ``(params, microbatch) -> outputs``.
      output_loss: Function ``outputs -> scalar``; with a batch,
        ``(outputs, microbatch) -> Examples``.
      at: Parameters to differentiate.
      batch: Data, as in `hessian`.
      objective: Weights and penalty; the penalty's Hessian is part of the result.
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

    No g is formed. The penalty belongs to no example and is left out.
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
    """Curvature ``vᵀ H v / ‖v‖²`` along a direction ``[coordinate]`` (arXiv 2306.00204).

    For an update given as a pytree, the direction is ``subset(update, *names).vector``.
    """
    return direction @ operator(direction) / (direction @ direction)


def trace(
    operator: Operator, key: jax.Array, probes: int = 32, at_once: int | None = None
) -> Estimate:
    """Hutchinson's estimate of the trace, ``vᵀ H v`` with random signs v; exact for a diagonal H.

    Args:
      operator: Matrix of the trace.
      key: Random key of the probes.
      probes: Number of probes; the standard error falls with its square root.
      at_once: Number of probes computed together, which is faster and takes more memory; None: 1.

    Raises:
      ValueError: For fewer than 2 probes, which give no standard error.
    """
    if probes < 2:
        raise ValueError(f"{probes} probes tell no standard error; give 2 or more.")
    # matfree's own estimator takes all probes at once and divides by their number, not by one less:
    # its error is too small, by 11 % with 5 probes.
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

    For the smallest eigenvalues, negate the operator. A small residual proves that an eigenvalue is
    near, not that none was missed. In exact arithmetic a repeated eigenvalue appears once; rounding
    may produce more copies late, so the number of copies and the values after them are uncertain.

    Args:
      operator: Matrix of the eigenvalues.
      key: Random key of the starting vector.
      count: Number of eigenvalues.
      steps: Number of Lanczos steps, at most the number of coordinates; each takes one product and
        stores one vector.
      tolerance: Bound for convergence, ``residual <= tolerance * |value|``; the eigenvalue's own
        error is often far smaller, of the order of the squared residual over the gap.

    Raises:
      ValueError: If ``count`` is not in 1 to ``steps`` (or the number of coordinates, if less).
    """
    limit = min(steps, operator.like.size)
    if not 1 <= count <= limit:
        raise ValueError(
            f"cannot find {count} eigenvalues from {steps} steps in {operator.like.size} "
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
    """Stochastic Lanczos quadrature with full reorthogonalisation (arXiv 2402.16788).

    Args:
      operator: Matrix of the spectrum.
      key: Random key of the probes.
      steps: Number of Lanczos steps, at most the number of coordinates; last axis of the result.
      probes: Number of random starts; their differences show the error.
      at_once: Number of probes computed together, as in `trace`.
    """

    def one(key: jax.Array):
        theta, small, _, found = _lanczos(operator, key, steps)
        # Steps past the end of the Krylov space have weight 0.
        return Spectrum(jnp.where(found, theta, theta[-1]), jnp.where(found, small[0] ** 2, 0))

    return jax.lax.map(one, jax.random.split(key, probes), batch_size=at_once)


def density(spectrum: Spectrum, grid: np.ndarray, width: float) -> np.ndarray:
    """The spectral density on a grid, with a Gaussian of standard deviation ``width`` per node.

    It integrates to 1, up to the mass beyond the grid. Zhang et al. 2024 (arXiv 2402.16788) take
    ``width² = 1e-5``. For eigenvalues of many scales, replace the nodes by their logarithms and
    give a width in decades.

    Args:
      spectrum: Nodes and weights ``[probe, lanczos]``.
      grid: Increasing points ``[point]``.
      width: Standard deviation of the Gaussians, in the units of the grid.

    Raises:
      ValueError: If the grid does not increase, or has gaps wider than ``width``, in which
        Gaussians would be lost.
    """
    grid = np.asarray(grid, np.float64)
    gaps = np.diff(grid)
    # Sums over points one width apart are integrals to 5e-9; at three widths they are off by 22 %.
    if grid.ndim != 1 or len(grid) < 2 or not (0 < gaps.min() and gaps.max() <= width * (1 + 1e-9)):
        raise ValueError(
            f"a grid of shape {grid.shape} with gaps of {gaps.min(initial=np.inf):.3g} to "
            f"{gaps.max(initial=-np.inf):.3g} cannot show Gaussians of width {width:.3g}; give "
            "increasing points [point], at most a width apart."
        )
    node, weight = (np.asarray(array, np.float64) for array in spectrum)
    total = np.zeros_like(grid)
    for place, mass in zip(node.ravel(), weight.ravel(), strict=True):
        total += mass * np.exp(-(((grid - place) / width) ** 2) / 2)
    return total / (len(node) * width * np.sqrt(2 * np.pi))


def dense(operator: Operator, max_bytes: int = 2**28) -> jax.Array:
    """The matrix itself, ``[coordinate, coordinate]``, for a few coordinates.

    Raises:
      ValueError: If it would take more than ``max_bytes``.
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
    """Ritz values, ascending; their vectors in the basis; the basis; which values are valid.

    The start is random, as a constant vector is in the null space of softmax Hessians.
    """
    steps = min(steps, operator.like.size)
    start = stochtrace.sampler_normal(operator.like, num=1)(key)[0]
    # `decomp.tridiag_sym` also averages the entries beside the diagonal, which hides the end of a
    # Krylov space: there only the lower entry is 0.
    reduce = decomp.hessenberg(steps, reortho="full", custom_vjp=False)
    with jax.default_matmul_precision("highest"):
        found: Any = reduce(operator, start)
    basis, matrix = found.Q_tall, found.J_small
    # At the end the next vector is rounding error or 0 / 0. Beyond it, vectors become 0 and values
    # lie below all others (no Ritz value exceeds 3 times the largest entry). NaN that comes from
    # the operator is not such an end and stays.
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
    """``∇²Σwℓ v``, forward over reverse, and ``Σw``, for ``weighted(x) = (Σwℓ, Σw)``."""
    (_, weight), (product, _) = jax.jvp(jax.grad(weighted, has_aux=True), (x,), (v,))
    return product, weight


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
