"""docs/scaling.md: its tables are the measured rows, and the rows can be measured."""

import json

import pytest

from benchmarks.tpu.__main__ import DOCS, versions
from benchmarks.tpu.rows import all_rows
from benchmarks.tpu.tables import written_into

ROWS = json.loads((DOCS / "scaling.json").read_text())["rows"]


def test_the_tables_are_made_from_the_rows():
    page = (DOCS / "scaling.md").read_text()
    assert written_into(page, list(ROWS.values())) == page
    emptied = written_into(page, [])
    assert len(emptied) < len(page) - 50 * len(ROWS)  # every row is in some table


def test_the_rows_are_of_every_number_of_chips():
    for network in ("transformer", "cifar10", "digits"):
        have = {
            (r["chips"], r["kernels"]) for r in ROWS.values() if r["network"] == network
        }
        assert have >= {(1, "replicated")}
        assert have >= {(n, k) for n in (8, 64, 256) for k in ("replicated", "sharded")}
    assert all(row["versions"].keys() == {"jax", "libtpu"} for row in ROWS.values())


@pytest.mark.soak  # not of the kind that kills, but as long
def test_a_row_comes_out_again():
    row = next(row for row in all_rows() if row.name == "digits, 8, sharded")
    held = ROWS[row.name]
    if held["versions"] != versions():
        pytest.skip(f"docs/scaling.json was made with {held['versions']}")
    found = row.count(normalized=True)._asdict()
    numbers = set(found) - {"seconds"}
    assert {n: found[n] for n in numbers} == {n: held["with"][n] for n in numbers}
