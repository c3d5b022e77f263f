"""One run of pytest in a forked child, in a copy of the tree, and what came of it."""

import importlib
import json
import os
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutations.mutation import ROOT

# What takes seconds to import is imported once, before the forks. Not specjax, and
# nothing that starts a thread or asks for a device.
_HEAVY = (
    "chex", "equinox", "flax.linen", "flax.nnx", "haiku", "hypothesis", "jax",
    "jax.experimental", "jax.numpy", "jax.test_util", "jaxtyping", "matplotlib.figure",
    "numpy", "optax", "pytest", "rich.console", "rich.table", "scipy.linalg",
)  # fmt: skip


def load_libraries() -> None:
    """Imports what all children need."""
    # Read when jax is imported; tests/conftest.py sets the rest before it is used.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # Where children keep compiled programs, they keep the small ones, too.
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    # What would be compiled of a mutated file must not be found by the next child: two
    # writes in one second may have one time, and one length.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _HEAVY:
            importlib.import_module(name)
    if any(name.split(".")[0] == "specjax" for name in sys.modules):
        raise RuntimeError("specjax is imported before the fork")


class Run(NamedTuple):
    """A child that runs.

    Attributes:
        pid: of the child, and of the group of all that it starts.
        folder: where it writes its output and its outcome.
        started: by `time.monotonic`.
    """

    pid: int
    folder: Path
    started: float


class Outcome(NamedTuple):
    """What a child found.

    Attributes:
        status: PASSED; FAILED, a test did; NONE, there was no test to run; BROKEN, a
            file of tests could not be imported, or none of that name was found;
            TIMEOUT.
        by: the test that failed, or what was broken.
        n_tests: how many tests were called.
        cpu_s: CPU seconds of the child and of all that it waited for.
        wall_s: seconds.
    """

    status: str
    by: str
    n_tests: int
    cpu_s: float
    wall_s: float


def start(tree: Path, folder: Path, cache: Path | None, arguments: list[str]) -> Run:
    """Forks a child that runs pytest with these arguments in a tree."""
    folder.mkdir(parents=True, exist_ok=True)
    outcome = folder / "outcome.json"
    outcome.unlink(missing_ok=True)
    sys.stdout.flush()
    with warnings.catch_warnings():
        # jax warns of forks: of threads, of which it has none before its first array.
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid:
        return Run(pid, folder, time.monotonic())
    try:
        os.setsid()
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _run_pytest(tree, folder, cache, arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # no clean-up of the parent's


def finished(run: Run, limit_s: float) -> Outcome | None:
    """Returns the outcome of a child, None if it still runs; ends one that is late."""
    pid, _, usage = os.wait4(run.pid, os.WNOHANG)
    wall_s = round(time.monotonic() - run.started, 1)
    if not pid and wall_s < limit_s:
        return None
    if not pid:
        end(run)
        return Outcome("TIMEOUT", f"after {limit_s:.0f} s", 0, wall_s, wall_s)
    cpu_s = round(usage.ru_utime + usage.ru_stime, 1)
    outcome = run.folder / "outcome.json"
    if not outcome.exists():
        lines = (run.folder / "output.txt").read_text().strip().splitlines()
        return Outcome("BROKEN", lines[-1] if lines else "a crash", 0, cpu_s, wall_s)
    found = json.loads(outcome.read_text())
    return Outcome(found["status"], found["by"], found["n_tests"], cpu_s, wall_s)


def end(run: Run) -> None:
    """Kills a child with all that it has started."""
    os.killpg(run.pid, signal.SIGKILL)
    os.waitpid(run.pid, 0)


class _Watch:
    """A plugin of pytest that keeps what has failed first."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.failed = self.broken = ""
        self.n_tests = 0

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self.broken:
            lines = str(report.longrepr).strip().splitlines()
            self.broken = f"{report.nodeid}: {lines[-1]}"

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.n_tests += report.when == "call"
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_sessionfinish(self) -> None:
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            package = name.split(".")[0] in ("specjax", "tests")
            if package and file and not Path(file).is_relative_to(self.tree):
                self.broken = f"{name} is imported from {file}"


def _run_pytest(
    tree: Path, folder: Path, cache: Path | None, arguments: list[str]
) -> None:
    import hypothesis
    import jax
    import pytest

    os.chdir(tree)
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    mine = {"", str(ROOT)}
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in mine)]
    os.environ["PYTHONPATH"] = str(tree)  # of what the tests start
    # Without it conftest.py leaves the types of arguments unchecked: a mutation is to
    # be seen by what a test claims.
    sys.modules["beartype"] = None  # type: ignore[assignment]
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)  # of what the tests start
    # The same examples in each run, and no time for shorter ones than the first.
    generate = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutations", phases=generate, database=None, derandomize=True, deadline=None
    )
    watch = _Watch(tree)
    code = pytest.main(
        [
            "-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist",
            "--hypothesis-profile=mutations", f"--basetemp={folder / 'temporary'}",
            # These are imported already, and their asserts are none of ours.
            "-W", "ignore::pytest.PytestAssertRewriteWarning",
            *arguments,
        ],
        plugins=[watch],
    )  # fmt: skip
    status, by = _judged(watch, int(code))
    found = {"status": status, "by": by, "n_tests": watch.n_tests}
    (folder / "outcome.json").write_text(json.dumps(found))


def _judged(watch: _Watch, code: int) -> tuple[str, str]:
    if watch.broken:
        return "BROKEN", watch.broken
    if watch.failed:
        return "FAILED", watch.failed
    if code == 0:
        return "PASSED", ""
    if code == 5:
        return "NONE", "no test was run"
    return "BROKEN", {4: "no test of that name"}.get(code, f"pytest's code {code}")
