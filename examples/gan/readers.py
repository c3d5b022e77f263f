"""Reads IDX files and CIFAR-10 binary batches; says what is wrong with a bad one."""

import gzip
import lzma
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from examples.gan.errors import UserError

_CIFAR_RECORD = 1 + 3 * 32 * 32
_CIFAR_RECORDS = 10_000


def find(folder: Path, names: Sequence[str], what: str) -> Path:
    """Returns the first of ``names`` that ``folder`` holds.

    Raises:
        UserError: there is none.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise UserError(f"{folder / names[0]} is missing: expected {what}.")


def _unpack(path: Path, what: str) -> bytes:
    """Returns the file's bytes, unpacked if its name ends in .gz or .xz."""
    openers: dict[str, Callable] = {".gz": gzip.open, ".xz": lzma.open}
    opener = openers.get(path.suffix, open)
    try:
        with opener(path, "rb") as file:
            return file.read()
    except EOFError:
        raise UserError(f"{path} is truncated: expected {what}.") from None
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError):
        kind = path.suffix.removeprefix(".")
        raise UserError(
            f"{path} is not a readable {kind} file: expected {what}."
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{path} can not be read ({reason}): expected {what}."
        ) from None


def read_idx(path: Path, rank: int) -> UInt8[np.ndarray, "..."]:
    """Returns the array of unsigned bytes in an IDX file, plain or ``.gz``.

    The file is two zero bytes, the type 8, the rank, one big-endian 32-bit length per
    axis, and then the bytes.

    Args:
        path: the file.
        rank: how many axes the array must have: 3 for images, 1 for labels.

    Raises:
        UserError: the file is something else, or shorter or longer than it says.
    """
    what = f"an IDX file of unsigned bytes with {rank} axes"
    content = _unpack(path, what)
    header = 4 + 4 * rank
    magic = bytes([0, 0, 8, rank])
    if content[:4] != magic:
        raise UserError(
            f"{path} begins with {content[:4].hex(' ') or 'nothing'}: expected {what}, "
            f"which begins with {magic.hex(' ')}."
        )
    if len(content) < header:
        raise UserError(f"{path} is truncated in its header: expected {what}.")
    shape = struct.unpack(f">{rank}I", content[4:header])
    need = header + int(np.prod(shape, dtype=object))
    if len(content) != need:
        raise UserError(
            f"{path} holds {len(content):,} bytes: expected {need:,} for the shape "
            f"{shape} that its header announces."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_cifar_batch(
    path: Path,
) -> tuple[UInt8[np.ndarray, "n 32 32 3"], UInt8[np.ndarray, " n"]]:
    """Returns images and labels of one CIFAR-10 binary batch, ``.bin`` or ``.bin.xz``.

    A record is one label byte and 32x32 red, then green, then blue bytes.

    Raises:
        UserError: the file is not 10,000 such records with labels 0 to 9.
    """
    need = _CIFAR_RECORDS * _CIFAR_RECORD
    what = (
        f"a CIFAR-10 binary batch, {need:,} bytes = {_CIFAR_RECORDS:,} records of "
        f"{_CIFAR_RECORD:,} bytes"
    )
    content = _unpack(path, what)
    if len(content) != need:
        raise UserError(f"{path} holds {len(content):,} bytes: expected {what}.")
    records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, records[:, 0]
