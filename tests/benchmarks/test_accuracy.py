"""Accuracy per cost: the adapters, the counts of passes, and what is followed.

Each adapter is held against its library's own Dense layer, the counts against the
program before XLA, and what is measured against kernels whose norm is known.
"""

import functools
import importlib
import itertools
import types

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from benchmarks.accuracy import field as fields
from benchmarks.accuracy import jax_rivals, kernels, other_rivals, ours
from benchmarks.accuracy.drift import drift
from benchmarks.accuracy.method import Method, Passes, as_it_is, out_first, sigma_used
from benchmarks.accuracy.passes import reads, writes
from benchmarks.accuracy.plots import draw
from benchmarks.accuracy.tables import tables

gan = importlib.import_module("benchmarks.accuracy.gan")

SHAPE = (24, 16)
N_UPDATES = 3


def moving(shape=SHAPE):
    rng = np.random.default_rng(3)
    kernel = rng.standard_normal(shape)
    for _ in range(N_UPDATES):
        kernel = kernel + 0.3 * rng.standard_normal(shape)
        yield np.float32(kernel)


@functools.cache
def trajectories():
    return kernels.trajectories(quick=True)


@functools.cache
def adapter_sigmas(factory):
    """Returns the sigmas of an adapter's updates, and the state it started with."""
    method, first = factory(1), next(moving())
    start = state = method.start(method.layout(first), 0)
    sigmas = []
    for kernel in moving():
        kernel = method.layout(kernel)
        used, state = method.step(state, kernel)
        sigmas.append(sigma_used(kernel, used))
    return sigmas, start


# The adapters, against the library's own layer.


def test_linen_is_flax():
    sigmas, start = adapter_sigmas(jax_rivals.linen)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.SpectralNorm(nn.Dense(SHAPE[1], use_bias=False))
            return layer(x, update_stats=True)

    def renamed(stats, old, new):
        return {
            module: {key.replace(old, new): value for key, value in one.items()}
            for module, one in stats.items()
        }

    stats = renamed(start, "_LinenLayer_0", "Dense_0")
    for kernel, sigma in zip(moving(), sigmas, strict=True):
        variables = {"params": {"Dense_0": {"kernel": kernel}}, "batch_stats": stats}
        x = jnp.ones((1, SHAPE[0]))
        _, new = Net().apply(variables, x, mutable=["batch_stats"])
        stats = new["batch_stats"]
        want = stats["SpectralNorm_0"]["Dense_0/kernel/sigma"]
        np.testing.assert_allclose(sigma, want, 1e-5)


def test_nnx_is_flax():
    sigmas, _ = adapter_sigmas(jax_rivals.nnx_layer)
    layer = nnx.Linear(*SHAPE, use_bias=False, rngs=nnx.Rngs(1))
    model = nnx.SpectralNorm(layer, rngs=nnx.Rngs(0))
    for kernel, sigma in zip(moving(), sigmas, strict=True):
        layer.kernel[...] = jnp.asarray(kernel)
        model(jnp.ones((1, SHAPE[0])))
        np.testing.assert_allclose(
            sigma, model.batch_stats["kernel", "sigma"][...], 1e-5
        )


def test_haiku_is_haiku():
    sigmas, start = adapter_sigmas(jax_rivals.haiku)
    net = hk.transform_with_state(lambda kernel: hk.SpectralNorm()(kernel))
    (values,) = start.values()
    state = {"spectral_norm": values}
    for kernel, sigma in zip(moving(), sigmas, strict=True):
        _, state = net.apply({}, state, None, kernel)
        np.testing.assert_allclose(sigma, state["spectral_norm"]["sigma"], 1e-5)


def test_equinox_is_equinox():
    sigmas, _ = adapter_sigmas(jax_rivals.equinox)
    linear = eqx.nn.Linear(*SHAPE, use_bias=False, key=jax.random.key(1))

    def with_weight(layer, kernel):
        return eqx.tree_at(lambda one: one.weight, layer, jnp.asarray(kernel.T))

    make = eqx.nn.make_with_state(eqx.nn.SpectralNorm)
    first = with_weight(linear, next(moving()))
    layer, state = make(first, "weight", key=jax.random.key(0))
    x = jnp.ones(SHAPE[0])
    for kernel, sigma in zip(moving(), sigmas, strict=True):
        layer = eqx.tree_at(lambda sn: sn.layer.weight, layer, jnp.asarray(kernel.T))
        y, state = layer(x, state)
        np.testing.assert_allclose((kernel.T @ x)[0] / sigma, y[0], 1e-5)


def test_torch_is_torch():
    torch = pytest.importorskip("torch")
    sigmas, _ = adapter_sigmas(other_rivals.torch_layer)
    torch.manual_seed(0)
    layer = torch.nn.Linear(*SHAPE, bias=False)
    layer.weight.data = torch.from_numpy(next(moving()).T.copy())
    torch.nn.utils.parametrizations.spectral_norm(layer)
    x = torch.ones(SHAPE[0])
    for kernel, sigma in zip(moving(), sigmas, strict=True):
        layer.parametrizations.weight.original.data = torch.from_numpy(kernel.T.copy())
        y = layer(x).detach().numpy()
        np.testing.assert_allclose(kernel.sum(0) / sigma, y, 1e-4, 1e-5)


def with_keras():
    """Returns the adapter; keras must be told of jax before it is imported."""
    try:
        return other_rivals.keras_layer(1)
    except ImportError as error:
        pytest.skip(str(error))


def test_keras_is_keras():
    with_keras()
    sigmas, start = adapter_sigmas(other_rivals.keras_layer)
    import keras

    dense = keras.layers.Dense(SHAPE[1], use_bias=False)
    layer = keras.layers.SpectralNormalization(dense)
    layer.build((1, SHAPE[0]))
    layer.vector_u.assign(start[0])
    x = np.ones((1, SHAPE[0]), np.float32)
    for kernel, sigma in zip(moving(), sigmas, strict=True):
        dense.kernel.assign(kernel)
        y = np.asarray(layer(x, training=True))
        np.testing.assert_allclose(kernel.sum(0) / sigma, y[0], 1e-4, 1e-5)


def test_ours_is_the_svd():
    sigmas, _ = adapter_sigmas(ours.functions)
    true = [np.linalg.svd(np.float64(kernel))[1][0] for kernel in moving()]
    np.testing.assert_allclose(sigmas[0], true[0], 1e-3)
    assert all(s <= t * (1 + 1e-6) for s, t in zip(sigmas, true, strict=True))


# The counts.


def products(jaxpr, size):
    """Returns how many products with an array of this size a jaxpr has, as written."""
    total = 0
    for line in jaxpr.eqns:
        large = [v for v in line.invars if v.aval.size == size]
        total += line.primitive.name == "dot_general" and bool(large)
        inner = [p.jaxpr for p in line.params.values() if hasattr(p, "jaxpr")]
        total += sum(products(one, size) for one in inner)
    return total


# All write three products; XLA finds two of them to be one, but for equinox, whose
# sigma is another product than the step's.
@pytest.mark.parametrize(("name", "merged"), [
    ("linen", 1), ("nnx_layer", 1), ("haiku", 1), ("equinox", 0),
])  # fmt: skip
@pytest.mark.parametrize("shape", [SHAPE, (3, 3, 4, 8)], ids=str)
def test_passes_are_those_of_the_jaxpr(name, merged, shape):
    method = getattr(jax_rivals, name)(1)
    kernel = next(moving(shape))
    laid_out = jnp.asarray(method.layout(kernel))
    state = method.start(laid_out, 0)
    written = products(jax.make_jaxpr(method.step)(state, laid_out).jaxpr, kernel.size)
    assert written == 3
    assert method.passes(kernel).update == written - merged


def test_passes_at_the_start():
    kernel = next(moving())
    assert jax_rivals.linen(1).passes(kernel).start == 0
    assert jax_rivals.equinox(1).passes(kernel).start == 2 * 15


def test_passes_of_torch():
    pytest.importorskip("torch")
    # Two products a step; and W v for sigma.
    counted = other_rivals.torch_layer(1).passes(next(moving()))
    assert counted == Passes(start=2 * 15, update=3)
    assert other_rivals.torch_layer(2).passes(next(moving())).update == 5


def test_passes_of_keras():
    # Flax's two, and one for the test whether the kernel is zero.
    assert with_keras().passes(next(moving())).update == 3


def test_a_transposed_copy_is_no_pass_but_is_counted():
    # So large that XLA's CPU compiler writes the transposed kernel.
    counted = jax_rivals.linen(1).passes(np.ones((1024, 4608), np.float32))
    assert counted == Passes(start=0, update=2, copies=counted.copies)


def test_passes_of_ours():
    assert ours.functions(1).passes(next(moving())).update <= 2


def test_reads_of_known_programs():
    kernel, x = jnp.ones(SHAPE), jnp.ones(SHAPE[1])

    def text(function):
        return jax.jit(function).lower(kernel, x).compile().as_text()

    def of(function):
        return reads(text(function), 24 * 16)

    def loop(kernel, x):
        step = lambda x, _: (jnp.tanh((kernel @ x) @ kernel), None)  # noqa: E731
        return lax.scan(step, x, length=7)[0]

    def either(kernel, x):
        twice = lambda: (kernel @ x) @ kernel  # noqa: E731
        return lax.cond(x[0] > 0, twice, lambda: x[0] * jnp.ones(24) @ kernel)

    assert of(lambda kernel, x: kernel @ x) == 1
    assert of(lambda kernel, x: kernel @ x + kernel @ x) == 1  # merged
    assert of(lambda kernel, x: kernel / x[0]) == 0  # what is used, not sigma
    assert of(lambda kernel, x: x + 1) == 0
    assert of(loop) == 14
    assert of(either) == 2
    assert writes(text(lambda kernel, x: kernel @ x), 24 * 16) == 0
    assert writes(text(lambda kernel, x: (kernel / x[0], kernel + 1)), 24 * 16) == 2


# What is followed.


@pytest.mark.parametrize("shape", [(7, 20), (20, 7), (3, 3, 4, 5)])
def test_true_sigma_is_the_svds(shape):
    kernel = np.float32(np.random.default_rng(0).standard_normal(shape))
    matrix = np.float64(kernel).reshape(-1, shape[-1])
    want = np.linalg.svd(matrix, compute_uv=False)[0]
    np.testing.assert_allclose(kernels.true_sigma(kernel), want, 1e-12)


def test_drift_is_one_percent():
    gaussian = trajectories()[0]
    path = [gaussian.first(), *gaussian.drifting(3)]
    for before, after in itertools.pairwise(path):
        share = np.linalg.norm(after - before) / np.linalg.norm(gaussian.first())
        np.testing.assert_allclose(share, 0.01, 1e-4)


def test_the_second_overtakes_the_first():
    overtaking = trajectories()[3]

    def leading(t):
        kernel = overtaking.base(t)
        squares, u = np.linalg.eigh(kernel @ kernel.T)
        return u[:, -1], np.sqrt(squares[-2:])

    (first, before), (last, after) = leading(0.0), leading(1.0)
    assert abs(first @ last) < 1e-8
    np.testing.assert_allclose(before, [0.9, 1])
    np.testing.assert_allclose(after, [0.9, 1])


def spy(error):
    """Returns a method whose sigma is off by `error`, and what it saw."""
    seen = []

    def step(state, kernel):
        seen.append(kernel)
        norm = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]))[1][0]
        return kernel / np.float32(norm * (1 + error)), state

    start = lambda kernel, seed: None  # noqa: E731
    return Method(start, step, as_it_is, lambda kernel: Passes(0, 2)), seen


def test_every_method_follows_the_same_kernels(monkeypatch):
    monkeypatch.setattr("benchmarks.accuracy.drift._SETTLE", 2)
    (one, seen), (other, seen_too) = spy(-0.01), spy(0.02)
    found = fields.Field(
        {("one", 1): one, ("other", 1): other},
        {("one", 1): Passes(0, 2), ("other", 1): Passes(0, 2)},
        {},
    )
    small = kernels.Trajectory("small", (6, 5), lambda t: np.eye(6, 5) + 1)
    rows = drift(found, small, 4, (1,))["rows"]
    np.testing.assert_array_equal(np.stack(seen), np.stack(seen_too))
    own, settled = rows[0], rows[2]
    assert (own["start"], settled["start"]) == ("own", "converged")
    np.testing.assert_allclose(own["errors"], -0.01, 1e-4)
    np.testing.assert_allclose(rows[1]["largest"], 0.02, 1e-4)
    # Two updates to settle, then every kernel once for either start.
    assert len(seen) == 2 + 2 * 4


def test_gan_norms_are_those_of_what_is_used():
    sequence = [{"a": kernel, "b": kernel[:8]} for kernel in moving()]
    norms = gan._norms(spy(-0.2)[0], sequence)
    assert norms.shape == (N_UPDATES, 2)
    np.testing.assert_allclose(norms, 1 / 0.8, 1e-5)


def test_gan_kernels_are_those_before_each_update(monkeypatch):
    def state_of(kernel):
        layer = {"kernel": kernel, "bias": kernel[0]}
        return types.SimpleNamespace(discriminator={"Conv_0": layer})

    seeds = []

    def step(state, real, seed):
        seeds.append(int(seed))
        held = state.discriminator["Conv_0"]["kernel"]
        new = held * 2
        held[:] = np.nan  # as a donated array is gone
        return state_of(new), {}

    def first_state(config, mesh):
        return state_of(np.full(SHAPE, 1 + config.seed, float))

    monkeypatch.setattr(gan, "first_state", first_state)
    lowered = types.SimpleNamespace(compile=lambda options: step)
    jitted = types.SimpleNamespace(lower=lambda state, real, seed: lowered)
    monkeypatch.setattr(gan, "make_train_step", lambda *_: jitted)
    runs = list(gan.discriminators(3, n_seeds=2))
    found = [[one["Conv_0"][0, 0] for one in run] for run in runs]
    assert found == [[1, 2, 4], [2, 4, 8]]
    assert seeds == [0, 0, 0, 1, 1, 1]


def test_gan_has_a_curve_for_each_run(monkeypatch):
    kernels = list(moving())
    runs = [[{"a": factor * kernel} for kernel in kernels] for factor in (1, 3)]
    monkeypatch.setattr(gan, "discriminators", lambda n, n_seeds: runs)
    method, seen = spy(-0.2)
    started = []

    def start(kernel, seed):
        started.append((seed, kernel[0, 0] / kernels[0][0, 0]))

    found = fields.Field({("one", 1): method._replace(start=start)}, {}, {})
    norms = gan.gan(found, N_UPDATES, n_seeds=2)["norms"]["one"]
    assert started == [(0, 1), (1, 3)]
    np.testing.assert_array_equal(
        np.stack(seen), [one["a"] for run in runs for one in run]
    )
    for curves in norms.values():
        np.testing.assert_allclose(curves, np.full((2, N_UPDATES), 1 / 0.8), 1e-5)


# What comes out.


def test_a_library_that_is_not_there_is_named(monkeypatch):
    def absent(n_steps):
        raise ImportError("No module named 'torch'")

    there = spy(0)[0]
    factories = {"specjax": lambda n_steps: there, "torch": absent}
    monkeypatch.setattr(fields, "FACTORIES", factories)
    found = fields.field(next(moving()))
    assert list(found.with_steps(1)) == ["specjax"]
    assert found.missing == {"torch": "No module named 'torch'"}


def test_tables_and_figures(tmp_path):
    curve = {"updates": [1, 5, 20, 100], "passes": [2, 10, 40, 200]}
    curve |= {"errors": [0.25, 0.125, 0.01, 1e-5]}
    row = {"method": "specjax", "n_steps": 1, "passes": 2, "errors": []}
    rows = [
        row | {"start": "own", "largest": 0.5, "median": 0.25},
        row | {"start": "converged", "largest": 2e-4, "median": 1e-5},
    ]
    norms = [1.4, 1.2, *[1.0] * 8, *[1.5] * 40]
    low, high = [1.2] + [1.0] * 49, [1.4] + [1.0] * 49
    results = {
        "methods": ["specjax"],
        "missing": {"torch": "No module named 'torch'"},
        "passes": [
            {"method": "specjax", "n_steps": 1, "start": 130, "update": 2, "copies": 0}
        ],
        "cold": [
            {"kernel": "K", "curves": {"specjax": curve, "specjax.warm_up": curve}}
        ],
        "drift": [{"kernel": f"K{i}", "updates": 9, "rows": rows} for i in range(4)],
        "gan": {
            "updates": 50,
            "kernels": {"Conv_0": [3, 3, 1, 16]},
            "norms": {"specjax": {"largest": [norms], "median": [low, high]}},
        },
    }
    text = tables(results)
    for line in (
        "| specjax | 1 | 130 | 2 | 0 |",
        "| specjax | 25.00 % (2) | 12.50 % (10) | 1.00 % (40) | 1.0e-05 (200) |",
        "| specjax | 1 | 2 |" + " 2.0e-04 / 1.0e-05 |" * 4,
        "| method | 1 | 1 to 10 | 11 to 50 | 1 to 50 | at most |",
        "| specjax | 1.4000 | 1.0600 | 1.5000 | 1.4120 | 1.5000 |",
        # The root of ((.1^2 + .1^2) / 1 / 2) for two runs, and a tenth for ten updates.
        "| specjax | 1.3000 ±0.1000 | 1.0300 ±0.0100 | 1.0000 ±0.0000 | "
        "1.0060 ±0.0020 | 1.4000 |",
        "torch: not measured, No module named 'torch'",
    ):
        assert line in text
    draw(results, tmp_path)
    for name in ("accuracy_passes.png", "accuracy_gan.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_out_first_is_the_matrix():
    kernel = np.arange(24.0).reshape(2, 3, 4)
    assert out_first(kernel).shape == (4, 6)
    np.testing.assert_array_equal(out_first(kernel)[1], kernel[..., 1].ravel())
