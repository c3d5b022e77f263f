"""The GAN example with --operator, and the certificate of its discriminator."""

import functools
import json
import math
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from benchmarks.attack import attack, certify, score_by, written_out
from examples.gan import classifier, score
from examples.gan.__main__ import main
from examples.gan.checkpoints import Checkpoints
from examples.gan.data import load
from examples.gan.exact import operator_matrix, operator_norm
from examples.gan.mesh import make_mesh
from examples.gan.models import Discriminator
from examples.gan.networks import networks
from examples.gan.operators import operators
from examples.gan.options import parser
from examples.gan.records import read_config
from examples.gan.report import exact_sigma
from examples.gan.settings import Config, resumed_config
from examples.gan.state import TrainState, d_kernels, kernels
from tests.exhaustive import exhaustive

OPTIONS = ["--batch-size", "16", "--seed", "5", "--operator"]
# By hand, from the table of the paper at 8x8: kernel, spatial shape, stride.
SIZES = {"Conv_0": (8, 1), "Conv_1": (8, 2), "Conv_2": (4, 1), "Conv_3": (4, 2)}
SIZES["Conv_4"] = (2, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps, and its words in it."""
    folder = tmp_path_factory.mktemp("operator") / "run"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as words:
        patch.setattr(classifier, "_STEPS", 10)
        patch.setattr(score, "_N_FAKE", 1_000)
        assert main([*OPTIONS, "--steps", "20", "--out", str(folder)]) == 0
    (folder / "words.txt").write_text(words.getvalue())
    return folder


def config_and_state(folder: Path) -> tuple[Config, TrainState]:
    config = read_config(folder)
    state = Checkpoints(folder).restore(config, make_mesh(None))
    assert state is not None
    return config, state


def dense_norm(kernel: Any, side: int, stride: int) -> float:
    """The norm of Flax's own layer on images of this side, by SVD."""
    kernel = np.asarray(kernel)
    layer = nn.Conv(kernel.shape[-1], kernel.shape[:2], strides=stride, use_bias=False)
    n = side * side * kernel.shape[2]
    images = np.eye(n, dtype=np.float32).reshape(n, side, side, -1)
    rows = layer.apply({"params": {"kernel": kernel}}, images)
    return float(np.linalg.norm(np.asarray(rows, np.float64).reshape(n, -1), 2))


def test_the_sizes_are_read_off_the_discriminator():
    found = operators(Discriminator((16, 32, 64)), (8, 8, 1))
    assert {
        path: (conv.input_shape, conv.window_strides) for path, conv in found.items()
    } == {
        f"{name}/kernel": ((side, side), (stride, stride) if stride > 1 else 1)
        for name, (side, stride) in SIZES.items()
    }
    larger = operators(Discriminator((4, 4, 4)), (16, 12, 3))
    assert larger["Conv_4/kernel"].input_shape == (4, 3)


@pytest.mark.parametrize(
    "conv",
    [
        sx.Conv((5, 4), window_strides=2),
        sx.Conv((5, 6)),
        sx.Conv((6, 5), window_strides=(2, 1), padding="VALID"),
    ],
)
def test_the_sparse_matrix_against_the_layer(conv: sx.Conv):
    kernel = np.random.default_rng(0).standard_normal((3, 4, 2, 3)).astype(np.float32)
    layer = nn.Conv(
        3, (3, 4), strides=conv.window_strides, padding=conv.padding, use_bias=False
    )
    n = math.prod(conv.input_shape) * 2
    images = np.eye(n, dtype=np.float32).reshape(n, *conv.input_shape, 2)
    rows = np.asarray(layer.apply({"params": {"kernel": kernel}}, images))
    matrix = operator_matrix(kernel, conv)
    np.testing.assert_allclose(matrix.toarray(), rows.reshape(n, -1), atol=1e-6)
    exact = np.linalg.norm(matrix.toarray(), 2)
    assert operator_norm(kernel, conv) == pytest.approx(exact, rel=1e-9)


@exhaustive
def test_the_run_normalizes_and_reports_the_operators(folder: Path):
    config, state = config_and_state(folder)
    assert config.operator
    assert int(state.step) == 20
    rows = json.loads((folder / "score.json").read_text())["kernels"]
    used = d_kernels(config, state)
    _, followed = sx.sn_apply(
        state.discriminator, state.sn, kernels=kernels(config), n_steps=100
    )
    for row in rows[:5]:
        side, stride = SIZES[row["kernel"]]
        raw = np.asarray(state.discriminator[row["kernel"]]["kernel"])
        norm = dense_norm(raw, side, stride)
        assert row["of"] == "operator"
        assert row["exact"] == pytest.approx(norm, rel=1e-5)
        # In its first steps Adam turns a kernel faster than one power step follows.
        assert row["carried"] == pytest.approx(norm, rel=0.2)
        # Given the time it arrives at the operator's norm, which is not the matrix'.
        arrived = followed[row["kernel"]]["kernel"]["sigma"]
        np.testing.assert_allclose(arrived, norm, rtol=1e-3)
        assert abs(norm / exact_sigma(raw) - 1) > 0.01
        normalized = used[row["kernel"]]["kernel"]
        np.testing.assert_allclose(normalized, raw / norm, rtol=0.2)
    assert rows[5]["of"] == "matrix"


@exhaustive
def test_the_flag_is_the_runs_own(folder: Path):
    assert json.loads((folder / "config.json").read_text())["operator"] is True
    words = " ".join((folder / "words.txt").read_text().split())
    assert "steps (--constraint sn --operator)" in words
    assert "norm of the raw kernel as a convolution" in words
    for more in ([], ["--operator"]):
        options = vars(parser().parse_args(["--resume", "--steps", "40", *more]))
        assert resumed_config(read_config(folder), options).operator


@exhaustive
def test_a_run_from_before_the_flag_has_none(tmp_path: Path, folder: Path):
    config = json.loads((folder / "config.json").read_text())
    del config["operator"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path).operator is False
    assert main(["--resume", "--operator", "--out", str(tmp_path)]) == 2
    (tmp_path / "config.json").write_text(json.dumps(config | {"operator": 1}))
    assert main(["--resume", "--out", str(tmp_path)]) == 2


@exhaustive
def test_ten_thousand_attempts_do_not_break_the_certificate(folder: Path):
    config, state = config_and_state(folder)
    real = load("digits", None).images(slice(None))
    network = networks(config)[1]
    normalized = d_kernels(config, state)
    certificate = certify(config, normalized)
    exact = math.prod(
        operator_norm(np.asarray(normalized[path[:6]]["kernel"]), conv)
        for path, conv in operators(network, (8, 8, 1)).items()
    )
    exact *= np.linalg.norm(normalized["Dense_0"]["kernel"])
    assert exact <= certificate.value <= 1.01 * exact
    layers = written_out(config, normalized)
    score64 = functools.partial(score_by, layers)
    images = real[:100]
    scores = network.apply({"params": normalized}, images)
    np.testing.assert_allclose(scores, score64(images), atol=1e-4)
    # Matrix products: this test is about the certificate, not about convolutions.
    narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), layers)
    climbed = functools.partial(score_by, narrow)
    best = attack(climbed, score64, real, n_attempts=10_000, n_steps=2)
    x, y = images[:50].astype(np.float64), images[50:].astype(np.float64)
    far = np.linalg.norm((x - y).reshape(50, -1), axis=1)
    assert best > 1.5 * np.max(np.abs(score64(x) - score64(y)) / far)
    assert best <= certificate.value
