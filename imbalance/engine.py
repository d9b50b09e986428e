"""Many runs of one optimizer in one compiled program.

Runs form a grid ``[seed, rate]``: `start` makes their states, `advance` carries all of them n steps
on the device, `measure` applies probes to all of them. The host decides when to stop and look, so
nothing costly or conditional hides in the compiled step. The engine knows no task by name, no file
and no class.

The number of steps, the learning rates, the keys, the data and the objective are all arguments of
the compiled program: changing them compiles nothing, and because one program serves every stride,
where one stops to look cannot change a bit of the result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from imbalance.tasks import Batch, Examples, Leaf, Objective, Params, Task, accumulate

MAX_STRIDE = 256
"""The most steps one call of `advance` takes: the length of its buffer of losses."""

Track = Callable[[Examples], tuple[jax.Array, jax.Array]]
"""What each step reports of its own forward pass: sums of loss and of weight, of equal shape."""


def total(examples: Examples) -> tuple[jax.Array, jax.Array]:
    """Loss and weight summed over all examples: a `Track` whose quotient is the mean loss."""
    return jnp.sum(examples.weight * examples.loss), jnp.sum(examples.weight)


@dataclass(frozen=True)
class Engine:
    """What is compiled; equal engines share their compiled programs.

    Attributes:
      task: what is learned.
      optimizer: learning rate -> optax transformation, built on a traced rate.
      batch_size: rows of each step; None takes all rows every step.
      in_order: take the next rows at each step, and after the last the first again, as the paper
        does with text; False draws rows uniformly with replacement.
      data_by_seed: whether the data have a leading seed axis, or all seeds share them.
      track: what every step reports of the loss it computes anyway.
      precision: of matrix products on accelerators. "highest" is full float32, which gradient
        descent at the edge of stability needs; "tensorfloat32" or "bfloat16" are faster.
    """

    task: Task
    optimizer: Callable[[jax.typing.ArrayLike], optax.GradientTransformation]
    batch_size: int | None = None
    in_order: bool = False
    data_by_seed: bool = True
    track: Track = total
    precision: str = "highest"


class Data(NamedTuple):
    """Rows on the device, cut into microbatches; padding has weight 0 and stands at the end."""

    batch: Any  # a `Batch` with leaves [micro, row, ...], or [seed, micro, row, ...]
    num_rows: Leaf  # rows that are not padding


class State(NamedTuple):
    """All that runs carry from step to step."""

    params: Params  # [seed, rate, ...]
    opt_state: Any  # [seed, rate, ...]
    learning_rate: Leaf  # float32 [seed, rate]
    alive: Leaf  # bool [seed, rate]; False froze the run when its loss stopped being finite
    key: Leaf  # [seed]
    step: Leaf  # int32 []


_OVER_RATES = State(params=0, opt_state=0, learning_rate=0, alive=0, key=None, step=None)
_OVER_SEEDS = _OVER_RATES._replace(key=0)


def microbatched(batch: Batch, microbatches: int = 1, each: int | None = None) -> Data:
    """Cut rows ``[row, ...]`` into ``[micro, row, ...]``, zero-padded (weight 0) to equal lengths.

    Args:
      batch: leaves ``[row, ...]``.
      microbatches: how many.
      each: rows of each; None: the fewest.

    Raises:
      ValueError: if there are fewer rows than microbatches, or more than fit.
    """
    num_rows = len(batch.weight)
    if not 1 <= microbatches <= num_rows:
        raise ValueError(
            f"cannot cut {num_rows} rows into {microbatches} microbatches; give 1 to {num_rows}."
        )
    padding = -num_rows % microbatches if each is None else microbatches * each - num_rows
    if padding < 0:
        raise ValueError(f"{num_rows} rows are more than {microbatches} microbatches of {each}.")

    def cut(leaf):
        leaf = np.asarray(leaf)
        if padding:
            leaf = np.concatenate([leaf, np.zeros((padding, *leaf.shape[1:]), leaf.dtype)])
        return leaf.reshape(microbatches, -1, *leaf.shape[1:])

    return Data(jax.tree.map(cut, batch), num_rows)


def _over_runs(engine: Engine, function: Callable, out_axes: tuple, shared: int = 0) -> Callable:
    """``function`` of one run's `State` and `Data`, mapped over rates and then over seeds.

    Args:
      engine: says whether data differ by seed.
      function: of one run.
      out_axes: of its results, over rates and over seeds.
      shared: how many further arguments it has, which all runs share.
    """
    everywhere = (None,) * shared
    data = Data(batch=0, num_rows=None) if engine.data_by_seed else None
    rates, seeds = out_axes
    over_rates = _vmap(function, (_OVER_RATES, None, *everywhere), rates)
    return _vmap(over_rates, (_OVER_SEEDS, data, *everywhere), seeds)


def _vmap(function: Callable, in_axes: tuple, out_axes: Any) -> Callable:
    """`jax.vmap` over states; but over a single one the function itself.

    A batch axis of length one is not free: on CPU it cost a transformer 10 to 20 %.
    """

    def along(axes: Any, trees: Any, change: Callable) -> Any:
        return jax.tree.map(
            lambda axis, tree: tree if axis is None else jax.tree.map(change, tree),
            axes,
            trees,
            is_leaf=lambda axis: axis is None,
        )

    def mapped(state: State, *rest):
        if len(state.learning_rate) > 1:
            return jax.vmap(function, in_axes, out_axes)(state, *rest)
        arguments = along(in_axes, (state, *rest), lambda leaf: leaf[0])
        return along(out_axes, function(*arguments), lambda leaf: leaf[None])

    return mapped


def start(engine: Engine, keys: jax.Array, learning_rates: jax.Array) -> State:
    """States at step 0 of all runs; runs of one seed start from the same parameters.

    Args:
      engine: what is compiled.
      keys: one a seed, ``[seed]``.
      learning_rates: float32 ``[rate]``.
    """
    params = _start_params(engine.task, keys, len(learning_rates))
    shape = (len(keys), len(learning_rates))
    return State(
        params=params,
        opt_state=_start_optimizer(engine.optimizer, params, learning_rates),
        learning_rate=jnp.broadcast_to(learning_rates.astype(jnp.float32), shape),
        alive=jnp.ones(shape, bool),
        key=jax.vmap(partial(jax.random.fold_in, data=1))(keys),
        step=jnp.int32(0),
    )


@partial(jax.jit, static_argnums=(0, 2))  # apart from the optimizer, so that all kinds share it
def _start_params(task: Task, keys: jax.Array, num_rates: int) -> Params:
    params = jax.vmap(lambda key: task.init(jax.random.fold_in(key, 0)))(keys)
    return jax.tree.map(
        lambda p: jnp.broadcast_to(p[:, None], (p.shape[0], num_rates, *p.shape[1:])), params
    )


@partial(jax.jit, static_argnums=0)
def _start_optimizer(optimizer, params: Params, learning_rates: jax.Array):
    over_rates = jax.vmap(lambda params, rate: optimizer(rate).init(params))
    return jax.vmap(over_rates, in_axes=(0, None))(params, learning_rates)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance(
    engine: Engine, state: State, data: Data, objective: Objective, steps: jax.typing.ArrayLike
) -> tuple[State, tuple[jax.Array, jax.Array]]:
    """Carry every run ``steps`` steps.

    Returns:
      The new state (the old one is donated), and what ``engine.track`` reported at each step:
      sums of loss and of weight, each ``[MAX_STRIDE, seed, rate, ...]``, of which the first
      ``steps`` rows are filled. Row i is from the forward pass that step i of this call took its
      gradient from. Frozen runs report NaN.
    """
    out_axes = ((_OVER_RATES, 0), (_OVER_SEEDS, 0))
    step_all = _over_runs(engine, partial(_step, engine), out_axes, shared=1)

    def body(i, carry):
        state, tracked = carry
        state, now = step_all(state, data, objective)
        return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), tracked, now)

    _, shapes = jax.eval_shape(step_all, state, data, objective)
    tracked = jax.tree.map(lambda s: jnp.full((MAX_STRIDE, *s.shape), jnp.nan, s.dtype), shapes)
    with jax.default_matmul_precision(engine.precision):
        return jax.lax.fori_loop(0, steps, body, (state, tracked))


@partial(jax.jit, static_argnums=(0, 1))
def measure(
    engine: Engine,
    probe: Callable[[Params, Batch], dict[str, jax.Array]],
    state: State,
    data: Data,
) -> dict[str, jax.Array]:
    """The probe at every run's parameters: arrays ``[seed, rate, ...]``; frozen runs give NaN."""

    def one_run(state: State, data: Data) -> dict[str, jax.Array]:
        found = probe(state.params, data.batch)
        return jax.tree.map(lambda v: jnp.where(state.alive, v, jnp.nan), found)

    with jax.default_matmul_precision(engine.precision):
        return _over_runs(engine, one_run, out_axes=(0, 0))(state, data)


def _step(
    engine: Engine, state: State, data: Data, objective: Objective
) -> tuple[State, tuple[jax.Array, jax.Array]]:
    """One step of one run: its new state, and what it tracked before moving."""
    key = jax.random.fold_in(state.key, state.step)
    batch = data.batch if engine.batch_size is None else _draw(engine, key, state.step, data)
    micro_keys = partial(jax.random.fold_in, key)

    def sums(params: Params, batch: Batch, index):
        examples = engine.task.per_example(params, batch, micro_keys(index + 1))
        weight = examples.weight
        if objective.class_weight is not None:
            weight = weight * objective.class_weight[examples.label]
        return jnp.sum(weight * examples.loss), (jnp.sum(weight), engine.track(examples))

    def penalty(params: Params):
        matrices = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim >= 2]
        return objective.l2 / 2 * sum(jnp.sum(leaf**2) for leaf in matrices)  # pyright: ignore

    def value_fn(params: Params):  # for line searches; unused ones are dropped by the compiler
        loss, (weight, _) = accumulate(partial(sums, params), batch)
        return loss / weight + (0.0 if objective.l2 is None else penalty(params))

    differentiate = jax.value_and_grad(sums, has_aux=True)
    (loss, (weight, tracked)), grads = accumulate(partial(differentiate, state.params), batch)
    value, grads = loss / weight, jax.tree.map(lambda g: g / weight, grads)
    if objective.l2 is not None:
        extra, shrink = jax.value_and_grad(penalty)(state.params)
        value, grads = value + extra, optax.tree.add(grads, shrink)

    optimizer = optax.with_extra_args_support(engine.optimizer(state.learning_rate))
    updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params, value=value, grad=grads, value_fn=value_fn
    )
    params = optax.apply_updates(state.params, updates)

    # A run whose loss is no longer finite stays where it is, and the others go on.
    alive = state.alive & jnp.isfinite(value)
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(alive, new, old),
        (params, opt_state),
        (state.params, state.opt_state),
    )
    tracked = jax.tree.map(lambda t: jnp.where(state.alive, t, jnp.nan), tracked)
    return state._replace(
        params=params, opt_state=opt_state, alive=alive, step=state.step + 1
    ), tracked


def _draw(engine: Engine, key: jax.Array, step: jax.Array, data: Data) -> Batch:
    """The rows of one step, in microbatches as large as those of the data."""
    size, each = engine.batch_size, data.batch.weight.shape[1]
    assert size is not None
    if size % each:
        raise ValueError(
            f"batch_size {size} is not a multiple of the {each} rows of a microbatch; "
            "give one of the two another value."
        )
    if engine.in_order:
        batches = -(-data.num_rows // size)
        rows = step % batches * size + jnp.arange(size)
    else:
        rows = jax.random.randint(key, (size,), 0, data.num_rows)
    inside = rows < data.num_rows  # the last batch of a pass may be short
    rows = jnp.minimum(rows, data.num_rows - 1)

    def take(leaf):
        flat = leaf.reshape(-1, *leaf.shape[2:])
        return flat[rows].reshape(-1, each, *leaf.shape[2:])

    batch = jax.tree.map(take, data.batch)
    inside = inside.reshape(-1, each, *(1,) * (batch.weight.ndim - 2))
    return batch._replace(weight=jnp.where(inside, batch.weight, 0))
