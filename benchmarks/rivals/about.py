"""Where numbers were measured: the device and the versions."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "dm-haiku", "equinox", "torch", "keras",
    "libtpu", "jax-cuda12-pjrt", "jax-cuda13-pjrt", "specjax",
)  # fmt: skip


def about() -> dict[str, Any]:
    """Returns the device, the number of cores and the versions that are installed."""
    return {
        "device": _device(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: v for name in _PACKAGES if (v := _version(name))},
    }


def spelled() -> str:
    """Returns the same as a line."""
    found = about()
    versions = ", ".join(f"{name} {v}" for name, v in found["versions"].items())
    return f"{found['device']}, {found['cores']} cores, {versions}"


def _device() -> str:
    device = jax.devices()[0]
    if device.platform != "cpu":
        return str(device.device_kind)
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
