"""One process of several: sums of a global batch on the device, and of local ones on the host."""

import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

port, processes, index = map(int, sys.argv[1:4])
jax.config.update("jax_num_cpu_devices", 4 // processes)
jax.distributed.initialize(f"localhost:{port}", processes, index)

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_ondevice import stream  # noqa: E402

import imbalance  # noqa: E402
from imbalance import ondevice  # noqa: E402

batches = [np.split(array, 4) for array in stream(4096, 50)]
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,))
sharding = NamedSharding(mesh, PartitionSpec("data"))


def own(batch):
    """This process's part of a batch."""
    return np.split(batch, processes)[index]


@jax.jit
def update(losses, *batch):
    return losses.update(*batch)


device = ondevice.LossByClass.create(50)
host = imbalance.LossByClass(50)
for batch in zip(*batches, strict=True):
    device = update(
        device, *(jax.make_array_from_process_local_data(sharding, own(a)) for a in batch)
    )
    host.update(*map(own, batch), correct=own(batch[1]) % 3 == 0)

found = {}
for kind, losses in (("global", device.to_host()), ("local", ondevice.merge_processes(host))):
    found[f"{kind}_count"], found[f"{kind}_moments"] = losses.count, losses.moments
    found[f"{kind}_left_out"] = np.array([losses.ignored, losses.out_of_range])
found["accuracy"] = losses.accuracy  # of the last, "local"
np.savez(Path(sys.argv[4]) / f"{index}.npz", **found)
jax.distributed.shutdown()
