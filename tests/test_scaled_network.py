"""One wrapper around a network: at each depth the smaller array is the one scaled.

The oracle is the plain network on kernels that were divided by the SVD's norm.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import specjax as sx
from specjax import linen as sx_linen
from specjax import nnx as sx_nnx
from tests.cases import designed, enable_x64
from tests.exhaustive import sampled

KEY = jax.random.key(0)
WIDTH = 24
dense = functools.partial(nn.Dense, WIDTH)


class Block(nn.Module):
    """Two layers, of which one is small beside its result."""

    dense: Any = nn.Dense

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(8, (3, 3))(x))
        return nn.tanh(self.dense(WIDTH)(x.reshape(x.shape[0], -1)))


class Network(nn.Module):
    """A block with something around it, and a head."""

    block: Any = Block

    @nn.compact
    def __call__(self, x):
        return nn.Dense(5, name="head")(self.block()(x))


class Rows(nn.Module):
    """A network on rows, each layer of which is transformed."""

    layer: Any = dense

    @nn.compact
    def __call__(self, x):
        return nn.Dense(5)(nn.tanh(self.layer()(x)))


class Scanned(nn.Module):
    """A body for a scan: carry in, carry out."""

    @nn.compact
    def __call__(self, x, _):
        return nn.tanh(dense()(x)), None


def scanned():
    body = nn.scan(
        Scanned, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
    )()
    return lambda x: body(x, None)[0]


def mapped(axis: int | None):
    return nn.vmap(
        nn.Dense,
        in_axes=1,
        out_axes=1,
        variable_axes={"params": axis},
        split_rngs={"params": axis is not None},
    )(WIDTH)


IMAGES, ROWS, STACK = (3, 6, 6, 2), (3, WIDTH), (3, 4, WIDTH)
NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (Network(), IMAGES),
    "remat": (Network(nn.remat(Block)), IMAGES),
    "jit": (Network(nn.jit(Block)), IMAGES),
    "scan": (Rows(scanned), ROWS),
    "vmap, one kernel each": (Rows(functools.partial(mapped, 0)), STACK),
    "vmap, one kernel": (Rows(functools.partial(mapped, None)), STACK),
    "weight norm between": (Rows(lambda: nn.WeightNorm(dense())), ROWS),
}


def by_svd(params: Any) -> Any:
    """Returns the params with each kernel's slices divided by their norms."""

    def divided(path, leaf):
        if path[-1].key != "kernel":
            return leaf
        lifted = "Scan" in str(path) or "Vmap" in str(path)
        stack = leaf.ndim - 2 if lifted else 0
        slices = leaf.reshape(*leaf.shape[:stack], -1, leaf.shape[-1])
        norms = jnp.linalg.svd(slices, compute_uv=False)[..., 0]
        return leaf / jnp.expand_dims(norms, range(stack, leaf.ndim))

    return jax.tree_util.tree_map_with_path(divided, params)


def start(shapes: Any, dtype: Any = np.float64) -> Any:
    """Returns params of such shapes, the spectrum of each kernel well apart."""

    def leaf(like):
        if len(like.shape) < 2:
            return np.linspace(-1, 2, like.size).astype(dtype).reshape(like.shape)
        *rows, n_out = like.shape
        n_in = int(np.prod(rows[-3:] if len(rows) == 3 else rows[-1:]))
        slices = [
            designed(n_in, n_out, (3 + i) * np.linspace(1, 0.1, min(n_in, n_out)))
            for i in range(like.size // (n_in * n_out))
        ]
        return np.stack(slices).reshape(like.shape).astype(dtype)

    return jax.tree.map(leaf, shapes)


def sine(shape: tuple[int, ...]) -> np.ndarray:
    return np.sin(np.arange(np.prod(shape)) ** 1.3).reshape(shape)


def value_and_gradients(function, *args):
    def loss(*args):
        y = function(*args)
        return jnp.sum(jnp.sin(y)), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(*args)
    return y, grads


def assert_near(got, want, tol):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=tol * np.abs(b).max())

    jax.tree.map(check, got, want)


@pytest.mark.parametrize(
    "name", sampled(NETWORKS, ["plain", "scan", "vmap, one kernel each"])
)
def test_value_and_gradient_are_those_through_the_svd(name):
    network, shape = NETWORKS[name]
    with enable_x64():
        x = sine(shape)
        params = start(jax.eval_shape(network.init, KEY, x)["params"])
        model = sx_linen.SpectralNorm(network, n_steps=300)

        def call(params, x):
            state = sx.sn_init(jax.lax.stop_gradient(params))
            held = {"params": {"layer_instance": params}, "batch_stats": state}
            return model.apply(held, x, mutable=["batch_stats"])[0]

        def plain(params, x):
            return network.apply({"params": by_svd(params)}, x)

        got = value_and_gradients(call, params, x)
        assert_near(got, value_and_gradients(plain, params, x), 1e-9)


class NnxBlock(nnx.Module):
    """As `Block`, of the sizes that `IMAGES` need."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        words = {"rngs": rngs, "param_dtype": jnp.float64}
        self.conv = nnx.Conv(2, 8, (3, 3), **words)
        self.dense = nnx.Linear(6 * 6 * 8, WIDTH, **words)

    def __call__(self, x):
        x = jnp.tanh(self.conv(x))
        return jnp.tanh(self.dense(x.reshape(x.shape[0], -1)))


class NnxWithin(nnx.Module):
    """A block that is called through something, and a head."""

    def __init__(self, through=lambda block: block):
        self.block = NnxBlock()
        self.head = nnx.Linear(WIDTH, 5, rngs=nnx.Rngs(1), param_dtype=jnp.float64)
        self.through = through

    def __call__(self, x):
        return self.head(self.through(self.block)(x))


def through_doubled(block):
    def call(x):
        kernel = block.dense.kernel
        before = kernel[...]
        kernel[...] = 2 * before
        y = block(x)
        kernel[...] = before
        return y

    return call


def through_vmap(block):
    each = nnx.vmap(lambda block, x: block(x[None])[0], in_axes=(None, 0))
    return lambda x: each(block, x)


THROUGH = {
    "plain": lambda block: block,
    "remat": lambda block: functools.partial(nnx.remat(NnxBlock.__call__), block),
    "jit": lambda block: functools.partial(nnx.jit(NnxBlock.__call__), block),
    "vmap": through_vmap,
    "doubled between": through_doubled,
}


@pytest.mark.parametrize("name", sampled(THROUGH, ["jit", "vmap"]))
def test_value_and_gradient_of_nnx_are_those_through_the_svd(name):
    with enable_x64():
        x = sine(IMAGES)
        graph, state = nnx.split(NnxWithin(THROUGH[name]))
        params = start(nnx.to_pure_dict(state))

        def merged(params):
            new = jax.tree.map(lambda leaf: leaf, state)
            nnx.replace_by_pure_dict(new, params)
            return nnx.merge(graph, new)

        def call(params, x):
            return sx_nnx.SpectralNorm(merged(params), n_steps=300)(x)

        def plain(params, x):
            return merged(by_svd(params))(x)

        got = value_and_gradients(call, params, x)
        assert_near(got, value_and_gradients(plain, params, x), 1e-9)


def scaled_products(monkeypatch) -> list[tuple[int, ...]]:
    """Returns a list that will have the shape of each kernel whose product is ours."""
    shapes = []
    from specjax._fast import outputs as _scaled_output

    real = _scaled_output._on_the_smaller

    def recorded(product, factor, *args, **kwargs):
        shapes.append(factor.kernel.shape)
        return real(product, factor, *args, **kwargs)

    monkeypatch.setattr(_scaled_output, "_on_the_smaller", recorded)
    return shapes


@pytest.mark.fast
def test_no_kernel_is_written_where_the_result_is_smaller():
    class Mlp(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(4):
                x = nn.relu(nn.Dense(512)(x))
            return x

    model, x = sx_linen.SpectralNorm(Mlp()), jnp.ones((2, 512))
    shapes = jax.eval_shape(model.init, KEY, x)

    def temporary(x):
        step = jax.jit(functools.partial(model.apply, mutable=["batch_stats"]))
        compiled = step.lower(shapes, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    one_kernel = 4 * 512**2
    assert temporary(x) < one_kernel / 4
    assert temporary(jnp.ones((2048, 512))) > one_kernel


@pytest.mark.fast
def test_all_kernels_of_a_network_are_turned_in_one_batch():
    """The roots are in no loop: each would be there once for each kernel."""

    class Mlp(nn.Module):
        n_layers: int

        @nn.compact
        def __call__(self, x):
            for _ in range(self.n_layers):
                x = nn.relu(nn.Dense(16)(x))
            return x

    def roots(n_layers):
        model, x = sx_linen.SpectralNorm(Mlp(n_layers)), jnp.ones((2, 16))
        step = jax.jit(functools.partial(model.apply, mutable=["batch_stats"]))
        text = step.lower(jax.eval_shape(model.init, KEY, x), x).compile().as_text()
        return text.count(" rsqrt(") + text.count(" sqrt(")

    assert 0 < roots(4) == roots(9)


@pytest.mark.fast
def test_a_layer_that_is_called_twice(monkeypatch):
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = dense()
            return layer(nn.tanh(layer(x)))

    model, x = sx_linen.SpectralNorm(Twice(), n_steps=100), sine(ROWS)
    params = start(jax.eval_shape(Twice().init, KEY, x)["params"], np.float32)
    held = {"params": {"layer_instance": params}, "batch_stats": sx.sn_init(params)}
    shapes = scaled_products(monkeypatch)
    y, _ = model.apply(held, x, mutable=["batch_stats"])
    assert shapes == [(WIDTH, WIDTH)] * 2
    assert_near(y, Twice().apply({"params": by_svd(params)}, x), 1e-5)


class Alike(nnx.Module):
    """Three layers that are alike as trees."""

    def __init__(self, through):
        self.layers = nnx.List(
            [nnx.Linear(WIDTH, WIDTH, rngs=nnx.Rngs(i)) for i in range(3)]
        )
        self.through = through

    def __call__(self, x):
        return self.through(self.layers, x)


def scan_of_a_stack(layers, x):
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    return jax.lax.scan(lambda x, layer: (jnp.tanh(layer(x)), None), x, stack)[0]


def one_of_two(layers, x):
    chosen = jax.lax.cond(x[0, 0] > 2, lambda a, b: a, lambda a, b: b, *layers[:2])
    return chosen(x)


@pytest.mark.parametrize("through", [scan_of_a_stack, one_of_two])
def test_layers_of_nnx_that_were_alike_are_alike(through):
    x = sine(ROWS).astype(np.float32)
    graph, state = nnx.split(Alike(through))
    params = start(nnx.to_pure_dict(state), np.float32)

    def merged(params):
        new = jax.tree.map(lambda leaf: leaf, state)
        nnx.replace_by_pure_dict(new, params)
        return nnx.merge(graph, new)

    call = nnx.jit(lambda model, x: model(x))
    got = call(sx_nnx.SpectralNorm(merged(params), n_steps=100), x)
    assert_near(got, merged(by_svd(params))(x), 1e-5)


def test_a_jit_within_is_traced_once_for_layers_that_are_alike():
    n_traces = 0

    @nnx.jit
    def through(layer, x):
        nonlocal n_traces
        n_traces += 1
        return layer(x)

    def each(layers, x):
        for layer in layers:
            x = through(layer, x)
        return x

    model = sx_nnx.SpectralNorm(Alike(each))

    @nnx.jit
    def twice(model, x):
        return model(x) + model(2 * x)

    twice(model, jnp.ones(ROWS))
    assert n_traces == 1


@pytest.mark.fast
def test_an_eager_network_of_nnx_is_called_with_its_own_products(monkeypatch):
    """Another product in each call would have `nnx.jit` in it compile each time."""
    n_traces = 0

    class Jitted(nnx.Module):
        def __init__(self):
            self.inner = nnx.Linear(WIDTH, WIDTH, rngs=nnx.Rngs(0))

        @nnx.jit
        def __call__(self, x):
            nonlocal n_traces
            n_traces += 1
            return self.inner(x)

    model = sx_nnx.SpectralNorm(Jitted())
    shapes = scaled_products(monkeypatch)
    for _ in range(3):
        model(jnp.ones(ROWS))
    assert shapes == []
    assert n_traces == 1
