"""The TPU compiler, which needs no TPU, for every test in this folder."""

import importlib.util

import pytest


@pytest.fixture(autouse=True, scope="session")
def _compiler():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip(
            "libtpu, the TPU's compiler, is not installed; `pip install 'jax[tpu]'` "
            "brings it on Linux and x86-64"
        )
