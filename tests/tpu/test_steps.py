"""Whole training steps: what SN adds to what the chips send each other.

The oracle is the same step without SN, compiled for the same chips, and arithmetic: of
each sharded kernel the vectors of one side are summed over the chips, and scalars.
"""

import functools
import itertools
import math

import jax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import specjax as sx
from benchmarks.tpu import gan, transformer
from benchmarks.tpu.collectives import collectives, each_array
from benchmarks.tpu.hlo import parse
from benchmarks.tpu.topologies import GENERATIONS, LITTLE_EFFORT, tpu_devices, tpu_mesh
from examples.gan.presets import PRESETS, Preset
from examples.gan.settings import Config
from examples.gan.state import init_state
from tests.exhaustive import exhaustive, sampled

SIZES = transformer.Sizes(24, 256, 8, 1024, 2048, 64, 2)
SMALL = Preset(8, 3, 100, 8, 1e-3, 16, (32, 16), (32,))
SCALARS = 64  # bytes for each kernel and step: norms, inner products
PARTS = (1, 2, 4, 8)  # into which an array can be split, by the axis "model" or both
# A v4 chip is two devices; else what is sent depends on the number of chips alone.
ALIKE = {"v5p:2x2x2": "v5e:2x4", "v6e:2x4": "v5e:2x4"}


@pytest.fixture(autouse=True)
def _small_gan(monkeypatch):
    monkeypatch.setitem(PRESETS, "small", SMALL)


def gan_step(mesh, *, normalized):
    return gan.lower("small", mesh, normalized=normalized)


transformer_step = functools.partial(transformer.lower, SIZES, split=False)
fully_sharded = functools.partial(transformer.lower, SIZES, split=True)


@functools.cache
def sent_without_sn(step, topology, n_model):
    mesh = tpu_mesh(tpu_devices(ALIKE.get(topology, topology)), n_model)
    return sent_by(step, mesh, normalized=False)


def sent_by(step, mesh, *, normalized):
    compiled = step(mesh, normalized=normalized).compile(LITTLE_EFFORT)
    return each_array(collectives(parse(compiled.as_text())))


def gan_kernels():
    """Returns (copies, inputs, outputs) of each kernel that SN normalizes."""
    shapes = jax.eval_shape(lambda: init_state(Config("small", "sn", 1, 8, 0, None)))
    return sides(shapes.discriminator)


def transformer_kernels():
    d, hidden = SIZES.width, SIZES.hidden
    return [(SIZES.n_layers, d, d)] * 4 + [
        (SIZES.n_layers, d, hidden),
        (SIZES.n_layers, hidden, d),
    ]


def sides(params):
    kernels = [layer["kernel"].shape for layer in params.values()]
    return [(1, math.prod(shape[:-1]), shape[-1]) for shape in kernels]


def budget(kernels):
    return sum(n * (8 * (n_in + n_out) + SCALARS) for n, n_in, n_out in kernels)


def vectors(kernels):
    """Returns the bytes of all that SN may send: vectors, whole or split, scalars."""
    sizes = {4 * n * side // p for n, *both in kernels for side in both for p in PARTS}
    return sizes | {4 * n for n, *_ in kernels}


def matrices(kernels):
    """Returns the bytes of kernels, whole or split, without those of one output."""
    return {
        4 * n * n_in * n_out // p
        for copies, n_in, n_out in kernels
        for n in {1, copies}
        for p in PARTS
        if n_out > 1
    }


STEPS = {
    "gan": (gan_step, gan_kernels),
    "transformer": (transformer_step, transformer_kernels),
}


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "topology"),
    sampled(itertools.product(STEPS, GENERATIONS), [("gan", "v5e:2x4")]),
)
def test_sn_sends_vectors_and_never_a_kernel(name, topology):
    step, kernels = STEPS[name][0], STEPS[name][1]()
    mesh = tpu_mesh(tpu_devices(topology), 4)
    added = sent_by(step, mesh, normalized=True)
    added.subtract(sent_without_sn(step, topology, 4))
    more = {key: n for key, n in added.items() if n > 0}
    assert more
    assert {operation for operation, _ in more} == {"all-reduce"}
    assert {size for _, size in more} <= vectors(kernels)
    assert sum(size * n for (_, size), n in more.items()) <= budget(kernels)
    assert not {size for _, size in more} & matrices(kernels)


@exhaustive
def test_fully_sharded_kernels_are_gathered_no_more_than_without_sn():
    mesh = tpu_mesh(tpu_devices("v5e:2x4"), 4)
    without = sent_without_sn(fully_sharded, "v5e:2x4", 4)
    assert any(operation == "all-gather" for operation, _ in without)
    added = sent_by(fully_sharded, mesh, normalized=True)
    added.subtract(without)
    more = {key: n for key, n in added.items() if n > 0}
    assert {operation for operation, _ in more} == {"all-reduce"}
    assert sum(size * n for (_, size), n in more.items()) <= budget(
        transformer_kernels()
    )


@exhaustive
def test_replicated_kernels_add_nothing():
    mesh = tpu_mesh(tpu_devices("v5e:2x4"), 1)
    sent = sent_by(transformer_step, mesh, normalized=True)
    assert sum(sent.values()) > 0
    assert sent == sent_without_sn(transformer_step, "v5e:2x4", 1)


@pytest.mark.parametrize("name", sampled(STEPS, ["gan"]))
def test_the_check_sees_a_kernel_that_is_gathered(name, monkeypatch):
    step, kernels = STEPS[name][0], STEPS[name][1]()
    mesh = tpu_mesh(tpu_devices("v5e:2x4"), 4)
    whole, real = NamedSharding(mesh, PartitionSpec()), sx.sn_apply

    def gathered(params, state, **options):
        return real(jax.lax.with_sharding_constraint(params, whole), state, **options)

    monkeypatch.setattr(sx, "sn_apply", gathered)
    more = sent_by(step, mesh, normalized=True) - sent_without_sn(step, "v5e:2x4", 4)
    assert {size for _, size in more} & matrices(kernels)
    if name == "transformer":  # a GAN's kernels are so small that only their sizes tell
        assert sum(size * n for (_, size), n in more.items()) > budget(kernels)
