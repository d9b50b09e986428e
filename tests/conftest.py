"""Strict JAX for all tests, and one tiny sweep for those that only need results."""

import hypothesis
import jax
import pytest

from imbalance.problems import heavy_tailed_linear
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

jax.config.update("jax_numpy_rank_promotion", "raise")
# Speed is measured in benchmarks: a test that is slow on a busy machine is not wrong.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def make_problem():
    """24 samples of 7 classes (1 x 8, 2 x 4, 4 x 2), 32 inputs, in 3 levels."""
    return heavy_tailed_linear(3, bucketing="levels")


@pytest.fixture(scope="session")
def problem():
    return make_problem()


def make_tiny_sweep(problem):
    """Two optimizers whose grids share one rate; GD's largest rate diverges."""
    rates = {"gd": (0.1, 1.0, 3e38), "adam": (0.01, 0.1)}
    return Sweep(problem, rates, steps=12, seeds=(0, 1), stops=(0, 4, 12))


@pytest.fixture(scope="session")
def tiny_sweep(problem):
    return make_tiny_sweep(problem)


@pytest.fixture(scope="session")
def tiny_dataset(tiny_sweep):
    """The joined results of `tiny_sweep`; copy before changing."""
    return run(tiny_sweep)


@pytest.fixture
def torch():
    """PyTorch on one thread: on busy cores several wait for each other longer than they compute."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield torch
    torch.set_num_threads(threads)
