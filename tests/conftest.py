"""Eight CPU devices for every test, and what a long run of small programs needs.

`pytest -m gpu` leaves jax as it is, with the GPU, and collects `tests/gpu` alone: it
runs from source beside any jax, without the libraries that only other tests need.
"""

import importlib.metadata
import os

import pytest

from tests import program_counts

_JAXLIB = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
_FLAGS = (
    # Most of the time goes into compiling small programs, for which LLVM need not try
    # hard. What XLA itself does to a program is the same on every level. Its older
    # writer of loops takes a fifth of the time of the one through MLIR.
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false" * (_JAXLIB < (0, 11)),  # gone since
    "--xla_cpu_parallel_codegen_split_count=1",
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
)
# Programs that compile faster than this are not worth a file.
_KEPT_FROM_SECONDS = "0.03"


def pytest_configure(config: pytest.Config) -> None:
    """Sets what jax reads when it is imported."""
    if _on_gpu(config):
        return
    import threadpoolctl

    # Else an installed libtpu, which tests/tpu compiles with, looks for its TPU.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = " ".join(_FLAGS)
    # One BLAS thread: the SVDs are small, and two threads take ten times the CPU time.
    # NumPy's own is there by now, with a plugin of jaxtyping.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    threadpoolctl.threadpool_limits(1, user_api="blas")
    # A second run finds the first one's programs. Set the variable for another folder.
    cache = str(config.rootpath / ".jax_cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = _KEPT_FROM_SECONDS
    config.pluginmanager.register(program_counts.Counter(config), "program_counts")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that writes the counts of programs."""
    program_counts.add_option(parser)


def pytest_ignore_collect(collection_path, config):
    """Leaves out, with `-m gpu`, every test file that is not for a GPU."""
    for_gpu = "gpu" in collection_path.relative_to(config.rootpath).parts
    if collection_path.is_file() and _on_gpu(config) and not for_gpu:
        return True
    return None


def _on_gpu(config: pytest.Config) -> bool:
    return config.getoption("markexpr") == "gpu"


@pytest.fixture(autouse=True, scope="module")
def _free_compiled_programs():
    # Each program holds pages of its own, and Linux allows a process 65,530 mappings.
    yield
    import jax

    jax.clear_caches()
