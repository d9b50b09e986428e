"""Runs on several devices, in one process or in several: results, and the work of a device."""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

devices, processes, index, port = map(int, sys.argv[1:5])
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", devices // processes)
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, index)

from imbalance.problems import heavy_tailed_linear  # noqa: E402
from imbalance.training.plan import plans  # noqa: E402
from imbalance.training.running import run  # noqa: E402
from imbalance.training.sweep import Sweep  # noqa: E402

assert len(jax.devices()) == devices
whole = Sweep(
    heavy_tailed_linear(4), {"gd": (0.03, 0.1, 0.3), "adam": (0.01,)}, steps=12, stops=(0, 4, 12)
)
sweeps = {
    "whole": whole,
    "in parts": replace(whole, microbatches=4),
    "drawn": replace(whole, batch_size=16, measured_rows=32),
    "in order": replace(whole, batch_size=16, in_order=True, microbatches=2),
}
found = {}
for name, sweep in sweeps.items():
    dataset = run(sweep)
    for variable in ("train_loss", "loss", "bucket_loss"):
        found[f"{name}: {variable}"] = dataset[variable].values
    analysis = plans(sweep)[0].alone.advance.compiled().cost_analysis()
    found[f"{name}: operations"] = np.array(analysis["flops"])
np.savez(Path(sys.argv[5]) / f"{devices} {processes} {index}.npz", **found)
