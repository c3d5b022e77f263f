"""The measured rows as the tables of docs/scaling.md."""

import re
from typing import Any

_BEGIN, _END = "<!-- python -m benchmarks.tpu: {} -->", "<!-- end: {} -->"
_TRAFFIC = (
    "chips", "kernels", "collectives without SN", "SN adds", "their bytes",
    "share of all bytes sent", "share of main memory's bytes", "share of cycles",
)  # fmt: skip
_PROGRAM = (
    "chips", "kernels", "temporary memory without SN", "with", "fusions without",
    "with", "compile time without", "with",
)  # fmt: skip


def written_into(text: str, rows: list[dict[str, Any]]) -> str:
    """Returns the document with the tables between its markers made anew."""
    for network in ("transformer", "cifar10", "digits"):
        found = [row for row in rows if row["network"] == network]
        for kind, table in (("traffic", traffic(found)), ("program", program(found))):
            name = f"{network}, {kind}"
            begin, end = _BEGIN.format(name), _END.format(name)
            pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
            new = f"{begin}\n\n{table}\n\n{end}"
            text = pattern.sub(lambda _, new=new: new, text)
    return text


def traffic(rows: list[dict[str, Any]]) -> str:
    """Returns the table of what SN adds to what moves."""
    return _table(_TRAFFIC, [_traffic_cells(row) for row in rows])


def program(rows: list[dict[str, Any]]) -> str:
    """Returns the table of the programs' sizes."""
    return _table(_PROGRAM, [_program_cells(row) for row in rows])


def _traffic_cells(row: dict[str, Any]) -> list[str]:
    without, with_sn = row["without"], row["with"]
    sent = with_sn["collective_bytes"] - without["collective_bytes"]
    return [
        f"{row['chips']}",
        row["kernels"],
        f"{without['collectives']}",
        f"{with_sn['collectives'] - without['collectives']}",
        _bytes(sent),
        _share(sent, with_sn["collective_bytes"]),
        _added(row, "memory_bytes"),
        _added(row, "cycles"),
    ]


def _program_cells(row: dict[str, Any]) -> list[str]:
    cells = [f"{row['chips']}", row["kernels"]]
    for name, spell in (
        ("temporary_bytes", _bytes),
        ("fusions", str),
        ("seconds", "{:.0f} s".format),
    ):
        cells += [spell(row[form][name]) for form in ("without", "with")]
    return cells


def _added(row: dict[str, Any], name: str) -> str:
    return _share(row["with"][name] - row["without"][name], row["with"][name])


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}".replace("%", " %") if whole else "0"


def _bytes(number: int) -> str:
    """Returns a number of bytes in words: "1.18 MB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} B"


def _table(header: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [header, ["---:", "---", *["---:"] * (len(header) - 2)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
