"""Runs of one optimizer: how they start, walk and are measured, as pure functions.

Runs lie along one axis ``[run]``: `start` makes their states, `advance` carries all of them n steps
on the device, `measure` applies a probe to all of them. The host decides when to stop and look, so
nothing costly or conditional hides in the compiled step. The engine knows no task by name, no file
and no class, and compiles nothing: `imbalance.training.plan` does.

The number of steps, the learning rates, the key, the data and the objective are arguments of the
compiled program: changing them compiles nothing, and because one program serves every stride, where
one stops to look cannot change a bit of the result. Nor can the runs beside it where a run is alone
on its axis, as it is on a CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from imbalance.problems.objective import Objective
from imbalance.problems.tasks import Batch, Examples, Leaf, Params, Task, accumulate
from imbalance.training.precision import Precision, in_precision

MAX_STRIDE = 256
"""The most steps one call of `advance` takes: the length of its buffer of losses."""

Track = Callable[[Examples], tuple[jax.Array, jax.Array]]
"""What each step reports of its own forward pass: sums of loss and of weight, of equal shape."""


def total(examples: Examples) -> tuple[jax.Array, jax.Array]:
    """Loss and weight summed over all examples: a `Track` whose quotient is the mean loss."""
    return jnp.sum(examples.weight * examples.loss), jnp.sum(examples.weight)


@dataclass(frozen=True)
class Engine:
    """What a step consists of.

    Attributes:
      task: what is learned.
      optimizer: learning rate -> optax transformation, built on a traced rate.
      batch_size: rows of each step; None takes all rows every step.
      in_order: take the next rows at each step, and after the last the first again, as the paper
        does with text; False draws rows uniformly with replacement.
      track: what every step reports of the loss it computes anyway.
      precision: of matrix products, see `imbalance.training.precision`.
      laid: sharding of the rows that a step draws, where there are several devices.
    """

    task: Task
    optimizer: Callable[[jax.typing.ArrayLike], optax.GradientTransformation]
    batch_size: int | None = None
    in_order: bool = False
    track: Track = total
    precision: Precision = "float32"
    laid: Any = None


class Data(NamedTuple):
    """Rows on the device, cut into microbatches; padding has weight 0 and stands at the end."""

    batch: Any  # a `Batch` with leaves [micro, row, ...]
    num_rows: Leaf  # rows that are not padding


class State(NamedTuple):
    """All that runs carry from step to step."""

    params: Params  # [run, ...]
    opt_state: Any  # [run, ...]
    learning_rate: Leaf  # float32 [run]
    alive: Leaf  # bool [run]; False froze the run when its loss stopped being finite
    key: Leaf  # [], of the seed that all runs share
    step: Leaf  # int32 []


_OVER_RUNS = State(params=0, opt_state=0, learning_rate=0, alive=0, key=None, step=None)


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

    return Data(jax.tree.map(cut, batch), np.int32(num_rows))


def start(engine: Engine, key: jax.Array, learning_rates: jax.Array) -> State:
    """States at step 0 of runs of one seed, which start from the same parameters.

    Args:
      engine: what a step consists of.
      key: of the seed.
      learning_rates: float32 ``[run]``.
    """
    init = engine.task.init(jax.random.fold_in(key, 0))
    number = len(learning_rates)
    params = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape)), init)

    def begin(params: Params, rate: jax.Array):
        return engine.optimizer(rate).init(params)

    return State(
        params=params,
        opt_state=_over_runs(number, begin, (0, 0), 0)(params, learning_rates),
        learning_rate=learning_rates.astype(jnp.float32),
        alive=jnp.ones(number, bool),
        key=jax.random.fold_in(key, 1),
        step=jnp.int32(0),
    )


def advance(
    engine: Engine, state: State, data: Data, objective: Objective, steps: jax.typing.ArrayLike
) -> tuple[State, tuple[jax.Array, jax.Array]]:
    """Carry every run ``steps`` steps, at most `MAX_STRIDE`.

    Returns:
      The new state, and what ``engine.track`` reported at each step: sums of loss and of weight,
      each ``[MAX_STRIDE, run, ...]``, of which the first ``steps`` rows are filled. Row i is from
      the forward pass that step i of this call took its gradient from. Frozen runs report NaN.
    """
    number, axes = len(state.learning_rate), (_OVER_RUNS, None, None)
    step_all = in_precision(
        engine.precision, _over_runs(number, partial(_step, engine), axes, (_OVER_RUNS, 0))
    )

    def body(i, carry):
        state, tracked = carry
        state, now = step_all(state, data, objective)
        return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), tracked, now)

    _, shapes = jax.eval_shape(step_all, state, data, objective)
    tracked = jax.tree.map(lambda s: jnp.full((MAX_STRIDE, *s.shape), jnp.nan, s.dtype), shapes)
    return jax.lax.fori_loop(0, steps, body, (state, tracked))


def measure(
    engine: Engine,
    probe: Callable[[Params, Batch], dict[str, jax.Array]],
    params: Params,
    alive: jax.Array,
    data: Data,
) -> dict[str, jax.Array]:
    """The probe at every run's parameters: arrays ``[run, ...]``; frozen runs give NaN."""

    def one_run(params: Params, alive: jax.Array, data: Data) -> dict[str, jax.Array]:
        found = probe(params, data.batch)
        return jax.tree.map(lambda value: jnp.where(alive, value, jnp.nan), found)

    every_run = _over_runs(len(alive), one_run, (0, 0, None), 0)
    return in_precision(engine.precision, every_run)(params, alive, data)


def _over_runs(number: int, function: Callable, in_axes: tuple, out_axes: Any) -> Callable:
    """`jax.vmap` over so many runs; but over a single one the function itself.

    A batch axis of length one is not free: on CPU it cost a transformer 10 to 20 %.
    """
    if number > 1:
        return jax.vmap(function, in_axes, out_axes)

    def along(axes: Any, trees: Any, change: Callable) -> Any:
        return jax.tree.map(
            lambda axis, tree: tree if axis is None else jax.tree.map(change, tree),
            axes,
            trees,
            is_leaf=lambda axis: axis is None,
        )

    def mapped(*arguments):
        alone = along(in_axes, arguments, lambda leaf: leaf[0])
        return along(out_axes, function(*alone), lambda leaf: leaf[None])

    return mapped


def _step(
    engine: Engine, state: State, data: Data, objective: Objective
) -> tuple[State, tuple[jax.Array, jax.Array]]:
    """One step of one run: its new state, and what it tracked before moving."""
    key = jax.random.fold_in(state.key, state.step)
    batch = data.batch if engine.batch_size is None else _draw(engine, key, state.step, data)
    micro_keys = partial(jax.random.fold_in, key)

    def sums(params: Params, batch: Batch, index):
        examples = engine.task.per_example(params, batch, micro_keys(index + 1))
        loss, weight = objective.sums(examples)
        return loss, (weight, engine.track(examples))

    def value_fn(params: Params):  # for line searches; unused ones are dropped by the compiler
        loss, (weight, _) = accumulate(partial(sums, params), batch)
        return loss / weight + objective.penalty(params)

    differentiate = jax.value_and_grad(sums, has_aux=True)
    (loss, (weight, tracked)), grads = accumulate(partial(differentiate, state.params), batch)
    value, grads = loss / weight, jax.tree.map(lambda g: g / weight, grads)
    if objective.l2 is not None:
        extra, shrink = jax.value_and_grad(objective.penalty)(state.params)
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
    batch = batch._replace(weight=jnp.where(inside, batch.weight, 0))
    return batch if engine.laid is None else jax.lax.with_sharding_constraint(batch, engine.laid)
