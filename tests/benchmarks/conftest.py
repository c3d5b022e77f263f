"""Every test here is one of the benchmarks': `pytest -m bench` runs them."""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before the marks are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks them."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker("bench")
