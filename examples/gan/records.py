"""What a run writes down as JSON: its config, and a line of metrics now and then."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from examples.gan.errors import UserError
from examples.gan.presets import PRESETS
from examples.gan.settings import Config, check_choices

CONFIG, PARTIAL_CONFIG = "config.json", "config.partial"
_METRICS = "metrics.jsonl"


def write_config(folder: Path, config: Config) -> None:
    """Writes ``config.json``."""
    write_json(folder / CONFIG, dataclasses.asdict(config))


def read_config(folder: Path) -> Config:
    """Returns the config of the run in ``folder``.

    Raises:
        UserError: the file is not what ``write_config`` leaves.
    """
    path = folder / CONFIG
    try:
        config = Config(**json.loads(path.read_bytes()))
        check_choices(config)
    except (UserError, ValueError, TypeError, AttributeError, OSError):
        config = None
    if config is None or not _sound(config):
        raise UserError(f"{path} is damaged: expected the config of a run.")
    return config


def _sound(config: Config) -> bool:
    """Says whether every value is of the kind that it should be."""
    numbers = (config.steps, config.batch_size, config.seed, config.data_crc32)
    return (
        config.dataset in list(PRESETS)
        and all(type(number) is int for number in numbers)
        and isinstance(config.data_dir, str | None)
        and type(config.operator) is bool
    )


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


def append_metrics(folder: Path, line: dict[str, Any]) -> None:
    """Adds one line to ``metrics.jsonl``."""
    with (folder / _METRICS).open("a") as file:
        file.write(json.dumps(line) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Returns the lines of ``metrics.jsonl``, without one that was cut off.

    Raises:
        UserError: a whole line is not what ``append_metrics`` leaves.
    """
    path = folder / _METRICS
    content = path.read_text() if path.exists() else ""
    try:
        lines = [json.loads(line) for line in content.split("\n")[:-1]]
        if all(type(line["step"]) is int for line in lines):
            return lines
    except (ValueError, TypeError, KeyError):
        pass
    raise UserError(f"{path} is damaged: expected a line of metrics in every line.")


def trim_metrics(folder: Path, step: int) -> None:
    """Drops what was written after the checkpoint at ``step``.

    Raises:
        UserError: the metrics up to there are gone.
    """
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    if step > 0 and not kept:
        raise UserError(f"{folder / _METRICS} is missing: expected the run's metrics.")
    partial = folder / f"{_METRICS}.partial"
    partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
    partial.replace(folder / _METRICS)
