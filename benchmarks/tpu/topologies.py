"""TPUs that are not there: the devices of a topology, for the compiler alone.

`jax[tpu]` names the libtpu that fits the installed jax. Its compiler needs no TPU, but
looks for one unless the environment says otherwise: import this before anything that
asks jax for its devices.
"""

import functools
import os
from typing import Any

# What the compiler asks a TPU's host for. Each library reads its own when it is loaded.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # Several processes may hold the library: no TPU is shared.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
os.environ.update(ENVIRONMENT)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import AxisType, Mesh  # noqa: E402

# A topology is made of whole hosts of four chips, so one chip is taken out of one host.
# A v4 chip is two devices here, the others are one.
BY_CHIPS = {
    1: "v5e:2x2",
    8: "v5e:2x4",
    64: "v5e:8x8",
    256: "v5e:16x16",
    512: "v5p:8x8x8",
}
# For `compile`: level O0, by its number, which each jax takes. For its best program the
# compiler searches for minutes (cifar10's GAN: 2.5). With little effort it sends and
# fuses the same, but moves more between the memories, and holds more.
LITTLE_EFFORT: Any = {"optimization_level": 9}

GENERATIONS = ("v5e:2x4", "v5e:16x16", "v4:2x2x1", "v5p:2x2x2", "v6e:2x4")


@functools.cache
def tpu_devices(name: str, n_devices: int | None = None) -> list[Any]:
    """Returns the devices of a topology ("v5e:2x4"), or the first of them.

    The same ones each time: jax takes those of two calls for different devices.

    Raises:
        RuntimeError: without libtpu, or for a name that it does not know.
    """
    found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    return list(found.devices)[:n_devices]


def tpu_mesh(devices: list[Any], n_model: int, kind: AxisType = AxisType.Auto) -> Mesh:
    """Returns the mesh ("data", "model") with `n_model` devices along "model"."""
    grid = np.array(devices).reshape(-1, n_model)
    return Mesh(grid, ("data", "model"), axis_types=(kind, kind))
