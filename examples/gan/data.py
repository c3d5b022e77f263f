"""The four data sets as one shape of thing: square images and their ten classes."""

import dataclasses
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, Int, Integer, UInt8
from sklearn.datasets import load_digits

from examples.gan.errors import UserError
from examples.gan.mesh import real_sharding
from examples.gan.readers import find, read_cifar_batch, read_idx


class Real(NamedTuple):
    """The real batches of one step, one for each update of D, in their order.

    Attributes:
        images: in [-1, 1], float32 of shape (n_dis, n, side, side, channels).
        labels: their classes, 0 to 9, int32 of shape (n_dis, n).
    """

    images: Any
    labels: Any


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images as stored, with the pixel value that is white."""

    pixels: UInt8[np.ndarray, "n side side channels"]
    labels: UInt8[np.ndarray, " n"]
    white: int

    def __len__(self) -> int:
        """The number of images."""
        return len(self.pixels)

    def images(
        self, rows: Integer[np.ndarray, " b"] | slice
    ) -> Float32[np.ndarray, "b side side channels"]:
        """Returns the images in these rows, scaled to [-1, 1]."""
        return self.pixels[rows].astype(np.float32) * np.float32(2 / self.white) - 1

    def crc32(self) -> int:
        """A checksum of the images: a resumed run must see the same ones."""
        return zlib.crc32(self.pixels.tobytes())


def load(dataset: str, data_dir: str | None) -> Dataset:
    """Returns the training images of ``dataset``.

    Args:
        dataset: a key of ``presets.PRESETS``.
        data_dir: where the files lie; None for the digits, which need none.

    Raises:
        UserError: a missing, truncated or foreign file, named with what was expected.
    """
    if dataset == "digits":
        return _load_digits(data_dir)
    if data_dir is None:
        raise UserError(f"--dataset {dataset} needs --data-dir, its files' folder.")
    if not Path(data_dir).is_dir():
        raise UserError(f"--data-dir {data_dir} is not a folder: expected one.")
    loader = _load_cifar10 if dataset == "cifar10" else load_idx_pair
    loaded = loader(Path(data_dir))
    if loaded.labels.max() > 9:
        raise UserError(
            f"--data-dir {data_dir} holds a label {loaded.labels.max()}: expected "
            "classes 0 to 9."
        )
    return loaded


def _load_digits(data_dir: str | None) -> Dataset:
    """The 1,797 digits of scikit-learn, 8x8 pixels of 0 to 16."""
    if data_dir is not None:
        raise UserError(
            f"--data-dir {data_dir} is not for --dataset digits: those images come "
            "with scikit-learn."
        )
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    pixels = pixels.reshape(-1, 8, 8, 1).astype(np.uint8)
    return Dataset(pixels, labels.astype(np.uint8), white=16)


def load_idx_pair(folder: Path, part: str = "train") -> Dataset:
    """MNIST or Fashion-MNIST: 28x28 images, padded with black to 32x32.

    Args:
        folder: where the files lie.
        part: "train" or "t10k", with which the names of both files begin.

    Raises:
        UserError: a missing, truncated or foreign file.
    """
    which = "training" if part == "train" else "test"
    pictures = find(
        folder, _idx_names(f"{part}-images", 3), f"the {which} images (IDX)"
    )
    classes = find(folder, _idx_names(f"{part}-labels", 1), f"the {which} labels (IDX)")
    images, labels = read_idx(pictures, rank=3), read_idx(classes, rank=1)
    if images.shape[1:] != (28, 28) or len(images) == 0:
        raise UserError(
            f"{pictures} holds an array of shape {images.shape}: expected images of "
            "28x28."
        )
    if len(images) != len(labels):
        raise UserError(
            f"{classes} holds {len(labels):,} labels: expected {len(images):,}, one "
            f"per image in {pictures.name}."
        )
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    return Dataset(padded[..., None], labels, white=255)


def _idx_names(stem: str, rank: int) -> list[str]:
    """The names under which an IDX file is found: plain first, then packed."""
    plain = [f"{stem}-idx{rank}-ubyte", f"{stem}.idx{rank}-ubyte"]
    return [*plain, *(f"{name}.gz" for name in plain)]


def _load_cifar10(folder: Path) -> Dataset:
    """Every training batch of CIFAR-10 that is there, in order."""
    stems = [f"data_batch_{i}.bin" for i in range(1, 6)]
    paths = [
        find(folder, [stem, f"{stem}.xz"], "a CIFAR-10 binary batch")
        for i, stem in enumerate(stems)
        if i == 0 or (folder / stem).exists() or (folder / f"{stem}.xz").exists()
    ]
    images, labels = zip(*map(read_cifar_batch, paths), strict=True)
    return Dataset(np.concatenate(images), np.concatenate(labels), white=255)


def batches(
    n_images: int, batch_size: int, seed: int, first_step: int, n_dis: int = 1
) -> Iterator[Int[np.ndarray, "n_dis batch_size"]]:
    """Yields the rows of every step's batches, from ``first_step`` (from 0) on.

    A step takes ``n_dis`` of them, the next ones in the order. That depends on the seed
    and the step only, so that a resumed run goes on as if it had never stopped. Every
    epoch has an order of its own; what does not fill a batch at its end is left out.
    """
    one_by_one = _one_by_one(n_images, batch_size, seed, first_step * n_dis)
    while True:
        yield np.stack(list(itertools.islice(one_by_one, n_dis)))


def _one_by_one(
    n_images: int, batch_size: int, seed: int, first: int
) -> Iterator[Int[np.ndarray, " batch_size"]]:
    """Yields the rows of every batch, from ``first`` (from 0) on."""
    per_epoch = n_images // batch_size
    epoch, start = divmod(first, per_epoch)
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(n_images)
        for i in range(start, per_epoch):
            yield order[i * batch_size : (i + 1) * batch_size]
        epoch, start = epoch + 1, 0


def real_on(mesh: Mesh, data: Dataset, rows: Int[np.ndarray, "n_dis b"]) -> Real:
    """Returns the images in these rows and their labels, split over the mesh.

    Only the rows that the devices of this process hold are read.
    """

    def images(index: Any) -> np.ndarray:
        return data.images(rows[index[:2]])

    def labels(index: Any) -> np.ndarray:
        return data.labels[rows[index]].astype(np.int32)

    shape, sharding = (*rows.shape, *data.pixels.shape[1:]), real_sharding(mesh)
    return Real(
        jax.make_array_from_callback(shape, sharding, images),
        jax.make_array_from_callback(rows.shape, sharding, labels),
    )
