"""The Linen wrapper, against flax's own, the float64 SVD and the layer without it."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax.linen import SpectralNorm
from tests.cases import designed, enable_x64, first, norm, rows, stacked
from tests.exhaustive import exhaustive, sampled
from tests.reference import assert_same_line, power_steps

KEY = jax.random.key(0)


class Net(nn.Module):
    """One layer: wrapped by `wrapper`, or as it is."""

    make: Callable[[], nn.Module]
    wrapper: Callable[..., nn.Module] | None = SpectralNorm

    @nn.compact
    def __call__(self, *args, **kwargs):
        layer = self.make() if self.wrapper is None else self.wrapper(self.make())
        return layer(*args, **kwargs)


class Reveal(nn.Module):
    """Returns the kernel that it really used."""

    shape: tuple[int, ...] = (7, 5)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self):
        return self.param("kernel", chirp_init, self.shape, self.dtype)


class Block(nn.Module):
    """Two kernels, statistics and randomness."""

    train: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=not self.train)(nn.Dense(6)(x))
        x = nn.Dropout(0.5, deterministic=not self.train)(nn.relu(x))
        return nn.Dense(4)(x)


class TopLevel(nn.Module):
    """What `SpectralNorm` is at the top level, without the normalization."""

    layer_instance: nn.Module

    @nn.compact
    def __call__(self, *args):
        return self.layer_instance(*args)


@functools.partial(jax.jit, static_argnums=(1, 2))
def chirp_init(key, shape, dtype=jnp.float32):
    """Depends on the key as a random kernel does, and compiles ten times faster."""
    phase = 0.5 + jax.random.key_data(key)[-1] % 1000 / 1000
    index = jnp.arange(math.prod(shape)).reshape(shape)
    return jnp.sin(phase * index * index).astype(dtype)


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    views: dict[str, Callable[[np.ndarray], np.ndarray]]


def vmapped_dense():
    split = {"params": True}
    return nn.vmap(nn.Dense, variable_axes={"params": 0}, split_rngs=split)(7)


def boxed_dense():
    init = nn.with_partitioning(chirp_init, ("in", "out"))
    return nn.Dense(7, kernel_init=init)


def layer(kind, *args, **options):
    return functools.partial(kind, *args, kernel_init=chirp_init, **options)


ATTENTION = dict.fromkeys(("query", "key", "value"), first) | {"out": rows}
GATES = [side + gate for side in "ih" for gate in "ifgo"]
CASES = {
    "dense": Case(layer(nn.Dense, 7), (2, 5), {"kernel": rows}),
    "dense_general": Case(
        layer(nn.DenseGeneral, (4, 5), axis=(-2, -1)),
        (2, 3, 6),
        {"kernel": lambda k: k.reshape(18, 20)},
    ),
    "dense_general_batch": Case(
        layer(nn.DenseGeneral, (2, 3), axis=-1, batch_dims=(0,)),
        (3, 4, 6),
        {"kernel": stacked(first)},
    ),
    "einsum": Case(
        lambda: nn.Einsum((3, 6, 5), "bhi,hij->bhj"),
        (2, 3, 6),
        {"kernel": lambda k: k},
    ),
    "einsum_transposed": Case(
        lambda: nn.Einsum((5, 4, 6), "bji,oji->bo"),
        (2, 4, 6),
        {"kernel": lambda k: k.reshape(5, 24)},
    ),
    "conv_1d": Case(layer(nn.Conv, 6, (5,)), (2, 9, 4), {"kernel": rows}),
    "conv_2d": Case(layer(nn.Conv, 6, (3, 3)), (2, 7, 7, 4), {"kernel": rows}),
    "conv_3d": Case(layer(nn.Conv, 6, (2, 3, 2)), (2, 5, 5, 5, 4), {"kernel": rows}),
    "conv_grouped": Case(
        layer(nn.Conv, 6, (3, 3), feature_group_count=2),
        (2, 7, 7, 4),
        {"kernel": rows},
    ),
    "conv_transpose": Case(
        layer(nn.ConvTranspose, 6, (4, 4), (2, 2)), (2, 5, 5, 9), {"kernel": rows}
    ),
    "conv_transpose_kernel": Case(
        layer(nn.ConvTranspose, 6, (4, 4), transpose_kernel=True),
        (2, 5, 5, 9),
        {"kernel": lambda k: np.moveaxis(k, 2, -1).reshape(-1, 6)},
    ),
    "attention": Case(
        layer(nn.MultiHeadDotProductAttention, 3),
        (2, 5, 12),
        {f"{name}/kernel": view for name, view in ATTENTION.items()},
    ),
    "vmap_stack": Case(vmapped_dense, (3, 2, 11), {"kernel": stacked(rows)}),
    "boxed": Case(boxed_dense, (2, 11), {"kernel": rows}),
    "block": Case(
        lambda: Block(train=False),
        (2, 5),
        {"Dense_0/kernel": rows, "Dense_1/kernel": rows},
    ),
}
each_case = pytest.mark.parametrize(
    "name",
    sampled(
        CASES,
        [
            "dense",
            "dense_general",
            "dense_general_batch",
            "einsum_transposed",
            "conv_2d",
            "boxed",
            "block",
            "conv_transpose_kernel",
            "attention",
            "vmap_stack",
        ],
    ),
)


@functools.cache
def initialized(name):
    """Returns the variables of a case's `Net`, wrapped and not wrapped."""
    x = jnp.ones(CASES[name].shape)
    models = Net(CASES[name].make), Net(CASES[name].make, None)
    return [model.init(KEY, x) for model in models]


def by_svd(params, views, bound=1.0):
    """Returns the params of one layer with each kernel divided by its norm."""

    def scaled(path, leaf):
        name = "/".join(key.key for key in path if hasattr(key, "key"))
        if name not in views:
            return leaf
        norms = norm(views[name](np.asarray(leaf, np.float64)))
        axes = tuple(range(np.ndim(norms), leaf.ndim))
        return jnp.asarray(leaf / np.expand_dims(norms, axes) * bound, leaf.dtype)

    return jax.tree_util.tree_map_with_path(scaled, params)


def with_kernel(variables, kernel):
    """Returns the variables of a `Net` of one kernel, with another kernel."""
    ((name, params),) = variables["params"].items()
    return variables | {"params": {name: params | {"kernel": jnp.asarray(kernel)}}}


def cold(variables, *, second=False):
    """Returns the variables of a `Net` with random unit vectors for u and, maybe, u2.

    Without a second vector the next step is that of a single one.
    """
    state = variables["batch_stats"]["SpectralNorm_0"]["kernel"]
    pair = np.random.default_rng(3).standard_normal((2, *state["u"].shape))
    u, u2 = jnp.asarray([x / np.linalg.norm(x) for x in pair], jnp.float32)
    state = state | {"u": u, "u2": u2 if second else jnp.zeros_like(u2)}
    state = {"SpectralNorm_0": {"kernel": state}}
    return variables | {"batch_stats": state}


def kernel_state(variables):
    return variables["batch_stats"]["SpectralNorm_0"]["kernel"]


def u_and_sigma(variables):
    entry = kernel_state(variables)
    return {name: entry[name] for name in ("u", "sigma")}


def assert_bit_equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def assert_close(left, right, tol):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tol, tol), left, right)


# Against flax.linen.SpectralNorm, where flax is right.


@pytest.mark.parametrize("name", ["dense", "conv_2d"])
def test_equals_flax_after_one_step(name):
    make, shape, _ = CASES[name]
    x = jax.random.normal(KEY, shape)
    ours, theirs = Net(make), Net(make, nn.SpectralNorm)
    variables = cold(initialized(name)[0])
    u = kernel_state(variables)["u"]
    ((layer, params),) = variables["params"].items()
    stats = {f"{layer}/kernel/u": u[None], f"{layer}/kernel/sigma": jnp.ones(())}
    their_stats = {"SpectralNorm_0": stats}

    def loss(params, model, stats, **options):
        held = {"params": params, "batch_stats": stats}
        y, new = model.apply(held, x, mutable=["batch_stats"], **options)
        return jnp.mean(jnp.sin(y)), (y, new["batch_stats"]["SpectralNorm_0"])

    params = {layer: jax.tree.map(lambda p: p + 0.1, params)}
    grad = functools.partial(jax.jit, static_argnums=1, static_argnames="update_stats")
    grad = grad(jax.grad(loss, has_aux=True))
    g, (y, new) = grad(params, ours, variables["batch_stats"])
    flax_g, (flax_y, flax_new) = grad(params, theirs, their_stats, update_stats=True)
    assert_close(y, flax_y, 3e-6)
    assert_close(g, flax_g, 3e-6)
    assert_close(new["kernel"]["u"], flax_new[f"{layer}/kernel/u"][0], 3e-6)
    assert_close(new["kernel"]["sigma"], flax_new[f"{layer}/kernel/sigma"], 3e-6)


@pytest.mark.parametrize("layer", [nn.Dense, nn.Conv])
def test_equals_flax_to_1e6_in_double_precision(layer):
    # Without a second vector, and without float32's rounding, the step is the same.
    options = {"kernel_size": (3, 3)} if layer is nn.Conv else {}
    with enable_x64():
        make = functools.partial(layer, 7, param_dtype=jnp.float64, **options)
        theirs = Net(make, functools.partial(nn.SpectralNorm, param_dtype=jnp.float64))
        ours, x = Net(make), jax.random.normal(KEY, (2, 8, 8, 3))
        variables = ours.init(KEY, x)
        (name,) = variables["params"]
        kernel = variables["batch_stats"]["SpectralNorm_0"]["kernel"]
        u = jax.random.normal(KEY, (7,))
        kernel["u"], kernel["u2"] = u / jnp.linalg.norm(u), jnp.zeros(7)
        stats = {f"{name}/kernel/u": kernel["u"][None]}
        stats = {"SpectralNorm_0": {**stats, f"{name}/kernel/sigma": jnp.ones(())}}

        def loss(params, model, stats, **options):
            held = {"params": params, "batch_stats": stats}
            y, _ = model.apply(held, x, mutable=["batch_stats"], **options)
            return jnp.mean(jnp.sin(y)), y

        grad = jax.grad(loss, has_aux=True)
        got = grad(variables["params"], ours, variables["batch_stats"])
        want = grad(variables["params"], theirs, stats, update_stats=True)
        assert got[1].dtype == jnp.float64
        assert_close(got, want, 1e-6)


# init and the params.


@each_case
def test_init_gives_the_layers_own_params(name):
    wrapped, plain = initialized(name)
    assert_bit_equal(wrapped["params"], plain["params"])


def test_init_leaves_the_layers_after_it_alone():
    class Model(nn.Module):
        wrap: Callable

        @nn.compact
        def __call__(self, x):
            x = self.wrap(nn.Dense(7))(x)
            x = self.wrap(Block())(nn.Dense(5)(x))
            return nn.Dense(2)(x)

    x, keys = jnp.ones((2, 5)), {"params": KEY, "dropout": KEY}
    wrapped = Model(SpectralNorm).init(keys, x)
    assert_bit_equal(wrapped["params"], Model(lambda y: y).init(keys, x)["params"])


@pytest.mark.parametrize("name", ["dense", "conv_2d", "attention", "boxed"])
def test_params_come_back_bit_equal_with_everything_mutable(name):
    make, shape, _ = CASES[name]
    variables, _ = initialized(name)
    _, new = Net(make).apply(variables, jnp.ones(shape), mutable=True)
    assert_bit_equal(new["params"], variables["params"])


def test_state_is_warm_after_init():
    model = Net(lambda: Reveal((40, 30)))
    sigma = kernel_state(variables := model.init(KEY))["sigma"]
    kernel = variables["params"]["Reveal_0"]["kernel"]
    np.testing.assert_allclose(sigma, norm(np.float64(kernel)), 1e-3)


# Layers: the output is that of the layer with its kernels divided by their norms.


@each_case
def test_layer_runs_with_kernels_of_norm_one(name):
    make, shape, views = CASES[name]
    x = jax.random.normal(KEY, shape)
    variables, others = initialized(name)
    ((layer, params),) = variables["params"].items()
    params = {layer: by_svd(params, views)}
    want = jax.jit(Net(make, None).apply)(others | {"params": params}, x)
    assert_close(Net(make).apply(variables, x), want, 1e-4)
    train = jax.jit(functools.partial(Net(make).apply, mutable=["batch_stats"]))
    assert_close(train(variables, x)[0], want, 1e-4)


def test_recurrent_cell_runs_with_kernels_of_norm_one():
    x, make = jax.random.normal(KEY, (2, 4)), layer(nn.LSTMCell, 5)
    make = functools.partial(make, recurrent_kernel_init=chirp_init)
    carry = jax.tree.map(lambda c: c + 0.3, make().initialize_carry(KEY, x.shape))
    model = Net(make)
    variables = model.init(KEY, carry, x)
    ((name, params),) = variables["params"].items()
    views = {f"{gate}/kernel": rows for gate in GATES}
    want = Net(make, None).apply({"params": {name: by_svd(params, views)}}, carry, x)
    assert_close(model.apply(variables, carry, x), want, 1e-4)


def test_attention_gets_all_its_arguments():
    q, k, v = jax.random.normal(KEY, (3, 2, 5, 12))
    mask = nn.make_causal_mask(jnp.ones((2, 5)))
    _, _, views = CASES["attention"]

    def make():
        return CASES["attention"].make(dropout_rate=0.5)

    model, rngs = Net(make), {"params": KEY, "dropout": KEY}
    variables = model.init(rngs, q, k, v, mask=mask, deterministic=True)
    ((name, params),) = variables["params"].items()
    plain = {"params": {name: by_svd(params, views)}}
    for options in ({"deterministic": True}, {"deterministic": False, "mask": mask}):
        y = model.apply(variables, q, k, v, rngs={"dropout": KEY}, **options)
        want = Net(make, None).apply(plain, q, k, v, rngs={"dropout": KEY}, **options)
        assert_close(y, want, 1e-4)


@pytest.mark.parametrize("top_level", [True, False])
def test_statistics_and_randomness_inside_work(top_level):
    def make(wrapper):
        return wrapper(Block()) if top_level else Net(Block, wrapper)

    x, rngs = jax.random.normal(KEY, (8, 5)), {"dropout": jax.random.key(4)}
    model, plain = make(SpectralNorm), make(TopLevel if top_level else None)
    variables = model.init({"params": KEY, **rngs}, x)
    others = plain.init({"params": KEY, **rngs}, x)
    assert_bit_equal(variables["params"], others["params"])
    ((name, params),) = variables["params"].items()
    normalized = {name: by_svd(params, CASES["block"].views)}
    options = {"rngs": rngs, "mutable": ["batch_stats"]}
    want, new_plain = plain.apply(others | {"params": normalized}, x, **options)
    y, new = model.apply(variables, x, **options)
    assert_close(y, want, 1e-4)
    assert_close(new["batch_stats"][name], new_plain["batch_stats"][name], 1e-4)


def test_boxes_stay_around_the_params():
    variables, _ = initialized("boxed")
    kernel = variables["params"]["Dense_0"]["kernel"]
    assert isinstance(kernel, nn.Partitioned)
    assert kernel.names == ("in", "out")


# Training and evaluation.


def test_one_power_step_when_the_collection_is_mutable():
    model = Net(Reveal)
    variables = cold(model.init(KEY))
    kernel = variables["params"]["Reveal_0"]["kernel"]
    u, sigma = power_steps(kernel, kernel_state(variables)["u"], 1)
    for options in ({}, {"update_stats": None}, {"update_stats": True}):
        used, new = model.apply(variables, mutable=["batch_stats"], **options)
        assert_close(u_and_sigma(new), {"u": u, "sigma": sigma}, 1e-5)
        assert_close(used, kernel / sigma, 1e-5)


@pytest.mark.parametrize("options", [{}, {"update_stats": None, "mutable": ["other"]}])
def test_evaluation_uses_u_as_it_is(options):
    model = Net(Reveal)
    variables = cold(model.init(KEY))
    kernel = np.float64(variables["params"]["Reveal_0"]["kernel"])
    want = kernel / np.linalg.norm(kernel @ kernel_state(variables)["u"])
    used = model.apply(variables, **options)
    assert_close(used[0] if "mutable" in options else used, want, 1e-5)


def test_evaluation_is_pure_and_bit_stable():
    model = Net(Reveal)
    variables = cold(model.init(KEY))
    evaluate = functools.partial(
        model.apply, update_stats=False, mutable=["batch_stats"]
    )
    (used, new), (again, _) = evaluate(variables), evaluate(variables)
    assert_bit_equal(new["batch_stats"], variables["batch_stats"])
    assert_bit_equal(used, again)
    assert_bit_equal(used, model.apply(variables))


def test_update_without_a_mutable_collection_says_what_to_do():
    model = Net(Reveal)
    variables = model.init(KEY)
    need = (
        r"SpectralNorm_0, update_stats=True: got a collection 'batch_stats' that is "
        r"not mutable; .*Try: model.apply\(..., mutable=\['batch_stats'\]\)"
    )
    with pytest.raises(ValueError, match=need):
        model.apply(variables, update_stats=True)


@pytest.mark.parametrize("mutable", [False, ["batch_stats"]])
def test_missing_collection_is_named(mutable):
    model = Net(Reveal)
    params = {"params": model.init(KEY)["params"]}
    with pytest.raises(ValueError, match="batch_stats: got no state; need u and sigma"):
        model.apply(params, mutable=mutable)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_layer_called_twice_is_normalized_once(wrap):
    class Twice(nn.Module):
        @nn.compact
        def __call__(self):
            layer = SpectralNorm(Reveal())
            return layer(), layer()

    variables = cold(Twice().init(KEY))
    kernel = variables["params"]["Reveal_0"]["kernel"]
    u, sigma = power_steps(kernel, kernel_state(variables)["u"], 1)
    train = wrap(functools.partial(Twice().apply, mutable=["batch_stats"]))
    (first_kernel, second_kernel), new = train(variables)
    assert_bit_equal(first_kernel, second_kernel)
    assert_close(u_and_sigma(new), {"u": u, "sigma": sigma}, 1e-5)


def test_layer_called_twice_costs_one_step():
    class Model(nn.Module):
        n_calls: int

        @nn.compact
        def __call__(self):
            layer = SpectralNorm(Reveal())
            return [layer() for _ in range(self.n_calls)]

    def n_products(n_calls):
        model = Model(n_calls)
        train = functools.partial(model.apply, mutable=["batch_stats"])
        return str(jax.make_jaxpr(train)(model.init(KEY))).count("reduce_sum")

    assert n_products(3) == n_products(1) > 0


# Options.


def test_collection_name():
    model = Net(Reveal, functools.partial(SpectralNorm, collection_name="spectral"))
    variables = model.init(KEY)
    assert set(variables) == {"params", "spectral"}
    assert set(variables["spectral"]["SpectralNorm_0"]["kernel"]) == {
        "u",
        "u2",
        "sigma",
    }
    _, new = model.apply(variables, mutable=["spectral"], update_stats=True)
    assert set(new) == {"spectral"}
    with pytest.raises(ValueError, match="'spectral' that is not mutable"):
        model.apply(variables, mutable=["batch_stats"], update_stats=True)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_n_steps(n_steps):
    model = Net(Reveal, functools.partial(SpectralNorm, n_steps=n_steps))
    variables = cold(model.init(KEY), second=True)
    kernel, state = variables["params"]["Reveal_0"]["kernel"], kernel_state(variables)
    u, sigma = power_steps(kernel, state["u"], n_steps, state["u2"])
    _, new = model.apply(variables, mutable=["batch_stats"])
    assert_same_line(kernel_state(new)["u"], u, 1e-3)
    assert_close(kernel_state(new)["sigma"], sigma, 1e-5)


@pytest.mark.parametrize(("norm_before", "cap", "want"), [
    (3.0, False, 0.7), (0.5, False, 0.7), (3.0, True, 0.7), (0.5, True, 0.5),
])  # fmt: skip
def test_bound_and_cap(norm_before, cap, want):
    model = Net(Reveal, functools.partial(SpectralNorm, bound=0.7, cap=cap))
    kernel = designed(7, 5, norm_before * np.array([1, 0.98, 0.9, 0.5, 0.1]))
    variables = with_kernel(model.init(KEY), np.float32(kernel))
    for _ in range(60):  # the state is of another kernel
        used, new = model.apply(variables, mutable=["batch_stats"])
        variables = variables | new
    np.testing.assert_allclose(norm(np.float64(used)), want, 1e-3)


def test_grad_sigma():
    def gradient(grad_sigma):
        wrapper = functools.partial(SpectralNorm, grad_sigma=grad_sigma, bound=2.0)
        model = Net(Reveal, wrapper)
        variables = model.init(KEY)
        loss = lambda params: jnp.sum(weights * model.apply(variables | params))  # noqa: E731
        grad = jax.grad(loss)({"params": variables["params"]})
        kernel = np.float64(variables["params"]["Reveal_0"]["kernel"])
        return grad["params"]["Reveal_0"]["kernel"], kernel

    weights = np.random.default_rng(1).standard_normal((7, 5))
    grad, kernel = gradient(False)
    left, (sigma, *_), right = np.linalg.svd(kernel)
    held = 2.0 * weights / sigma
    assert_close(grad, held, 1e-4)
    outer = np.outer(left[:, 0], right[0])
    assert_close(gradient(True)[0], held - np.sum(held * kernel) / sigma * outer, 1e-4)


def test_dtype_is_that_of_the_kernel_used():
    model = Net(Reveal, functools.partial(SpectralNorm, dtype=jnp.bfloat16))
    variables = model.init(KEY)
    used, new = model.apply(variables, mutable=["batch_stats"])
    assert used.dtype == jnp.bfloat16
    assert kernel_state(new)["u"].dtype == jnp.float32
    assert variables["params"]["Reveal_0"]["kernel"].dtype == jnp.float32


def test_half_precision_kernel_keeps_its_dtype():
    model = Net(lambda: Reveal(dtype=jnp.bfloat16))
    used, new = model.apply(model.init(KEY), mutable=["batch_stats"])
    assert used.dtype == jnp.bfloat16
    assert kernel_state(new)["u"].dtype == jnp.float32
    np.testing.assert_allclose(norm(np.float64(used)), 1, 1e-2)


def test_error_on_non_matrix():
    wrapper = functools.partial(SpectralNorm, error_on_non_matrix=True)
    Net(lambda: nn.Dense(3), wrapper).init(KEY, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"float32\[3,3,4,6\]; need a kernel of two"):
        Net(CASES["conv_2d"].make, wrapper).init(KEY, jnp.ones((2, 7, 7, 4)))


def test_kernels_chooses_what_is_normalized():
    wrapper = functools.partial(SpectralNorm, kernels={"Dense_1/kernel": sx.Matrix()})
    make, shape, _ = CASES["block"]
    x, model = jax.random.normal(KEY, shape), Net(make, wrapper)
    variables = model.init(KEY, x)
    assert set(variables["batch_stats"]["SpectralNorm_0"]) == {"Dense_1"}
    params = {
        "Block_0": by_svd(variables["params"]["Block_0"], {"Dense_1/kernel": rows})
    }
    want = Net(make, None).apply(variables | {"params": params}, x)
    assert_close(model.apply(variables, x), want, 1e-4)


def test_conv_local_is_refused():
    model = Net(lambda: nn.ConvLocal(5, (3,)))
    with pytest.raises(ValueError, match="of a ConvLocal, another filter at"):
        model.init(KEY, jnp.ones((2, 8, 3)))


# Under the transformations of jax and flax.


def svd_loss(params, x):
    """Returns the loss of `dense_model` by autodiff through the SVD."""
    kernel, bias = params["Dense_0"]["kernel"], params["Dense_0"]["bias"]
    sigma = jnp.linalg.svd(kernel, compute_uv=False)[0]
    return jnp.sum(jnp.sin(x @ (kernel / sigma) + bias))


def dense_model():
    x = jax.random.normal(KEY, (3, 6))
    model = Net(lambda: nn.Dense(4))
    variables = jax.jit(model.init)(jax.random.key(5), x)
    return model, variables, x


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_gradient_is_that_through_the_svd(wrap):
    model, variables, x = dense_model()

    def loss(params):
        held = variables | {"params": params}
        y, new = model.apply(held, x, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y)), new

    grad, _ = wrap(jax.grad(loss, has_aux=True))(variables["params"])
    assert_close(grad, jax.grad(svd_loss)(variables["params"], x), 1e-4)


def test_vmap_over_an_ensemble():
    model, _, x = dense_model()
    keys = jax.random.split(KEY, 3)
    ensemble = jax.jit(jax.vmap(model.init, (0, None)))(keys, x)
    train = functools.partial(model.apply, mutable=["batch_stats"])
    y, new = jax.vmap(train, (0, None))(ensemble, x)
    kernels = np.float64(ensemble["params"]["Dense_0"]["kernel"])
    assert_close(y, x @ (kernels / norm(kernels)[:, None, None]), 1e-4)
    assert_close(kernel_state(new)["sigma"], norm(kernels), 1e-4)


class Step(nn.Module):
    """A block to scan and to remat: ``tanh(x W)``."""

    @nn.compact
    def __call__(self, x, _=None):
        return jnp.tanh(SpectralNorm(nn.Dense(6, use_bias=False))(x)), None


def test_scan_over_a_wrapped_block():
    axes, split = {"params": 0, "batch_stats": 0}, {"params": True}
    model = nn.scan(Step, variable_axes=axes, split_rngs=split, length=3)()
    x = jax.random.normal(KEY, (2, 6))
    variables = jax.jit(model.init)(KEY, x)
    kernels = np.float64(variables["params"]["Dense_0"]["kernel"])
    want = x
    for kernel in kernels:
        want = np.tanh(want @ kernel / norm(kernel))
    assert_close(model.apply(variables, x)[0], want, 1e-4)
    (y, _), new = jax.jit(functools.partial(model.apply, mutable=["batch_stats"]))(
        variables, x
    )
    assert_close(y, want, 1e-4)
    assert_close(kernel_state(new)["sigma"], norm(kernels), 1e-4)


@exhaustive
def test_remat_of_a_wrapped_block():
    x = jax.random.normal(KEY, (2, 6))
    model = nn.remat(Step)()
    variables = jax.jit(model.init)(KEY, x)

    @jax.jit
    def grad(params):
        def loss(params):
            held = variables | {"params": params}
            (y, _), new = model.apply(held, x, mutable=["batch_stats"])
            return jnp.sum(y**3), new

        return jax.grad(loss, has_aux=True)(params)

    def by_svd(kernel):
        sigma = jnp.linalg.svd(kernel, compute_uv=False)[0]
        return jnp.sum(jnp.tanh(x @ kernel / sigma) ** 3)

    with jax.checking_leaks():
        got, new = grad(variables["params"])
    kernel = variables["params"]["Dense_0"]["kernel"]
    assert_close(got["Dense_0"]["kernel"], jax.grad(by_svd)(kernel), 1e-4)
    assert_close(kernel_state(new)["sigma"], norm(np.float64(kernel)), 1e-4)


def test_eval_shape_of_init():
    model, variables, x = dense_model()
    shapes = jax.eval_shape(model.init, KEY, x)
    struct = functools.partial(jax.tree.map, lambda a: (a.shape, a.dtype))
    assert struct(shapes) == struct(variables)


def test_donated_state_without_a_second_compilation():
    model = Net(lambda: Reveal((7, 5)))
    variables = cold(model.init(KEY), second=True)
    kernel = np.asarray(variables["params"]["Reveal_0"]["kernel"])
    u, u2 = (np.asarray(kernel_state(variables)[name]) for name in ("u", "u2"))
    state = jax.tree.map(jnp.array, variables["batch_stats"])

    @functools.partial(jax.jit, donate_argnums=1)
    def step(params, state):
        held = {"params": params, "batch_stats": state}
        return model.apply(held, mutable=["batch_stats"])[1]["batch_stats"]

    for _ in range(4):
        old, state = state, step(variables["params"], state)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert step._cache_size() == 1
    u, sigma = power_steps(kernel, u, 4, u2)
    assert_same_line(state["SpectralNorm_0"]["kernel"]["u"], u, 1e-3)
    assert_close(state["SpectralNorm_0"]["kernel"]["sigma"], sigma, 1e-4)


class _ConvBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(4, (3, 3))(x)


def test_a_lifted_block_is_a_stack():
    lifted = nn.vmap(
        _ConvBlock, variable_axes={"params": 0}, split_rngs={"params": True}
    )
    x = jnp.ones((5, 1, 6, 6, 2))
    variables = SpectralNorm(lifted()).init(jax.random.key(0), x)
    entry = variables["batch_stats"]["Conv_0"]["kernel"]
    kernel = variables["params"]["layer_instance"]["Conv_0"]["kernel"]
    want = norm(np.float64(kernel).reshape(5, 18, 4))
    np.testing.assert_allclose(entry["sigma"], want, rtol=1e-3)


def test_an_einsum_whose_string_comes_with_the_call_is_refused():
    layer = SpectralNorm(nn.Einsum((3, 4, 5, 6), None))
    with pytest.raises(ValueError, match="whose einsum_str only the call knows"):
        layer.init(jax.random.key(0), jnp.ones((2, 3, 4)), "bij,ijkl->bkl")


class _Two(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(5, name="A")(nn.Dense(6, name="Z")(x))


@pytest.mark.parametrize("lift", [lambda module: module, nn.remat], ids=["", "remat"])
def test_first_match_wins_under_a_transformation_too(lift):
    kernels = {r"Z/kernel": None, r".*": sx.Matrix(), r"A/kernel": None}
    kernels = {r".*/bias": None} | kernels
    layer = lift(SpectralNorm)(_Two(), kernels=kernels)
    variables = layer.init(jax.random.key(0), jnp.ones((2, 4)))
    assert variables["batch_stats"].keys() == {"A"}


def test_a_layer_that_owns_no_params_says_what_to_do():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return SpectralNorm(nn.Sequential([nn.Dense(3)]))(x)

    with pytest.raises(ValueError, match="a Sequential without params of its own"):
        Model().init(jax.random.key(0), jnp.ones((2, 4)))


def test_errors_name_the_wrapper_and_the_collection():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return SpectralNorm(nn.Dense(3), bound=self.bound)(x)

        bound: float = 1.0

    variables = Model().init(jax.random.key(0), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="SpectralNorm_0/batch_stats: got no state"):
        Model().apply({"params": variables["params"]}, jnp.ones((2, 4)))
    with pytest.raises(ValueError, match="bound: got -1") as caught:
        Model(bound=-1).apply(variables, jnp.ones((2, 4)))
    assert caught.value.__notes__[0] == "(in the SpectralNorm at SpectralNorm_0)"
