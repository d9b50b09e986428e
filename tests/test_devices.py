"""Several devices: the same numbers as one, and work that is divided and not repeated."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imbalance.training.devices import layout

SCRIPT = Path(__file__).parent / "scripts" / "device_runs.py"
SWEEPS = ("whole", "in parts", "drawn", "in order")


def made_by(folder, devices, processes=1):
    """What each process found."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    scripts = [
        subprocess.Popen(
            [sys.executable, SCRIPT, *map(str, (devices, processes, i, port, folder))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(processes)
    ]
    outputs = [script.communicate(timeout=500)[0] for script in scripts]
    assert not any(script.returncode for script in scripts), "\n".join(outputs)
    found = []
    for i in range(processes):
        with np.load(folder / f"{devices} {processes} {i}.npz") as stored:
            found.append(dict(stored))
    return found


@pytest.fixture(scope="module")
def of_one(tmp_path_factory):
    return made_by(tmp_path_factory.mktemp("one"), 1)[0]


@pytest.mark.parametrize(
    ("devices", "processes"),
    [
        (2, 1),
        pytest.param(4, 1, marks=pytest.mark.slow),
        pytest.param(2, 2, marks=pytest.mark.slow),
    ],
)
def test_devices_share_the_work_and_find_the_same(of_one, tmp_path, devices, processes):
    for found in made_by(tmp_path, devices, processes):
        for name, values in of_one.items():
            if "operations" not in name:
                np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)
        for sweep in SWEEPS:
            # What does not grow with the rows, such as the update, is done by each.
            share = found[f"{sweep}: operations"] / of_one[f"{sweep}: operations"]
            assert share < (0.65 if devices == 2 else 0.45), sweep


def test_one_device_needs_no_layout():
    assert layout(3, 16) is None


@pytest.mark.parametrize(
    ("devices", "runs", "rows", "shape"),
    [
        (4, 8, 16, (4, 1, 1)),  # runs for all
        (4, 1, 16, (1, 4, 1)),  # one run has all devices for its rows
        (4, 6, 16, (2, 2, 1)),
        (4, 3, 6, (1, 2, 2)),  # six rows do not divide by four
        (8, 1, 253, (1, 1, 8)),
    ],
)
def test_devices_are_divided_between_runs_and_rows(monkeypatch, devices, runs, rows, shape):
    made = []

    def mesh(shape, names, axis_types):
        made.append(shape)
        raise StopIteration

    monkeypatch.setattr("jax.devices", lambda: [None] * devices)
    monkeypatch.setattr("jax.make_mesh", mesh)
    with pytest.raises(StopIteration):
        layout(runs, rows)
    assert made == [shape] and math.prod(shape) == devices
