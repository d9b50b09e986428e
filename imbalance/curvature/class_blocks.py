"""Gradients and Hessian blocks of the classes of a linear softmax layer, in closed form.

With logits ``W x + b``, class probabilities p and example weights w, the mean loss ``Σ w ℓ / Σ w``
has, for classes k and j,

- the gradient ``∇_k = Σ w (p_k - 1[y=k]) x / Σ w`` with respect to row k of W,
- the Hessian block ``H_kj = Σ w p_k (1[k=j] - p_j) x xᵀ / Σ w`` with respect to rows k and j.

(The paper prints the gradient with the opposite sign.) A few matrix products compute them for all
classes. Functions return `Sums` over the given examples, which add up over microbatches, so that
only the probabilities of one microbatch are in memory::

    def of(rows, _):
        return class_blocks(task.head(params, rows), rows.label, rows.weight)

    blocks = accumulate(of, batch).mean()

Blocks are of W alone; `fold_bias` makes the bias a column of W. If training weights classes by ω,
the weight of an example is ``w ω_y``. Call these functions inside ``jit``.
"""

from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from imbalance.problems.tasks import Head

MAX_BYTES = 2**28
"""Default limit for an array of blocks, 256 MiB."""

T = TypeVar("T")


class Sums(NamedTuple, Generic[T]):
    """Weighted sums over examples, which may be added to sums over other examples."""

    total: T  # Σ w (...), any pytree
    weight: jax.Array  # Σ w

    def mean(self) -> T:
        """``Σ w (...) / Σ w``."""
        return jax.tree.map(lambda total: total / self.weight, self.total)


class ClassBlocks(NamedTuple):
    """Gradient and Hessian blocks of every class; in `Sums`, times the weight of the examples."""

    share: jax.Array  # π_k = Σ w 1[y=k] / Σ w, [class]
    gradient: jax.Array  # ∇_k [class, feature]
    bias_gradient: jax.Array  # [class]
    trace: jax.Array  # tr H_kk [class]
    bias_trace: jax.Array  # ∂²/∂b_k² [class]
    authors_statistic: jax.Array  # h_k [class], which the authors' code draws as the trace
    diagonal: jax.Array | None  # diagonal of H_kk, [class, feature]
    block_trace: jax.Array | None  # tr H_kj [chosen, chosen]: >= 0 where k = j, <= 0 elsewhere

    @property
    def gradient_norm(self) -> jax.Array:
        """``‖∇_k‖ [class]``, without the bias."""
        return jnp.linalg.norm(self.gradient, axis=1)


def fold_bias(head: Head) -> Head:
    """The same logits from features with a column of ones, whose weights are the bias.

    Raises:
      ValueError: If there is no bias.
    """
    if head.bias is None:
        raise ValueError("this head has no bias to fold in; use it as it is.")
    features, weight = jnp.asarray(head.features), jnp.asarray(head.weight)
    ones = jnp.ones((len(features), 1), features.dtype)
    bias = jnp.asarray(head.bias)[:, None]
    return Head(jnp.hstack([features, ones]), jnp.hstack([weight, bias]), None)


def class_blocks(
    head: Head,
    label: ArrayLike,
    example_weight: ArrayLike | None = None,
    *,
    diagonal: bool = False,
    among: ArrayLike | None = None,
    max_bytes: int = MAX_BYTES,
) -> Sums[ClassBlocks]:
    """Gradients and Hessian traces of all classes, from three matrix products.

    ``trace`` is exact. ``authors_statistic`` is what the authors' code draws in its place,
    ``h_k = Σ w p_k (1 - p_k) mean_j x_j / Σ w``, with features where their squares belong. For
    inputs uniform on [0, 1] the trace is about ``2 d h_k / 3``; for inputs of mean zero h_k is
    meaningless. See "The Hessian statistic of Figure 7" in docs/method.md.

    Args:
      head: Features ``[example, feature]``, weight and bias.
      label: Integers ``[example]``; outside ``0 .. class - 1`` only where the weight is 0.
      example_weight: Weight of each example, ``[example]``, 0 masks; None: 1 each.
      diagonal: Whether to compute the diagonals of the blocks, at the cost of one more product.
      among: Distinct classes ``[chosen]`` between which ``block_trace`` is computed, at the cost of
        one more product of size ``chosen²``; None: none.
      max_bytes: Largest size of ``block_trace``.

    Raises:
      TypeError: If labels are not integers.
      ValueError: If shapes do not match, or ``block_trace`` is too large.
    """
    head, label, w = _checked(head, label, example_weight)
    if among is not None:
        among = jnp.asarray(among)
        what = f"traces of {among.size} x {among.size} blocks"
        _check_bytes(what, among.size**2, w.dtype, max_bytes)
    features = head.features
    p, rest = _probabilities(head)
    error, chosen = _error(p, rest, label)
    variance = w[None] * p * rest  # of 1[y=k] given x
    # One product with columns |x|², mean(x) and 1.
    square = jnp.sum(features**2, 1)
    columns = jnp.stack([square, jnp.mean(features, 1), jnp.ones_like(square)], 1)
    trace, authors_statistic, bias_trace = _product(variance, columns).T
    block_trace = None
    if among is not None:
        some = p[among]
        block_trace = -_product(some * (w * square)[None], some.T)
        # On the diagonal p_k (1 - p_k) keeps its digits, which p_k - p_k² loses for p_k near one.
        same = jnp.eye(among.size, dtype=bool)
        block_trace = jnp.where(same, trace[among][:, None], block_trace)
    blocks = ClassBlocks(
        share=jnp.sum(jnp.where(chosen, w[None], 0), 1),
        gradient=_product(w[None] * error, features),
        bias_gradient=jnp.sum(w[None] * error, 1),
        trace=trace,
        bias_trace=bias_trace,
        authors_statistic=authors_statistic,
        diagonal=_product(variance, features**2) if diagonal else None,
        block_trace=block_trace,
    )
    return Sums(blocks, jnp.sum(w))


def hessian_blocks(
    head: Head,
    rows: ArrayLike,
    columns: ArrayLike,
    example_weight: ArrayLike | None = None,
    *,
    coordinates: ArrayLike | None = None,
    max_bytes: int = MAX_BYTES,
) -> Sums[jax.Array]:
    """Whole blocks ``H_kj [pair, coordinate, coordinate]`` of pairs of classes (k, j).

    Args:
      head: Features, weight and bias, as in `class_blocks`.
      rows: Class k of every pair, ``[pair]``.
      columns: Class j of every pair, ``[pair]``.
      example_weight: Weight of each example, as in `class_blocks`.
      coordinates: Indices of the features, ``[coordinate]``; None: all of them.
      max_bytes: Largest size of the result.

    Raises:
      ValueError: If shapes do not match, or the result is too large.
    """
    rows, columns = jnp.asarray(rows), jnp.asarray(columns)
    if rows.ndim != 1 or rows.shape != columns.shape:
        raise ValueError(f"rows have shape {rows.shape}, columns {columns.shape}; give pairs.")
    head, _, w = _checked(head, None, example_weight)
    features = head.features if coordinates is None else head.features[:, jnp.asarray(coordinates)]
    size = features.shape[1]
    _check_bytes(f"{rows.size} blocks of {size} x {size}", rows.size * size**2, w.dtype, max_bytes)
    p, rest = _probabilities(head)

    def block(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        k, j = pair
        scale = w * p[k] * jnp.where(k == j, rest[k], -p[j])
        return _product((scale[:, None] * features).T, features)

    return Sums(lax.map(block, (rows, columns)), jnp.sum(w))


def class_variances(head: Head, classes: ArrayLike) -> jax.Array:
    """``p_k (1 - p_k) [chosen, example]``; ``H_kk`` is the mean of its product with ``x xᵀ``.

    It makes products with a few blocks cheap: they need no product with all of W.

    Raises:
      ValueError: If shapes do not match.
    """
    head, _, _ = _checked(head, None, None)
    p, rest = _probabilities(head)
    classes = jnp.asarray(classes)
    return p[classes] * rest[classes]


def hessian_product(
    head: Head,
    vector: ArrayLike,
    example_weight: ArrayLike | None = None,
    *,
    block_diagonal: bool = False,
) -> Sums[jax.Array]:
    """Hessian of the mean loss in W times a vector, ``Σ_j H_kj v_j``, ``[class, feature]``.

    Args:
      head: Features, weight and bias, as in `class_blocks`.
      vector: Vector v, ``[class, feature]``.
      example_weight: Weight of each example, as in `class_blocks`.
      block_diagonal: Whether to return ``H_kk v_k``, the products with all diagonal blocks.

    Raises:
      ValueError: If shapes do not match.
    """
    head, _, w = _checked(head, None, example_weight)
    vector = jnp.asarray(vector, w.dtype)
    if vector.shape != head.weight.shape:
        raise ValueError(f"the vector has shape {vector.shape}, weights {head.weight.shape}.")
    p, rest = _probabilities(head)
    change = _product(vector, head.features.T)  # of the logits, [class, example]
    if block_diagonal:
        curved = rest * change
    else:
        # With s = 0 for the likeliest class, p_k (s_k - Σ p s) has no cancellation, even where its
        # probability is near one.
        change -= jnp.take_along_axis(change, jnp.argmax(p, 0)[None], 0)
        curved = change - jnp.sum(p * change, 0, keepdims=True)
    return Sums(_product(w[None] * p * curved, head.features), jnp.sum(w))


def class_gradient_norms(
    head: Head,
    label: ArrayLike,
    example_weight: ArrayLike | None = None,
    *,
    tile: int = 256,
) -> jax.Array:
    """``‖g_k‖ [class]``: norms of the gradients in W of the losses of each class's examples.

    ``g_k = Σ_{y=k} w ∇ℓ / Σ w`` with the weight of all examples below (as in arXiv 2207.00391), so
    these gradients add up to that of the mean loss. Divided by ``share``, it is the gradient of the
    class's own mean loss.

    No g_k, which is as large as W, is formed. ``‖g_k‖²`` sums ``(e·e') (x·x')`` over the pairs of
    examples of class k, with e the errors of their probabilities. Examples are sorted by label, and
    only tiles with a common class are compared. The features of all examples are needed at once,
    the probabilities only of two tiles. Where gradients of examples cancel, the error is
    ``sqrt(eps)`` of the cancelling terms.

    Args:
      head: Features, weight and bias, as in `class_blocks`.
      label: Label of each example, as in `class_blocks`.
      example_weight: Weight of each example, as in `class_blocks`.
      tile: Number of examples of a tile; larger tiles suit classes with many examples.

    Raises:
      TypeError: If labels are not integers.
      ValueError: If shapes do not match, or ``tile`` is less than 1.
    """
    if tile < 1:
        raise ValueError(f"tiles of {tile} examples; give 1 or more.")
    head, label, w = _checked(head, label, example_weight)
    num_classes, padding = len(head.weight), -label.size % tile
    # Padding and labels out of range come last, as a class of weight 0.
    label = jnp.where((label >= 0) & (label < num_classes), label, num_classes)
    order = jnp.argsort(label)
    label = jnp.pad(label[order], (0, padding), constant_values=num_classes)
    order = jnp.pad(order, (0, padding)).reshape(-1, tile)
    tiled_label = label.reshape(order.shape)
    weight = jnp.where(tiled_label < num_classes, w[order], 0)
    end = jnp.searchsorted(label, tiled_label[:, -1], side="right")
    last = (end - 1) // tile  # the last tile that has a class in common with each tile

    def read(i: jax.Array):
        one = head._replace(features=head.features[order[i]])
        error, _ = _error(*_probabilities(one), tiled_label[i])
        return one.features, weight[i][None] * error, tiled_label[i]

    def pairs(one, other):
        (x, error, label), (other_x, other_error, other_label) = one, other
        gram = _product(x, other_x.T) * _product(error.T, other_error)
        return jnp.sum(jnp.where(label[:, None] == other_label[None], gram, 0), 1)

    def add(squares: jax.Array, i: jax.Array):
        one = read(i)
        # Each later tile counts for both orders of the pair.
        further = lax.fori_loop(
            i + 1,
            last[i] + 1,
            lambda j, found: found + 2 * pairs(one, read(j)),
            jnp.zeros(tile, squares.dtype),
        )
        return squares.at[tiled_label[i]].add(pairs(one, one) + further, mode="drop"), None

    squares, _ = lax.scan(
        add, jnp.zeros(num_classes, w.dtype), jnp.arange(len(order), dtype=last.dtype)
    )
    return jnp.sqrt(jnp.maximum(squares, 0)) / jnp.sum(w)


def _probabilities(head: Head) -> tuple[jax.Array, jax.Array]:
    """``p`` and ``1 - p``, ``[class, example]``, each accurate where it is small.

    On CPUs, class-major products are faster than ``[example, class]``.
    """
    logits = _product(head.weight, head.features.T)
    if head.bias is not None:
        logits += head.bias[:, None]
    largest = jnp.max(logits, 0, keepdims=True)
    is_largest = logits == largest
    scaled = jnp.exp(logits - largest)
    ties = jnp.sum(is_largest, 0, keepdims=True, dtype=scaled.dtype)
    others = jnp.sum(jnp.where(is_largest, 0, scaled), 0, keepdims=True)
    p = scaled / (ties + others)
    # Only for the largest probability can 1 - p lose its digits.
    return p, jnp.where(is_largest, (ties - 1 + others) / (ties + others), 1 - p)


def _error(p: jax.Array, rest: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``p_k - 1[y=k]`` and ``1[y=k]``, ``[class, example]``."""
    chosen = lax.broadcasted_iota(label.dtype, p.shape, 0) == label[None]
    return jnp.where(chosen, -rest, p), chosen


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    # By default accelerators round the factors to 3 or 4 digits.
    return jnp.matmul(a, b, precision="highest")


def _checked(head: Head, label: ArrayLike | None, example_weight: ArrayLike | None):
    """Checked head, labels and weights; floats are at least float32."""
    features, weight = jnp.asarray(head.features), jnp.asarray(head.weight)
    bias = None if head.bias is None else jnp.asarray(head.bias)
    dtype = jnp.promote_types(jnp.result_type(features, weight), jnp.float32)
    if features.ndim != 2 or weight.ndim != 2 or features.shape[1] != weight.shape[1]:
        raise ValueError(
            f"features have shape {features.shape}, weights {weight.shape}; give "
            "[example, feature] and [class, feature]."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"biases have shape {bias.shape}, weights {weight.shape}; give [class].")
    w = jnp.ones(len(features), dtype) if example_weight is None else jnp.asarray(example_weight)
    label = jnp.zeros(len(features), int) if label is None else jnp.asarray(label)
    for name, array in (("labels", label), ("weights of examples", w)):
        if array.shape != features.shape[:1]:
            raise ValueError(
                f"{name} have shape {array.shape}, features {features.shape}; give one per example."
            )
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise TypeError(f"labels are of dtype {label.dtype}; give integers.")
    label = label.astype(jnp.result_type(label, jnp.int32))  # uint8 cannot be compared with 1000
    bias = None if bias is None else bias.astype(dtype)
    return Head(features.astype(dtype), weight.astype(dtype), bias), label, w.astype(dtype)


def _check_bytes(what: str, size: int, dtype: np.dtype, max_bytes: int) -> None:
    needed = size * dtype.itemsize
    if needed > max_bytes:
        raise ValueError(
            f"{what} take {needed:,} bytes, more than max_bytes = {max_bytes:,}; give fewer of "
            "them, or a larger max_bytes."
        )
