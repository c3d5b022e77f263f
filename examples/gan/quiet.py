"""Holds back what other libraries' threads say about a failure that is told once."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_late_reads() -> Iterator[None]:
    """Silences the reads of a checkpoint that end after another one has failed.

    Each of them finds that Orbax has closed their event loop, and Python prints a
    traceback for it: hundreds, for one damaged file.
    """
    before = sys.unraisablehook

    def hook(found: Any) -> None:
        if str(found.exc_value) != "Event loop is closed":
            before(found)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
