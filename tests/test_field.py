"""What the libraries of the field do wrong, and that specjax does not.

Each test first asserts the fact about the other library. If that fails, the library has
changed: the message quotes the sentence of `docs/design/0002-numbers.md` to update.
The oracle is the float64 SVD.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
from specjax import linen as sx_linen
from specjax import nnx as sx_nnx
from tests.cases import designed, first, norm

KEY = jax.random.key(0)
SHAPE = (24, 16)


def fact(holds: Any, sentence: str) -> None:
    assert holds, f"docs/design/0002-numbers.md is out of date: {sentence!r}"


def gaussian(shape=SHAPE, seed=0):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


# Each runner normalizes one kernel after the other in training, with the state carried,
# and returns the kernels that a layer would use.


class LinenReveal(nn.Module):
    kernel: Callable[[], np.ndarray]

    @nn.compact
    def __call__(self):
        return self.param("kernel", lambda _: jnp.asarray(self.kernel()))


class LinenNet(nn.Module):
    wrapper: Callable[..., nn.Module]
    kernel: Callable[[], np.ndarray] = lambda: gaussian()
    n_calls: int = 1

    @nn.compact
    def __call__(self, **options):
        layer = self.wrapper(LinenReveal(self.kernel))
        used = [layer(**options) for _ in range(self.n_calls)]
        return used[0] if self.n_calls == 1 else used


class NnxReveal(nnx.Module):
    def __init__(self, kernel):
        self.kernel = nnx.Param(jnp.asarray(kernel))

    def __call__(self, x):
        return self.kernel[...]


class EqxReveal(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        return self.weight


def linen_variables(variables, kernel):
    return variables | {"params": {"LinenReveal_0": {"kernel": jnp.asarray(kernel)}}}


def run_linen(wrapper, kernels):
    model = LinenNet(wrapper, lambda: kernels[0])
    options = {"update_stats": True, "mutable": ["batch_stats"]}
    train = jax.jit(functools.partial(model.apply, **options))
    variables = linen_variables(model.init(KEY, update_stats=False), kernels[0])
    for kernel in kernels:
        used, new = train(linen_variables(variables, kernel))
        variables = variables | new
        yield used


def run_nnx(wrapper, kernels):
    model = wrapper(NnxReveal(kernels[0]), rngs=nnx.Rngs(0))
    call = nnx.jit(lambda model: model(None))
    for kernel in kernels:
        model.layer_instance.kernel[...] = jnp.asarray(kernel)
        yield call(model)


def run_haiku(kernels):
    net = hk.transform_with_state(lambda tree: hk.SNParamsTree()(tree))
    tree = lambda kernel: {"linear": {"w": jnp.asarray(kernel)}}  # noqa: E731
    params, state = net.init(KEY, tree(kernels[0]))
    apply = jax.jit(net.apply)
    for kernel in kernels:
        used, state = apply(params, state, None, tree(kernel))
        yield used["linear"]["w"]


def run_equinox(kernels):
    make = eqx.nn.make_with_state(eqx.nn.SpectralNorm)
    layer, state = make(EqxReveal(jnp.asarray(kernels[0])), "weight", key=KEY)
    call = eqx.filter_jit(lambda layer, state: layer(None, state))
    for kernel in kernels:
        layer = eqx.tree_at(lambda sn: sn.layer.weight, layer, jnp.asarray(kernel))
        used, state = call(layer, state)
        yield used


def run_specjax(kernels):
    params = lambda kernel: {"Dense_0": {"kernel": jnp.asarray(kernel)}}  # noqa: E731
    state, apply = sx.sn_init(params(kernels[0])), jax.jit(sx.sn_apply)
    for kernel in kernels:
        used, state = apply(params(kernel), state)
        yield used["Dense_0"]["kernel"]


FLAX = {
    "flax.linen": functools.partial(run_linen, nn.SpectralNorm),
    "flax.nnx": functools.partial(run_nnx, nnx.SpectralNorm),
}
FIELD = FLAX | {"haiku": run_haiku, "equinox": run_equinox}
OURS = {
    "functions": run_specjax,
    "linen": functools.partial(run_linen, sx_linen.SpectralNorm),
    "nnx": functools.partial(run_nnx, sx_nnx.SpectralNorm),
}


def used_by(run: Callable, kernels: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.float64(used) for used in run(kernels)]


def last_norm(run: Callable, kernels: Sequence[np.ndarray]) -> float:
    return norm(used_by(run, kernels)[-1])


# A zero kernel.


def test_zero_kernel():
    kernel = gaussian()
    kernels = [kernel, 0 * kernel, *10 * [kernel]]
    for name, run in FLAX.items():
        off = abs(last_norm(run, kernels) - norm(np.float64(kernel))) < 1e-3
        fact(off, f"A zero kernel sets u to 0 for ever: {name} never normalizes again")
    for name in ("haiku", "equinox"):
        used = used_by(FIELD[name], kernels)
        fact(np.isnan(used[1]).all(), f"A zero kernel: {name} gives NaN")
    for run in OURS.values():
        _, zero, again, *_ = used_by(run, kernels)
        np.testing.assert_array_equal(zero, 0)
        np.testing.assert_allclose(norm(again), 1, 1e-3)


# eps inside the squared norm.


def test_small_kernel():
    unit = designed(*SHAPE, np.array([1, 0.98, 0.9, 0.5, 0.1]))
    small = lambda sigma: 100 * [np.float32(sigma * unit)]  # noqa: E731
    for name, run in FLAX.items():
        sentence = f"eps inside the squared norm: {name} gives norm 1.01 at sigma 1e-5"
        fact(1.005 < last_norm(run, small(1e-5)) < 1.02, sentence)
        fact(last_norm(run, small(1e-6)) > 5, f"{name} gives 1e3 at sigma 1e-6")
        off = abs(last_norm(run, small(1e-7)) - 1) > 0.1
        fact(off, f"{name} is off at sigma 1e-7")
    fact(last_norm(run_haiku, small(0.02)) > 1.2, "Haiku (eps 1e-4): 1.33 at 0.02")
    fact(last_norm(run_haiku, small(0.01)) > 100, "Haiku (eps 1e-4): huge at 0.01")
    for sigma in (0.02, 1e-5, 1e-7, 1e-12, 1e12):
        for run in OURS.values():
            np.testing.assert_allclose(last_norm(run, small(sigma)[:2]), 1, 1e-3)


# One step that is not finite.


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_step(bad):
    kernel = gaussian()
    kernels = [kernel, bad * kernel, kernel]
    for name, run in FIELD.items():
        poisoned = np.isnan(used_by(run, kernels)[-1]).all()
        fact(poisoned, f"One NaN step poisons the stored u for good in {name}")
    for run in OURS.values():
        _, shown, after = used_by(run, kernels)
        np.testing.assert_array_equal(np.float32(shown), bad * kernel)
        np.testing.assert_allclose(norm(after), 1, 1e-3)


# The first use.


def test_first_use():
    kernels = [gaussian((128, 128), seed=3) / 11]
    for run in FLAX.values():
        (first_use,) = used_by(run, kernels)
        sentence = "First use: norm of the 'normalized' kernel 1.17 to 1.42 (flax)"
        fact(1.1 < norm(first_use) < 1.6, sentence)
    (first_use,) = used_by(run_equinox, kernels)
    sentence = "15 warm-up steps leave 1.5 to 2.8 % (equinox)"
    fact(1.005 < norm(first_use) < 1.05, sentence)
    for run in OURS.values():
        (first_use,) = used_by(run, kernels)
        np.testing.assert_allclose(norm(first_use), 1, 1e-3)


# Params that are written to.


def test_params_are_overwritten():
    x = jnp.ones((2, 6))

    class Net(nn.Module):
        wrapper: Callable[..., nn.Module]

        @nn.compact
        def __call__(self, x):
            return self.wrapper(nn.Dense(5))(
                x, update_stats=self.is_mutable_collection("batch_stats")
            )

    def kernel_of(variables):
        return np.asarray(variables["params"]["Dense_0"]["kernel"])

    own = kernel_of(Net(lambda layer: lambda x, **_: layer(x)).init(KEY, x))

    def after(wrapper):
        variables = Net(wrapper).init(KEY, x)
        moved = variables | {
            "params": jax.tree.map(lambda p: 2 * p, variables["params"])
        }
        _, new = Net(wrapper).apply(moved, x, mutable=True)
        return kernel_of(variables), kernel_of(new), kernel_of(moved)

    at_init, new, given = after(nn.SpectralNorm)
    fact((at_init != own).any(), "flax.linen init overwrites the params")
    fact((new != given).any(), "flax.linen apply(mutable=True) overwrites the params")
    at_init, new, given = after(sx_linen.SpectralNorm)
    np.testing.assert_array_equal(at_init, own)
    np.testing.assert_array_equal(new, given)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_nnx_params_are_overwritten(mode):
    def after(wrapper):
        model = wrapper(NnxReveal(gaussian()), rngs=nnx.Rngs(0))
        getattr(model, mode)()
        model(None)
        return np.asarray(model.layer_instance.kernel[...])

    overwritten = (after(nnx.SpectralNorm) != gaussian()).any()
    fact(overwritten, f"flax.nnx overwrites the params on every call ({mode})")
    np.testing.assert_array_equal(after(sx_nnx.SpectralNorm), gaussian())


# Selection by rank.


def test_attention():
    x = jnp.ones((2, 5, 12))

    class Net(nn.Module):
        wrapper: Callable[..., nn.Module]

        @nn.compact
        def __call__(self, x, **options):
            return self.wrapper(nn.MultiHeadDotProductAttention(3))(x, **options)

    def train(wrapper):
        model = Net(wrapper)
        init = jax.jit(functools.partial(model.init, update_stats=False))
        variables = init(KEY, x)
        # Other biases than zero, so that flax's u does not die on them.
        params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(
            p.shape), variables["params"])  # fmt: skip
        step = jax.jit(functools.partial(
            model.apply, update_stats=True, mutable=["batch_stats"]))  # fmt: skip
        for _ in range(30):
            _, new = step(variables | {"params": params}, x)
            variables = variables | new
        kernel = np.float64(next(iter(params.values()))["query"]["kernel"])
        return new["batch_stats"]["SpectralNorm_0"], norm(first(kernel))

    stats, true = train(nn.SpectralNorm)
    prefix = "MultiHeadDotProductAttention_0/query"
    biases = f"{prefix}/bias/u" in stats
    fact(biases, "attention biases of shape (heads, head_dim) are normalized")
    off = abs(stats[f"{prefix}/kernel/sigma"] / true - 1) > 0.05
    fact(off, "q/k/v kernels are reshaped to the wrong matrix")
    stats, true = train(sx_linen.SpectralNorm)
    assert set(stats["query"]) == {"kernel"}
    np.testing.assert_allclose(stats["query"]["kernel"]["sigma"], true, 1e-4)


# Boxes and shardings.


def test_partitioned_params():
    init = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
    x = jax.random.normal(KEY, (2, 6))

    def run(wrapper):
        model = wrapper(nn.Dense(5, kernel_init=init))
        variables = model.init(KEY, x, update_stats=False)
        (params,) = variables["params"].values()
        return model.apply(variables, x, update_stats=False), params["kernel"].value

    try:
        run(nn.SpectralNorm)
        crashed = False
    except Exception:
        crashed = True
    fact(crashed, "nn.with_partitioning params crash flax.linen.SpectralNorm")
    y, kernel = run(sx_linen.SpectralNorm)
    want = np.float64(x) @ np.float64(kernel) / norm(np.float64(kernel))
    np.testing.assert_allclose(y, want, 1e-4, 1e-4)


def mesh_of(axis_type):
    return jax.make_mesh((4,), ("x",), axis_types=(axis_type,))


def test_kernel_sharded_on_an_explicit_mesh():
    mesh = mesh_of(AxisType.Explicit)
    kernel = jax.device_put(gaussian(), NamedSharding(mesh, P("x", None)))

    def run(wrapper):
        model = LinenNet(wrapper)
        variables = model.init(KEY, update_stats=False)
        with jax.set_mesh(mesh):
            return jax.jit(functools.partial(model.apply, update_stats=False))(
                linen_variables(variables, kernel)
            )

    try:
        run(nn.SpectralNorm)
        refused = False
    except Exception as error:
        refused = "Sharding" in type(error).__name__
    fact(refused, "an explicitly sharded mesh raises ShardingTypeError")
    used = run(sx_linen.SpectralNorm)
    assert used.sharding.spec == P("x", None)


def test_kernel_of_a_conv_stays_where_it_is():
    mesh = mesh_of(AxisType.Auto)
    shape = (3, 3, 16, 8)
    sharding = NamedSharding(mesh, P(None, None, "x", None))

    def gathered(model, variables):
        put = lambda a: jax.device_put(a, sharding if a.shape == shape else None)  # noqa: E731
        run = functools.partial(model.apply, update_stats=True, mutable=["batch_stats"])
        text = jax.jit(run).lower(jax.tree.map(put, variables)).compile().as_text()
        return [line for line in text.splitlines() if " all-gather(" in line]

    def lines(wrapper):
        model = LinenNet(wrapper, lambda: gaussian(shape))
        return gathered(model, model.init(KEY, update_stats=False))

    whole = [line for line in lines(nn.SpectralNorm) if "[3,3,16,8]" in line]
    fact(whole, "an in-sharded conv kernel is all-gathered whole")
    assert not lines(sx_linen.SpectralNorm)


# Evaluation, and a layer that is called twice.


def with_cold_u(variables, kernel):
    """Returns the variables of a `LinenNet` with a random u, wherever it is."""

    def cold(a):
        u = gaussian(a.shape, 5)
        return jnp.asarray(u / np.linalg.norm(u)) if a.ndim else a

    stats = jax.tree.map(cold, variables["batch_stats"])
    return linen_variables(variables | {"batch_stats": stats}, kernel)


def test_evaluation_iterates_again():
    kernel = gaussian()

    def evaluate(wrapper):
        model = LinenNet(wrapper)
        variables = with_cold_u(model.init(KEY, update_stats=False), kernel)
        u = next(a for a in jax.tree.leaves(variables["batch_stats"]) if a.ndim)
        used = model.apply(variables, update_stats=False)
        factor = np.float64(used[0, 0] / kernel[0, 0])
        u = np.float64(u).reshape(-1)
        u = u / np.linalg.norm(u)
        stored, v = np.linalg.norm(kernel @ u), kernel @ u
        stepped = np.linalg.norm(kernel.T @ v) / np.linalg.norm(v)
        return 1 / factor, stored, stepped

    sigma, stored, stepped = evaluate(nn.SpectralNorm)
    fact(
        abs(sigma / stepped - 1) < 1e-4 < abs(stepped / stored - 1),
        "Eval iterates again",
    )
    sigma, stored, stepped = evaluate(sx_linen.SpectralNorm)
    np.testing.assert_allclose(sigma, stored, 1e-4)


def test_layer_called_twice():
    def used_twice(wrapper):
        model = LinenNet(wrapper, n_calls=2)
        variables = with_cold_u(model.init(KEY, update_stats=False), gaussian())
        return model.apply(variables, update_stats=True, mutable=["batch_stats"])[0]

    one, two = used_twice(nn.SpectralNorm)
    sentence = "a layer called twice in one forward gets two different kernels"
    fact(jnp.abs(one / two - 1).max() > 0.01, sentence)
    one, two = used_twice(sx_linen.SpectralNorm)
    np.testing.assert_array_equal(one, two)


# The gradient of a cold step, and the drift of a warm one.


def test_gradient_of_the_first_step():
    kernel, weights = jnp.asarray(gaussian()), gaussian(seed=9)

    def by_svd(kernel):
        return jnp.sum(weights * kernel / jnp.linalg.svd(kernel, compute_uv=False)[0])

    want = jax.grad(by_svd)(kernel)

    def error(model, variables):
        def loss(kernel):
            used, _ = model.apply(
                linen_variables(variables, kernel),
                update_stats=True,
                mutable=["batch_stats"],
            )
            return jnp.sum(weights * used)

        return jnp.linalg.norm(jax.grad(loss)(kernel) - want) / jnp.linalg.norm(want)

    theirs, ours = LinenNet(nn.SpectralNorm), LinenNet(sx_linen.SpectralNorm)
    variables = theirs.init(KEY, update_stats=False)
    sentence = "Gradient with u, v constant is far from the truth at one cold step"
    fact(error(theirs, variables) > 0.1, sentence)
    variables = ours.init(KEY)
    state = {"SpectralNorm_0": sx.sn_init({"kernel": kernel})}
    assert error(ours, variables | {"batch_stats": state}) < 1e-4


def test_one_warm_step_is_enough():
    rng, kernel = np.random.default_rng(4), gaussian((64, 48)) / 15
    kernels = []
    for _ in range(30):
        kernels.append(np.float32(kernel))
        drift = rng.standard_normal(kernel.shape)
        kernel = kernel + 0.01 * norm(kernel) * drift / norm(drift)
    assert norm(kernels[-1] - kernels[0]) > 0.03
    norms = [norm(used) for used in used_by(run_specjax, kernels)]
    np.testing.assert_allclose(norms, 1, 1e-3)
