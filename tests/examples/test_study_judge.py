"""The judge, its file, the score, and the ratios of measured times."""

import numpy as np
import pytest

from examples.gan.data import Dataset
from examples.gan.score import frechet_distance
from examples.study import judge as judge_module
from examples.study import judge_file, score
from examples.study.judge import FEATURES, _patches
from examples.study.judge_file import judge_of
from examples.study.score import Scorer
from examples.study.timing import ratios
from tests.exhaustive import exhaustive


def shades(n: int, seed: int) -> Dataset:
    """Ten classes of noise around a shade each: a task that is easy to learn."""
    draw = np.random.default_rng(seed)
    labels = (np.arange(n) % 10).astype(np.uint8)
    pixels = draw.integers(0, 10, (n, 8, 8, 1)) + 25 * labels[:, None, None, None]
    return Dataset(pixels.astype(np.uint8), labels, white=255)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_module, "_BATCH", 32)
        return folder, judge_of(folder, shades(640, 0), shades(200, 1), 8)


@exhaustive
def test_the_judge_learns(judge):
    assert judge[1].accuracy > 0.8  # by chance .1
    assert judge[1].n_test == 200


def test_its_accuracy_is_of_the_test_images(judge):
    test = shades(200, 1)
    classes, features = judge[1].look(test.images(slice(None)))
    assert features.shape == (200, FEATURES)
    assert judge[1].accuracy == np.mean(classes == test.labels)


def test_patches_make_a_convolution():
    """Against the sum of products around each second pixel."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, 6, 6, 3)).astype(np.float32)
    kernel = draw.standard_normal((5, 5, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    slow = np.array(
        [
            [
                [np.sum(image[i : i + 5, j : j + 5] * kernel) for j in range(0, 6, 2)]
                for i in range(0, 6, 2)
            ]
            for image in padded
        ]
    )
    np.testing.assert_allclose(_patches(x) @ kernel.reshape(-1), slow, rtol=1e-4)


def test_it_is_trained_once_and_again_for_another_or_a_damaged_file(judge, monkeypatch):
    folder, first = judge
    trained = []

    def train(*arguments):
        trained.append(arguments)
        return first

    monkeypatch.setattr(judge_file, "train_judge", train)
    data = shades(640, 0), shades(200, 1)
    again = judge_of(folder, *data, 8)
    assert trained == []
    assert again.accuracy == first.accuracy
    np.testing.assert_array_equal(
        again.look(data[1].images(slice(5)))[1], first.look(data[1].images(slice(5)))[1]
    )
    path = folder / "judge.npz"
    whole = path.read_bytes()
    for bad in (whole[:-10], whole[:99], b""):
        path.write_bytes(bad)
        judge_of(folder, *data, 8)
        judge_of(folder, *data, 8)
    assert len(trained) == 3
    judge_of(folder, *data, 9)
    judge_of(folder, shades(640, 5), data[1], 9)
    assert len(trained) == 5


def test_a_changed_weight_is_a_damaged_file(judge, monkeypatch):
    folder, first = judge
    monkeypatch.setattr(judge_file, "train_judge", lambda *arguments: first)
    judge_of(folder, shades(640, 0), shades(200, 1), 8)
    with np.load(folder / "judge.npz") as file:
        arrays = dict(file)
    arrays["Dense_0/bias"] = arrays["Dense_0/bias"] + 1
    np.savez(folder / "judge.npz", **arrays)
    again = judge_of(folder, shades(640, 0), shades(200, 1), 8)
    np.testing.assert_array_equal(
        again.params["Dense_0"]["bias"], first.params["Dense_0"]["bias"]
    )


class Seer:
    """A judge whose features are the first three pixels."""

    accuracy, n_test = 0.5, 3

    def look(self, images):
        features = images.reshape(len(images), -1)[:, :3].astype(np.float64)
        return (features[:, 0] > 0).astype(int) * 7, features


def test_the_score_is_the_distance_to_held_out_images(monkeypatch):
    monkeypatch.setattr(score, "N_FAKE", 300)
    train, test = shades(640, 0), shades(200, 1)
    scorer = Scorer(Seer(), train, test)
    draw = np.random.default_rng(3)
    fake = draw.uniform(-1, 1, (500, 8, 8, 1)).astype(np.float32)
    found = scorer.score(fake)
    real = Seer().look(test.images(slice(None)))[1]
    expected = frechet_distance(real, Seer().look(fake)[1])
    assert found["distance"] == pytest.approx(expected, rel=1e-4)
    assert found["floor"] < 0.05 < found["distance"]
    assert found["n_real"] == 200
    assert found["class_shares"][7] == pytest.approx(np.mean(fake[:, 0, 0, 0] > 0))
    assert sum(found["class_shares"]) == pytest.approx(1)


def test_images_with_nan_have_no_distance():
    scorer = Scorer(Seer(), shades(640, 0), shades(200, 1))
    fake = np.zeros((10, 8, 8, 1), np.float32)
    fake[3] = np.nan
    assert scorer.score(fake)["distance"] is None
    assert scorer.score(None)["class_shares"] is None


def test_a_ratio_is_taken_within_a_round():
    """The machine is up to ten times slower in some rounds; the ratios are not."""
    rounds = np.array([1.0, 10.0, 3.0, 2.0, 7.0])
    share = np.array([1.5, 2.0, 1.75, 2.5, 1.0])
    seconds = np.stack([rounds * share, rounds], axis=1)
    found = ratios(["sn", "none"], seconds)
    assert found["sn"]["quartiles"] == [1.5, 1.75, 2.0]
    assert found["none"]["quartiles"] == [1.0, 1.0, 1.0]
    assert found["none"]["milliseconds"] == 3000.0
