"""On an accelerator the numbers are those of closed forms and of the CPU: `pytest -m gpu`."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imbalance.ondevice import chunked_cross_entropy
from imbalance.problems import heavy_tailed_linear
from imbalance.training.memory import device_memory
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() == "cpu", reason="no accelerator"),
]


def gradient_descent(problem, rate, steps):
    """Losses by NumPy in float64, from the start that JAX draws."""
    batch = problem.batch(0)
    inputs, label = batch.input.astype(np.float64), batch.label
    params = problem.task.init(jax.random.fold_in(jax.random.key(np.uint32(0)), 0))
    weight, bias = (np.asarray(params[name], np.float64) for name in ("weight", "bias"))
    rows, losses = np.arange(len(label)), []
    for _ in range(steps + 1):
        logits = inputs @ weight.T + bias
        logits -= logits.max(1, keepdims=True)
        probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        losses.append(-np.log(probability[rows, label]).mean())
        probability[rows, label] -= 1
        weight -= rate * probability.T @ inputs / len(label)
        bias -= rate * probability.mean(0)
    return losses


def test_gradient_descent_is_that_of_float64():
    problem = heavy_tailed_linear(6)
    found = run(Sweep(problem, {"gd": (0.03, 0.01)}, 50, stops=(0, 10, 50)))
    for rate in (0.03, 0.01):
        expected = gradient_descent(problem, rate, 50)
        losses = found["loss"].sel(optimizer="gd", learning_rate=rate, seed=0)
        np.testing.assert_allclose(losses, [expected[i] for i in (0, 10, 50)], rtol=2e-5)


@pytest.mark.parametrize("optimizer", ["adam", "sign+m", "muon"])
def test_runs_are_those_of_a_cpu(optimizer):
    """A CPU in a process of its own; sign and Muon follow it as long as rounding decides little."""
    code = (
        "from imbalance import Sweep, run\nfrom imbalance.problems import heavy_tailed_linear\n"
        f"sweep = Sweep(heavy_tailed_linear(5), {{{optimizer!r}: (1e-3,)}}, 10, stops=(0, 5, 10))\n"
        "print(*run(sweep)['loss'].values.ravel().tolist())"
    )
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    asked = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    sweep = Sweep(heavy_tailed_linear(5), {optimizer: (1e-3,)}, 10, stops=(0, 5, 10))
    found = run(sweep)["loss"].values.ravel()
    np.testing.assert_allclose(found, [float(x) for x in asked.stdout.split()], rtol=1e-3)


def test_chunked_cross_entropy_is_that_of_all_logits():
    draw = np.random.default_rng(0).normal
    hidden, weight = draw(size=(64, 32)).astype("f"), draw(size=(5000, 32)).astype("f")
    label = np.arange(64) * 70
    with jax.default_matmul_precision("float32"):
        found = chunked_cross_entropy(hidden, weight, label)
    logits = jnp.asarray(hidden.astype(np.float64) @ weight.T.astype(np.float64))
    expected = -jax.nn.log_softmax(logits)[np.arange(64), label]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["tensorfloat32", "bfloat16"])
def test_lower_precision_stays_near_on_a_steady_run(precision):
    sweep = {"gd": (0.01,)}
    exact, other = (
        run(Sweep(heavy_tailed_linear(6), sweep, 50, stops=(0, 50), precision=precision))["loss"]
        for precision in ("float32", precision)
    )
    np.testing.assert_allclose(other, exact, rtol=5e-3)


def test_the_memory_is_the_devices():
    assert device_memory() == jax.local_devices()[0].memory_stats()["bytes_limit"]


def test_deterministic_operations_give_the_same_bits():
    code = (
        "from imbalance import Sweep, run\nfrom imbalance.problems import heavy_tailed_linear\n"
        "found = run(Sweep(heavy_tailed_linear(6), {'adam': (1e-3, 1e-2)}, 30))\n"
        "print(found['train_loss'].values.tobytes().hex())"
    )
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
    env = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    one, two = (
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
        for _ in range(2)
    )
    assert one.stdout == two.stdout
