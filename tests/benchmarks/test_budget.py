"""What a step costs by the compilers' counts, against the budget that is kept."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rivals import budget

ROOT = Path(__file__).parents[2]


def test_no_count_is_above_its_budget():
    pytest.importorskip("libtpu")
    held, found = budget.read(), measured()
    if not found["versions"].items() <= held["versions"].items():
        pytest.skip(f"the budget is of {held['versions']}; python -m benchmarks budget")
    assert budget.worse(held, found) == []


def measured():
    """Returns the counts by compilers as they are, and not as the tests set them.

    A flag that makes compiling short makes other fusions, too.
    """
    code = "import json; from benchmarks.rivals import budget as b"
    run = [sys.executable, "-c", f"{code}; print(json.dumps(b.measure()))"]
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    env["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    done = subprocess.run(run, cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_budget_is_of_the_versions_that_are_installed_for_it():
    """Else its test would skip, and say nothing."""
    pins = (ROOT / "constraints" / "newest.txt").read_text().split()
    versions = dict(pin.split("==") for pin in pins)
    held = budget.read()["versions"]
    assert {name: versions[name] for name in held} == held


def test_a_count_above_its_budget_is_named():
    held = budget.read()
    found = copy.deepcopy(held)
    step = "tpu, resnet_d in 2, specjax sn_apply"
    assert budget.worse(held, found) == []
    found["added"][step]["fusions"] += 1
    found["added"]["vit, specjax sn_apply"] = {"bytes": 5}
    fusions = held["added"][step]["fusions"]
    assert budget.worse(held, found) == [
        f"{step}: {fusions + 1} fusions over the plain step, not {fusions}",
        "vit, specjax sn_apply: 5 bytes over the plain step, not None",
    ]
