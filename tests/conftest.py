"""Four CPU devices for every test, and what a long run of small programs needs."""

import os

# One BLAS thread: the SVDs are small, and pytest-xdist has the other cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Most of the time goes into compiling small programs, for which LLVM need not try hard.
# What XLA itself does to a program is the same on every level. Its older writer of
# loops takes a fifth of the time of the one through MLIR (jaxlib 0.8.1 to 0.10.2).
os.environ["XLA_FLAGS"] = " ".join((
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=4",
))  # fmt: skip

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def _free_compiled_programs():
    # Each program holds pages of its own, and Linux allows a process 65,530 mappings.
    yield
    jax.clear_caches()
