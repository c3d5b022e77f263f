"""Layers and whole models on a mesh: the wrappers, and what Flax knows of sharding."""

import functools
from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
import specjax.linen
import specjax.nnx
from tests.cases import norm
from tests.exhaustive import exhaustive
from tests.test_mesh import both_kinds, collectives, make_mesh

INIT = nn.initializers.lecun_normal()
# Each layer with the shape of its input and how its kernel is split. Flax's own
# convolution raises on an explicit mesh.
DENSE = (nn.Dense(24), (8, 16), P(None, "b"))
BOTH = (nn.Dense(24), (8, 16), P("a", "b"))
CONV = (nn.Conv(24, (3, 3)), (8, 8, 8, 16), P(None, None, "a", "b"))
# Its result is small beside the kernel, and is scaled in the kernel's place.
SMALL = (nn.Conv(24, (3, 3)), (8, 3, 3, 16), P(None, None, "a", "b"))
LAYERS = {
    "dense-auto": (*DENSE, AxisType.Auto),
    "dense-explicit": (*DENSE, AxisType.Explicit),
    "dense on both-auto": (*BOTH, AxisType.Auto),
    "dense on both-explicit": (*BOTH, AxisType.Explicit),
    "conv-auto": (*CONV, AxisType.Auto),
    "conv of small images-auto": (*SMALL, AxisType.Auto),
}


def types(tree):
    return jax.tree.map(jax.typeof, tree)


def same(got, want):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6), got, want
    )


@pytest.mark.fast
@pytest.mark.parametrize("case", LAYERS)
def test_the_linen_wrapper(case):
    plain, shape, spec, kind = LAYERS[case]
    model = specjax.linen.SpectralNorm(plain)
    x = jax.random.normal(jax.random.key(1), shape)
    alone = model.init(jax.random.key(0), x)
    train = functools.partial(model.apply, mutable=["batch_stats"])
    want, mesh = train(alone, x), make_mesh(kind)

    def place(leaf):
        names = spec if leaf.ndim > 1 else spec[-leaf.ndim :] if leaf.ndim else ()
        return NamedSharding(mesh, P(*names))

    with jax.set_mesh(mesh):
        variables = jax.device_put(alone, jax.tree.map(place, alone))
        step, (params,) = jax.jit(train), variables["params"].values()
        got = step(variables, x)
        assert types(got[1]["batch_stats"]) == types(variables["batch_stats"])
        normalized = step.lower(variables, x).compile().as_text()
        usual = jax.jit(plain.apply).lower({"params": params}, x).compile().as_text()
    same(got, want)
    added = Counter(collectives(normalized)) - Counter(collectives(usual))
    assert {operation for operation, _ in added} == {"all-reduce"}
    if case.startswith("conv of small"):  # one of ours is merged with the layer's own
        ((_, own),) = collectives(usual)
        (merged,) = ((name, size) for name, size in added if size > own)
        added -= Counter([merged])
        added["all-reduce", merged[1] - own] += 1
    n_in, n_out = params["kernel"].size // 24, 24
    assert sum(size * n for (_, size), n in added.items()) <= 8 * (n_in + n_out) + 64


@both_kinds
def test_the_nnx_wrapper_keeps_the_metadata(kind):
    def make(init):
        layer = nnx.Linear(16, 24, kernel_init=init, rngs=nnx.Rngs(0))
        return specjax.nnx.SpectralNorm(layer)

    x = jax.random.normal(jax.random.key(1), (8, 16))
    alone, mesh = make(INIT), make_mesh(kind)
    want = alone(x)
    with jax.set_mesh(mesh):
        model = make(nnx.with_partitioning(INIT, (None, "b")))
        before = model.layer_instance.kernel.get_metadata()
        types_before = types(nnx.state(model))
        got = nnx.jit(lambda model, x: model(x))(model, x)
        assert types(nnx.state(model)) == types_before
    assert model.layer_instance.kernel.get_metadata() == before
    assert model.layer_instance.kernel[...].sharding.spec == P(None, "b")
    assert model.stats["kernel"]["u"][...].sharding.spec == P("b")
    same(got, want)
    jax.tree.map(
        lambda a, b: same(a[...], b[...]),
        model.stats["kernel"]["sigma"],
        alone.stats["kernel"]["sigma"],
    )


class Block(nn.Module):
    """Attention and an MLP, with the names of what each axis means."""

    @nn.compact
    def __call__(self, x, _):
        def named(*names):
            return nn.with_logical_partitioning(INIT, names)

        x = x + nn.MultiHeadDotProductAttention(
            4,
            kernel_init=named("embed", "heads", "kv"),
            out_kernel_init=named("heads", "kv", "embed"),
        )(x)
        wide = nn.Dense(32, kernel_init=named("embed", "mlp"))(x)
        return x + nn.Dense(16, kernel_init=named("mlp", "embed"))(nn.relu(wide)), None


class Transformer(nn.Module):
    """Three scanned blocks."""

    @nn.compact
    def __call__(self, x):
        blocks = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return blocks()(x, None)[0]


RULES = (("embed", "a"), ("heads", "b"), ("mlp", "b"), ("kv", None), ("layers", None))


def is_box(leaf):
    return isinstance(leaf, nn.LogicallyPartitioned)


@exhaustive
@both_kinds
def test_logically_partitioned_stacks(kind):
    x = jnp.ones((2, 5, 16))
    alone = jax.jit(Transformer().init)(jax.random.key(0), x)["params"]
    specs = nn.logical_to_mesh(nn.get_partition_spec(alone), RULES)
    want_state = jax.jit(sx.sn_init)(alone)
    want = jax.jit(sx.sn_apply)(alone, want_state)
    mesh = make_mesh(kind)
    place = functools.partial(NamedSharding, mesh)
    with jax.set_mesh(mesh):
        values = jax.device_put(nn.meta.unbox(alone), jax.tree.map(place, specs))
        params = nn.meta.replace_boxed(alone, values)
        state = jax.jit(sx.sn_init)(params)
        step = jax.jit(sx.sn_apply)
        got = step(params, state)
        program = step.lower(params, state).compile().as_text()
    assert types(got) == types((params, state))
    boxes = jax.tree.leaves(got[0], is_leaf=is_box)
    kernels = [box for box in boxes if is_box(box)]
    assert [box.names for box in kernels] == [
        box.names for box in jax.tree.leaves(alone, is_leaf=is_box) if is_box(box)
    ]
    assert len(kernels) == 6
    natural = jax.tree.map(place, sx.state_specs(alone, specs))
    for leaf, sharding in zip(
        jax.tree.leaves(state), jax.tree.leaves(natural), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    same(got[0], want[0])
    found = collectives(program)
    assert {operation for operation, _ in found} == {"all-reduce"}
    sides = 3 * (3 * (16 + 16) + (16 + 16) + 2 * (16 + 32))
    assert sum(size for _, size in found) <= 8 * sides + 6 * 3 * 64
    for box in kernels:
        stack = np.float64(box.value)
        split = 1 if box.names[1] == "embed" else stack.ndim - 2
        matrices = stack.reshape(3, int(np.prod(stack.shape[1 : 1 + split])), -1)
        np.testing.assert_allclose(norm(matrices), 1, rtol=1e-3)
