"""The command line: what it prints, what it writes, and how it says no."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import optax
import pytest
from flax import serialization

from specjax.__main__ import main

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(3)


def random(*shape):
    return np.float32(RNG.standard_normal(shape))


PARAMS = {"Dense_0": {"kernel": random(9, 4), "bias": random(4)}}
STATE = {
    "step": np.int32(5),
    "discriminator": PARAMS,
    "generator": {"params": {"Dense_1": {"kernel": random(9, 4)}}},
    "discriminator_adam": optax.adam(1e-3).init(PARAMS),
    "odd": {"kernel": random(2, 3, 4)},
}


def norm(kernel):
    return np.linalg.norm(kernel.astype(np.float64), 2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "state.msgpack"
    path.write_bytes(serialization.to_bytes(STATE))
    return path


def refused(arguments, capsys):
    """Runs the command line, which must exit with 2, and returns its one sentence."""
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.endswith(".\n")
    return printed.err


def test_report_of_a_train_state(checkpoint, capsys, tmp_path):
    plot, record = tmp_path / "spectra.png", tmp_path / "report.json"
    arguments = ["--plot", str(plot), "--json", str(record)]
    assert main(["report", str(checkpoint), *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == f"{checkpoint}: flax msgpack file, kernels: 2"
    assert lines[-1] == "Left out, as states of optimizers: discriminator_adam/0."
    assert "Not in the table: odd/kernel: got a kernel float32[2,3,4]" in printed.out
    rows = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    exact = {row[0].strip(): float(row[4]) for row in rows}
    assert exact == {
        "discriminator/Dense_0/kernel": pytest.approx(
            norm(STATE["discriminator"]["Dense_0"]["kernel"]), rel=1e-4
        ),
        "generator/params/Dense_1/kernel": pytest.approx(
            norm(STATE["generator"]["params"]["Dense_1"]["kernel"]), rel=1e-4
        ),
    }
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert json.loads(record.read_text())["kernels"].keys() == exact.keys()
    assert {path.name for path in tmp_path.iterdir()} == {plot.name, record.name}


def test_a_part_of_it(checkpoint, capsys):
    assert main(["report", str(checkpoint), "--params", "discriminator"]) == 0
    out = capsys.readouterr().out
    assert "kernels: 1" in out
    assert "generator" not in out
    # A part that is named is not searched for optimizers.
    part = ["--params", "discriminator_adam/0/mu"]
    assert main(["report", str(checkpoint), *part]) == 0
    assert "discriminator_adam/0/mu/Dense_0/kernel" in capsys.readouterr().out


def test_an_ending_in_capitals(checkpoint, capsys, tmp_path):
    files = tmp_path / "SPECTRA.PNG", tmp_path / "REPORT.JSON"
    arguments = ["--plot", str(files[0]), "--json", str(files[1])]
    assert main(["report", str(checkpoint), *arguments]) == 0
    assert capsys.readouterr().err == ""
    assert all(file.stat().st_size for file in files)


def test_haikus_names(tmp_path, capsys):
    path = tmp_path / "params.npz"
    np.savez(path, **{"net/~/linear/w": random(9, 4), "net/~/linear/b": random(4)})
    assert main(["report", str(path), "--kernels", "haiku"]) == 0
    assert "net/~/linear/w" in capsys.readouterr().out
    said = refused(["report", path], capsys)
    assert f"{path}: got no kernel by flax's names; need at least one." in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["report"], "the following arguments are required: CHECKPOINT"),
        (["bake", "x"], "invalid choice: 'bake'"),
        (["report", "nowhere"], "nowhere: got no file or folder; need an Orbax"),
        (["report", "notes.txt"], "notes.txt: got an unknown kind of file"),
        (
            ["report", "odd.npz"],
            "got no kernel by flax's names (undecided: odd/kernel)",
        ),
        (["report", "odd.npz", "--params", "even"], "got no even in it; need one of"),
        (["report", "odd.npz", "--kernels", "keras"], "invalid choice: 'keras'"),
        (["report", "odd.npz", "--plot", "no/x.png"], "can not be written to"),
        (["report", "odd.npz", "--plot", "folder.png"], "can not be written to"),
        (["report", "odd.npz", "--plot", "x.txt"], "Try: x.png"),
        (["report", "odd.npz", "--json", "x"], "Try: x.json"),
    ],
)
def test_nonsense_is_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("mine")
    Path("folder.png").mkdir()
    np.savez("odd.npz", **{"odd/kernel": random(2, 3, 4)})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert sentence in refused(arguments, capsys)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


class Bomb:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("made",)


def test_through_a_shell_there_is_no_traceback_and_no_unpickling(tmp_path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Bomb()))
    done = subprocess.run(
        [sys.executable, "-m", "specjax", "report", "model.pkl"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "model.pkl: got a pickle, which can run code; need an Orbax folder, or a flax "
        "msgpack, safetensors or npz file. Try: saving the params in one of these.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]
