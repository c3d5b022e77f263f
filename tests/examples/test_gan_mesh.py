"""The GAN example on a mesh: one device's losses, no kernel moved by SN, refusals."""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
from examples.gan.data import Real, batches, load, real_on
from examples.gan.errors import UserError
from examples.gan.mesh import (
    check_batch,
    first_state,
    make_mesh,
    place,
    real_sharding,
    state_sharding,
)
from examples.gan.presets import PRESETS
from examples.gan.settings import Config
from examples.gan.state import TrainState, init_state
from examples.gan.train import make_train_step, new_train_step
from tests.cases import enable_x64
from tests.exhaustive import exhaustive
from tests.test_mesh import COLLECTIVE

CONFIG = Config("digits", "sn", steps=20, batch_size=32, seed=3, data_dir=None)
MESHES = ("data=8", "data=4,model=2")


@functools.cache
def train(
    words: str | None, n_steps: int, batch_size: int, seed: int = CONFIG.seed
) -> tuple[TrainState, list[dict[str, Any]]]:
    """The state and the metrics of a run from step 0, in the precision that is set."""
    config = dataclasses.replace(CONFIG, batch_size=batch_size, seed=seed)
    mesh, data = make_mesh(words), load("digits", None)
    sharding, wide = state_sharding(config, mesh), jax.config.jax_enable_x64
    state = jax.tree.map(
        lambda x: np.asarray(x, np.float64 if wide and x.dtype.kind == "f" else None),
        init_state(config),
    )
    state, step, lines = place(state, sharding), make_train_step(config, mesh), []
    rows = batches(len(data), batch_size, config.seed, first_step=0)
    for _ in range(n_steps):
        real = real_on(mesh, data, next(rows))
        state, metrics = step(state, real, np.uint32(seed))
        lines.append(jax.device_get(metrics))
    return state, lines


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Float64, whose convolutions are slow on a CPU: networks of half the width."""
    preset = PRESETS["digits"]
    narrow = dataclasses.replace(
        preset,
        **{
            name: tuple(width // 2 for width in getattr(preset, name))
            for name in ("generator_widths", "discriminator_widths")
        },
    )
    monkeypatch.setitem(PRESETS, "digits", narrow)
    with enable_x64():
        yield


@exhaustive
def test_a_mesh_trains_as_one_device_does(wide: None):
    """In float64: in float32 the game itself doubles a rounding error in each step."""
    state, lines = train("data=4,model=2", 20, 16)
    want_state, want = train(None, 20, 16)
    assert lines[0]["d_loss"].dtype == np.float64
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9)
    jax.tree.map(close, lines, want)  # the gradient's norm is that of float32 images
    jax.tree.map(close, jax.device_get(state), jax.device_get(want_state))
    assert abs(want[0]["g_loss"] - want[-1]["g_loss"]) > 0.01  # and it is a way to go


@exhaustive
def test_the_first_losses_in_float32():
    # A ratio, so not a seed whose losses are near zero (3: -.0075 in step 5).
    both = (train(each, 6, 32, seed=0)[1] for each in ("data=8", None))
    for line, want in zip(*both, strict=True):
        for name in ("d_loss", "g_loss", "gradient_norm"):
            assert line[name].dtype == np.float32
            np.testing.assert_allclose(line[name], want[name], rtol=1e-5)


@exhaustive
@pytest.mark.parametrize("words", MESHES)
def test_kernels_are_split_and_stay_split(words: str):
    """The shardings after six steps are the declared ones, and those before."""
    mesh, (state, _) = make_mesh(words), train(words, 6, 32)
    jax.tree.map(
        lambda before, after, declared: (
            (before.sharding == after.sharding == declared) or pytest.fail(str(after))
        ),
        first_state(CONFIG, mesh),
        state,
        state_sharding(CONFIG, mesh),
    )
    kernel = state.discriminator["Conv_1"]["kernel"]
    moments = state.discriminator_adam
    n_parts = mesh.shape["model"]
    for array in (
        *(leaf for leaf in jax.tree.leaves(moments) if leaf.shape == kernel.shape),
        kernel,
        state.generator["params"]["ConvTranspose_0"]["kernel"],
        state.average["params"]["ConvTranspose_0"]["kernel"],
        state.sn["Conv_1"]["kernel"]["u"],
        state.sn["Conv_1"]["kernel"]["u2"],
    ):
        shards = {shard.data.shape for shard in array.addressable_shards}
        assert shards == {(*array.shape[:-1], array.shape[-1] // n_parts)}
        assert len(array.addressable_shards) == 8
    assert state.sn["Conv_1"]["kernel"]["sigma"].sharding == NamedSharding(mesh, P())


def traffic(words: str) -> Counter[tuple[str, str]]:
    """How often each collective of each shape is in the compiled step."""
    mesh = make_mesh(words)
    state = jax.tree.map(
        lambda x, lies: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies),
        jax.eval_shape(lambda: init_state(CONFIG)),
        state_sharding(CONFIG, mesh),
    )
    shape, lies = (1, CONFIG.batch_size, 8, 8, 1), real_sharding(mesh)
    real = Real(
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=lies),
        jax.ShapeDtypeStruct(shape[:2], jnp.int32, sharding=lies),
    )
    step: Any = new_train_step(CONFIG, mesh)
    program = step.lower(state, real, np.uint32(0)).compile().as_text()
    return Counter(
        (operation, array)
        for result, operation in COLLECTIVE.findall(program)
        for array in re.findall(r"\w+\[[\d,]*\]", result)
    )


@exhaustive  # of a TPU it is in tests/tpu
@pytest.mark.parametrize("words", MESHES)
def test_normalizing_moves_no_kernel(words: str, monkeypatch: pytest.MonkeyPatch):
    """Against the same step without it: two short vectors are summed, that is all."""
    with_sn = traffic(words)
    monkeypatch.setattr(sx, "sn_apply", lambda params, sn, **options: (params, sn))
    added = with_sn - traffic(words)
    assert {operation for operation, _ in added} <= {"all-reduce"}
    # D moves, with two vectors on a kernel's inputs, and then G, with one.
    kernels = [layer["kernel"] for layer in init_state(CONFIG).discriminator.values()]
    n_inputs = sum(kernel.size // kernel.shape[-1] for kernel in kernels)
    n_bytes = sum(4 * elements(array) * count for (_, array), count in added.items())
    assert n_bytes <= 4 * 3 * n_inputs + 64 * len(kernels)
    assert (words == "data=8") == (n_bytes == 0)


def elements(array: str) -> int:
    sizes = re.findall(r"\d+", array.partition("[")[2])
    return int(np.prod([int(size) for size in sizes]))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "--mesh  is not a mesh"),
        ("8", "--mesh 8 is not a mesh: expected data=N, model=M"),
        ("batch=8", "--mesh batch=8 is not a mesh"),
        ("data=eight", "--mesh data=eight is not a mesh"),
        ("data=0", "--mesh data=0 is not a mesh"),
        ("data=-2", "--mesh data=-2 is not a mesh"),
        ("data=2,", "--mesh data=2, is not a mesh"),
        ("data=2,data=4", "--mesh data=2,data=4 names an axis twice"),
        ("data=3,model=3", "--mesh data=3,model=3 needs 9 devices: expected at most"),
    ],
)
def test_what_is_no_mesh_is_one_sentence(words: str, sentence: str):
    with pytest.raises(UserError) as found:
        make_mesh(words)
    assert str(found.value).startswith(sentence)


def test_a_batch_that_can_not_be_split_is_one_sentence():
    with pytest.raises(UserError, match="--batch-size 32 can not be split over data=3"):
        check_batch(CONFIG, make_mesh("data=3"))


def test_the_axes_that_are_not_named_have_size_one():
    assert dict(make_mesh(None).shape) == {"data": 1, "model": 1}
    assert dict(make_mesh("model=2").shape) == {"data": 1, "model": 2}
    assert dict(make_mesh("model=2,data=4").shape) == {"data": 4, "model": 2}


def test_each_device_holds_its_rows_only():
    data, rows = load("digits", None), np.random.default_rng(0).permutation(64)
    real = real_on(make_mesh("data=4,model=2"), data, rows.reshape(2, 32))
    shapes = {shard.data.shape for shard in real.images.addressable_shards}
    assert shapes == {(2, 8, 8, 8, 1)}
    np.testing.assert_array_equal(
        real.images, data.images(rows).reshape(2, 32, 8, 8, 1)
    )
    np.testing.assert_array_equal(real.labels, data.labels[rows].reshape(2, 32))
