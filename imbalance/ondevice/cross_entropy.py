"""Cross-entropy from hidden states, without the logits of all examples at once.

With many classes the logits fill the memory: 4096 tokens of 256k classes take 4 GB, and twice that
with their gradient. Here a scan computes the logits of one chunk of examples at a time, and again
in the backward pass. A chunk that fits into the cache mostly makes up for the additional matrix
product. Where memory allows, the exponentials can be kept instead.
"""

from functools import partial
from math import log2

import jax
import jax.numpy as jnp
from jax import lax

CHUNK_LOGITS = 2**21  # 8 MiB fit into a CPU's cache: a fifth faster than four times as many


def chunked_cross_entropy(
    hidden: jax.Array,
    weight: jax.Array,
    label: jax.Array,
    bias: jax.Array | None = None,
    *,
    class_axis: int = 0,
    chunk: int | None = None,
    keep: bool = False,
    smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> jax.Array:
    """Cross-entropy of every example in nats, ``lse(z) - z_y`` with logits ``z = W h + b``.

    An example whose label is ``ignore_index`` or out of range has loss 0 and no gradient, whatever
    its hidden state. `LossByClass` counts such examples.

    Works inside ``jit``, ``vmap``, ``scan`` and ``shard_map``. To distribute the examples over
    devices, use ``shard_map`` with replicated weights: otherwise the scan gathers the examples
    first, or fails on a mesh with Explicit axes. Second derivatives require ``jvp`` of ``grad``;
    forward mode alone fails.

    Args:
      hidden: Last hidden states ``[..., feature]``.
      weight: Weight of the output layer, ``[class, feature]``.
      label: Integers ``[...]``.
      bias: Bias of the output layer, ``[class]``, or None.
      class_axis: Axis of the classes in ``weight``; 1 for a flax kernel ``[feature, class]``.
      chunk: Largest number of examples whose logits are in memory. None: about 8 MiB of logits, but
        at least as many examples as features, since reading ``weight`` and adding to its gradient
        would otherwise take more time and memory than the logits.
      keep: Whether to store the exponentials of all logits, ``[example, class]`` floats, for the
        backward pass: a tenth faster where memory allows.
      smoothing: ``a`` of label smoothing, ``(1 - a) (lse(z) - z_y) + a (lse(z) - mean(z))``.
      ignore_index: Label of the examples to leave out.

    Returns:
      float32 ``[...]`` (float64 for float64). Products of bfloat16 and the gradient of the weights
      are accumulated in float32; the gradient of the logits is rounded to bfloat16.

    Raises:
      TypeError: If labels are not integers, or other arrays are not floats.
      ValueError: If shapes disagree or an option is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from imbalance.ondevice import chunked_cross_entropy
      >>> hidden, weight = jnp.ones((3, 2)), jnp.zeros((4, 2))  # all of four classes have p = 1/4
      >>> chunked_cross_entropy(hidden, weight, jnp.array([0, 3, 1])).round(3)
      Array([1.386, 1.386, 1.386], dtype=float32)
    """
    hidden, weight, label = jnp.asarray(hidden), jnp.asarray(weight), jnp.asarray(label)
    bias = None if bias is None else jnp.asarray(bias)
    _check(hidden, weight, label, bias, class_axis, chunk, smoothing)
    num_classes, num_features = weight.shape[class_axis], hidden.shape[-1]
    if chunk is None:  # a power of two, or the number of features
        chunk = max(1 << round(log2(max(CHUNK_LOGITS / num_classes, 1))), num_features)

    dtype = jnp.result_type(hidden, weight)
    hidden, weight = hidden.astype(dtype), weight.astype(dtype)
    bias = None if bias is None else bias.astype(jnp.promote_types(dtype, jnp.float32))
    label = label.astype(jnp.result_type(label, jnp.int32))  # uint8 cannot be compared with 1000
    valid = (label >= 0) & (label < num_classes)
    if ignore_index is not None:
        valid &= label != ignore_index
    target = jnp.where(valid, label, -1).astype(jnp.int32)

    # All chunks have one size, the smallest for their number: padding is under one example a chunk.
    num_chunks = max(1, -(-label.size // chunk))
    size = -(-label.size // num_chunks)
    padding = num_chunks * size - label.size
    hidden = jnp.pad(hidden.reshape(label.size, num_features), ((0, padding), (0, 0)))
    hidden = hidden.reshape(num_chunks, size, num_features)
    target = jnp.pad(target.reshape(label.size), (0, padding), constant_values=-1)
    target = target.reshape(num_chunks, size)

    loss = _compiled(class_axis, smoothing, keep, *_varying_alike(hidden, weight, bias, target))
    return loss.reshape(-1)[: label.size].reshape(label.shape)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _losses(class_axis, smoothing, keep, hidden, weight, bias, target):
    """Losses ``[chunk, example]`` of ``hidden [chunk, example, feature]``; target -1 masks."""
    del keep  # there is no backward pass
    return _forward(class_axis, smoothing, False, hidden, weight, bias, target)[0]


def _forward(class_axis, smoothing, keep, hidden, weight, bias, target):
    def one(_, each):
        hidden, target = each
        logits = _logits(class_axis, hidden, weight, bias, target)
        top = logits.max(0)
        exponentials = jnp.exp(logits - top[None])
        log_sum = jnp.log(exponentials.sum(0))
        # Differences from the largest logit, so that a small loss keeps its digits.
        picked = jnp.take_along_axis(logits, target[None], 0)[0]
        loss = log_sum - (1 - smoothing) * (picked - top)
        if smoothing:
            loss -= smoothing * (logits.mean(0) - top)
        loss = jnp.where(target >= 0, loss, 0)
        return None, (loss, (exponentials, log_sum) if keep else (None, top + log_sum))

    _, (loss, softmax) = lax.scan(one, None, (hidden, target))
    return loss, (hidden, weight, bias, target, softmax)


def _backward(class_axis, smoothing, keep, saved, loss_grad):
    hidden, weight, bias, target, softmax = saved

    def one(sums, each):
        weight_grad, bias_grad = sums
        hidden, target, (exponentials, shift), loss_grad = each
        if keep:
            probability = exponentials * jnp.exp(-shift)[None]
        else:
            probability = jnp.exp(_logits(class_axis, hidden, weight, bias, target) - shift[None])
        chosen = lax.broadcasted_iota(jnp.int32, probability.shape, 0) == target[None]
        wanted = jnp.where(chosen, 1 - smoothing, 0) + smoothing / len(probability)
        scale = jnp.where(target >= 0, loss_grad, 0)
        logits_grad = scale[None] * (probability - wanted)
        if bias is not None:
            bias_grad += logits_grad.sum(1)
        logits_grad = logits_grad.astype(weight.dtype)
        weight_grad += _product(logits_grad, _kept(hidden, target), 1, 0)
        # On a CPU, [feature, example] is faster.
        hidden_grad = _product(weight, logits_grad, class_axis, 0).astype(hidden.dtype)
        return (weight_grad, bias_grad), hidden_grad

    def turned(weight):
        return weight if class_axis == 0 else weight.T

    zeros = jax.tree.map(lambda like: jnp.zeros_like(like, loss_grad.dtype), (turned(weight), bias))
    each = (hidden, target, softmax, loss_grad)
    (weight_grad, bias_grad), hidden_grad = lax.scan(one, zeros, each)
    # Mask again: a zero gradient times a weight that is not finite would be NaN.
    hidden_grad = jnp.where(target[:, None] >= 0, hidden_grad, 0).swapaxes(1, 2)
    return hidden_grad, turned(weight_grad).astype(weight.dtype), bias_grad, None


_losses.defvjp(_forward, _backward)
# Compiled here, as outside jit a scan compiles at every call.
_compiled = jax.jit(_losses, static_argnums=(0, 1, 2))


def _logits(class_axis, hidden, weight, bias, target):
    """Logits ``[class, example]``: on a CPU this order takes half the time."""
    logits = _product(weight, _kept(hidden, target), 1 - class_axis, 1)
    return logits if bias is None else logits + bias[:, None]


def _kept(hidden, target):
    """``hidden``, zero for masked examples: a zero gradient times a NaN would be NaN."""
    return jnp.where(target[:, None] >= 0, hidden, 0)


def _product(a, b, axis_a, axis_b):
    """Product summed over one axis of each, in at least float32."""
    dtype = jnp.promote_types(a.dtype, jnp.float32)
    return lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((), ())), preferred_element_type=dtype)


def _varying_alike(*arrays):
    """The arrays, made to vary over the same axes of a ``shard_map``, as a scan requires."""
    axes = {axis for array in jax.tree.leaves(arrays) for axis in jax.typeof(array).mat.varying}

    def vary(array):
        missing = tuple(axes - jax.typeof(array).mat.varying)
        return lax.pcast(array, missing, to="varying") if missing else array

    return jax.tree.map(vary, arrays)


def _check(hidden, weight, label, bias, class_axis, chunk, smoothing):
    for name, array in (("hidden states", hidden), ("weights", weight), ("biases", bias)):
        if array is not None and not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name} are of dtype {array.dtype}; give floats.")
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise TypeError(f"labels are of dtype {label.dtype}; give integers.")
    if class_axis not in (0, 1):
        raise ValueError(f"class_axis is {class_axis}; give 0 or 1, the axis of classes in weight.")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; give 1 or more examples, or None.")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; give a share in [0, 1).")
    if not hidden.ndim or hidden.shape[:-1] != label.shape:
        raise ValueError(
            f"hidden states have shape {hidden.shape}, labels {label.shape}; give one label for "
            "every vector of features, [..., feature] and [...]."
        )
    if weight.ndim != 2 or weight.shape[1 - class_axis] != hidden.shape[-1]:
        layout = ("[class, feature]", "[feature, class]")[class_axis]
        raise ValueError(
            f"weights have shape {weight.shape}, hidden states {hidden.shape}; with class_axis="
            f"{class_axis} weights are {layout}, of as many features as hidden states have."
        )
    if bias is not None and bias.shape != (weight.shape[class_axis],):
        raise ValueError(
            f"biases have shape {bias.shape}, weights {weight.shape}; give one bias per class, "
            f"({weight.shape[class_axis]},)."
        )
