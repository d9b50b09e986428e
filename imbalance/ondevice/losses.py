"""Twins of the analyzers in `imbalance.analysis` that run inside ``jit``."""

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
from imbalance.analysis.streaming import warn_of_left_out
from imbalance.analysis.sums import LARGEST_LOSS, MOMENTS
from imbalance.ondevice.exact_sums import Pair, Reduction, add, exact_sums, pair_of, product

LARGEST_WEIGHT = 2.0**40
LARGEST_WEIGHTED_LOSS = 2.0**60  # the sum of the squares of 2^8 of them is a float32
# Rows of the sums, before one for each moment; and segments after those of the classes.
COUNT, DIVERGED, MOMENT = 0, 1, 2
OUTSIDE = ("ignored", "out_of_range", "wrong_weight")


@partial(
    jax.tree_util.register_dataclass, data_fields=["high", "low"], meta_fields=["ignore_index"]
)
@dataclass(frozen=True, repr=False)
class LossByClass:
    """Sums of losses by class on the device: the functional twin of `imbalance.LossByClass`.

    A pytree of two arrays: carry it through ``jit``, ``scan`` and ``vmap`` like parameters.
    Make it with `create`, add batches with `update`, bring it home with `to_host`, where everything
    is read. Sums are exact where float32 would drift (see `imbalance.ondevice.exact_sums`): counts to 2^48,
    means to about 2^-40; and a batch laid over several devices gives the same bits as on one.

    Attributes:
      high: float32 ``[sum, class + 3]``: count, diverged and the five moments of
        `imbalance.analysis.sums.LossSums`. Behind the classes stand the examples left out.
      low: what ``high`` misses, float32 ``[sum, class + 3]``.
      ignore_index: a label that masks its example, or None.
    """

    high: jax.Array
    low: jax.Array
    ignore_index: int | None = field(default=None)

    @classmethod
    def create(cls, num_classes: int, ignore_index: int | None = None) -> Self:
        """Sums over no examples yet.

        Raises:
          TypeError, ValueError: as `imbalance.LossByClass`.
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
        """Mean loss of each class, float32 ``[class]``; NaN where nothing was seen."""
        weight, total = self._weight_and_total
        return total / weight

    @property
    def overall(self) -> jax.Array:
        """Mean loss of all examples, float32 ``[]``; NaN if nothing was seen."""
        weight, total = self._weight_and_total
        return jnp.sum(total) / jnp.sum(weight)

    @property
    def diverged(self) -> jax.Array:
        """Examples of each class whose loss is in no mean, float32 ``[class]``."""
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
        """The sums with a batch added; what is left out is as in `imbalance.LossByClass.update`.

        Only sums by class move between devices: under ``jit`` with a batch that is sharded over
        Auto or Explicit mesh axes, and under ``shard_map`` if ``axis_name`` is given. No gradient
        flows through.

        Args:
          loss: of each example, unreduced and not yet weighted, ``[...]``, of any float type.
          label: class of each example, integers ``[...]``.
          weight: of each example, ``[...]``, 0 to 2^40, or a boolean mask; None: 1 each. If one is
            another number, `to_host` raises. A loss times its weight that is beyond 2^60 is counted
            as diverged.
          axis_name: inside ``shard_map``, the axis or axes over which the batch is laid: the sums
            stay equal on all devices. Without it every device sums its own part until `psum`.

        Raises:
          TypeError: if labels are not integers.
          ValueError: if shapes differ, or there are more than 2^24 examples.
        """
        loss, label = jnp.asarray(loss), jnp.asarray(label)
        weight = None if weight is None else jnp.asarray(weight)
        if not jnp.issubdtype(label.dtype, jnp.integer):
            raise TypeError(
                f"labels have dtype {label.dtype}; give integers, or soft labels to update_soft."
            )
        for name, values in (("losses", loss), ("weights", weight)):
            if values is not None and values.shape != label.shape:
                raise ValueError(
                    f"{name} have shape {values.shape}, labels {label.shape}; give one of each for "
                    "every example."
                )
        arrays = (loss, label) if weight is None else (loss, label, weight)
        return _updated(self, arrays, axis_name)

    def update_soft(
        self,
        loss: ArrayLike,
        target: ArrayLike,
        weight: ArrayLike | None = None,
        axis_name: Any = None,
    ) -> Self:
        """The sums with a batch of soft labels added, as `imbalance.LossByClass.update_soft` tells.

        Args:
          loss: of each example were its label this class, ``[..., class]``.
          target: share of each class, finite and 0 or more, ``[..., class]``.
          weight: of each example, ``[...]``, or a boolean mask; None: 1 each.
          axis_name: as in `update`.

        Raises:
          ValueError: if shapes differ, or there are more than 2^24 examples.
        """
        loss, target = jnp.asarray(loss), jnp.asarray(target)
        weight = None if weight is None else jnp.asarray(weight)
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
          ValueError: if they differ in their classes or in ``ignore_index``.
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
        """Inside ``shard_map``: the sums over all devices of these axes, each with its own part."""
        across = Reduction(
            total=lambda terms: terms,
            largest=lambda terms: terms,
            spread=lambda sums: sums,
            number=1,
            axis_name=axis_name,
        )
        (total,) = exact_sums([(self.high, self.low)], across)
        return type(self)(*total, self.ignore_index)

    def to_host(self) -> analysis.LossByClass:
        """What was summed, as NumPy arrays in float64 and int64, to be read there.

        Raises:
          ValueError: if the sums are of several runs or of one device only, or a weight was
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
        losses = analysis.LossByClass(self.num_classes, self.ignore_index)
        losses.count = np.rint(classes[COUNT]).astype(np.int64)
        losses.diverged = np.rint(classes[DIVERGED]).astype(np.int64)
        losses.moments = classes[MOMENT:]
        losses.ignored, losses.out_of_range = ignored, out_of_range
        warn_of_left_out(losses)
        return losses


def merge_processes(losses: analysis.LossByClass) -> analysis.LossByClass:
    """The sums that all processes hold, together; each must call it, and each gets the same.

    For sums that `imbalance.LossByClass` made on every host of its own examples. Sums from the
    device that saw a global batch hold all of it already.

    Args:
      losses: this process's own, with the same classes and ``ignore_index`` everywhere.
    """
    exact = [losses.count, losses.diverged, [losses.ignored, losses.out_of_range]]
    numbers = np.concatenate([*exact, losses.moments.reshape(-1).view(np.int64)])
    # As pairs of uint32, for the device would round 64 bits to 32.
    gathered = multihost_utils.process_allgather(numbers.view(np.uint32), tiled=False)
    merged = analysis.LossByClass(losses.num_classes, losses.ignore_index)
    for row in np.asarray(gathered).reshape(jax.process_count(), -1):
        count, diverged, scalars, moments = np.split(
            row.view(np.int64), np.cumsum([losses.num_classes, losses.num_classes, 2])
        )
        merged.count += count
        merged.diverged += diverged
        merged.ignored += int(scalars[0])
        merged.out_of_range += int(scalars[1])
        merged.moments += moments.view(np.float64).reshape(merged.moments.shape)
    return merged


@partial(jax.jit, static_argnames=("axis_name", "soft"))  # also where the caller does not compile
def _updated(
    losses: LossByClass, arrays: tuple[jax.Array, ...], axis_name: Any, soft: bool = False
) -> LossByClass:
    """``losses`` with a batch added: loss, label (or target) and perhaps weight."""
    if soft:
        sums = partial(_soft_sums, losses.num_classes)
    else:
        sums = partial(_hard_sums, losses.num_classes, losses.ignore_index)
    mesh, spec = _layout(arrays, axes=arrays[1].ndim - soft)
    names = tuple(jax.tree.leaves(tuple(spec)))
    if axis_name is not None or not names:
        return losses._plus(*sums(*arrays, axis_name=axis_name))
    # The batch is laid over Explicit axes: the compiler, which under Auto axes makes of this sums
    # of parts by itself, refuses to guess here.
    parts = jax.shard_map(
        partial(sums, axis_name=names), mesh=mesh, in_specs=spec, out_specs=PartitionSpec()
    )
    return losses._plus(
        *parts(*(jax.sharding.reshard(array, NamedSharding(mesh, spec)) for array in arrays))
    )


def _layout(arrays: tuple[jax.Array, ...], axes: int) -> tuple[Any, PartitionSpec]:
    """The mesh, and how the first ``axes`` of the first array that is laid over it are."""
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

    # The batch keeps its axes: as one, it would be gathered where it is laid over its second.
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
    """Counts and moments of what is ``inside`` a class, a pair of ``[sum, ...]``."""
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
