"""Every figure of the study by its name, drawn from a folder's records alone."""

import functools
import re
from collections.abc import Callable
from pathlib import Path

from examples.gan.errors import UserError
from examples.study.draw_curves import CURVES, draw_curve
from examples.study.draw_samples import draw_samples
from examples.study.draw_settings import draw_settings
from examples.study.draw_spectra import draw_spectra
from examples.study.draw_time import draw_time
from examples.study.records import Record, read_records
from examples.study.times_file import read_times

Draw = Callable[[Path, list[Record], Path], None]


def _curve(name: str, folder: Path, records: list[Record], path: Path) -> None:
    draw_curve(records, path, name)


def _spectra(folder: Path, records: list[Record], path: Path) -> None:
    draw_spectra(records, path)


def _settings(folder: Path, records: list[Record], path: Path) -> None:
    draw_settings(records, path)


def _samples(folder: Path, records: list[Record], path: Path) -> None:
    draw_samples(records, path, folder)


def _time(folder: Path, records: list[Record], path: Path) -> None:
    draw_time(read_times(folder), path)


FIGURES: dict[str, Draw] = {
    **{name: functools.partial(_curve, name) for name in CURVES},
    "spectra": _spectra,
    "settings": _settings,
    "samples": _samples,
    "time": _time,
}


def draw(folder: Path, only: str | None) -> list[Path]:
    """Draws the figures whose name holds ``only``, for each network of the records.

    Returns:
        the pictures' paths.

    Raises:
        UserError: no figure has such a name, or what it is drawn from is not there.
    """
    try:
        names = [name for name in FIGURES if re.search(only or "", name)]
    except re.error as error:
        raise UserError(
            f"--only {only} is no regular expression ({error}): expected some of "
            f"{', '.join(FIGURES)}."
        ) from None
    if not names:
        raise UserError(
            f"--only {only} is no figure: expected one of {', '.join(FIGURES)}."
        )
    records = read_records(folder)
    networks = sorted({record["network"] for record in records})
    paths = []
    for network in networks:
        of_it = [record for record in records if record["network"] == network]
        for name in names:
            stem = name if len(networks) == 1 else f"{network}-{name}"
            path = folder / "figures" / f"{stem}.png"
            FIGURES[name](folder, of_it, path)
            paths.append(path)
    return paths
