"""The GAN example end to end: what a run leaves, resuming it, and refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from examples.gan import classifier, loop, score
from examples.gan.__main__ import main
from examples.gan.checkpoints import Checkpoints
from examples.gan.mesh import make_mesh
from examples.gan.records import append_metrics, read_config
from examples.gan.run_folder import create, find
from examples.gan.state import TrainState, init_state
from tests.exhaustive import exhaustive

ROOT = Path(__file__).parents[2]
OPTIONS = ["--batch-size", "8", "--seed", "5"]


@pytest.fixture(scope="module")
def quick() -> Iterator[pytest.MonkeyPatch]:
    """A short classifier and few samples: what is tested here is not the score."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_STEPS", 30)
        patch.setattr(score, "_N_FAKE", 250)
        patch.setattr(score, "_N_CLASSIFIED", 200)
        yield patch


@pytest.fixture(scope="module")
def whole(quick: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 20 steps without a break."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*OPTIONS, "--steps", "20", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def interrupted(
    quick: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same run, meant to end at 15 and stopped by Ctrl-C after step 10 or 11."""

    def press_ctrl_c(folder: Path, line: dict[str, Any]) -> None:
        append_metrics(folder, line)
        if line["step"] == 10:
            os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "append_metrics", press_ctrl_c)
        assert main([*OPTIONS, "--steps", "15", "--out", str(folder)]) == 130
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def last_state(folder: Path) -> TrainState:
    state = Checkpoints(folder).restore(read_config(folder), make_mesh(None))
    assert state is not None
    return state


def refused(arguments: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs the command line, which must exit with 2, and returns its one sentence."""
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.endswith(".\n")
    return printed.err


def test_a_run_leaves_its_files(whole: Path):
    for name in ("samples.png", "curves.png"):
        content = (whole / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 20_000
    lines = [
        json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [1, 10, 20]
    assert len(lines[-1]["sigma"]) == 6
    found = json.loads((whole / "score.json").read_text())
    assert sum(found["class_counts"]) == found["n_classified"] == 200
    assert (found["n_real"], found["n_fake"], found["n_test"]) == (1797, 250, 359)
    assert found["untrained_over_trained"] == pytest.approx(
        found["distance_untrained"] / found["distance"]
    )
    assert 0 < found["distance_real_to_real"] < found["distance_untrained"]
    assert len(found["kernels"]) == 6
    assert int(last_state(whole).step) == 20


def test_a_run_reports_on_its_kernels_before_and_after(whole: Path):
    found = json.loads((whole / "report.json").read_text())
    text = (whole / "report.txt").read_text()
    states = {
        "before": init_state(read_config(whole)).discriminator,
        "after": last_state(whole).discriminator,
    }
    for when, params in states.items():
        assert len(found[when]["kernels"]) == len(params) == 6
        for name, layer in params.items():
            kernel = np.asarray(layer["kernel"], np.float64)
            matrix = kernel.reshape(-1, kernel.shape[-1])
            spectrum = np.linalg.svd(matrix, compute_uv=False)
            row = found[when]["kernels"][f"{name}/kernel"]
            np.testing.assert_allclose(row["spectrum"], spectrum, rtol=1e-4)
            assert row["upper"]["value"] >= spectrum[0]
            assert f"{row['exact']['value']:.5g}"[:5] in text
    assert found["before"] != found["after"]
    assert "raw kernels before training" in text
    assert "raw kernels after 20 steps" in text
    assert (whole / "spectra.png").read_bytes().startswith(b"\x89PNG")


@exhaustive
def test_a_resumed_run_equals_the_uninterrupted_one(
    whole: Path, interrupted: Path, capsys: pytest.CaptureFixture[str]
):
    folder, stopped = interrupted, int(last_state(interrupted).step)
    assert stopped in (10, 11)
    with (folder / "metrics.jsonl").open("a") as file:  # as a killed run leaves it
        file.write('{"step": 20, "d_loss": 99.0}\n{"step": 30, "d_lo')
    assert main(["--resume", "--out", str(folder), "--steps", "20"]) == 0
    assert f"steps {stopped} to 20" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, last_state(folder), last_state(whole))
    records = ("metrics.jsonl", "config.json", "score.json", "report.json")
    for name in (*records, "report.txt"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ([], "already holds a run: expected a new folder, or --resume"),
        (["--resume", "--seed", "6"], "--seed 6 does not fit the run to resume"),
        (["--resume", "--constraint", "none"], "was started with --constraint sn."),
        (["--resume", "--constraint", "sn+gp"], "was started with --constraint sn."),
        (["--resume", "--setting", "A"], "was started without it."),
        (["--resume", "--network", "mlp"], "was started with --network cnn."),
        (["--resume", "--batch-size", "9"], "was started with --batch-size 8."),
        (["--resume", "--dataset", "mnist"], "was started with --dataset digits."),
        (["--resume", "--steps", "10"], "--steps 10 is less than the 20"),
    ],
)
def test_a_run_is_never_overwritten(
    whole: Path,
    extra: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
):
    before = contents(whole)
    assert sentence in refused([*extra, "--out", whole], capsys)
    assert contents(whole) == before


def test_a_folder_with_other_files_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "notes.txt").write_text("mine")
    assert "an empty folder" in refused(["--out", tmp_path], capsys)
    assert "an empty folder" in refused(["--out", tmp_path / "notes.txt"], capsys)
    below = tmp_path / "notes.txt" / "run"
    assert "can not be made" in refused(["--out", below], capsys)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--steps", "0"], "--steps 0 is out of range: expected 1 to"),
        (["--steps", "ten"], "Argument --steps: invalid int value: 'ten'"),
        (["--batch-size", "1"], "--batch-size 1 is out of range"),
        (
            ["--batch-size", "1798"],
            "--batch-size 1798 is out of range: expected at most the 1,797 images",
        ),
        (["--mesh", "data=two"], "--mesh data=two is not a mesh: expected data=N"),
        (["--mesh", "data=9"], "--mesh data=9 needs 9 devices: expected at most the 8"),
        (["--mesh", "data=5"], "--batch-size 32 can not be split over data=5"),
        (["--constraint", "gp+mean-only"], "--constraint gp+mean-only names gp and"),
        (["--loss", "mse"], "invalid choice: 'mse'"),
        (
            ["--operator", "--network", "biggan"],
            "--operator does not go with --network",
        ),
        (["--seed", "-1"], "--seed -1 is out of range"),
        (["--dataset", "cats"], "invalid choice: 'cats'"),
        (["--dataset", "mnist"], "--dataset mnist needs --data-dir"),
        (["--dataset", "cifar10", "--data-dir", "no"], "--data-dir no is not a folder"),
        (["--data-dir", "here"], "is not for --dataset digits"),
        (["--resume"], "--resume found no run"),
        (["--resume", "--out", "no"], "--out no holds no run to resume"),
    ],
)
def test_nonsense_is_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(arguments, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"dataset": "digits"}'),
        ("metrics.jsonl", "none of this\nis JSON\n"),
        ("metrics.jsonl", ""),
    ],
)
def test_a_damaged_record_is_one_sentence(
    name: str,
    content: str,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / name).write_text(content)
    before = contents(folder)
    assert str(folder / name) in refused(["--resume", "--out", folder], capsys)
    assert contents(folder) == before


def test_other_images_than_the_runs_are_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    config = json.loads((folder / "config.json").read_text())
    config["data_crc32"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    assert "other images" in refused(["--resume", "--out", folder], capsys)


def test_runs_are_numbered_and_the_newest_is_resumed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for number, age in ((1, 50), (2, 10), (4, 90)):
        shutil.copytree(whole, tmp_path / "runs" / f"gan-{number:03}")
        config = tmp_path / "runs" / f"gan-{number:03}" / "config.json"
        os.utime(config, (1e9 - age, 1e9 - age))
    assert find(None) == Path("runs/gan-002")
    assert create(None) == Path("runs/gan-003")


@exhaustive
def test_the_program_prints_no_traceback(tmp_path: Path):
    """The same through a shell: exit code 2, one line, nothing left behind."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "examples.gan",
            "--dataset",
            "cifar10",
            "--data-dir",
            ".",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "data_batch_1.bin is missing: expected a CIFAR-10 binary batch.\n"
    )
    assert list(tmp_path.iterdir()) == []
