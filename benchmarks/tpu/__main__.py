"""Measures the tables of docs/scaling.md with the TPU compiler, without a TPU.

    python -m benchmarks.tpu [--only PATTERN]

Needs the libtpu that `jax[tpu]` names. Device: a CPU with 2 cores. Time: about half an
hour, all of it compiling; docs/scaling.json gets the numbers row by row, as they come.
"""

import argparse
import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from benchmarks.tpu.rows import all_rows, measure
from benchmarks.tpu.tables import written_into

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    """Measures the rows, and writes docs/scaling.json and docs/scaling.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tpu")
    parser.add_argument(
        "--only", default="", help="rows whose name has it: 'digits, 8, sharded'"
    )
    only = parser.parse_args().only
    held = DOCS / "scaling.json"
    found = json.loads(held.read_text())["rows"] if held.exists() else {}
    for row in all_rows():
        if re.search(only, row.name):
            found[row.name] = measure(row) | {"versions": versions()}
            print(row.name, json.dumps(found[row.name]), flush=True)
            _write(held, found)
    _write(held, found)


def versions() -> dict[str, str]:
    """Returns the versions that the numbers depend on."""
    return {"jax": jax.__version__, "libtpu": metadata.version("libtpu")}


def _write(held: Path, found: dict[str, Any]) -> None:
    rows = {row.name: found[row.name] for row in all_rows() if row.name in found}
    held.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    page = DOCS / "scaling.md"
    page.write_text(written_into(page.read_text(), list(rows.values())))


if __name__ == "__main__":
    main()
