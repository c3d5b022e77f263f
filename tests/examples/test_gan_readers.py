"""The GAN example's loaders: files written by hand here, byte for byte."""

import gzip
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest

from examples.gan.__main__ import main
from examples.gan.data import batches, load
from examples.gan.errors import UserError

RECORD = 3073


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes, made from its definition."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def some_images(n: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)


def some_labels(n: int = 70) -> np.ndarray:
    return (np.arange(n) % 10).astype(np.uint8)


def write_mnist(folder: Path, **changed: bytes) -> None:
    """Writes the two training files, each as good bytes or as those in ``changed``."""
    images = changed.get("images", idx(some_images()))
    labels = changed.get("labels", idx(some_labels()))
    (folder / "train-images-idx3-ubyte").write_bytes(images)
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)


def cifar_batch(first_label: int = 0) -> bytes:
    """10,000 records; pixel k of record i is (i + k) modulo 251."""
    records = np.empty((10_000, RECORD), np.uint8)
    records[:, 0] = (np.arange(10_000) + first_label) % 10
    records[:, 1:] = np.add.outer(np.arange(10_000), np.arange(RECORD - 1)) % 251
    return records.tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_images_are_padded_and_scaled(tmp_path: Path, suffix: str, dot: str):
    pack = gzip.compress if suffix else bytes
    images, labels = some_images(), some_labels()
    for stem, rank, array in (("images", 3, images), ("labels", 1, labels)):
        name = f"train-{stem}{dot}idx{rank}-ubyte{suffix}"
        (tmp_path / name).write_bytes(pack(idx(array)))
    data = load("mnist", str(tmp_path))
    seen = data.images(slice(None))
    assert seen.shape == (70, 32, 32, 1)
    expected = images.astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(seen[:, 2:30, 2:30, 0], expected, atol=1e-6)
    frame = np.ones((32, 32), bool)
    frame[2:30, 2:30] = False
    assert np.all(seen[:, frame] == -1)
    np.testing.assert_array_equal(data.labels, labels)


@pytest.mark.parametrize("suffix", ["", ".xz"])
def test_cifar_batches_are_read_in_order(tmp_path: Path, suffix: str):
    def pack(content: bytes) -> bytes:
        return lzma.compress(content, preset=0) if suffix else content

    for number in (1, 2):
        path = tmp_path / f"data_batch_{number}.bin{suffix}"
        path.write_bytes(pack(cifar_batch(first_label=number)))
    data = load("cifar10", str(tmp_path))
    assert data.pixels.shape == (20_000, 32, 32, 3)
    np.testing.assert_array_equal(data.labels[:3], [1, 2, 3])
    np.testing.assert_array_equal(data.labels[10_000:10_003], [2, 3, 4])
    for record, row, column, channel in ((0, 0, 0, 0), (7, 1, 5, 0), (9_999, 31, 2, 2)):
        offset = channel * 1024 + row * 32 + column
        want = (record + offset) % 251
        assert data.pixels[record, row, column, channel] == want


def test_the_digits_are_scikit_learns(tmp_path: Path):
    data = load("digits", None)
    images = data.images(slice(None))
    assert images.shape == (1797, 8, 8, 1)
    assert (images.min(), images.max()) == (-1, 1)
    np.testing.assert_array_equal(data.labels[:10], np.arange(10))


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


GOOD = idx(some_images())
BAD_IDX = {
    "empty": (b"", "begins with nothing", "which begins with 00 00 08 03"),
    "foreign": (
        b"\x89PNG\r\n",
        "begins with 89 50 4e 47",
        "IDX file of unsigned bytes",
    ),
    "labels": (idx(some_labels()), "begins with 00 00 08 01", "with 3 axes"),
    "header": (GOOD[:9], "is truncated in its header", "IDX file"),
    "short": (_truncated(GOOD), "holds 27,448 bytes", "expected 54,896 for the shape"),
    "long": (GOOD + b"!", "holds 54,897 bytes", "expected 54,896 for the shape"),
    "huge": (GOOD[:4] + b"\xff" * 12, "holds 16 bytes", "(4294967295, 4294967295"),
    "size": (idx(some_images()[:, 1:]), "shape (70, 27, 28)", "images of 28x28"),
    "none": (idx(some_images(0)), "shape (0, 28, 28)", "images of 28x28"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_a_bad_idx_file_is_one_sentence(tmp_path: Path, case: str):
    content, found, expected = BAD_IDX[case]
    write_mnist(tmp_path, images=content)
    with pytest.raises(UserError) as error:
        load("mnist", str(tmp_path))
    message = str(error.value)
    assert message.startswith(str(tmp_path / "train-images-idx3-ubyte"))
    assert found in message
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (_truncated(gzip.compress(GOOD)), "is truncated: expected"),
        (GOOD, "is not a readable gz file: expected"),
        (gzip.compress(GOOD)[:-8] + b"\0" * 8, "is not a readable gz file: expected"),
    ],
    ids=["truncated", "not packed", "wrong checksum"],
)
def test_a_bad_gz_file_is_one_sentence(tmp_path: Path, content: bytes, complaint: str):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(some_labels()))
    with pytest.raises(UserError, match=complaint):
        load("fashion_mnist", str(tmp_path))


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (some_labels(69), "holds 69 labels: expected 70"),
        (some_labels() + 1, "holds a label 10: expected"),
    ],
)
def test_labels_must_fit_the_images(tmp_path: Path, labels: np.ndarray, complaint: str):
    write_mnist(tmp_path, labels=idx(labels.astype(np.uint8)))
    with pytest.raises(UserError, match=complaint):
        load("mnist", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("data_batch_1.bin", bytes(5_000 * RECORD), "holds 15,365,000 bytes"),
        ("data_batch_1.bin", bytes(100), "holds 100 bytes"),
        ("data_batch_1.bin.xz", b"not xz at all", "is not a readable xz file"),
        ("data_batch_1.bin.xz", lzma.compress(bytes(9_999))[:-20], "is truncated"),
        ("data_batch_2.bin", b"", "data_batch_1.bin is missing"),
    ],
)
def test_a_bad_cifar_batch_is_one_sentence(
    tmp_path: Path, name: str, content: bytes, complaint: str
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=complaint) as error:
        load("cifar10", str(tmp_path))
    assert "expected a CIFAR-10 binary batch" in str(error.value)


def test_the_command_line_says_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert main(["--dataset", "mnist", "--data-dir", "data"]) == 2
    assert capsys.readouterr().err == (
        "data/train-images-idx3-ubyte is missing: expected the training images (IDX).\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_in_a_files_place_is_one_sentence(tmp_path: Path):
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    (tmp_path / "train-labels-idx1-ubyte").mkdir()
    with pytest.raises(UserError, match="can not be read"):
        load("mnist", str(tmp_path))


def test_batches_go_on_where_they_stopped():
    whole = batches(1797, 500, seed=3, first_step=0)
    first = [next(whole) for _ in range(8)]
    late = batches(1797, 500, seed=3, first_step=5)
    np.testing.assert_array_equal(first[5], next(late))
    np.testing.assert_array_equal(first[6], next(late))
    assert not np.array_equal(first[0], first[3])  # the next epoch has another order
    epoch = np.concatenate(first[:3], axis=None)
    assert len(set(epoch)) == 1500  # no digit occurs twice in it
    assert set(epoch) <= set(range(1797))


def test_a_step_of_five_batches_takes_the_next_five():
    one_by_one = batches(1797, 500, seed=3, first_step=0)
    single = [next(one_by_one)[0] for _ in range(15)]
    fives = batches(1797, 500, seed=3, first_step=0, n_dis=5)
    for i in range(3):
        np.testing.assert_array_equal(next(fives), single[5 * i : 5 * i + 5])
    late = batches(1797, 500, seed=3, first_step=2, n_dis=5)
    np.testing.assert_array_equal(next(late), single[10:15])
