"""Counts the programs that each test file compiles, against those of a JSON file.

A count does not depend on the machine, on what is in jax's cache, or on which process
ran which file. A run of all files fails where a file's count has grown by a quarter;
`--write-programs` writes the counts of such a run.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RECORD = Path(__file__).with_name("program_counts.json")
GROWTH = 1.25
SLACK = 4  # a file of few programs may have some more
_COMPILED = "/jax/core/compile/backend_compile_duration"
_SHARED: list[None] = []


@contextlib.contextmanager
def shared_by_files() -> Iterator[None]:
    """Programs that are compiled here are of no file: the first one would have them."""
    _SHARED.append(None)
    try:
        yield
    finally:
        _SHARED.pop()


def add_option(parser: pytest.Parser) -> None:
    """Adds `--write-programs`."""
    parser.addoption(
        "--write-programs",
        action="store_true",
        help="write the number of programs that each test file compiled to "
        "tests/program_counts.json",
    )


def complaints(counts: dict[str, int], recorded: dict[str, int]) -> list[str]:
    """Returns a sentence for each file that compiles too many programs."""
    return [
        f"{name} compiled {n} programs, and {recorded.get(name, 0)} are recorded. "
        "Try: fewer or smaller programs, the marker exhaustive, or, with the reason in "
        "the commit, --write-programs."
        for name, n in sorted(counts.items())
        if n > GROWTH * recorded.get(name, 0) + SLACK
    ]


class Counter:
    """The plugin: counts here, and in the workers of pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        """Args: config: pytest's."""
        self.config = config
        self.counts: dict[str, int] = {}
        self.said: list[str] = []
        self.note = ""
        self._n_compiled: int | None = None

    def _listen(self) -> None:
        import jax.monitoring  # not before its variables are set

        def listen(event: str, duration: float, **_: Any) -> None:
            del duration
            if event == _COMPILED and not _SHARED:
                self._n_compiled = (self._n_compiled or 0) + 1

        self._n_compiled = 0
        jax.monitoring.register_event_duration_secs_listener(listen)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        """Adds what one test and its fixtures compile to its file's count."""
        if self._n_compiled is None:
            self._listen()
        before = self._n_compiled or 0
        result = yield
        name = item.nodeid.split("::")[0]
        compiled = (self._n_compiled or 0) - before
        self.counts[name] = self.counts.get(name, 0) + compiled
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Takes a worker's counts."""
        del error
        for name, n in getattr(node, "workeroutput", {}).get("programs", {}).items():
            self.counts[name] = self.counts.get(name, 0) + n

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Sends a worker's counts, writes or compares those of the whole run."""
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["programs"] = self.counts
            return
        import jax

        if self.config.getoption("write_programs"):
            counts = {k: n for k, n in sorted(self.counts.items()) if n}
            record = {"jax": jax.__version__, "programs": counts}
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
            return
        record = json.loads(RECORD.read_text())
        if (
            not self._as_recorded()
            or not record["programs"].keys() <= self.counts.keys()
        ):
            return
        if record["jax"] != jax.__version__:
            self.note = (
                f"The programs of each file are not compared: {RECORD.name} is of jax "
                f"{record['jax']}, and this is {jax.__version__}."
            )
            return
        self.said = complaints(self.counts, record["programs"])
        if self.said and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _as_recorded(self) -> bool:
        """Whether each file ran in one process, with the tests that run by default."""
        together = self.config.getoption("dist", "no") in ("no", "loadfile")
        markers = self.config.getoption("markexpr").strip()
        default = markers == default_markers(self.config)
        return together and default

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Prints the complaints, or why there can be none."""
        if self.note:
            terminalreporter.write_line(self.note)
        for sentence in self.said:
            terminalreporter.write_line(f"FAILED {sentence}", red=True)


def default_markers(config: pytest.Config) -> str:
    """Returns what `addopts` gives to `-m`."""
    (words,) = [w for w in config.getini("addopts") if w.startswith("-m ")]
    return words.removeprefix("-m ").strip()
