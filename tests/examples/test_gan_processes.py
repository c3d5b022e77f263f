"""The GAN example as two processes of four devices each, one of which is killed."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from examples.gan import __main__ as program
from examples.gan import loop, processes
from examples.gan.__main__ import main
from examples.gan.checkpoints import Checkpoints
from examples.gan.errors import UserError
from examples.gan.mesh import make_mesh
from examples.gan.records import read_config, read_metrics
from tests.exhaustive import exhaustive

ROOT = Path(__file__).parents[2]
OPTIONS = ["--mesh", "data=4,model=2", "--steps", "10", "--save-every", "4"]
END = 30  # seconds within which the process that is left must have ended, too


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs that one pair has compiled, for the next one."""
    return tmp_path_factory.mktemp("cache")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_two(
    folder: Path, cache: Path, *extra: str, first: str = "0", second: str = "0"
) -> list[subprocess.Popen[str]]:
    """Starts both; what each one is told first is for `gan_program`."""
    flags = os.environ["XLA_FLAGS"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=4",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    program, port = Path(__file__).with_name("gan_program.py"), free_port()
    return [
        subprocess.Popen(
            [
                *(sys.executable, str(program), second if index else first),
                *("--distributed", f"127.0.0.1:{port},2,{index}"),
                *(*OPTIONS, "--out", str(folder), *extra),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]


def finish(pair: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Waits for both, and returns the exit code and the words of each."""
    try:
        # Both at once: one that nobody listens to stops when its pipe is full.
        with ThreadPoolExecutor(len(pair)) as ears:
            words = list(ears.map(lambda each: each.communicate(timeout=300), pair))
    finally:
        for process in pair:
            process.kill()
    return [
        (process.returncode, *said) for process, said in zip(pair, words, strict=True)
    ]


@pytest.fixture(scope="module")
def uninterrupted(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "run"
    (first, out, errors), (second, others_out, _) = finish(
        start_two(folder, cache, first="score")
    )
    assert (first, second) == (0, 0), errors
    assert f"{folder}/samples.png" in out
    assert str(folder) not in others_out  # one speaks (and gloo, about its ranks)
    return folder


@exhaustive
def test_two_processes_train_as_one(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "_LOG_EVERY", 1)
    monkeypatch.setattr(program, "_finish", lambda *arguments: None)
    assert main([*OPTIONS, "--out", str(tmp_path / "one")]) == 0
    both = read_metrics(uninterrupted), read_metrics(tmp_path / "one")
    assert [len(lines) for lines in both] == [10, 10]
    # Later the game itself has doubled the last bits of float32 too often.
    for line, want in zip(*(lines[:6] for lines in both), strict=True):
        assert line["step"] == want["step"]
        for name in ("d_loss", "g_loss", "gradient_norm"):
            np.testing.assert_allclose(line[name], want[name], rtol=1e-5)
    names = ("samples.png", "curves.png", "report.json", "score.json")
    assert all((uninterrupted / name).stat().st_size > 500 for name in names)


@exhaustive
def test_one_is_killed_and_the_whole_goes_on(
    uninterrupted: Path, cache: Path, tmp_path: Path
):
    folder = tmp_path / "run"
    pair = start_two(folder, cache, second="6")
    assert pair[1].wait(timeout=300) == -signal.SIGKILL
    code = pair[0].wait(timeout=END)
    words = finish(pair)[0][2]
    assert code != 0
    assert "--resume" in words or "another task died" in words
    assert 4 <= read_metrics(folder)[-1]["step"] <= 6
    for code, _, errors in finish(start_two(folder, cache, "--resume")):
        assert code == 0, errors
    for name in ("metrics.jsonl", "config.json"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes()
    states = [last_state(each) for each in (folder, uninterrupted)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def last_state(folder: Path) -> Any:
    state = Checkpoints(folder).restore(read_config(folder), make_mesh(None))
    assert state is not None
    assert int(state.step) == 10
    return state


@exhaustive
def test_a_refusal_is_that_of_all(uninterrupted: Path, cache: Path):
    """Only the first process looks whether the folder is free: both must end."""
    (first, _, sentence), (second, _, answer) = finish(start_two(uninterrupted, cache))
    assert (first, second) == (2, 2)
    assert "already holds a run" in sentence.splitlines()[-1]
    assert answer.splitlines()[-1] == ("Process 0 has refused: its own words say why.")


@pytest.mark.parametrize(
    "words", ["", "here", "127.0.0.1,2,0", "127.0.0.1:80,2,2", "127.0.0.1:80,0,0"]
)
def test_nonsense_about_processes_is_one_sentence(words: str):
    with pytest.raises(UserError, match="expected auto, or host:port,number,index"):
        processes.join(words)
