"""Runs and rows laid over several devices, so that no device repeats another's work.

Of D devices, gcd(R, D) share the R runs of a program, each a part of the runs and no word between
them. The devices left over for each part share the rows of every batch: a gradient is then a sum
over devices, which the compiler adds. A single run thus has all devices for its rows. Only where
microbatches do not divide, as rows of a prime number, do devices compute the same.

Sums are ordered otherwise than on one device, so the last digits differ.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from imbalance.training.engine import State


class Layout(NamedTuple):
    """How arrays lie on all devices.

    Attributes:
      runs: arrays ``[run, ...]``.
      rows: data ``[micro, row, ...]``.
      whole: what is the same everywhere.
    """

    runs: NamedSharding
    rows: NamedSharding
    whole: NamedSharding


def layout(runs: int, rows: int) -> Layout | None:
    """The layout of so many runs, of microbatches of so many rows; None: there is one device."""
    devices = jax.devices()
    if len(devices) == 1:
        return None
    by_run = math.gcd(runs, len(devices))
    by_row = math.gcd(rows, len(devices) // by_run)
    shape = (by_run, by_row, len(devices) // (by_run * by_row))
    mesh = jax.make_mesh(shape, ("run", "row", "same"), axis_types=(AxisType.Auto,) * 3)
    laid = partial(NamedSharding, mesh)
    return Layout(
        laid(PartitionSpec("run")), laid(PartitionSpec(None, "row")), laid(PartitionSpec())
    )


def state_layout(state: State, laid: Layout | None) -> Any:
    """The sharding of every leaf of a state: along runs, else the same everywhere."""
    runs, whole = (None, None) if laid is None else (laid.runs, laid.whole)

    def of_runs(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: runs, tree)

    return State(
        params=of_runs(state.params),
        opt_state=of_runs(state.opt_state),
        learning_rate=runs,
        alive=runs,
        key=whole,
        step=whole,
    )


def place(state: State, laid: Layout | None) -> State:
    """A state on the devices of its layout."""
    return state if laid is None else jax.device_put(state, state_layout(state, laid))


def shapes_on(tree: Any, laid: Any) -> Any:
    """Shapes of arrays that lie as ``laid`` says, a tree of shardings or the first part of one."""

    def on(where: NamedSharding | None, part: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), part
        )

    return jax.tree.map(on, laid, tree, is_leaf=lambda where: where is None)
