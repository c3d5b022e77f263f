"""The budget: what our step adds to the plain one by the compiler's counts, in a file.

A test counts again and says what has become worse. A count is the same on each machine,
but not with each compiler, so the file holds the versions that it is of.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.rivals import tpu_counts
from benchmarks.rivals.about import about
from benchmarks.rivals.field import FIELD
from benchmarks.rivals.nets import COUNTED

FILE = Path(__file__).parents[1] / "budget.json"
NETS = ("resnet_d", "resnet_d_512")
RIVALS = ("specjax sn_apply", "specjax renormalize")
COUNTS = ("bytes", "fusions", "instructions", "temporary_bytes")
COMPILERS = ("jax", "jaxlib", "libtpu")

Budget = dict[str, Any]


def measure() -> Budget:
    """Returns what is added to the plain step, count by count, and the versions."""
    added = {}
    plain = {rival.plain for rival in FIELD if rival.name in RIVALS}
    rivals = [rival for rival in FIELD if rival.name in plain or rival.name in RIVALS]
    for net in NETS:
        case = COUNTED[net]
        rows = tpu_counts.measure(
            net, case, case.batch, little_effort=True, passes=2, rivals=rivals
        )
        found = {row["rival"]: row for row in rows}
        for name in RIVALS:
            ours, base = found[name]["tpu"], found[found[name]["plain"]]["tpu"]
            added[f"{net}, {name}"] = {k: ours[k] - base[k] for k in COUNTS}
    versions = about()["versions"]
    return {"versions": {k: versions.get(k) for k in COMPILERS}, "added": added}


def read() -> Budget:
    """Returns what the file holds."""
    return json.loads(FILE.read_text())


def write(budget: Budget) -> None:
    """Writes the file."""
    FILE.write_text(json.dumps(budget, indent=1) + "\n")


def worse(held: Budget, found: Budget) -> list[str]:
    """Returns a line for each count that is above its budget, or has none."""
    lines = []
    for step, counts in found["added"].items():
        budget = held["added"].get(step, {})
        for name, count in counts.items():
            limit = budget.get(name)
            if limit is None or count > limit:
                lines.append(f"{step}: {count} {name} over the plain step, not {limit}")
    return lines
