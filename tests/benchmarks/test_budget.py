"""What a step costs by the TPU compiler's counts, against the budget that is kept."""

import copy

import pytest

from benchmarks.rivals import budget


def test_no_count_is_above_its_budget():
    pytest.importorskip("libtpu")
    held, found = budget.read(), budget.measure()
    if held["versions"] != found["versions"]:
        pytest.skip(f"the budget is of {held['versions']}; python -m benchmarks budget")
    assert budget.worse(held, found) == []


def test_a_count_above_its_budget_is_named():
    held = budget.read()
    found = copy.deepcopy(held)
    assert budget.worse(held, found) == []
    found["added"]["resnet_d, specjax sn_apply"]["fusions"] += 1
    found["added"]["vit, specjax sn_apply"] = {"bytes": 5}
    fusions = held["added"]["resnet_d, specjax sn_apply"]["fusions"]
    assert budget.worse(held, found) == [
        f"resnet_d, specjax sn_apply: {fusions + 1} fusions over the plain step, "
        f"not {fusions}",
        "vit, specjax sn_apply: 5 bytes over the plain step, not None",
    ]
