"""The budget: what our step adds to the plain one by the compiler's counts, in a file.

A test counts again and says what has become worse. A count is the same on each machine,
but not with each compiler, so the file holds the versions that it is of.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu import has_compiler
from benchmarks.rivals import aot
from benchmarks.rivals.about import about
from benchmarks.rivals.compiled import Counts, Launches
from benchmarks.rivals.field import FIELD
from benchmarks.rivals.nets import COUNTED

FILE = Path(__file__).parents[1] / "budget.json"
COUNTS = {"tpu": Counts._fields, "cpu": Counts._fields, "gpu": Launches._fields}
COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "jax-cuda13-pjrt")

Budget = dict[str, Any]


class Held(NamedTuple):
    """Steps of a network that are counted, over the plain one.

    Attributes:
        compiler: "tpu", "cpu" or "gpu", which is left out where jax has none.
        net: the network.
        passes: in which real and fake inputs go through it.
        rivals: which of ours. The wrapper takes a step in each pass.
    """

    compiler: str
    net: str
    passes: int
    rivals: tuple[str, ...]


_FUNCTIONS = ("specjax sn_apply", "specjax renormalize")
_WRAPPER = ("specjax.linen.SpectralNorm",)
_AROUND = ("specjax.linen, one around all",)
HELD = (
    Held("tpu", "resnet_d", 2, _FUNCTIONS),
    Held("tpu", "resnet_d_512", 2, _FUNCTIONS),
    Held("tpu", "resnet_d_512", 1, _WRAPPER + _AROUND),
    Held("gpu", "resnet_d", 1, _FUNCTIONS + _WRAPPER + _AROUND),
    Held("cpu", "mlp", 1, _FUNCTIONS + _WRAPPER),
    Held("cpu", "mlp60", 1, _FUNCTIONS + _WRAPPER + _AROUND),
)


def measure() -> Budget:
    """Returns what is added to the plain step, count by count, and the versions."""
    added = {}
    for held in HELD:
        if held.compiler == "gpu" and not has_compiler():
            continue
        for name, counts in _added(held).items():
            added[f"{held.compiler}, {held.net} in {held.passes}, {name}"] = counts
    versions = about()["versions"]
    found = {name: versions[name] for name in COMPILERS if name in versions}
    return {"versions": found, "added": added}


def _added(held: Held) -> dict[str, dict[str, int]]:
    case = COUNTED[held.net]
    plain = {rival.plain for rival in FIELD if rival.name in held.rivals}
    rows = aot.measure(
        held.net,
        case,
        case.batch,
        compiler=held.compiler,
        little_effort=held.compiler == "tpu",
        passes=held.passes,
        rivals=[rival for rival in FIELD if rival.name in plain.union(held.rivals)],
    )
    found = {row["rival"]: row for row in rows}
    added = {}
    for name in held.rivals:
        ours, base = found[name], found[found[name]["plain"]]
        added[name] = {
            count: ours[held.compiler][count] - base[held.compiler][count]
            for count in COUNTS[held.compiler]
        }
    return added


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
