"""The GAN example's checkpoints: what they hold, other meshes, and every damage."""

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from examples.gan import __main__ as program
from examples.gan.__main__ import main
from examples.gan.checkpoints import Checkpoints
from examples.gan.checksums import checksums
from examples.gan.data import batches, load, real_on
from examples.gan.mesh import first_state, make_mesh, place, state_sharding
from examples.gan.records import read_config
from examples.gan.settings import Config
from examples.gan.state import TrainState
from examples.gan.train import make_train_step
from tests.exhaustive import exhaustive

CONFIG = Config(
    "digits", "sn", steps=12, batch_size=32, seed=3, data_dir=None, network="mlp"
)
OPTIONS = ["--batch-size", "8", "--seed", "5", "--save-every", "10"]
FILES = ("metrics.jsonl", "config.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run of 20 steps, with checkpoints after 10 and 20."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "_finish", lambda *arguments: None)
        assert main([*OPTIONS, "--steps", "20", "--out", str(folder)]) == 0
        yield folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return shutil.copytree(whole, tmp_path / "run")


def data_files(checkpoint: Path) -> list[Path]:
    """Where the arrays are: the larger ones first."""
    found = [path for path in (checkpoint / "state").rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_size, reverse=True)


def truncate(checkpoint: Path) -> None:
    for path in data_files(checkpoint):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_one_bit(checkpoint: Path) -> None:
    """In the middle of an array, where Orbax itself sees nothing."""
    path = data_files(checkpoint)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove_state(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "state")


def remove_record(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / "record")


def empty_record(checkpoint: Path) -> None:
    (checkpoint / "record" / "metadata").write_bytes(b"")


def other_seed(checkpoint: Path) -> None:
    path = checkpoint / "record" / "metadata"
    record = json.loads(path.read_text())
    record["config"]["seed"] += 1
    path.write_text(json.dumps(record))


def other_key(checkpoint: Path) -> None:
    path = checkpoint / "record" / "metadata"
    record = json.loads(path.read_text())
    record["key"][0] ^= 1
    path.write_text(json.dumps(record))


def nothing_left(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


DAMAGES = {
    truncate: "Error)",
    flip_one_bit: "(the checksum is another)",
    remove_state: "Error)",
    remove_record: "Error)",
    empty_record: "Error)",
    other_seed: "(it belongs to another run)",
    other_key: "(it belongs to another run)",
    nothing_left: "Error)",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_passed_over(
    damage: Callable[[Path], None], folder: Path, capsys: pytest.CaptureFixture[str]
):
    damage(folder / "checkpoints" / "20")
    state = restored(folder)
    assert state is not None
    assert int(state.step) == 10
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{folder / 'checkpoints' / '20'} is damaged (")
    assert lines[0].endswith(f"{DAMAGES[damage]}: going back to step 10.")


def restored(folder: Path, words: str | None = None) -> TrainState | None:
    return Checkpoints(folder).restore(read_config(folder), make_mesh(words))


def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(
    whole: Path, folder: Path, capsys: pytest.CaptureFixture[str]
):
    flip_one_bit(folder / "checkpoints" / "20")
    damaged = {
        path.name: path.read_bytes() for path in data_files(folder / "checkpoints/20")
    }
    assert main(["--resume", "--out", str(folder)]) == 0
    assert "steps 10 to 20" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, restored(folder), restored(whole))
    for name in FILES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    aside = data_files(folder / "damaged" / "20-1")  # kept, for who wants to look
    assert {path.name: path.read_bytes() for path in aside} == damaged


def test_when_all_are_damaged_nothing_is_changed(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    flip_one_bit(folder / "checkpoints" / "10")
    truncate(folder / "checkpoints" / "20")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["--resume", "--out", str(folder)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert f"{folder / 'checkpoints' / '20'} is damaged (" in printed.err
    assert f"{folder / 'checkpoints' / '10'} is damaged (the che" in printed.err
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_checkpoints_that_are_gone_are_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.rmtree(folder / "checkpoints")
    assert main(["--resume", "--out", str(folder)]) == 2
    assert "checkpoints is empty: expected a checkpoint" in capsys.readouterr().err


@exhaustive
def test_a_run_killed_before_its_first_checkpoint_is_begun_again(
    whole: Path, tmp_path: Path
):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(whole / "config.json", folder)
    assert main(["--resume", "--out", str(folder), "--save-every", "10"]) == 0
    for name in FILES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_checkpoint_holds_the_position_the_key_and_the_config(whole: Path):
    record = json.loads((whole / "checkpoints/20/record/metadata").read_text())
    assert record["next_batch"] == 20
    assert record["config"] == json.loads((whole / "config.json").read_text())
    key = jax.random.fold_in(jax.random.key(5), 20)
    assert record["key"] == jax.random.key_data(key).tolist()
    state = restored(whole)
    assert state is not None
    assert len(record["checksums"]) == len(jax.tree.leaves(state))


def test_a_run_from_before_the_later_options_goes_on(whole: Path, folder: Path):
    """Their config had six keys, and their state no ``carried``."""
    for path in (folder / "config.json", folder / "checkpoints/20/record/metadata"):
        found = json.loads(path.read_text())
        config = found.get("config", found)
        for name in ("operator", "loss", "setting", "network", "activation"):
            del config[name]
        path.write_text(json.dumps(found))
    names = (folder / "checkpoints/20/state/_METADATA").read_text()
    assert "discriminator_adam" in names
    assert "carried" not in names
    state = restored(folder)
    assert state is not None
    assert int(state.step) == 20
    jax.tree.map(np.testing.assert_array_equal, state, restored(whole))


def test_a_checksum_by_hand():
    tree = {"a": jax.numpy.array([[1.0, -0.5]]), "b": jax.numpy.array([True, False])}
    bits = 0x3F800000 * 1 + 0xBF000000 * 3  # the float's bits, times 1, 3, 5, ...
    assert checksums(tree) == {"['a']": bits, "['b']": 1}


def go_on(
    words: str | None, state: TrainState, n_steps: int
) -> tuple[TrainState, list[Any]]:
    data, mesh, lines = load("digits", None), make_mesh(words), []
    step = train_step(words)
    rows = batches(len(data), CONFIG.batch_size, CONFIG.seed, int(state.step))
    for _ in range(n_steps):
        state, metrics = step(
            state, real_on(mesh, data, next(rows)), np.uint32(CONFIG.seed)
        )
        lines.append(jax.device_get(metrics))
    return state, lines


@functools.cache
def train_step(words: str | None) -> Any:
    return make_train_step(CONFIG, make_mesh(words))


@exhaustive
@pytest.mark.parametrize("words", ["data=2,model=2", None])
def test_a_run_goes_on_on_another_mesh(words: str | None, tmp_path: Path):
    """From 8 devices to 4 and to 1."""
    start, _ = go_on(
        "data=4,model=2", first_state(CONFIG, make_mesh("data=4,model=2")), 3
    )
    Checkpoints(tmp_path).save(CONFIG, start)
    want = jax.device_get(start)
    moved = Checkpoints(tmp_path).restore(CONFIG, make_mesh(words))
    assert moved is not None
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(moved), want)
    jax.tree.map(
        lambda x, lies: x.sharding == lies or pytest.fail(str(x.sharding)),
        moved,
        state_sharding(CONFIG, make_mesh(words)),
    )
    assert checksums(moved) == checksums(start)
    _, lines = go_on(words, moved, 4)
    _, wanted = go_on("data=4,model=2", start, 4)
    for line, one in zip(lines, wanted, strict=True):
        for name in ("d_loss", "g_loss", "gradient_norm"):
            np.testing.assert_allclose(line[name], one[name], rtol=1e-5)


@exhaustive
def test_any_change_of_one_element_changes_the_checksum():
    rng = np.random.default_rng(0)
    mesh = make_mesh("data=4,model=2")
    state = jax.device_get(first_state(CONFIG, mesh))
    before = checksums(place(state, state_sharding(CONFIG, mesh)))
    kernel = state.discriminator["Dense_1"]["kernel"]
    for _ in range(20):
        changed = kernel.copy()
        where = tuple(rng.integers(size) for size in kernel.shape)
        bits = changed.view(np.uint32)
        bits[where] ^= np.uint32(1 << rng.integers(32))
        layer = state.discriminator["Dense_1"] | {"kernel": changed}
        params = state.discriminator | {"Dense_1": layer}
        spoiled = place(
            state._replace(discriminator=params), state_sharding(CONFIG, mesh)
        )
        after = checksums(spoiled)
        assert [name for name in before if before[name] != after[name]] == [
            ".discriminator['Dense_1']['kernel']"
        ]
