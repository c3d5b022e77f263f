"""What an import loads."""

import functools
import json
import subprocess
import sys

ROOMS = ("specjax", "specjax.__main__", "specjax.optax", "specjax.plotting")
ROOMS += ("specjax.testing", "specjax.linen")
PROGRAM = """
import importlib, json, sys
after = {}
for room in sys.argv[1:]:
    importlib.import_module(room)
    after[room] = list(sys.modules)
from jax._src import xla_bridge
print(json.dumps([after, xla_bridge.backends_are_initialized()]))
"""


@functools.cache
def in_a_process() -> tuple[dict[str, set[str]], bool]:
    """Returns what is loaded after each room, in turn, and whether jax has devices."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *ROOMS],
        capture_output=True,
        text=True,
        check=True,
    )
    after, has_devices = json.loads(done.stdout)
    return {room: set(modules) for room, modules in after.items()}, has_devices


def test_the_core_loads_no_other_library():
    after, _ = in_a_process()
    others = {"flax", "optax", "chex", "haiku", "equinox"}
    others |= {"rich", "matplotlib", "orbax", "safetensors", "msgpack"}
    assert "jax" in after["specjax"]
    assert not others & after["specjax"]
    assert not {"rich", "matplotlib"} & after["specjax.__main__"]


def test_each_adapter_loads_its_own_library():
    after, _ = in_a_process()
    assert "optax" in after["specjax.optax"]
    assert "flax" not in after["specjax.optax"]
    assert "matplotlib.figure" in after["specjax.plotting"]
    assert "matplotlib.pyplot" not in after["specjax.plotting"]
    assert "chex" in after["specjax.testing"]
    assert "flax" in after["specjax.linen"]


def test_import_needs_no_device_and_runs_nothing():
    _, has_devices = in_a_process()
    assert not has_devices
