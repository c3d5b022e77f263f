"""Where a run was made: the device, the cores that it may use, the versions."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

_PACKAGES = ("jax", "flax", "optax", "numpy", "specjax")


def about() -> dict[str, Any]:
    """Returns the device and the versions of what the numbers depend on."""
    return {
        "device": _device(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _device() -> str:
    device = jax.devices()[0]
    if device.platform != "cpu":
        return str(device.device_kind)
    try:
        with open("/proc/cpuinfo") as lines:
            names = [x.split(":")[1].strip() for x in lines if "model name" in x]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
