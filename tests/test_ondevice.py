"""LossByClass on the device against the one on the host, which has an oracle of its own."""

import os
import pickle
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_streaming import IGNORE, READS, C, columns, rows

import imbalance
from imbalance import ondevice
from imbalance.analysis.tokens import next_token_labels

pytestmark = pytest.mark.filterwarnings("ignore:.*They are in no mean")
SLOW = pytest.mark.slow
SCRIPTS = Path(__file__).with_name("scripts")


def assert_equal(device, host, rtol=1e-10):
    assert (device.ignored, device.out_of_range) == (host.ignored, host.out_of_range)
    assert device.ignore_index == host.ignore_index
    for name in READS:
        # The spread of losses is a difference of sums: nothing below the error of its terms.
        atol = 1e-6 * np.nanmax(np.abs(host.mean), initial=0) if name == "standard_error" else 0
        np.testing.assert_allclose(
            getattr(device, name), getattr(host, name), rtol=rtol, atol=atol, err_msg=name
        )


def both(*batches, num_classes=C, ignore_index=None):
    host = imbalance.LossByClass(num_classes, ignore_index)
    device = ondevice.LossByClass.create(num_classes, ignore_index)
    for batch in batches:
        host.update(*batch)
        device = device.update(*(None if a is None else jnp.asarray(a) for a in batch))
    return device, host


@settings(max_examples=30, deadline=None)
@given(st.lists(rows, min_size=1, max_size=3), st.booleans(), st.sampled_from([None, IGNORE]))
def test_it_agrees_with_the_host(batches, weighted, ignore_index):
    size = 30  # one shape, one compilation; what is added is masked
    arrays = []
    for batch in map(columns, batches):
        loss, label, weight = (
            np.resize(a, size) if len(a) else np.zeros(size, a.dtype) for a in batch
        )
        label = np.where(np.arange(size) < len(batch[0]), label, IGNORE)
        # Sums on the device are pairs of float32, whose second has no digits below 1e-38.
        loss = np.where(np.abs(loss) < 1e-30, 0, loss)
        arrays.append((loss, label.astype(np.int32), weight if weighted else None))
    device, host = both(*arrays, ignore_index=ignore_index)
    assert_equal(device.to_host(), host)
    np.testing.assert_allclose(device.mean, host.mean, rtol=1e-6)


def stream(number=5000, num_classes=300, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.zipf(1.2, number).clip(max=num_classes + 5).astype(np.int32) - 1
    loss = rng.exponential(3, number).astype(np.float32) * 10.0 ** -(label % 9)
    weight = rng.choice(np.float32([0, 1e-3, 1, 7]), number)
    return loss.astype(np.float32), label, weight


def test_counts_are_exact_past_2_to_the_24_and_sums_do_not_drift():
    """0.1 as bfloat16 is 0.10009765625; 2^26 of them, summed in float32, come out wholly wrong."""
    tenth = jnp.full(2**16, 0.1, jnp.bfloat16)
    label = jnp.zeros(2**16, jnp.int32)

    @jax.jit
    def many(losses):
        return jax.lax.scan(lambda s, _: (s.update(tenth, label), None), losses, length=2**10)[0]

    losses = many(ondevice.LossByClass.create(2)).to_host()
    assert losses.count.tolist() == [2**26, 0]
    assert losses.mean[0] == 0.10009765625
    plain = jax.lax.fori_loop(0, 2**26, lambda _, s: s + jnp.float32(0.1), jnp.float32(0))
    assert abs(float(plain) / 2**26 - 0.1) > 0.01


@pytest.mark.slow
def test_a_hundred_million_bfloat16_losses():
    number, batches, num_classes = 2**16, 1526, 1000

    def batch(i, xp):
        position = xp.arange(number, dtype=xp.uint32) + xp.uint32(i) * xp.uint32(number)
        mixed = position * xp.uint32(2654435761)
        label = (mixed >> xp.uint32(8)) % xp.uint32(num_classes)
        return (mixed >> xp.uint32(12)).astype(xp.float32) / 1e4, label.astype(xp.int32)

    def add(losses, i):
        loss, label = batch(i, jnp)
        return losses.update(loss.astype(jnp.bfloat16), label), None

    device = ondevice.LossByClass.create(num_classes)
    device = jax.jit(lambda d: jax.lax.scan(add, d, jnp.arange(batches))[0])(device).to_host()
    host = imbalance.LossByClass(num_classes)
    for i in range(batches):
        loss, label = batch(np.uint32(i), np)
        host.update(loss.astype(jnp.bfloat16), label)
    assert host.count.sum() > 10**8
    assert_equal(device, host, rtol=1e-9)


def test_an_outlier_hides_nobody():
    """The precision of a class does not depend on what others hold."""
    loss = np.float32([1e12, 1e-9, 3e-9, 5.0])
    device, host = both((loss, np.array([0, 1, 1, 2], np.int32)))
    assert_equal(device.to_host(), host, rtol=1e-12)


def test_weights_out_of_range_are_an_error_at_reading():
    for weight in (-1.0, np.nan, np.inf, 1e13):
        device = ondevice.LossByClass.create(2).update(
            jnp.ones(2), jnp.zeros(2, jnp.int32), jnp.array([1, weight])
        )
        with pytest.raises(ValueError, match="1 weights were negative, not finite or beyond 1e"):
            device.to_host()
    losses = ondevice.LossByClass.create(2).update(
        jnp.array([1e12, 1.0]), jnp.zeros(2, jnp.int32), jnp.array([1e12, 1])
    )
    assert losses.to_host().diverged.tolist() == [1, 0]  # its square is no float32


def test_left_out_examples_are_said_at_reading():
    device, _ = both(([1.0, np.nan, 2.0], np.array([0, 1, 99], np.int32)))
    with pytest.warns(UserWarning) as said:
        device.to_host()
    assert "1 labels are out of range" in str(said[0].message)
    assert "1 of 2 losses are NaN, infinite or beyond 1e+12, in class 1" in str(said[1].message)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((np.ones(2), np.zeros(2)), TypeError, "labels have dtype float"),
        ((np.ones(2), np.zeros(3, int)), ValueError, r"losses have shape \(2,\), labels \(3,\)"),
        ((np.ones(2), np.zeros(2, int), np.ones(1)), ValueError, r"weights have shape \(1,\)"),
    ],
)
def test_wrong_shapes_and_types_are_refused_while_tracing(batch, error, message):
    with pytest.raises(error, match=message):
        both(batch)


def test_too_many_examples_at_once_are_refused():
    batch = jax.ShapeDtypeStruct((2**12, 2**13), jnp.float32)
    label = jax.ShapeDtypeStruct(batch.shape, jnp.int32)
    losses = ondevice.LossByClass.create(2)
    with pytest.raises(ValueError, match="33554432 examples in one update; give at most 2"):
        jax.eval_shape(lambda a, b: losses.update(a, b), batch, label)


def test_merge_scan_and_donation():
    loss, label, weight = stream()
    device, host = both((loss, label, weight), num_classes=300)
    halves = [both([a[i::2] for a in (loss, label, weight)], num_classes=300)[0] for i in (0, 1)]
    assert_equal(halves[0].merge(halves[1]).to_host(), host)
    with pytest.raises(ValueError, match="only equal ones merge"):
        halves[0].merge(ondevice.LossByClass.create(300, 0))

    @partial(jax.jit, donate_argnums=0)
    def scanned(losses, batches):
        return jax.lax.scan(lambda s, batch: (s.update(*batch), None), losses, batches)[0]

    batches = tuple(jnp.asarray(a.reshape(10, -1)) for a in (loss, label, weight))
    assert_equal(scanned(ondevice.LossByClass.create(300), batches).to_host(), host)
    assert "num_classes=300" in repr(device)
    listed = ondevice.LossByClass.create(2).update([1.0, 2.0], [0, 1], [True, True])
    assert listed.to_host().mean.tolist() == [1.0, 2.0]


def test_vmap_keeps_runs_apart():
    parts = [stream(200, 20, seed) for seed in range(3)]
    arrays = [jnp.stack(column) for column in zip(*parts, strict=True)]
    empty = ondevice.LossByClass.create(20)
    runs = jax.vmap(lambda *batch: empty.update(*batch))(*arrays)
    for i, part in enumerate(parts):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], runs)
        assert_equal(one.to_host(), both(part, num_classes=20)[1])
    with pytest.raises(ValueError, match="give those of one run"):
        runs.to_host()


def test_no_gradient_flows_and_the_loss_is_left_alone():
    label = jnp.array([0, 1, 1])

    def mean(x):
        loss = x**2
        losses = ondevice.LossByClass.create(2).update(loss, label, x)
        return loss.mean() + losses.mean.sum() * 0 + losses.high.sum(), losses

    gradient, losses = jax.grad(mean, has_aux=True)(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(gradient, [2 / 3, 4 / 3, 2], rtol=1e-6)
    assert losses.to_host().mean.tolist() == [1, (2 * 4 + 3 * 9) / 5]


def test_soft_labels():
    rng = np.random.default_rng(4)
    cost = rng.exponential(3, (3, 20, C)).astype(np.float32)
    target = rng.dirichlet(np.ones(C), (3, 20)).astype(np.float32)
    target[0, 0, :3] = 0
    cost[1, 1, 2] = np.nan
    weight = rng.choice(np.float32([0, 1, 2]), (3, 20))
    for w in (None, weight):
        host = imbalance.LossByClass(C)
        host.update_soft(cost, target, w)
        device = ondevice.LossByClass.create(C).update_soft(
            jnp.asarray(cost), jnp.asarray(target), None if w is None else jnp.asarray(w)
        )
        assert_equal(device.to_host(), host, rtol=1e-6)  # w q is rounded to float32 here
    with pytest.raises(ValueError, match="give one of each for every example and each of the 7"):
        ondevice.LossByClass.create(C).update_soft(jnp.ones((2, C)), jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"weights have shape \(3,\)"):
        ondevice.LossByClass.create(C).update_soft(jnp.ones((2, C)), jnp.ones((2, C)), jnp.ones(3))
    wrong = ondevice.LossByClass.create(2).update_soft(jnp.ones((1, 2)), jnp.array([[-1.0, 1]]))
    with pytest.raises(ValueError, match="1 weights were negative"):
        wrong.to_host()


def test_next_token_labels_inside_jit():
    token, mask = jnp.array([[1, 2, 3]], jnp.uint16), jnp.array([[1, 1, 0]])
    assert jax.jit(next_token_labels)(token, mask).tolist() == [[2, -100, -100]]


def test_labels_beyond_32_bits_are_out_of_range():
    """Converted to 32 bits they would wrap around into a class."""
    label = np.array([0, 2**32 + 1, -(2**32) + 1, 1, 2**63 - 1])
    for wide in (label, label.clip(0).astype(np.uint64)):
        losses = ondevice.LossByClass.create(2).update(np.ones(5, np.float32), wide)
        read = losses.to_host()
        host = imbalance.LossByClass(2)
        host.update(np.ones(5), wide)
        assert read.count.tolist() == host.count.tolist()
        assert read.out_of_range == host.out_of_range == (3 if wide is label else 2)
    losses = ondevice.LossByClass.create(2).update(np.array([2**33, 2]), np.zeros(2, np.int64))
    assert losses.to_host().mean[0] == 2**32 + 1  # losses of 64 bits do not wrap either
    with pytest.raises(OverflowError):  # Python's integers
        ondevice.LossByClass.create(2).update([1.0], [2**32 + 1])


def test_a_mask_that_would_be_lost_is_refused():
    losses = ondevice.LossByClass.create(2)
    for batch in ((np.ma.masked_equal([1.0, 2.0], 2), [0, 1]), ([1.0, 2.0], np.ma.array([0, 1]))):
        if np.ma.is_masked(batch[0]):
            with pytest.raises(TypeError, match="1 of 2 values are masked"):
                losses.update(*batch)
        else:
            assert losses.update(*batch).to_host().count.tolist() == [1, 1]


def test_a_scalar_loss_is_told_of_its_reduction():
    with pytest.raises(ValueError, match='as by reduction="none"'):
        ondevice.LossByClass.create(2).update(1.0, [0, 1])


def test_accuracies_come_from_sums_of_their_own():
    loss, label, weight = stream()
    correct = label % 3 == 0
    device, hits = (ondevice.LossByClass.create(300) for _ in range(2))
    host = imbalance.LossByClass(300)
    for i in range(2):
        part = slice(i * 2500, (i + 1) * 2500)
        batch = [jnp.asarray(array[part]) for array in (loss, label, weight)]
        device = device.update(*batch)
        hits = hits.update(jnp.asarray(correct[part]), *batch[1:])
        host.update(loss[part], label[part], weight[part], correct[part])
    read = device.to_host(correct=hits, names=lambda k: f"class {k}")
    np.testing.assert_allclose(read.accuracy, host.accuracy, rtol=1e-10)
    np.testing.assert_allclose(
        read.accuracy_standard_error, host.accuracy_standard_error, atol=1e-6, rtol=1e-10
    )
    assert read.balanced_accuracy == pytest.approx(host.balanced_accuracy, rel=1e-10)
    assert read.worst(1).name == [f"class {k}" for k in host.worst(1).class_index]
    again = ondevice.merge_processes(read)
    np.testing.assert_array_equal(again.accuracy, read.accuracy)
    np.testing.assert_array_equal(again.moments, read.moments)
    assert again.names is read.names and ondevice.merge_processes(device.to_host()).correct is None
    with pytest.raises(ValueError, match="correct has 2 classes, the losses 300"):
        device.to_host(correct=ondevice.LossByClass.create(2))


def test_what_was_read_cannot_change_the_sums():
    losses = both((np.ones(2, np.float32), np.array([0, 1], np.int32)))[0].to_host()
    with pytest.raises(ValueError, match="read-only"):
        losses.count[0] = 9
    losses.update([1.0], [0])
    assert losses.count[0] == 2


def test_sums_are_saved_as_any_pytree():
    device, host = both(stream(200, 20), num_classes=20)
    leaves, tree = jax.tree.flatten(pickle.loads(pickle.dumps(device)))
    assert_equal(jax.tree.unflatten(tree, leaves).to_host(), host)


def run_script(name, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, SCRIPTS / name, *map(str, arguments)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("ways", ["some", pytest.param("all", marks=SLOW)])
def test_a_batch_laid_over_devices_gives_the_same_bits(ways):
    """Auto and Explicit axes, inside and outside set_mesh, and shard_map, on four devices."""
    flags = "--xla_force_host_platform_device_count=4"
    script = run_script("sharded_losses.py", ways, XLA_FLAGS=flags)
    output, _ = script.communicate(timeout=300)
    assert script.returncode == 0 and output.strip().endswith("all equal"), output


@pytest.mark.parametrize("processes", [pytest.param(1, marks=SLOW), 2, pytest.param(4, marks=SLOW)])
def test_any_number_of_processes_gives_the_same_table(processes, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    scripts = [
        run_script("process_losses.py", port, processes, index, tmp_path)
        for index in range(processes)
    ]
    outputs = [script.communicate(timeout=300)[0] for script in scripts]
    assert not any(script.returncode for script in scripts), "\n".join(outputs)
    loss, label, weight = stream(4096, 50)
    host = imbalance.LossByClass(50)
    host.update(loss, label, weight, correct=label % 3 == 0)
    for index in range(processes):
        with np.load(tmp_path / f"{index}.npz") as stored:
            np.testing.assert_allclose(stored["accuracy"], host.accuracy, rtol=1e-10)
            for kind in ("global", "local"):
                np.testing.assert_array_equal(stored[f"{kind}_count"], host.count)
                np.testing.assert_allclose(stored[f"{kind}_moments"], host.moments, rtol=1e-10)
                assert stored[f"{kind}_left_out"].tolist() == [host.ignored, host.out_of_range]
