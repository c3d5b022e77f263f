"""The training images, and others that neither the GANs nor the judge have seen."""

import dataclasses
from pathlib import Path

from examples.gan.data import Dataset, load, load_idx_pair
from examples.gan.readers import read_cifar_batch

_HELD_OUT = 5_000  # of CIFAR-10's training images, without its test batch


def load_both(dataset: str, data_dir: str | None) -> tuple[Dataset, Dataset]:
    """Returns the images to learn and the held-out ones, the data set's own test part.

    Raises:
        UserError: a missing, truncated or foreign file, named with what was expected.
    """
    train = load(dataset, data_dir)
    folder = Path(str(data_dir))
    if dataset != "cifar10":
        return train, load_idx_pair(folder, "t10k")
    for name in ("test_batch.bin", "test_batch.bin.xz"):
        if (folder / name).exists():
            return train, Dataset(*read_cifar_batch(folder / name), white=255)
    cut = slice(None, -_HELD_OUT), slice(-_HELD_OUT, None)
    learned, held_out = (
        dataclasses.replace(train, pixels=train.pixels[x], labels=train.labels[x])
        for x in cut
    )
    return learned, held_out
