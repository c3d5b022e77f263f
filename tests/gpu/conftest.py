"""Skips what needs a GPU where jax sees none."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="session")
def _gpu():
    if jax.default_backend() != "gpu":
        pytest.skip(f"needs a GPU: jax {jax.__version__} sees {jax.devices()}")
