"""The NNX wrapper, against flax's own, the float64 SVD and the layer without it."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import specjax as sx
from specjax.nnx import SpectralNorm, SpectralStat
from tests.cases import designed, first, norm, rows
from tests.exhaustive import sampled
from tests.reference import assert_same_line, power_steps

KEY = jax.random.key(0)


@functools.partial(jax.jit, static_argnums=(1, 2))
def chirp_init(key, shape, dtype=jnp.float32):
    """Depends on the key as a random kernel does, and compiles ten times faster."""
    phase = 0.5 + jax.random.key_data(key)[-1] % 1000 / 1000
    index = jnp.arange(math.prod(shape)).reshape(shape)
    return jnp.sin(phase * index * index).astype(dtype)


def layer(kind, *args, **options):
    """Returns a function that makes a layer."""
    return lambda: kind(*args, kernel_init=chirp_init, rngs=nnx.Rngs(0), **options)


class Reveal(nnx.Module):
    """Returns the kernel that it really used."""

    def __init__(self, kernel):
        self.kernel = nnx.Param(jnp.asarray(kernel, jnp.float32))

    def __call__(self):
        return self.kernel[...]


class Block(nnx.Module):
    """Two kernels, statistics and randomness."""

    def __init__(self):
        self.dense = layer(nnx.Linear, 5, 7)()
        self.norm = nnx.BatchNorm(7, rngs=nnx.Rngs(0))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
        self.head = layer(nnx.Linear, 7, 5)()

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.norm(self.dense(x)))))


class Net(nnx.Module):
    """A small classifier with two wrapped layers."""

    def __init__(self):
        self.hidden = SpectralNorm(layer(nnx.Linear, 6, 8, use_bias=False)())
        self.head = SpectralNorm(layer(nnx.Linear, 8, 3, use_bias=False)(), bound=2.0)

    def __call__(self, x):
        return self.head(jnp.tanh(self.hidden(x)))


class Case(NamedTuple):
    make: Callable[[], nnx.Module]
    shape: tuple[int, ...]
    views: dict[str, Callable[[np.ndarray], np.ndarray]]


ATTENTION = dict.fromkeys(("query", "key", "value"), first) | {"out": rows}
CASES = {
    "linear": Case(layer(nnx.Linear, 5, 7), (2, 5), {"kernel": rows}),
    "linear_general": Case(
        layer(nnx.LinearGeneral, (3, 6), (4, 5), axis=(-2, -1)),
        (2, 3, 6),
        {"kernel": lambda k: k.reshape(18, 20)},
    ),
    "linear_general_batch": Case(
        layer(nnx.LinearGeneral, 6, (2, 3), batch_axis={0: 4}),
        (4, 2, 6),
        {"kernel": lambda k: k.reshape(4, 6, 6)},
    ),
    "einsum": Case(
        layer(nnx.Einsum, "bhi,hij->bhj", (3, 6, 5)),
        (2, 3, 6),
        {"kernel": lambda k: k},
    ),
    "conv_1d": Case(layer(nnx.Conv, 4, 6, (5,)), (2, 9, 4), {"kernel": rows}),
    "conv_2d": Case(layer(nnx.Conv, 4, 6, (3, 3)), (2, 7, 7, 4), {"kernel": rows}),
    "conv_transpose": Case(
        layer(nnx.ConvTranspose, 9, 6, (4, 4), (2, 2)), (2, 5, 5, 9), {"kernel": rows}
    ),
    "conv_transpose_kernel": Case(
        layer(nnx.ConvTranspose, 9, 6, (4, 4), transpose_kernel=True),
        (2, 5, 5, 9),
        {"kernel": lambda k: np.moveaxis(k, 2, -1).reshape(-1, 6)},
    ),
    "attention": Case(
        layer(nnx.MultiHeadAttention, 3, 12, decode=False),
        (2, 5, 12),
        {f"{name}/kernel": view for name, view in ATTENTION.items()},
    ),
    "block": Case(Block, (8, 5), {"dense/kernel": rows, "head/kernel": rows}),
}


def normalized_by_svd(module, views):
    """Returns a copy of a layer with each kernel divided by its norm."""
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)
    params = nnx.to_pure_dict(params)
    for path, view in views.items():
        *above, name = path.split("/")
        node = functools.reduce(lambda tree, key: tree[key], above, params)
        norms = norm(view(np.float64(node[name])))
        axes = tuple(range(np.ndim(norms), node[name].ndim))
        node[name] = jnp.asarray(node[name] / np.expand_dims(norms, axes), jnp.float32)
    copy = nnx.merge(graphdef, nnx.state(module, nnx.Param), nnx.clone(rest))
    nnx.update(copy, nnx.State(params))
    return nnx.clone(copy)


def cold(wrapped):
    """Sets u of a wrapped layer of one kernel to a random unit vector; returns it.

    There is no second vector: the next step is that of a single one.
    """
    stats = wrapped.stats["kernel"]
    u = np.random.default_rng(3).standard_normal(stats["u"].shape)
    u = jnp.asarray(u / np.linalg.norm(u), jnp.float32)
    stats["u"][...], stats["u2"][...] = u, jnp.zeros_like(u)
    return u


def u_and_sigma(wrapped):
    entry = arrays(wrapped, SpectralStat)["stats"]["kernel"]
    return {name: entry[name] for name in ("u", "sigma")}


def revealed(shape=(7, 5), **options):
    """Returns a wrapped `Reveal`, and its kernel."""
    kernel = np.random.default_rng(8).standard_normal(shape)
    return SpectralNorm(Reveal(kernel), **options), np.float64(np.float32(kernel))


def arrays(module, kind=nnx.Param):
    def array(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(array, nnx.to_pure_dict(nnx.state(module, kind)))


def assert_bit_equal(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def assert_close(left, right, tol):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, tol, tol), left, right)


# Against flax.nnx.SpectralNorm, where flax is right.


@pytest.mark.parametrize("name", ["linear", "conv_2d"])
def test_equals_flax_after_one_step(name):
    make, shape, _ = CASES[name]
    x = jax.random.normal(KEY, shape)
    ours, theirs = SpectralNorm(make()), nnx.SpectralNorm(make(), rngs=nnx.Rngs(0))
    theirs.batch_stats["kernel", "u"][...] = cold(ours)[None]

    @nnx.jit
    def grad(model):
        def loss(model):
            y = model(x)
            return jnp.mean(jnp.sin(y)), y

        return nnx.grad(loss, has_aux=True)(model)

    def run(model):
        leaves = jax.tree.leaves((grad(model), nnx.state(model, nnx.BatchStat)))
        return leaves[:5]

    # Leaves: gradients of bias and kernel, y, sigma, u; u2 is ours alone.
    for mine, flax in zip(run(ours), run(theirs), strict=True):
        np.testing.assert_allclose(mine, flax.reshape(mine.shape), 3e-6, 3e-6)


# The params.


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("jit", [False, True])
def test_no_param_is_ever_written_to(mode, jit):
    model = SpectralNorm(Block())
    getattr(model, mode)()
    before, variables = arrays(model), nnx.state(model, nnx.Param)
    run = (lambda m, x: m(x)) if not jit else nnx.jit(lambda m, x: m(x))
    for _ in range(2):
        run(model, jnp.ones((8, 5)))
    assert_bit_equal(arrays(model), before)
    assert jax.tree.structure(nnx.state(model, nnx.Param)) == jax.tree.structure(
        variables
    )


def test_wrapping_leaves_the_layer_alone():
    layer_instance = Block()
    before = arrays(layer_instance, ...)
    SpectralNorm(layer_instance)
    assert_bit_equal(arrays(layer_instance, ...), before)


def test_u_and_sigma_are_batch_stats_and_not_params():
    model, kernel = revealed()
    assert issubclass(SpectralStat, nnx.BatchStat)
    held = arrays(model, SpectralStat)["stats"]["kernel"]
    shapes = {name: entry.shape for name, entry in held.items()}
    assert shapes == {"u": (5,), "u2": (5,), "sigma": ()}
    assert set(arrays(model, nnx.Param)) == {"layer_instance"}
    warm = model.stats["kernel"]["sigma"][...]
    np.testing.assert_allclose(warm, norm(kernel), 1e-4)


# Layers: the output is that of the layer with its kernels divided by their norms.


@pytest.mark.parametrize(
    "name", sampled(CASES, [*list(CASES)[::2], "conv_transpose_kernel"])
)
def test_layer_runs_with_kernels_of_norm_one(name):
    make, shape, views = CASES[name]
    x = jax.random.normal(KEY, shape)
    model, want = SpectralNorm(make()), normalized_by_svd(make(), views)
    call = nnx.jit(lambda model, x: model(x))
    for mode in ("eval", "train"):
        getattr(model, mode)()
        getattr(want, mode)()
        assert_close(call(model, x), call(want, x), 1e-4)


def test_attention_gets_all_its_arguments():
    q, k, v = jax.random.normal(KEY, (3, 2, 5, 12))
    mask = nnx.make_causal_mask(jnp.ones((2, 5)))
    make, _, views = CASES["attention"]
    model, want = SpectralNorm(make()), normalized_by_svd(make(), views)
    assert_close(model(q, k, v, mask=mask), want(q, k, v, mask=mask), 1e-4)
    assert_close(model(q, k, update_stats=False), want(q, k), 1e-4)


@pytest.mark.parametrize("jit", [False, True])
def test_statistics_and_randomness_inside_keep_their_state(jit):
    x = jax.random.normal(KEY, (8, 5))
    plain = normalized_by_svd(Block(), CASES["block"].views)
    model = SpectralNorm(Block())
    call = (lambda m, x: m(x)) if not jit else nnx.jit(lambda m, x: m(x))
    outputs = [call(model, x) for _ in range(2)]
    wanted = [call(plain, x) for _ in range(2)]
    assert_close(outputs, wanted, 1e-4)
    assert float(jnp.abs(outputs[0] - outputs[1]).max()) > 0.1  # another dropout mask
    others = (nnx.BatchStat, nnx.RngState)
    for kind in others:
        inside = arrays(model.layer_instance, kind)
        assert_close(inside, arrays(plain, kind), 1e-4)


# Training and evaluation.


def test_train_and_eval_switch_it_inside_a_model():
    class Model(nnx.Module):
        def __init__(self):
            self.blocks = nnx.List([revealed()[0]])

        def __call__(self):
            return self.blocks[0]()

    model = Model()
    (wrapped,) = model.blocks
    kernel = np.float64(wrapped.layer_instance.kernel[...])
    u = np.float64(cold(wrapped))
    model.eval()
    before = arrays(model, SpectralStat)
    assert_close(model(), kernel / np.linalg.norm(kernel @ u), 1e-5)
    assert_bit_equal(model(), model())
    assert_bit_equal(arrays(model, SpectralStat), before)
    model.train()
    u, sigma = power_steps(kernel, u, 1)
    assert_close(model(), kernel / sigma, 1e-5)
    assert_close(u_and_sigma(wrapped), {"u": u, "sigma": sigma}, 1e-5)


def test_update_stats_of_the_call_and_of_the_constructor():
    model, kernel = revealed(update_stats=False)
    u = cold(model)
    model()
    assert_bit_equal(model.stats["kernel"]["u"][...], u)
    model(update_stats=True)
    want, _ = power_steps(kernel, u, 1)
    assert_close(model.stats["kernel"]["u"][...], want, 1e-5)
    model.train()
    before = arrays(model, SpectralStat)
    model(update_stats=False)
    assert_bit_equal(arrays(model, SpectralStat), before)


@pytest.mark.parametrize("lift", [nnx.jit, nnx.remat], ids=["jit", "remat"])
def test_layer_called_twice_is_normalized_once(lift):
    model, kernel = revealed()
    u, sigma = power_steps(kernel, cold(model), 1)
    one, two = lift(lambda model: (model(), model()))(model)
    assert_bit_equal(one, two)
    assert_close(u_and_sigma(model), {"u": u, "sigma": sigma}, 1e-5)
    u2 = np.array(model.stats["kernel"]["u2"][...])
    nnx.jit(lambda model: model())(model)  # the next pass steps again
    want, _ = power_steps(kernel, u, 1, u2)
    assert_same_line(model.stats["kernel"]["u"][...], want, 1e-5)


def test_kernel_that_changes_between_two_calls_is_normalized_anew():
    model, kernel = revealed()
    stepped, _ = revealed()
    u, _ = power_steps(kernel, cold(stepped), 1)
    stepped()
    u2 = np.array(stepped.stats["kernel"]["u2"][...])
    other = np.random.default_rng(6).standard_normal(kernel.shape)

    @nnx.jit
    def forward(model):
        model()
        model.layer_instance.kernel[...] = jnp.asarray(other, jnp.float32)
        return model()

    cold(model)
    _, sigma = power_steps(other, u, 1, u2)
    assert_close(forward(model), other / sigma, 1e-5)


# Options.


@pytest.mark.parametrize("n_steps", [1, 3])
def test_n_steps(n_steps):
    model, kernel = revealed(n_steps=n_steps)
    u, u2 = cold(model), np.eye(5)[0]
    model.stats["kernel"]["u2"][...] = jnp.asarray(u2, jnp.float32)
    u, sigma = power_steps(kernel, u, n_steps, u2)
    assert_close(model(), kernel / sigma, 1e-5)
    assert_same_line(model.stats["kernel"]["u"][...], u, 1e-3)


@pytest.mark.parametrize(("norm_before", "cap", "want"), [
    (3.0, False, 0.7), (0.5, False, 0.7), (3.0, True, 0.7), (0.5, True, 0.5),
])  # fmt: skip
def test_bound_and_cap(norm_before, cap, want):
    kernel = designed(7, 5, norm_before * np.array([1, 0.98, 0.9, 0.5, 0.1]))
    model = SpectralNorm(Reveal(kernel), bound=0.7, cap=cap)
    np.testing.assert_allclose(norm(np.float64(model())), want, 1e-3)


def test_grad_sigma():
    weights = np.random.default_rng(1).standard_normal((7, 5))
    loss = nnx.grad(lambda model: jnp.sum(weights * model()))

    def gradient(grad_sigma):
        model, kernel = revealed(grad_sigma=grad_sigma, bound=2.0)
        return loss(model)["layer_instance"]["kernel"][...], kernel

    held, kernel = gradient(False)
    left, (sigma, *_), right = np.linalg.svd(kernel)
    want = 2.0 * weights / sigma
    assert_close(held, want, 1e-4)
    outer = np.outer(left[:, 0], right[0])
    assert_close(gradient(True)[0], want - np.sum(want * kernel) / sigma * outer, 1e-4)


def test_dtype_is_that_of_the_kernel_used():
    model, _ = revealed(dtype=jnp.bfloat16)
    assert model().dtype == jnp.bfloat16
    assert model.stats["kernel"]["u"].dtype == jnp.float32
    assert model.layer_instance.kernel.dtype == jnp.float32


def test_error_on_non_matrix():
    SpectralNorm(CASES["linear"].make(), error_on_non_matrix=True)
    with pytest.raises(ValueError, match=r"float32\[3,3,4,6\]; need a kernel of two"):
        SpectralNorm(CASES["conv_2d"].make(), error_on_non_matrix=True)


def test_kernels_chooses_what_is_normalized():
    model = SpectralNorm(Block(), kernels={"head/kernel": sx.Matrix()})
    assert set(model.stats) == {"head"}
    want = normalized_by_svd(Block(), {"head/kernel": rows})
    x = jax.random.normal(KEY, (8, 5))
    assert_close(model(x), want(x), 1e-4)


def test_layer_without_a_kernel_is_refused():
    with pytest.raises(ValueError, match="got no kernel among 2 leaves"):
        SpectralNorm(nnx.LayerNorm(5, rngs=nnx.Rngs(0)))


# Training a model; transformations; checkpoints.


def used_norms(model):
    """Returns the norms of the kernels that `Net` uses, by feeding a basis."""
    hidden = model.hidden(jnp.eye(6), update_stats=False)
    head = model.head(jnp.eye(8), update_stats=False)
    return [norm(np.float64(hidden)), norm(np.float64(head))]


# The check of leaks traces anew and collects garbage: half of the test's time.
@pytest.mark.parametrize("leaks", sampled([False, True], [False]))
def test_training_keeps_the_used_kernels_on_the_bound(leaks):
    x = jax.random.normal(KEY, (32, 6))
    labels = jnp.argmax(x[:, :3] * x[:, 3:], axis=1)
    model, n_traces = Net(), []
    optimizer = nnx.Optimizer(model, optax.adam(0.005), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        n_traces.append(1)

        def loss(model):
            cross = optax.softmax_cross_entropy_with_integer_labels
            return cross(model(x), labels).mean()

        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return value

    with jax.check_tracer_leaks(leaks):
        losses = [float(step(model, optimizer))]
    losses.append(float(step(model, optimizer)))
    n_before = len(n_traces)  # the check of leaks may keep its trace or not
    for _ in range(60):
        losses.append(float(step(model, optimizer)))
        np.testing.assert_allclose(used_norms(model), [1, 2], 5e-3)
    assert len(n_traces) == n_before
    assert losses[-1] < 0.9 * losses[0]
    raw = norm(np.float64(model.hidden.layer_instance.kernel[...]))
    assert abs(raw - 1) > 0.1


def test_gradient_is_that_through_the_svd():
    make, shape, _ = CASES["linear"]
    x, model = jax.random.normal(KEY, shape), SpectralNorm(make())
    grads = nnx.grad(lambda model: jnp.sum(jnp.sin(model(x))))(model)

    def loss(kernel):
        sigma = jnp.linalg.svd(kernel, compute_uv=False)[0]
        return jnp.sum(jnp.sin(x @ (kernel / sigma)))

    want = jax.grad(loss)(model.layer_instance.kernel[...])
    assert_close(grads["layer_instance"]["kernel"][...], want, 1e-3)


def test_stack_made_by_vmap():
    make = nnx.vmap(lambda key: SpectralNorm(nnx.Linear(6, 4, rngs=nnx.Rngs(key))))
    model = make(jax.random.split(KEY, 3))
    x = jax.random.normal(KEY, (3, 2, 6))
    kernels = np.float64(model.layer_instance.kernel[...])
    want = np.float64(x) @ kernels / norm(kernels)[:, None, None]
    y = nnx.vmap(lambda model, x: model(x))(model, x)
    assert_close(y, want, 1e-4)
    assert_close(model.stats["kernel"]["sigma"][...], norm(kernels), 1e-4)


def test_wrapper_around_a_stack_sees_each_kernel():
    stack = nnx.vmap(lambda key: nnx.Linear(6, 4, rngs=nnx.Rngs(key)))
    layers = stack(jax.random.split(KEY, 3))
    model = SpectralNorm(layers)
    kernels = np.float64(layers.kernel[...])
    assert_close(model.stats["kernel"]["sigma"][...], norm(kernels), 1e-4)


def test_checkpoint_round_trip():
    model, other = (SpectralNorm(layer(nnx.Linear, 7, 5)()) for _ in range(2))
    model.layer_instance.kernel[...] = jnp.cos(jnp.arange(35.0) ** 2).reshape(7, 5)
    x = jax.random.normal(KEY, (2, 7))
    model(x)
    saved = arrays(model, ...)
    assert set(saved["stats"]["kernel"]) == {"u", "u2", "sigma"}
    state = nnx.state(other)
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, saved))
    nnx.update(other, state)
    assert_bit_equal(other(x), model(x))
    assert_bit_equal(arrays(other, ...), arrays(model, ...))


def test_whole_model_by_the_functions_alone():
    class Model(nnx.Module):
        def __init__(self):
            self.conv = layer(nnx.Conv, 4, 6, (3, 3))()
            self.head = layer(nnx.Linear, 6, 3)()

        def __call__(self, x):
            return self.head(nnx.relu(self.conv(x)).mean((1, 2)))

    x, plain = jax.random.normal(KEY, (2, 5, 5, 4)), Model()
    views = {"conv/kernel": rows, "head/kernel": rows}
    want = normalized_by_svd(plain, views)(x)
    graphdef, params, rest = nnx.split(plain, nnx.Param, ...)
    state = sx.sn_init(params)

    @jax.jit
    def forward(params, state):
        params_sn, state = sx.sn_apply(params, state)
        return nnx.merge(graphdef, params_sn, rest)(x), (params_sn, state)

    y, (params_sn, new) = forward(params, state)
    assert_close(y, want, 1e-4)
    assert jax.tree.structure((params_sn, new)) == jax.tree.structure((params, state))
    assert_bit_equal(params_sn["conv"]["bias"][...], params["conv"]["bias"][...])
    sigma = norm(rows(np.float64(params["conv"]["kernel"][...])))
    assert_close(new["conv"]["kernel"]["sigma"], sigma, 1e-4)
