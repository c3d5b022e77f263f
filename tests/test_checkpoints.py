"""Checkpoints: a round trip of each format, what is refused, and nothing unpickled."""

import io
import logging
import os
import pickle
import random
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import safetensors.flax
import safetensors.numpy
from flax import nnx, serialization, traverse_util

from specjax._tree import join, named_leaves
from specjax.checkpoints import _read
from specjax.checkpoints._model_part import named_part, without_optimizers
from specjax.checkpoints._read import read_checkpoint
from specjax.errors import CheckpointError, MissingLibraryError

RNG = np.random.default_rng(0)
ARRAYS = {
    "params/Dense_0/kernel": RNG.standard_normal((5, 4)).astype(np.float32),
    "params/Dense_0/bias": RNG.standard_normal(4).astype(np.float64),
    "params/Conv_0/kernel": jnp.asarray(RNG.standard_normal((3, 2, 4)), jnp.bfloat16),
    "step": np.int32(7),
}
TREE = traverse_util.unflatten_dict(ARRAYS, sep="/")


def contents(path):
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def save_orbax(path):
    ocp.PyTreeCheckpointer().save(path, jax.tree.map(np.asarray, TREE))


def save_manager(path):
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with ocp.CheckpointManager(path, options=options) as manager:
        for step in (9, 10):
            tree = jax.tree.map(lambda x, n=step - 9: np.asarray(n * x), TREE)
            manager.save(step, args=ocp.args.StandardSave(tree))


def save_msgpack(path):
    path.write_bytes(serialization.to_bytes(TREE))


def save_safetensors(path):
    safetensors.flax.save_file(jax.tree.map(jnp.asarray, dict(ARRAYS)), path)


def save_safetensors_with_dots(path):
    arrays = {key.replace("/", "."): np.asarray(a) for key, a in ARRAYS.items()}
    arrays["params.Conv_0.kernel"] = arrays["params.Conv_0.kernel"].astype(np.float32)
    safetensors.numpy.save_file(arrays, path)


def save_npz(path):
    with path.open("wb") as file:
        np.savez(file, **ARRAYS)


def save_compressed_npz(path):
    with path.open("wb") as file:
        np.savez_compressed(file, **ARRAYS)


FORMATS = {
    function.__name__.removeprefix("save_"): function
    for function in (
        save_orbax, save_manager, save_msgpack, save_safetensors,
        save_safetensors_with_dots, save_npz, save_compressed_npz,
    )
}  # fmt: skip
every_format = pytest.mark.parametrize("name", FORMATS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Every format, under names that say nothing about it."""
    folder = tmp_path_factory.mktemp("saved")
    for name, save in FORMATS.items():
        save(folder / name)
    return folder


@every_format
def test_round_trip(saved, name, caplog):
    caplog.set_level(logging.INFO)
    before = contents(saved / name)
    found = read_checkpoint(saved / name)
    leaves = {join(path): leaf for path, leaf in named_leaves(found.tree).items()}
    assert leaves.keys() == ARRAYS.keys()
    for path, want in ARRAYS.items():
        assert isinstance(leaves[path], np.ndarray | np.generic)
        assert leaves[path].shape == want.shape
        if "safetensors" not in name:  # flax' writer has no float64 without x64
            assert leaves[path].dtype == want.dtype
        got = np.asarray(leaves[path], np.float64)
        np.testing.assert_allclose(got, np.asarray(want, np.float64), rtol=1e-7)
    assert found.path == saved / name / ("10" if name == "manager" else "")
    assert contents(saved / name) == before
    assert not caplog.records


def test_safetensors_keeps_bfloat16(saved):
    tree = read_checkpoint(saved / "safetensors").tree
    assert tree["params"]["Conv_0"]["kernel"].dtype == jnp.bfloat16


def test_one_step_and_its_items(saved, tmp_path):
    assert read_checkpoint(saved / "manager" / "9").tree["step"] == 0
    assert read_checkpoint(saved / "manager" / "10" / "default").tree["step"] == 7
    options = ocp.CheckpointManagerOptions(
        step_prefix="ckpt", enable_async_checkpointing=False
    )
    names = ("generator", "critic_2", "notes")
    with ocp.CheckpointManager(
        tmp_path / "two", item_names=names, options=options
    ) as manager:
        items = {
            "generator": ocp.args.StandardSave({"kernel": np.ones((2, 3))}),
            "critic_2": ocp.args.StandardSave({"kernel": np.ones((4, 5)), "s": 1.0}),
            "notes": ocp.args.JsonSave({"not": "a tree"}),
        }
        manager.save(3, args=ocp.args.Composite(**items))
    found = read_checkpoint(tmp_path / "two")
    assert found.path.name == "ckpt_3"
    assert {k: v["kernel"].shape for k, v in found.tree.items()} == {
        "generator": (2, 3),
        "critic_2": (4, 5),
    }


def test_an_unfinished_step_is_not_the_newest(saved, tmp_path):
    shutil.copytree(saved / "manager", tmp_path / "m")
    shutil.copytree(tmp_path / "m" / "9", tmp_path / "m" / "11.orbax-checkpoint-tmp-0")
    assert read_checkpoint(tmp_path / "m").path.name == "10"


def test_boxes_lists_and_text_in_orbax(tmp_path):
    kernel = np.ones((2, 3), np.float32)
    tree = {
        "boxed": nn.Partitioned(jnp.asarray(kernel), ("a", None)),
        "nnx": nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0))),
        "layers": [{"kernel": kernel}, {"kernel": 2 * kernel}],
        "value": {"kernel": kernel},
        "name": "a word",
        "nothing": None,
        "empty": {},
    }
    ocp.PyTreeCheckpointer().save(tmp_path / "tree", tree)
    leaves = named_leaves(read_checkpoint(tmp_path / "tree").tree)
    shapes = {join(k): v.shape for k, v in leaves.items() if k != ("name",)}
    assert shapes == {
        "boxed": (2, 3),
        "nnx/kernel": (2, 3),
        "nnx/bias": (3,),
        "layers/0/kernel": (2, 3),
        "layers/1/kernel": (2, 3),
        "value/kernel": (2, 3),
    }


def test_devices_of_the_saver_are_not_needed(tmp_path):
    mesh = jax.make_mesh((4,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a"))
    kernel = jax.device_put(jnp.arange(32.0).reshape(8, 4), sharding)
    ocp.PyTreeCheckpointer().save(tmp_path / "tree", {"kernel": kernel})
    for file in (tmp_path / "tree").rglob("_sharding"):
        file.write_text(file.read_text().replace("cpu", "tpu"))
    (leaf,) = read_checkpoint(tmp_path / "tree").tree.values()
    assert type(leaf) is np.ndarray
    np.testing.assert_array_equal(leaf, np.arange(32.0).reshape(8, 4))


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def npz_of(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return file.getvalue()


def npy_of(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def bombs(marker):
    objects = np.array([Bomb(marker)], dtype=object)
    npz = io.BytesIO()
    np.savez(npz, kernel=np.ones((2, 2)), objects=objects)
    name = pickle.dumps(Bomb(marker), 4)
    return {
        **{f"pickle {i}": pickle.dumps(Bomb(marker), i) for i in range(6)},
        "npz with objects": npz.getvalue(),
        "npz with a pickle for an array": npz_of(kernel__npy=name),
        "npy with objects": npy_of(objects, allow_pickle=True),
        "torch": npz_of(data__pkl=name),
        "msgpack with objects": b"\x81\xa1k\xc7"
        + bytes([len(packed := b"\x93\x91\x01\xa6object" + b"\xc4\x08" + b"\0" * 8)])
        + b"\x01" + packed,
    }  # fmt: skip


@pytest.mark.parametrize("name", bombs(""))
def test_nothing_is_unpickled(name, tmp_path):
    marker = tmp_path / "made by unpickling"
    content = bombs(marker)[name]
    if name.startswith("pickle"):  # the bomb is a real one
        pickle.loads(content)
        marker.rmdir()
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not marker.exists()
    assert contents(tmp_path).keys() == {str(path)}


def safetensors_of(header, data=b"", length=None):
    length = len(header) if length is None else length
    return struct.pack("<Q", length) + header + data


HUGE = b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,399999999996]}}'
FOREIGN = {
    "empty": (b"", "an empty file"),
    "text": (b"hello, this is text\n", "an unknown kind of file"),
    "json": (b'{"params": {}}', "an unknown kind of file"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "an unknown kind of file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an unknown kind of file"),
    **{
        f"pickle {i}": (
            pickle.dumps({"kernel": [1.0]}, i),
            "a pickle, which can run code",
        )
        for i in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
    "npy": (npy_of(np.ones((2, 2))), "an unknown kind of file"),
    "zip": (npz_of(notes__txt="a"), "a zip archive with other things than numpy"),
    "npz with text": (npz_of(kernel__npy="a"), "an npz with pickled objects"),
    "npz of nothing": (npz_of(k__npy=npy_of(np.ones(3))[:-9]), "a damaged npz"),
    "npz that lies": (
        npz_of(k__npy=npy_of(np.ones(3)).replace(b"(3,), }", b"(3000000000000,), }")),
        "a damaged npz",
    ),
    "msgpack of numbers": (b"\x82\xa1a\x01\xa1b\x02", "file without an array"),
    "msgpack list": (b"\x93\x01\x02\x03", "an unknown kind of file"),
    "msgpack deep": (b"\x81\xa1a" * 5000 + b"\x01", "a damaged flax msgpack file"),
    "msgpack wide": (b"\x81\xa1a" + b"\xdd\x7f\xff\xff\xff" * 900, "a damaged flax"),
    "safetensors of nothing": (safetensors_of(b"{}"), "file without an array"),
    "safetensors huge": (safetensors_of(HUGE), "a damaged safetensors file"),
    "safetensors long header": (
        safetensors_of(b"{}" + b" " * 20, length=2**32 - 1),
        "a damaged safetensors file",
    ),
    "safetensors.safetensors": (
        safetensors_of(b"{}" + b" " * 20, length=2**63),
        "a damaged safetensors file",
    ),
    "array and folder": (
        serialization.to_bytes({"a": np.ones(2), "a/b": np.ones(2)}),
        "a damaged flax msgpack file",
    ),
}


def refused(path):
    """Reads what can not be read and returns the one sentence."""
    before = contents(path.parent) if path.exists() else {}
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: got ")
    assert "\n" not in text
    assert "; need " in text
    assert ". Try: " in text
    assert not before or contents(path.parent) == before
    return text


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_checkpoint_is_one_sentence(name, tmp_path):
    content, sentence = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert sentence in refused(path)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_of_each_protocol_is_called_one(protocol, tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(pickle.dumps({"kernel": [1.0]}, protocol))
    assert "a pickle, which can run code" in refused(path)


def test_names_that_are_an_array_and_a_folder(tmp_path):
    path = tmp_path / "checkpoint"
    for names in (("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c")):
        with path.open("wb") as file:
            np.savez(file, **{name: np.ones(2) for name in names})
        assert "a damaged npz (ValueError)" in refused(path)


def test_dots_are_part_of_a_name_between_slashes(tmp_path):
    path = tmp_path / "checkpoint"
    with path.open("wb") as file:
        np.savez(file, **{"net/block.1/w": np.ones((2, 3))})
    tree = read_checkpoint(path).tree
    assert tree["net"]["block.1"]["w"].shape == (2, 3)


@pytest.mark.parametrize("n_keys", [1, 15, 16, 40, 2**16])
def test_a_msgpack_of_any_number_of_names(n_keys, tmp_path):
    # Its first byte tells up to 15 names, up to 2^16 - 1, and more.
    path = tmp_path / "checkpoint"
    tree = {f"{i}": 0 for i in range(n_keys - 1)} | {"kernel": np.ones((2, 3))}
    path.write_bytes(serialization.msgpack_serialize(tree))
    found = read_checkpoint(path)
    assert (found.kind, len(found.tree)) == ("flax msgpack file", n_keys)


def test_a_small_file_may_be_compressed_well(tmp_path):
    path = tmp_path / "checkpoint"
    with path.open("wb") as file:
        np.savez_compressed(file, kernel=np.zeros((2**10, 2**10), np.float32))
    assert 200 * path.stat().st_size < 4 * 2**20
    assert read_checkpoint(path).tree["kernel"].shape == (2**10, 2**10)


def test_the_log_that_is_held_back_comes_back(saved, tmp_path):
    log = logging.getLogger("absl")
    level = log.level
    read_checkpoint(saved / "orbax")
    assert log.level == level
    shutil.copytree(saved / "orbax", tmp_path / "damaged")
    (tmp_path / "damaged" / "_METADATA").write_text("{")
    refused(tmp_path / "damaged")
    assert log.level == level


def test_places_that_hold_no_checkpoint(tmp_path):
    assert "got no file or folder" in refused(tmp_path / "nothing")
    assert "without an Orbax checkpoint" in refused(tmp_path)
    assert "something that is no file" in refused(Path("/dev/null"))
    (tmp_path / "7" / "json").mkdir(parents=True)
    assert "without an Orbax checkpoint" in refused(tmp_path)


def test_an_npz_that_expands_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(_read, "_FREE_BYTES", 2**20)
    path = tmp_path / "bomb"
    with path.open("wb") as file:
        np.savez_compressed(file, kernel=np.zeros((2**12, 2**10), np.float32))
    assert path.stat().st_size < 2**16
    assert "an npz that would expand to 16,777,344 bytes" in refused(path)


@every_format
@pytest.mark.parametrize("damage", ["truncated", "noise"])
def test_a_damaged_checkpoint_is_one_sentence_or_a_tree(saved, name, damage, tmp_path):
    path = tmp_path / "checkpoint"
    draw = random.Random(name + damage)
    said = []
    is_file = (saved / name).is_file()
    for _ in range(60 if is_file else 4):
        if is_file:
            path.write_bytes(damaged((saved / name).read_bytes(), damage, draw))
        else:
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(saved / name, path)
            step = path / "10" / "default" if name == "manager" else path
            files = sorted(p for p in step.rglob("*") if p.is_file())
            for file in [step / "_METADATA", *draw.sample(files, 2)]:
                file.write_bytes(damaged(file.read_bytes(), damage, draw))
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            said.append(str(error))
    assert len(said) >= 2
    assert all(text.startswith(f"{path}") and "\n" not in text for text in said)


def damaged(content, damage, draw):
    if damage == "truncated":
        return content[: draw.randrange(len(content))]
    content = bytearray(content)
    for _ in range(20):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("orbax.checkpoint", "orbax"),
        ("flax.serialization", "msgpack"),
        ("safetensors", "safetensors"),
    ],
)
def test_a_missing_library_is_one_sentence(saved, module, name, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    package = sys.modules.get(module.split(".")[0])
    if "." in module:
        monkeypatch.delattr(package, module.split(".")[1], raising=False)
    with pytest.raises(MissingLibraryError, match=r"pip install 'specjax\[report\]'"):
        read_checkpoint(saved / name)


def paths(tree):
    return sorted(join(path) for path in named_leaves(tree))


def test_states_of_optimizers_are_left_out():
    kernel = np.ones((3, 2), np.float32)
    params = {"mu": {"kernel": kernel}, "Dense_0": {"kernel": kernel}}
    optimizers = {
        "adam": optax.adam(1e-3),
        "sgd": optax.sgd(1e-3, momentum=0.9),
        "rms": optax.rmsprop(1e-3),
        "lion": optax.lion(1e-3),
        "factored": optax.adafactor(1e-3, min_dim_size_to_factor=1),
        "steps": optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(),
        "hyper": optax.inject_hyperparams(optax.adamw)(1e-3),
        "adadelta": optax.adadelta(1e-3),
        "masked": optax.masked(optax.adam(1e-3), {"mu": True, "Dense_0": False}),
    }
    tree = {
        "params": params,
        "opt_state": {"some": {"kernel": np.ones((2, 2))}},
    } | {f"{name}_of_D": tx.init(params) for name, tx in optimizers.items()}
    tree = serialization.to_state_dict(tree)
    kept, left_out = without_optimizers(tree)
    kernels = [path for path in paths(kept) if path.endswith("kernel")]
    assert kernels == ["params/Dense_0/kernel", "params/mu/kernel"]
    assert {path.split("/")[0] for path in left_out} == tree.keys() - {"params"}


def test_layers_that_are_called_as_moments_are_stay():
    encoder = {"mu": {"kernel": np.ones((2, 3))}, "logvar": {"kernel": np.ones((2, 3))}}
    tree = {"params": encoder, "head": {"nu": {"kernel": np.ones((2, 3))}}}
    assert without_optimizers(tree) == (tree, [])


def test_a_part_is_named_by_its_path():
    part = named_part(TREE, "params/Dense_0", Path("file"))
    assert paths(part) == ["params/Dense_0/bias", "params/Dense_0/kernel"]
    assert paths(named_part({"a": [TREE]}, "a/0/params/Conv_0", Path("file"))) == [
        "a/0/params/Conv_0/kernel"
    ]
    with pytest.raises(CheckpointError) as caught:
        named_part(TREE, "params/Dense_7", Path("file"))
    assert str(caught.value) == (
        "file: got no params/Dense_7 in it; need one of what params holds "
        "(Dense_0, Conv_0). Try: --params params/Dense_0."
    )
    with pytest.raises(CheckpointError, match="got no step/x in it"):
        named_part(TREE, "step/x", Path("file"))
