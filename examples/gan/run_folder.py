"""Which folder a run lives in: a new one that is free, or the one to resume."""

from pathlib import Path

from examples.gan.errors import UserError
from examples.gan.records import CONFIG, PARTIAL_CONFIG


def create(out: str | None) -> Path:
    """Makes the folder of a new run: ``out``, or the first free ``runs/gan-NNN``.

    Raises:
        UserError: ``out`` is a file or a folder that is not empty.
    """
    if out is None:
        return _first_free(Path("runs"))
    folder = Path(out)
    if (folder / CONFIG).exists():
        raise UserError(
            f"--out {out} already holds a run: expected a new folder, or --resume to "
            "go on with that run."
        )
    if folder.exists() and (not folder.is_dir() or _holds_something(folder)):
        raise UserError(f"--out {out} exists: expected a new or an empty folder.")
    _make(folder, exist_ok=True)
    return folder


def _holds_something(folder: Path) -> bool:
    """Says whether anything is there but what a run killed at its very start leaves."""
    return any(path.name != PARTIAL_CONFIG for path in folder.iterdir())


def _first_free(parent: Path) -> Path:
    """Makes the first ``gan-NNN`` that does not exist."""
    number = 1
    while True:
        folder = parent / f"gan-{number:03}"
        try:
            _make(folder, exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return folder


def _make(folder: Path, *, exist_ok: bool) -> None:
    """Makes a folder; one that can not be made is the user's to know."""
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        raise
    except OSError as error:
        raise UserError(
            f"{folder} can not be made ({error.strerror}): expected a writable place."
        ) from None


def find(out: str | None) -> Path:
    """Returns the folder of the run to resume: ``out``, or the newest in ``runs``.

    Raises:
        UserError: there is no run.
    """
    if out is not None:
        if not (Path(out) / CONFIG).is_file():
            raise UserError(f"--out {out} holds no run to resume: expected {CONFIG}.")
        return Path(out)
    configs = Path("runs").glob(f"gan-*/{CONFIG}")
    newest = max(configs, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise UserError("--resume found no run: expected one in runs/gan-NNN or --out.")
    return newest.parent
