"""The judge on disk: trained once for a data set, and known by a checksum."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from examples.gan.data import Dataset
from examples.study.judge import Judge, train_judge

_FACTS = ["accuracy", "n_test", "made_from", "checksum"]


def judge_of(
    folder: Path,
    train: Dataset,
    test: Dataset,
    epochs: int,
    tick: Callable[[], object] = lambda: None,
) -> Judge:
    """Returns the folder's judge; trains it if there is none, or not this one.

    Args:
        folder: the study's; it is kept in ``judge.npz`` there.
        train: what it learns.
        test: what its accuracy is of.
        epochs: how often it sees each image.
        tick: is called after each epoch.
    """
    made_from = zlib.crc32(f"{train.crc32()} {test.crc32()} {epochs}".encode())
    path = folder / "judge.npz"
    judge = _read(path, made_from)
    if judge is None:
        judge = train_judge(train, test, epochs, tick)
        _write(path, judge, made_from)
    return judge


def _write(path: Path, judge: Judge, made_from: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = dict(flatten_dict(judge.params, sep="/"))
    partial = path.with_suffix(".partial.npz")
    facts = (judge.accuracy, judge.n_test, made_from, _checksum(arrays))
    arrays |= dict(zip(_FACTS, facts, strict=True))
    np.savez(partial, **arrays)
    partial.replace(path)


def _read(path: Path, made_from: int) -> Judge | None:
    """Returns the judge, or None for one that is damaged or of something else."""
    try:
        # From memory: numpy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes())) as file:
            arrays = dict(file)
        facts = {name: arrays.pop(name).item() for name in _FACTS}
    except Exception:  # numpy raises as many kinds as files can break in
        return None
    if facts["made_from"] != made_from or facts["checksum"] != _checksum(arrays):
        return None
    params = unflatten_dict(arrays, sep="/")
    return Judge(params, facts["accuracy"], facts["n_test"])


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    """Returns a number that any changed weight changes."""
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), crc)
    return crc
