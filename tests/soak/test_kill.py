"""SIGKILL at random moments: a run that was killed 25 times equals one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from examples.gan.checkpoints import Checkpoints
from examples.gan.mesh import make_mesh
from examples.gan.records import read_config

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "examples" / "gan_program.py"
FILES = ("metrics.jsonl", "config.json")
OPTIONS = ["--batch-size", "8", "--save-every", "5"]


def start(folder: Path, cache: Path, steps: int) -> subprocess.Popen[str]:
    """Begins the run, or goes on with it where it can be gone on with."""
    resume = ["--resume"] * (folder / "config.json").exists()
    options = [*OPTIONS, "--steps", str(steps), "--out", str(folder), *resume]
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), "0", *options],
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, cache: Path, steps: int) -> str:
    """Lets the run come to its end, and returns what it said on stderr."""
    process = start(folder, cache, steps)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def being_written(folder: Path) -> set[Path]:
    """Orbax's folders of checkpoints that are not whole."""
    return set((folder / "checkpoints").glob("*tmp*"))


def last_step(folder: Path) -> int:
    names = (path.name for path in (folder / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=-1)


def kill(process: subprocess.Popen[str], folder: Path, when: Callable[[], bool]) -> str:
    """Kills as soon as ``when`` says so; returns where the run was then."""
    before = being_written(folder)
    deadline = time.monotonic() + 120
    while not when():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    writing = being_written(folder) - before
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return "writing" if writing else "elsewhere"


def moments(rng: random.Random, folder: Path) -> Callable[[], bool]:
    """Draws when to kill: at any time, or a little after a checkpoint is begun.

    At most 15 steps later than the run was, so that there are some left for all kills.
    """
    began, first = time.monotonic(), last_step(folder)
    if rng.random() < 0.3:
        delay = rng.uniform(0, 8)
        return lambda: (
            time.monotonic() > began + delay or last_step(folder) > max(first, 0) + 5
        )
    old, seen = being_written(folder), []
    n_saves, delay = rng.randint(0, 2), rng.choice([0, rng.uniform(0, 0.15)])

    def when() -> bool:
        if not seen and last_step(folder) > first + 5 * n_saves - 5:
            seen.extend([time.monotonic()] * bool(being_written(folder) - old))
        return bool(seen) and time.monotonic() > seen[0] + delay

    return when


def assert_equal(folder: Path, whole: Path) -> None:
    for name in FILES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    states = [
        Checkpoints(each).restore(read_config(each), make_mesh(None))
        for each in (folder, whole)
    ]
    assert all(state is not None for state in states)
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.soak
def test_killed_at_25_random_moments(tmp_path: Path):
    found = kill_and_compare(tmp_path, steps=400, n_kills=25, seed=1)
    assert found.count("writing") >= 8


def kill_and_compare(parent: Path, steps: int, n_kills: int, seed: int) -> list[str]:
    """Kills a run so often, compares its end, and returns what the kills have met."""
    rng, cache = random.Random(seed), parent / "cache"
    whole, folder = parent / "whole", parent / "killed"
    finish(whole, cache, steps)
    found = []
    for _ in range(n_kills):
        process = start(folder, cache, steps)
        found.append(kill(process, folder, moments(rng, folder)))
    assert -1 < last_step(folder) < steps  # the kills met a run that was going on
    errors = finish(folder, cache, steps)
    assert "damaged" not in errors  # what is not whole never has a checkpoint's name
    assert_equal(folder, whole)
    return found
