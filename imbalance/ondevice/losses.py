"""Losses by class inside ``jit``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from imbalance import analysis
from imbalance.analysis.checks import as_numpy, in_32_bits, wrong_shape
from imbalance.analysis.left_out import warn_of_left_out
from imbalance.analysis.names import Names
from imbalance.analysis.sums import LARGEST_LOSS, MOMENTS, LossSums, added, frozen
from imbalance.ondevice.exact_sums import Pair, Reduction, add, exact_sums, pair_of, product

LARGEST_WEIGHT = 2.0**40
LARGEST_WEIGHTED_LOSS = 2.0**60  # the sum of 2^8 of its squares does not overflow float32
# Rows of the sums, before those of the moments; and segments, after those of the classes.
COUNT, DIVERGED, MOMENT = 0, 1, 2
OUTSIDE = ("ignored", "out_of_range", "wrong_weight")


@partial(
    jax.tree_util.register_dataclass, data_fields=["high", "low"], meta_fields=["ignore_index"]
)
@dataclass(frozen=True, repr=False)
class LossByClass:
    """Sums of losses by class on the device: a functional `imbalance.LossByClass`.

    A pytree of two arrays: carry it through ``jit``, ``scan`` and ``vmap`` like parameters. Make it
    with `create`, add batches with `update`, convert it with `to_host` to read the results. Sums do
    not drift (see `imbalance.ondevice.exact_sums`): counts are exact to 2^48, means to about 2^-40.
    A batch sharded over several devices gives the same bits as on one.

    Attributes:
      high: Leading parts of the sums, float32 ``[sum, class + 3]``: count, diverged and the five
        moments of `imbalance.analysis.sums.LossSums`. The last three columns count the examples
        left out.
      low: Rounding errors of ``high``, float32 ``[sum, class + 3]``.
      ignore_index: Label that masks its example, or None.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from imbalance import ondevice
      >>> losses = ondevice.LossByClass.create(num_classes=3)
      >>> step = jax.jit(lambda losses, loss, label: losses.update(loss, label))
      >>> losses = step(losses, jnp.array([0.1, 0.3, 2.0]), jnp.array([0, 0, 2]))
      >>> losses.to_host().mean.round(6)
      array([0.2, nan, 2. ])
    """

    high: jax.Array
    low: jax.Array
    ignore_index: int | None = field(default=None)

    @classmethod
    def create(cls, num_classes: int, ignore_index: int | None = None) -> Self:
        """Empty sums.

        Raises:
          TypeError, ValueError: As `imbalance.LossByClass`.
        """
        analysis.LossByClass(num_classes, ignore_index)  # for its checks
        shape = (MOMENT + len(MOMENTS), num_classes + len(OUTSIDE))
        # Two arrays, so that the sums can be donated.
        return cls(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32), ignore_index)

    def __repr__(self) -> str:
        return (
            f"LossByClass(num_classes={self.num_classes}, ignore_index={self.ignore_index}) on the "
            "device; read it with to_host()"
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.high.shape[-1] - len(OUTSIDE)

    @property
    def mean(self) -> jax.Array:
        """Mean loss of each class, float32 ``[class]``; NaN without examples."""
        weight, total = self._weight_and_total
        return total / weight

    @property
    def overall(self) -> jax.Array:
        """Mean loss of all examples, float32 ``[]``; NaN without examples."""
        weight, total = self._weight_and_total
        return jnp.sum(total) / jnp.sum(weight)

    @property
    def diverged(self) -> jax.Array:
        """Number of diverged losses of each class, which are in no mean, float32 ``[class]``."""
        return (self.high + self.low)[DIVERGED, : self.num_classes]

    @property
    def _weight_and_total(self) -> jax.Array:
        return (self.high + self.low)[MOMENT : MOMENT + 2, : self.num_classes]

    def update(
        self,
        loss: ArrayLike,
        label: ArrayLike,
        weight: ArrayLike | None = None,
        axis_name: Any = None,
    ) -> Self:
        """The sums with a batch added; `imbalance.LossByClass.update` says what is left out.

        Only sums by class move between devices: under ``jit`` for a batch sharded over Auto or
        Explicit mesh axes, and under ``shard_map`` if ``axis_name`` is given. Gradients are
        stopped.

        Args:
          loss: Loss of each example, unreduced and unweighted, ``[...]``, of any float type.
          label: Class of each example, integers ``[...]``. Labels of 64 bits in NumPy's arrays are
            compared before they become JAX's 32 bits. What a compiled function is *called* with,
            JAX converts first: there a label 2^32 + 1 has become class 1 already.
          weight: Weight of each example, ``[...]``, 0 to 2^40, or a boolean mask; None: 1 each.
            `to_host` raises if a weight was out of range. A weighted loss beyond 2^60 is counted as
            diverged.
          axis_name: Mesh axes over which the batch is sharded, inside ``shard_map``: the sums stay
            equal on all devices. None: every device sums its own part until `psum`.

        Raises:
          TypeError: If labels are not integers, or an array is a NumPy masked array.
          ValueError: If shapes differ, or there are more than 2^24 examples.
        """
        loss, label = _on_device(loss), _on_device(label, in_32_bits)
        weight = None if weight is None else _on_device(weight)
        if not jnp.issubdtype(label.dtype, jnp.integer):
            raise TypeError(
                f"labels have dtype {label.dtype}; give integers, or soft labels to update_soft."
            )
        for name, values in (("losses", loss), ("weights", weight)):
            if values is not None and values.shape != label.shape:
                raise ValueError(wrong_shape(name, values.shape, label.shape))
        arrays = (loss, label) if weight is None else (loss, label, weight)
        return _updated(self, arrays, axis_name)

    def update_soft(
        self,
        loss: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        axis_name: Any = None,
    ) -> Self:
        """The sums with a batch of soft labels added, as `imbalance.LossByClass.update_soft`.

        Args:
          loss: Loss of each example under each class as its label, ``[..., class]``.
          target: Share of each class, finite and 0 or more, ``[..., class]``.
          weight: Weight of each example, ``[...]``, or a boolean mask; None: 1 each.
          axis_name: Mesh axes, as in `update`.

        Raises:
          ValueError: If shapes differ, or there are more than 2^24 examples.
        """
        loss, target = _on_device(loss), _on_device(target)
        weight = None if weight is None else _on_device(weight)
        classes, rows = target.shape[-1:], target.shape[:-1]
        if classes != (self.num_classes,) or loss.shape != target.shape:
            raise ValueError(
                f"losses have shape {loss.shape}, targets {target.shape}; give one of each for "
                f"every example and each of the {self.num_classes} classes."
            )
        if weight is not None and weight.shape != rows:
            raise ValueError(f"weights have shape {weight.shape}, examples {rows}; give one each.")
        arrays = (loss, target) if weight is None else (loss, target, weight)
        return _updated(self, arrays, axis_name, soft=True)

    def merge(self, other: Self) -> Self:
        """The sums of both streams.

        Raises:
          ValueError: If they differ in their classes or in ``ignore_index``.
        """
        if (self.high.shape, self.ignore_index) != (other.high.shape, other.ignore_index):
            raise ValueError(
                f"sums of shape {self.high.shape} with ignore_index {self.ignore_index} and of "
                f"shape {other.high.shape} with {other.ignore_index}; only equal ones merge."
            )
        return self._plus(other.high, other.low)

    def _plus(self, high: jax.Array, low: jax.Array) -> Self:
        return type(self)(*add((self.high, self.low), (high, low)), self.ignore_index)

    def psum(self, axis_name: Any) -> Self:
        """The sums over all devices of these axes, inside ``shard_map``."""
        across = Reduction(
            total=lambda terms: terms,
            largest=lambda terms: terms,
            spread=lambda sums: sums,
            number=1,
            axis_name=axis_name,
        )
        (total,) = exact_sums([(self.high, self.low)], across)
        return type(self)(*total, self.ignore_index)

    def to_host(
        self, correct: Self | None = None, names: Names | None = None
    ) -> analysis.LossByClass:
        """The sums on the host, as NumPy arrays in float64 and int64.

        Args:
          correct: Sums of predictions, an object of its own that was given ``update(logits
            .argmax(-1) == label, label)``: its means are the accuracies. None: not known.
          names: Names of the classes, as in `imbalance.LossByClass`.

        Raises:
          ValueError: If the sums are of several runs, or differ between devices, or a weight was
            negative, not finite or beyond 2^40.
        """
        if self.high.ndim != 2:
            raise ValueError(
                f"sums have shape {self.high.shape}; give those of one run, as by "
                "jax.tree.map(lambda leaf: leaf[run], losses)."
            )
        if not getattr(self.high, "is_fully_replicated", True):  # a NumPy array is
            raise ValueError(
                "every device holds the sums of its own part; add them up with psum inside "
                "shard_map first."
            )
        sums = np.asarray(self.high, np.float64) + np.asarray(self.low, np.float64)
        classes, outside = np.split(sums, [self.num_classes], axis=1)
        ignored, out_of_range, wrong_weight = (int(number) for number in outside[COUNT])
        if wrong_weight:
            raise ValueError(
                f"{wrong_weight} weights were negative, not finite or beyond "
                f"{LARGEST_WEIGHT:.0e}; give weights in this range."
            )
        losses = analysis.LossByClass(self.num_classes, self.ignore_index, names)
        losses.count = frozen(np.rint(classes[COUNT]).astype(np.int64))
        losses.diverged = frozen(np.rint(classes[DIVERGED]).astype(np.int64))
        losses.moments = frozen(classes[MOMENT:])
        losses.ignored, losses.out_of_range = ignored, out_of_range
        if correct is not None:
            if correct.num_classes != self.num_classes:
                raise ValueError(
                    f"correct has {correct.num_classes} classes, the losses {self.num_classes}."
                )
            known = correct.to_host()
            losses.correct = LossSums(known.count, known.diverged, known.moments)
        warn_of_left_out(losses, losses.ignore_index, losses.names)
        return losses


def merge_processes(losses: analysis.LossByClass) -> analysis.LossByClass:
    """The sums of all processes; every process must call it and gets the same result.

    For an `imbalance.LossByClass` that each host updated with its own examples. Sums on the device
    over a global batch already contain all of it.

    Args:
      losses: Sums of this process, with the same classes and ``ignore_index`` in all of them.

    Example:
      >>> from imbalance import LossByClass, ondevice
      >>> losses = LossByClass(num_classes=2)
      >>> losses.update([0.5, 2.0], [0, 1])
      >>> ondevice.merge_processes(losses).mean  # of all processes: here it is the only one
      array([0.5, 2. ])
    """
    merged = analysis.LossByClass(losses.num_classes, losses.ignore_index, losses.names)
    merged.__dict__ |= vars(_over_processes(losses))
    if _gathered(np.array([losses.correct is not None])).any():  # every process sends as much
        merged.correct = _over_processes(losses.correct or _no_sums(losses.num_classes))
    return merged


def _over_processes(sums: LossSums) -> LossSums:
    """Counts and moments of all processes, added in the same order in each."""
    exact = [sums.count, sums.diverged, [sums.ignored, sums.out_of_range]]
    numbers = np.concatenate([*exact, sums.moments.reshape(-1).view(np.int64)])
    num_groups = len(sums.count)
    total = _no_sums(num_groups)
    for row in _gathered(numbers.view(np.uint32)):
        count, diverged, left_out, moments = np.split(
            row.view(np.int64), np.cumsum([num_groups, num_groups, 2])
        )
        moments = moments.view(np.float64).reshape(len(MOMENTS), num_groups)
        part = LossSums(count, diverged, moments, int(left_out[0]), int(left_out[1]))
        total = LossSums(**added(total, part))
    return total


def _gathered(numbers: np.ndarray) -> np.ndarray:
    """The numbers of every process, ``[process, ...]``; the device would round those of 64 bits."""
    gathered = multihost_utils.process_allgather(numbers, tiled=False)
    return np.asarray(gathered).reshape(jax.process_count(), -1)


def _no_sums(num_groups: int) -> LossSums:
    nothing = np.zeros(num_groups, np.int64)
    return LossSums(nothing, nothing, np.zeros((len(MOMENTS), num_groups)))


def _as_floats(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype in (np.int64, np.uint64) else array


def _on_device(array: Any, narrowed: Callable[[np.ndarray], np.ndarray] = _as_floats) -> jax.Array:
    """A JAX array; ``narrowed`` says what becomes of 64 bits, which JAX would wrap around."""
    if isinstance(array, np.ndarray | np.generic) or hasattr(array, "detach"):
        array = narrowed(as_numpy(array))
    return jnp.asarray(array)


@partial(jax.jit, static_argnames=("axis_name", "soft"))  # for callers that do not compile
def _updated(
    losses: LossByClass, arrays: tuple[jax.Array, ...], axis_name: Any, soft: bool = False
) -> LossByClass:
    """``losses`` with a batch added: loss, label (or target) and optional weight."""
    if soft:
        sums = partial(_soft_sums, losses.num_classes)
    else:
        sums = partial(_hard_sums, losses.num_classes, losses.ignore_index)
    mesh, spec = _layout(arrays, axes=arrays[1].ndim - soft)
    names = tuple(jax.tree.leaves(tuple(spec)))
    if axis_name is not None or not names:
        return losses._plus(*sums(*arrays, axis_name=axis_name))
    # The batch is sharded over Explicit axes. Auto axes need no shard_map: there the compiler sums
    # each shard and adds the results; for Explicit axes it raises an error.
    parts = jax.shard_map(
        partial(sums, axis_name=names), mesh=mesh, in_specs=spec, out_specs=PartitionSpec()
    )
    return losses._plus(
        *parts(*(jax.sharding.reshard(array, NamedSharding(mesh, spec)) for array in arrays))
    )


def _layout(arrays: tuple[jax.Array, ...], axes: int) -> tuple[Any, PartitionSpec]:
    """The mesh of the first sharded array, and the partition of its first ``axes`` axes."""
    shardings = [jax.typeof(array).sharding for array in arrays]
    specs = [PartitionSpec(*sharding.spec[:axes]) for sharding in shardings]
    laid = [i for i, spec in enumerate(specs) if any(spec)]
    first = laid[0] if laid else 0
    return shardings[first].mesh, specs[first]


def _hard_sums(
    num_classes: int,
    ignore_index: int | None,
    loss: jax.Array,
    label: jax.Array,
    weight: jax.Array | None = None,
    *,
    axis_name: Any,
) -> Pair:
    """Sums of a batch with labels, a pair of ``[sum, class + 3]``."""
    small, given = jnp.iinfo(jnp.int32), jnp.iinfo(label.dtype)
    label = jnp.clip(label, max(small.min, given.min), min(small.max, given.max)).astype(jnp.int32)
    segment = jnp.where((label < 0) | (label >= num_classes), num_classes + 1, label)
    if weight is not None:
        weight = weight.astype(jnp.float32)
        segment = jnp.where(_is_weight(weight), segment, num_classes + 2)
        segment = jnp.where(weight == 0, num_classes, segment)
    if ignore_index is not None:
        segment = jnp.where(label == ignore_index, num_classes, segment)

    # The batch keeps its axes: flattened, a batch sharded over its second axis would be gathered.
    def beginning(values: jax.Array) -> jax.Array:
        return jnp.zeros((num_classes + len(OUTSIDE), values.shape[-1]), values.dtype)

    def total(terms: list[jax.Array]) -> list[jax.Array]:
        values = jnp.stack(terms, axis=-1)
        return list(beginning(values).at[segment].add(values).T)

    def largest(terms: list[jax.Array]) -> list[jax.Array]:
        values = jnp.stack(terms, axis=-1)
        return list(beginning(values).at[segment].max(values).T)

    def spread(sums: list[jax.Array]) -> list[jax.Array]:
        return [column[segment] for column in sums]

    into = Reduction(total, largest, spread, label.size, axis_name)
    inside = segment < num_classes
    return _sums(loss, weight, jnp.ones_like(inside), inside, into)


def _soft_sums(
    num_classes: int,
    loss: jax.Array,
    target: jax.Array,
    weight: jax.Array | None = None,
    *,
    axis_name: Any,
) -> Pair:
    """Sums of a batch with soft labels, a pair of ``[sum, class + 3]``."""
    target = target.astype(jnp.float32)
    weight = jnp.ones(target.shape[:-1], bool) if weight is None else weight
    weight = weight.astype(jnp.float32)
    part = target * weight[..., None]
    right = _is_weight(target) & _is_weight(weight)[..., None]
    examples = tuple(range(target.ndim - 1))
    into = Reduction(
        total=lambda terms: [t.sum(examples) for t in terms],
        largest=lambda terms: [t.max(examples, initial=0) for t in terms],
        spread=lambda sums: [jnp.broadcast_to(total, target.shape) for total in sums],
        number=weight.size,
        axis_name=axis_name,
    )
    inside = right & (part > 0)
    sums = _sums(loss, part, inside, inside, into)
    outside = [jnp.sum(weight == 0), 0, jnp.sum(~right)]
    outside = jnp.array(outside, jnp.int32)
    outside = pair_of(outside if axis_name is None else jax.lax.psum(outside, axis_name))

    def beside(sums: jax.Array, outside: jax.Array) -> jax.Array:
        nothing = jnp.zeros((len(sums), len(OUTSIDE)), jnp.float32)
        return jnp.concatenate([sums, nothing.at[COUNT].set(outside)], axis=1)

    return jax.tree.map(beside, sums, outside)


def _is_weight(weight: jax.Array) -> jax.Array:
    return (weight >= 0) & (weight <= LARGEST_WEIGHT)  # neither holds for NaN


def _sums(
    loss: jax.Array,
    weight: jax.Array | None,
    counted: jax.Array,
    inside: jax.Array,
    into: Reduction,
) -> Pair:
    """Counts and moments of the terms ``inside`` a class, a pair of ``[sum, ...]``."""
    loss = jax.lax.stop_gradient(loss).astype(jnp.float32)
    usable = jnp.abs(loss) <= LARGEST_LOSS  # not so for NaN
    if weight is not None:
        weight = jax.lax.stop_gradient(weight)
        usable &= (jnp.abs(loss * weight) <= LARGEST_WEIGHTED_LOSS) | ~inside
    count, diverged = into.whole([counted.astype(jnp.int32), (inside & ~usable).astype(jnp.int32)])
    used = inside & usable
    loss = jnp.where(used, loss, 0)  # NaN times a weight of 0 would be NaN
    exactly = jnp.zeros_like(loss)
    if weight is None:  # w = w² = 1
        number = pair_of(count - diverged)
        total, square = exact_sums([(loss, exactly), product(loss, loss)], into)
        moments = [number, total, number, total, square]
    else:
        weight = jnp.where(used, weight, 0)
        weighted, rest = product(weight, loss)
        square_loss, square_loss_rest = product(weight, weighted)
        square_square, square_square_rest = product(weighted, weighted)
        moments = exact_sums(
            [
                (weight, exactly),
                (weighted, rest),
                product(weight, weight),
                (square_loss, square_loss_rest + weight * rest),
                (square_square, square_square_rest + 2 * weighted * rest),
            ],
            into,
        )
    high, low = zip(pair_of(count), pair_of(diverged), *moments, strict=True)
    return jnp.stack(high), jnp.stack(low)
