"""The file of measured times, beside the records."""

import json
from pathlib import Path

from examples.gan.errors import UserError
from examples.gan.records import write_json
from examples.study.records import Record

_NAME = "time.json"
_NEEDED = frozenset({"ratios", "rounds", "updates", "device"})


def write_times(folder: Path, times: Record) -> None:
    """Writes ``time.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _NAME, times)


def has_times(folder: Path) -> bool:
    """Says whether times have been measured."""
    return (folder / _NAME).is_file()


def read_times(folder: Path) -> Record:
    """Returns what was measured.

    Raises:
        UserError: nothing was, or the file is damaged.
    """
    path = folder / _NAME
    try:
        times = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: expected what `python -m examples.study time` writes."
        ) from None
    except (OSError, ValueError):
        times = None
    if not isinstance(times, dict) or not times.keys() >= _NEEDED:
        raise UserError(f"{path} is damaged: expected the times of a study.")
    return times
