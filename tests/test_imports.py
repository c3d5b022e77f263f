"""What an import loads."""

import functools
import subprocess
import sys


@functools.cache
def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_core_loads_no_other_library():
    others = {"flax", "optax", "chex", "haiku", "equinox"}
    others |= {"rich", "matplotlib", "orbax", "safetensors", "msgpack"}
    loaded = modules_after("import specjax")
    assert "jax" in loaded
    assert not others & loaded
    assert not {"rich", "matplotlib"} & modules_after("import specjax.__main__")


def test_each_adapter_loads_its_own_library():
    assert "flax" in modules_after("import specjax.linen")
    assert "optax" in modules_after("import specjax.optax")
    assert "flax" not in modules_after("import specjax.optax")
    assert "chex" in modules_after("import specjax.testing")
    plotting = modules_after("import specjax.plotting")
    assert "matplotlib.figure" in plotting
    assert "matplotlib.pyplot" not in plotting


def test_import_needs_no_device_and_runs_nothing():
    code = (
        "import jax, specjax; from jax._src import xla_bridge as b; "
        "print(b.backends_are_initialized())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
