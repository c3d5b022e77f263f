"""Mean-only batch normalization against numpy and flax's BatchNorm, on one and many."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import specjax.linen
import specjax.nnx
from specjax.normalization import mean_only

X = jax.random.normal(jax.random.key(0), (8, 5, 6)) * 2 + 3
RUNNING = jnp.arange(6.0)


@pytest.mark.parametrize("axis", [-1, 1, 0, (0, 2), (-1, 1)])
def test_the_mean_over_all_other_axes_is_taken_away(axis):
    axes = axis if isinstance(axis, tuple) else (axis,)
    features = sorted(a % 3 for a in axes)
    others = tuple(a for a in range(3) if a not in features)
    running = jnp.ones([X.shape[a] for a in features])
    y, after = jax.jit(functools.partial(mean_only, axis=axis, momentum=0.9))(
        X, running
    )
    mean = np.mean(np.float64(X), axis=others, keepdims=True)
    np.testing.assert_allclose(y, np.asarray(X) - mean, atol=2e-6)
    np.testing.assert_allclose(after, 0.9 + 0.1 * mean.squeeze(others), rtol=1e-6)
    y, same = mean_only(X, running, use_running_average=True, axis=axis)
    np.testing.assert_array_equal(y, np.asarray(X) - 1)
    np.testing.assert_array_equal(same, running)


def test_the_derivative_passes_through_the_mean():
    weight = jax.random.normal(jax.random.key(1), X.shape)

    def loss(x):
        return jnp.sum(mean_only(x, RUNNING)[0] * weight)

    want = weight - weight.mean((0, 1))
    np.testing.assert_allclose(jax.grad(loss)(X), want, atol=1e-6)
    stats = jax.grad(lambda x: mean_only(x, RUNNING)[1].sum())(X)
    np.testing.assert_array_equal(stats, 0)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_mean_that_is_not_finite_shows_and_is_not_kept(bad):
    y, after = mean_only(X.at[0, 0, 2].set(bad), RUNNING)
    assert not jnp.isfinite(y[:, :, 2]).any()
    _, good = mean_only(X, RUNNING)
    np.testing.assert_allclose(after, good.at[2].set(RUNNING[2]), rtol=1e-6)


def test_half_precision_is_summed_in_float32():
    x = jnp.full((4096, 2), 20.0, jnp.float16)  # the sum is past float16
    y, after = mean_only(x, jnp.zeros(2), momentum=0.0)
    assert y.dtype == jnp.float16
    assert after.dtype == jnp.float32
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(after, 20)
    # A mean that bfloat16 does not have.
    y, after = mean_only(
        jnp.array([[300.0], [302.0]], jnp.bfloat16), jnp.zeros(1), momentum=0.0
    )
    np.testing.assert_array_equal(y.astype(np.float32), [[-1], [1]])
    np.testing.assert_array_equal(after, 301)


def over_devices(function, kind):
    """Returns the function of a batch whose slices are on eight devices."""
    match kind:
        case "vmap":
            return jax.vmap(function, axis_name="data")
        case "pmap":
            return jax.pmap(function, axis_name="data")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    whole = P("data")

    def one_slice(x):
        y, stats = function(x[0])
        return y[None], stats[None]

    return jax.jit(
        jax.shard_map(one_slice, mesh=mesh, in_specs=whole, out_specs=(whole, whole))
    )


every_kind = pytest.mark.parametrize("kind", ["vmap", "pmap", "shard_map"])


@every_kind
def test_many_devices_have_one_mean(kind):
    x = X.reshape(8, 1, 5, 6)
    crossed = functools.partial(mean_only, running=RUNNING, axis_name="data")
    y, after = over_devices(crossed, kind)(x)
    want, running = mean_only(X, RUNNING)
    np.testing.assert_allclose(y.reshape(X.shape), want, atol=2e-6)
    for one in after:
        np.testing.assert_allclose(one, running, rtol=1e-6)
    alone = functools.partial(mean_only, running=RUNNING)
    assert jnp.abs(over_devices(alone, kind)(x)[0] - y).max() > 0.1


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_under_jit_a_sharded_batch_needs_no_name(kind):
    want = mean_only(X, RUNNING)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, P("data", None, None)))
        y, after = jax.jit(mean_only)(x, RUNNING)
    np.testing.assert_allclose(y, want[0], atol=2e-6)
    np.testing.assert_allclose(after, want[1], rtol=1e-6)
    assert y.sharding.is_equivalent_to(x.sharding, 3)


def linen_layers(**options):
    ours = specjax.linen.MeanOnlyBatchNorm(**options)
    return ours, nn.BatchNorm(use_scale=False, **options)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.7, "axis": 1}])
def test_linen_carries_what_flax_does(options):
    ours, theirs = linen_layers(**options)
    key, states = jax.random.key(0), []
    for layer in (ours, theirs):
        variables = layer.init(key, X, use_running_average=False)
        state = variables["batch_stats"]
        np.testing.assert_array_equal(state["mean"], 0)  # as it was, after init
        for factor in (1, 2, 3):
            y, new = layer.apply(
                {"params": variables["params"], "batch_stats": state},
                factor * X,
                use_running_average=False,
                mutable=["batch_stats"],
            )
            state = new["batch_stats"]
        states.append(state)
        if layer is ours:
            assert set(state) == {"mean"}
            others = (0, 2) if options else (0, 1)
            want = 3 * X - jnp.mean(3 * X, others, keepdims=True)
            np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(states[0]["mean"], states[1]["mean"], rtol=1e-6)


def test_linen_bias_dtype_and_modes():
    layer = specjax.linen.MeanOnlyBatchNorm(
        use_running_average=True, dtype=jnp.bfloat16, bias_init=nn.initializers.ones
    )
    variables = layer.init(jax.random.key(0), X)
    y = layer.apply(variables, X)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(np.float32), X + 1, rtol=1e-2, atol=1e-2)
    plain = specjax.linen.MeanOnlyBatchNorm(use_bias=False)
    variables = plain.init(jax.random.key(0), X, use_running_average=True)
    assert set(variables) == {"batch_stats"}
    with pytest.raises(
        ValueError, match=r"momentum: got 2\.0; need a number from 0 to 1"
    ):
        specjax.linen.MeanOnlyBatchNorm(momentum=2.0, use_running_average=False).init(
            jax.random.key(0), X
        )


@every_kind
def test_linen_over_devices(kind):
    layer = specjax.linen.MeanOnlyBatchNorm(
        use_running_average=False, axis_name="data", momentum=0.0
    )
    variables = layer.init(jax.random.key(0), X[:1])  # where there is no such axis

    def apply(x):
        y, new = layer.apply(variables, x, mutable=["batch_stats"])
        return y, new["batch_stats"]["mean"]

    y, mean = over_devices(apply, kind)(X.reshape(8, 1, 5, 6))
    np.testing.assert_allclose(y.reshape(X.shape), X - X.mean((0, 1)), atol=2e-6)
    for one in mean:
        np.testing.assert_allclose(one, X.mean((0, 1)), rtol=1e-6)


def test_nnx_carries_what_flax_does():
    ours = specjax.nnx.MeanOnlyBatchNorm(6, momentum=0.8, rngs=nnx.Rngs(0))
    theirs = nnx.BatchNorm(6, momentum=0.8, use_scale=False, rngs=nnx.Rngs(0))
    call = nnx.jit(lambda layer, x: layer(x))
    for factor in (1, 2):
        y = call(ours, factor * X)
        call(theirs, factor * X)
    np.testing.assert_allclose(y, 2 * X - 2 * X.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(ours.mean[...], theirs.mean[...], rtol=1e-6)
    held = ours.mean[...]
    ours.eval()
    np.testing.assert_allclose(ours(X), X - held, atol=1e-6)
    np.testing.assert_array_equal(ours.mean[...], held)
    jax.vmap(ours)(X)  # nothing is written: flax would refuse it here
    ours.train()
    np.testing.assert_allclose(ours(X), X - X.mean((0, 1)), atol=2e-6)
    assert jnp.abs(ours.mean[...] - held).max() > 0
    np.testing.assert_allclose(ours(X, use_running_average=True) + ours.mean[...], X)


def test_nnx_over_devices_bias_and_axis():
    layer = specjax.nnx.MeanOnlyBatchNorm(
        5,
        axis=1,
        axis_name="data",
        bias_init=nnx.initializers.ones,
        dtype=jnp.float32,
        rngs=nnx.Rngs(0),
    )
    graphdef, state = nnx.split(layer)

    def apply(state, x):
        layer = nnx.merge(graphdef, state)
        return layer(x), layer.mean[...]

    apply = jax.vmap(apply, (None, 0), axis_name="data")
    y, mean = apply(state, X.reshape(8, 1, 5, 6))
    want = X.mean((0, 2), keepdims=True)
    np.testing.assert_allclose(y.reshape(X.shape), X - want + 1, atol=2e-6)
    np.testing.assert_allclose(mean, np.tile(want.ravel() / 100, (8, 1)), rtol=1e-5)
    bare = specjax.nnx.MeanOnlyBatchNorm(6, use_bias=False, rngs=nnx.Rngs(0))
    assert not jax.tree.leaves(nnx.state(bare, nnx.Param))
    np.testing.assert_allclose(bare(X), X - X.mean((0, 1)), atol=2e-6)


@pytest.mark.parametrize("how", ["jax", "nnx"])
def test_nnx_inside_a_shard_map(how):
    layer = specjax.nnx.MeanOnlyBatchNorm(
        6, axis_name="data", momentum=0.0, rngs=nnx.Rngs(0)
    )
    over = functools.partial(
        jax.shard_map if how == "jax" else nnx.shard_map,
        mesh=jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(P(), P("data")),
    )
    if how == "nnx":
        y = nnx.jit(over(lambda layer, x: layer(x), out_specs=P("data")))(layer, X)
    else:
        graphdef, state = nnx.split(layer)

        def apply(state, x):
            layer = nnx.merge(graphdef, state)
            return layer(x), nnx.state(layer)

        y, state = jax.jit(over(apply, out_specs=(P("data"), P())))(state, X)
        nnx.update(layer, state)
    np.testing.assert_allclose(y, X - X.mean((0, 1)), atol=2e-6)
    np.testing.assert_allclose(layer.mean[...], X.mean((0, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"axis": 3}, r"axis: got 3 for x of float32\[8,5,6\]; need axes from -3 to 2"),
        ({"axis": (1, -2)}, "axis: got"),
        ({"axis": 1}, r"running: got float32\[6\]; need shape \(5,\)"),
        ({"momentum": 1.5}, "momentum: got 1.5; need a number from 0 to 1"),
    ],
)
def test_bad_input(options, text):
    with pytest.raises(ValueError, match=text):
        mean_only(X, RUNNING, **options)
