"""Checkpoints: from a path to a nested tree of numpy arrays, read only.

Orbax folders, flax msgpack, safetensors and npz, told apart by their content. Nothing
is unpickled: a pickle can run code, and none of the four needs one. What can not be
read is one sentence.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from specjax.checkpoints._orbax import find_step, read_orbax
from specjax.errors import (
    CheckpointError,
    MissingLibraryError,
    checkpoint_error,
    needs_extra,
)

_KINDS = "an Orbax folder, or a flax msgpack, safetensors or npz file"
# A compressed file may say that it holds much more than it is large: up to this.
_FREE_BYTES = 2**30
_EXPANSION = 100
_SAFETENSORS = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16",
    "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


class Checkpoint(NamedTuple):
    """What was read, and where it was found.

    Attributes:
        tree: nested dicts (and lists) of numpy arrays.
        path: the file, or the folder of the step.
        kind: "npz", ...
    """

    tree: dict[str, Any]
    path: Path
    kind: str


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Returns what a checkpoint holds, in numpy.

    * Flat keys (``"params/Dense_0/kernel"``, or with dots) become a nested tree.
    * Of a folder of steps (`orbax.checkpoint.CheckpointManager`) it is the newest one;
      of several items below a step, each is an entry.
    * A box (`nn.Partitioned`, `nnx.Param`), ``{"value": array}``, is its array.
    * An npz does not keep the name of bfloat16: a number of two nameless bytes is one.

    Args:
        path: a file or a folder; nothing is written to it.

    Raises:
        CheckpointError: if it can not be read, in one sentence with the path.
        MissingLibraryError: if the library of its format is not installed.
    """
    path = Path(path)
    kind = _kind_of(path)
    try:
        if kind.read is read_orbax:
            path = find_step(path)
        tree = _nested(kind.read(path))
        if not isinstance(tree, Mapping):
            raise TypeError("not a tree")
    except (CheckpointError, MissingLibraryError):
        raise
    except Exception as error:  # as many kinds as there are ways for a file to break
        got = f"a damaged {kind.name} ({type(error).__name__})"
        raise checkpoint_error(path, got, "a whole one", "another copy of it") from None
    if not any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree)):
        got = f"a {kind.name} without an array"
        raise checkpoint_error(path, got, "params", "the checkpoint of a model")
    return Checkpoint(dict(tree), path, kind.name)


class _Kind(NamedTuple):
    """How one kind of checkpoint is called and read."""

    name: str
    read: Callable[[Path], Any]


def _kind_of(path: Path) -> _Kind:
    """Tells the kind of a checkpoint by its first bytes; a folder is Orbax'."""
    try:
        if path.is_dir():
            return _Kind("Orbax checkpoint", read_orbax)
        if not path.is_file():
            got = "something that is no file" if path.exists() else "no file or folder"
            raise checkpoint_error(path, got, _KINDS, "the path of one")
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        got = f"a path that can not be read ({error.strerror})"
        raise checkpoint_error(path, got, _KINDS, "a readable one") from None
    if head.startswith(b"PK\x03\x04"):
        return _Kind("npz", _read_npz)
    # Its header's length, below 2^32 in any file, then JSON.
    if head[4:9] == b"\0\0\0\0{" or path.suffix == ".safetensors":
        return _Kind("safetensors file", _read_safetensors)
    # Else 128 is an empty map, and two bytes later nothing would follow.
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        got, fix = "a pickle, which can run code", "saving the params in one of these"
        raise checkpoint_error(path, got, _KINDS, fix)
    if _is_map_of_names(head):
        return _Kind("flax msgpack file", _read_msgpack)
    got = "an unknown kind of file" if head else "an empty file"
    raise checkpoint_error(path, got, _KINDS, "saving the params in one of these")


def _is_map_of_names(head: bytes) -> bool:
    """Says whether a msgpack begins so: a map, and its first key is a string."""
    sizes = {0xDE: 3, 0xDF: 5} | dict.fromkeys(range(0x81, 0x90), 1)
    key = head[sizes.get(head[0], 16) :][:1] if head else b""
    return b"\xa0" <= key < b"\xc0" or key in (b"\xd9", b"\xda", b"\xdb")


def _read_msgpack(path: Path) -> Any:
    with needs_extra("report"):
        from flax import serialization

    # msgpack allocates no more than the file's size for what the file announces.
    return serialization.msgpack_restore(path.read_bytes())


def _read_safetensors(path: Path) -> Any:
    with needs_extra("report"):
        from safetensors import deserialize

    # Not safetensors.numpy, which does not know bfloat16.
    return {
        name: np.frombuffer(entry["data"], _dtype(entry["dtype"])).reshape(
            entry["shape"]
        )
        for name, entry in deserialize(path.read_bytes())
    }


def _dtype(name: str) -> np.dtype:
    return jnp.dtype(_SAFETENSORS[name])


def _read_npz(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if not all(member.filename.endswith(".npy") for member in members):
            got = "a zip archive with other things than numpy arrays"
            raise checkpoint_error(
                path, got, _KINDS, "saving the params in one of these"
            )
        size = sum(member.file_size for member in members)
        if size > max(_FREE_BYTES, _EXPANSION * path.stat().st_size):
            got = f"an npz that would expand to {size:,} bytes"
            raise checkpoint_error(path, got, "one of arrays", "numpy.savez")
        return {
            member.filename.removesuffix(".npy"): _read_npy(path, archive, member)
            for member in members
        }


def _read_npy(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    data = archive.read(member)
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        got = f"an npz with pickled objects ({member.filename}), which can run code"
        raise checkpoint_error(
            path, got, "arrays of numbers", "leaving them out"
        ) from None
    return array.view(jnp.bfloat16) if array.dtype.str[1:] == "V2" else array


def _nested(tree: Any) -> Any:
    """Returns the tree with flat keys split, boxes opened, and every key a string."""
    if not isinstance(tree, Mapping):
        return tree
    if any(isinstance(child, Mapping | list | tuple) for child in tree.values()):
        return _opened(tree)
    separator = "/" if any("/" in str(key) for key in tree) else "."
    nested: dict[str, Any] = {}
    for key, leaf in tree.items():
        *parents, last = str(key).split(separator)
        node = nested
        for name in parents:
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise ValueError("a name is an array and a folder of arrays")
        if last in node:
            raise ValueError("a name is an array and a folder of arrays")
        node[last] = leaf
    return _opened(nested)


def _opened(tree: Any) -> Any:
    """Returns the tree with each box replaced by its array."""
    if isinstance(tree, list | tuple):
        return [_opened(child) for child in tree]
    if not isinstance(tree, Mapping):
        return tree
    children = {str(key): _opened(child) for key, child in tree.items()}
    if len(children) == 1 and next(iter(children)) in ("value", "raw_value"):
        (only,) = children.values()
        return only if isinstance(only, np.ndarray) else children
    return children
