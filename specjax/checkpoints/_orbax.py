"""Orbax checkpoints: which folder is one, and its trees as numpy arrays."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from specjax.errors import checkpoint_error, needs_extra


def find_step(path: Path) -> Path:
    """Returns the folder of one checkpoint: this one, or that of the newest step."""
    if _is_checkpoint(path):
        return path
    steps = {_number(child): child for child in path.iterdir() if _is_checkpoint(child)}
    steps = {number: child for number, child in steps.items() if number is not None}
    if not steps:
        got, fix = "a folder without an Orbax checkpoint", "the folder of the steps"
        raise checkpoint_error(path, got, "one with _METADATA, or steps of such", fix)
    return steps[max(steps)]


def _number(folder: Path) -> int | None:
    """Returns the step in a folder's name: ``5000``, ``step_5000``."""
    # What was not finished is called 5000.orbax-checkpoint-tmp-0.
    found = re.fullmatch(r"(?:[^.]*[^.0-9])?([0-9]+)", folder.name)
    return int(found[1]) if found else None


def _is_checkpoint(folder: Path) -> bool:
    files = (folder / "_METADATA", folder / "_CHECKPOINT_METADATA")
    return any(map(Path.is_file, files)) or bool(_items(folder))


def _items(folder: Path) -> dict[str, Path]:
    """Returns the folders below a step that hold a tree, by the items' names."""
    of_a_step = (folder / "_CHECKPOINT_METADATA").is_file()
    return {
        child.name: child
        for child in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if (child / "_METADATA").is_file() and (of_a_step or _number(child) is None)
    }


def read_orbax(folder: Path) -> Any:
    """Returns the tree of a checkpoint; of several items, one tree for each name."""
    if (folder / "_METADATA").is_file():
        return _restore(folder)
    trees = {name: _restore(item) for name, item in _items(folder).items()}
    return next(iter(trees.values())) if len(trees) == 1 else trees


def _restore(folder: Path) -> Any:
    """Returns the tree in numpy: the devices that it was saved from are not needed."""
    with needs_extra("report"):
        import orbax.checkpoint as ocp

    def as_numpy(leaf: Any) -> Any:
        is_text = not hasattr(leaf, "shape")
        return ocp.RestoreArgs(restore_type=None if is_text else np.ndarray)

    folder = folder.absolute()
    with _silent("absl"), ocp.PyTreeCheckpointer() as checkpointer:
        found = checkpointer.metadata(folder)
        tree = getattr(found.item_metadata, "tree", found.item_metadata)
        arguments = jax.tree.map(as_numpy, tree)
        return checkpointer.restore(folder, restore_args=arguments)


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    """Holds back a library's log: what goes wrong is said once, by us."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
