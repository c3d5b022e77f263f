"""The contract on both sides of the door: the loop over the core, and every batch.

`test_contract` runs what a user runs, where the door chooses. Here it has no choice.
"""

import jax
import pytest

from specjax import transforms
from specjax._core import kernel
from specjax._fast import door
from tests import test_contract
from tests.exhaustive import exhaustive
from tests.test_contract import *  # noqa: F403  # all of its tests, once more

pytestmark = exhaustive


@pytest.fixture(autouse=True, scope="module", params=["core", "batch"])
def _path(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "core":
            patch.setattr(transforms, "_apply_all", kernel.apply_all)
        else:
            patch.setattr(door, "MIN_BATCH", 1)
        _forget()
        yield
    _forget()


def _forget():
    test_contract._functions.cache_clear()
    test_contract._gradient.cache_clear()
    jax.clear_caches()
