"""A study's folder: one record for each run, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from examples.gan.errors import UserError
from examples.study.plan import Job

Record = dict[str, Any]

RECORDS = "records"
_NEEDED = frozenset(
    {"name", *Job._fields, "config", "curves", "spectra", "score", "checksums"}
)


def write_record(folder: Path, record: Record) -> None:
    """Writes ``folder/records/NAME.json``, one line for each key."""
    path = _path(folder, record["name"])
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{json.dumps(key)}: {_dense(record[key])}" for key in record)
    # A name of its own: what a killed process has left is never taken for a record.
    partial = path.with_suffix(".partial")
    partial.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    partial.replace(path)


def whole_record(folder: Path, name: str) -> Record | None:
    """Returns the record of this name; None if there is none, or not a whole one."""
    try:
        record = json.loads(_path(folder, name).read_bytes())
    except (OSError, ValueError):
        return None
    return record if _is_whole(record) else None


def read_records(folder: Path) -> list[Record]:
    """Returns every record of a study, by name.

    Raises:
        UserError: there is none, or a damaged one.
    """
    paths = sorted((folder / RECORDS).glob("*.json"))
    if not paths:
        raise UserError(
            f"{folder / RECORDS} holds no record: expected those of a study's runs."
        )
    records = [whole_record(folder, path.stem) for path in paths]
    for path, record in zip(paths, records, strict=True):
        if record is None:
            raise UserError(
                f"{path} is damaged: expected the record of a run; remove it, and the "
                "study makes it again."
            )
    return [record for record in records if record is not None]


def samples_path(folder: Path, name: str) -> Path:
    """Returns where the picture of a run's first samples lies, beside its record."""
    return folder / RECORDS / f"{name}.png"


def _path(folder: Path, name: str) -> Path:
    return folder / RECORDS / f"{name}.json"


def _is_whole(record: Any) -> bool:
    return isinstance(record, dict) and record.keys() >= _NEEDED


def _dense(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
