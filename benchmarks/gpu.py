"""A GPU that is not there: its compiler, which needs to be told what it compiles for.

    pip install --no-deps jax-cuda12-plugin==JAX jax-cuda12-pjrt==JAX

with the version of the installed jax in place of JAX is all that it needs, neither CUDA
nor a GPU. It chooses no library's algorithm, which takes a GPU, and everything else as
on one.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Any

# An H200's own numbers, as the compiler would ask them of one.
_H200 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 151397597184
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H200"
"""
GET_COMPILER = (
    "got no compiler for it; need jax's plugin. Try: pip install --no-deps "
    "jax-cuda12-plugin jax-cuda12-pjrt, both in jax's version."
)
_PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")


def is_there() -> bool:
    """Returns whether this machine has a GPU of NVIDIA's."""
    devices = Path("/dev")
    return any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()


def has_compiler() -> bool:
    """Returns whether jax has the compiler."""
    try:
        return any(importlib.util.find_spec(name) for name in _PLUGINS)
    except ModuleNotFoundError:  # of jax_plugins itself
        return False


@functools.cache
def gpu_devices(n_devices: int = 1) -> list[Any]:
    """Returns GPUs of one host for the compiler alone, the same ones each time.

    Raises:
        RuntimeError: without the compiler.
    """
    if not has_compiler():
        raise RuntimeError(f"gpu: {GET_COMPILER}")
    from jax.experimental import topologies

    # The platform by name: jax would ask a GPU that is there for its own.
    topology = topologies.get_topology_desc(
        "", "cuda", target_config=_H200, topology=f"1x1x{n_devices}"
    )
    return list(topology.devices)
