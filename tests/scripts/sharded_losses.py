"""One batch, laid over four devices in `some` or `all` ways: the sums must be those of one."""

import contextlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from imbalance import ondevice

C = 40
assert len(jax.devices()) == 4
rng = np.random.default_rng(0)
loss = rng.exponential(3, (8, 16)).astype(np.float32)
label = rng.integers(-2, C + 2, (8, 16)).astype(np.int32)
weight = rng.choice(np.float32([0, 0.5, 3]), (8, 16))
cost = rng.exponential(3, (8, C)).astype(np.float32)
target = rng.dirichlet(np.ones(C), 8).astype(np.float32)
empty = ondevice.LossByClass.create(C)


@jax.jit
def update(losses, loss, label, weight):
    return losses.update(loss, label, weight)


def assert_bits(losses, expected):
    for one, other in zip(jax.tree.leaves(losses), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


expected = update(update(empty, loss, label, weight), loss, label, weight)
soft = jax.jit(lambda *batch: empty.update_soft(*batch))
expected_soft = soft(cost, target)

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
LAYOUTS = [
    (AUTO, False, P("data", "model")),
    (EXPLICIT, True, P("data", "model")),
    (AUTO, True, P(("data", "model"))),
    (EXPLICIT, False, P("data")),
]
for kind, ambient, spec in LAYOUTS if sys.argv[1] == "all" else LAYOUTS[:2]:
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind, kind))
    with jax.set_mesh(mesh) if ambient else contextlib.nullcontext():
        batch = [jax.device_put(a, NamedSharding(mesh, spec)) for a in (loss, label, weight)]
        once = update(empty, *batch)
        program = update.lower(once, *batch).compile()
        assert_bits(program(once, *batch), expected)
        moved = re.findall(r"\b(all-[a-z]+|collective-permute|reduce-scatter)\(", program.as_text())
        # Only sums by class move: nothing is gathered.
        assert set(moved) == {"all-reduce"}, moved
        assert_bits(empty.update(*batch).update(*batch), expected)  # not compiled by the caller
        batch = [jax.device_put(a, NamedSharding(mesh, P("data"))) for a in (cost, target)]
        assert_bits(soft(*batch), expected_soft)
        if kind is EXPLICIT and ambient:  # runs side by side, each laid over devices
            runs = jax.device_put(jnp.stack([loss, loss]), NamedSharding(mesh, P(None, "data")))
            both = jax.jit(jax.vmap(lambda a: empty.update(a, label)))(runs)
            plain = jax.jit(lambda a: empty.update(a, label))(loss)
            assert_bits(jax.tree.map(lambda leaf: leaf[1], both), plain)

mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
spec = P("data")


def equal_on_all(loss, label, weight):
    """The sums stay equal on all devices."""
    losses = empty
    for _ in range(2):
        losses = losses.update(loss, label, weight, axis_name="data")
    return losses


def summed_at_the_end(loss, label, weight):
    """Every device sums its own part."""
    losses = empty
    for _ in range(2):
        losses = losses.update(loss, label, weight)
    return losses.psum("data")


laid = {"mesh": mesh, "in_specs": (spec, spec, spec), "out_specs": P()}
assert_bits(jax.jit(jax.shard_map(equal_on_all, **laid))(loss, label, weight), expected)
at_the_end = jax.jit(jax.shard_map(summed_at_the_end, **laid))(loss, label, weight).to_host()
np.testing.assert_array_equal(at_the_end.count, expected.to_host().count)
np.testing.assert_allclose(at_the_end.moments, expected.to_host().moments, rtol=1e-11)
own = jax.shard_map(
    lambda *batch: jax.tree.map(lambda leaf: leaf[None], empty.update(*batch)),
    **{**laid, "out_specs": spec},
)
parts = jax.jit(own)(loss, label, weight)
unreduced = ondevice.LossByClass(parts.high.reshape(-1, C + 3), parts.low.reshape(-1, C + 3))
try:
    unreduced.to_host()
except ValueError as error:
    assert "add them up with psum" in str(error), error
else:
    raise AssertionError("sums of single devices were read as if they were all")
print("all equal")
