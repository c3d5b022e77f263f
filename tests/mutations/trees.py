"""Copies of the working tree, in which files are mutated, and digests of files."""

import functools
import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.mutations.mutation import ROOT

_SKIPPED = {"__pycache__", "runs", "build", "dist"}


@functools.cache
def tracked_files() -> tuple[str, ...]:
    """Returns the files of the working tree that git knows or would take, once asked.

    Where there is no repository (an sdist), all but hidden and generated ones.
    """
    if (ROOT / ".git").exists():
        command = [
            "git",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        names = done.stdout.decode().split("\0")
    else:
        paths = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        names = [
            str(path)
            for path in paths
            if not any(part.startswith(".") or part in _SKIPPED for part in path.parts)
        ]
    return tuple(sorted(name for name in set(names) if (ROOT / name).is_file()))


def copy_tree(target: Path) -> None:
    """Copies those files. There is no bytecode among them."""
    for name in tracked_files():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, place)


def digest(files: Iterable[str], *words: object) -> str:
    """Returns a hash of the text of files and of some words."""
    found = hashlib.sha256(repr(words).encode())
    for name in files:
        found.update(name.encode() + (ROOT / name).read_bytes())
    return found.hexdigest()[:16]
