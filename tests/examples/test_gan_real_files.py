"""The GAN example's loaders on the real data sets, where these are at hand."""

from pathlib import Path

import numpy as np
import pytest

from examples.gan.data import load
from tests.exhaustive import exhaustive

DATA = Path(__file__).parents[3] / "shared" / "data"

COUNTS = {
    "mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "fashion_mnist": [6000] * 10,
}


def folder(dataset: str) -> str:
    if not (DATA / dataset).is_dir():
        pytest.skip(f"{DATA / dataset} does not exist: the real files are not tested")
    return str(DATA / dataset)


@pytest.mark.parametrize("dataset", COUNTS)
def test_idx_files(dataset: str):
    data = load(dataset, folder(dataset))
    assert data.pixels.shape == (60_000, 32, 32, 1)
    assert np.bincount(data.labels).tolist() == COUNTS[dataset]


@exhaustive
def test_mnist_has_its_published_mean():
    pixels = load("mnist", folder("mnist")).pixels[:, 2:30, 2:30]
    assert np.mean(pixels) / 255 == pytest.approx(0.1307, abs=5e-5)


@exhaustive
def test_cifar10_batches():
    data = load("cifar10", folder("cifar10"))
    assert data.pixels.shape == (30_000, 32, 32, 3)
    first = np.bincount(data.labels[:10_000]).tolist()
    assert first == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    # The published means of all 50,000 images; these are three fifths of them.
    means = data.pixels.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=2e-3)
