"""Projections of sharded kernels: the single device's results, lying as they did."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
from specjax import constraints
from specjax.optax import clip_weights, keep_projected
from tests.exhaustive import sampled
from tests.test_mesh import collectives, make_mesh

STACK = sx.Matrix(batch_axis=0)
CASES = {
    "dense": ((16, 24), sx.Matrix(), P("a", "b")),
    "conv": ((3, 3, 16, 24), sx.Matrix(), P(None, None, ("a", "b"))),
    "query": ((16, 4, 6), sx.Matrix(in_axis=0, out_axis=(1, 2)), P("a", "b")),
    "experts": ((4, 16, 24), STACK, P("b", None, "a")),
    "stack last": ((16, 24, 4), sx.Matrix(out_axis=1, batch_axis=2), P(None, "a", "b")),
}
FUNCTIONS = {
    "svd": functools.partial(constraints.project_spectral_ball, method="svd"),
    "polar": functools.partial(constraints.project_spectral_ball, method="polar"),
    "orthogonalize": constraints.orthogonalize,
    "bjorck": constraints.bjorck,
    "retract": constraints.retract,
    "soft cap": functools.partial(constraints.spectral_soft_cap, max_update=0.2),
    "hammer": constraints.spectral_hammer,
}
every_case = pytest.mark.parametrize(
    ("name", "kind"),
    sampled(
        [(name, AxisType.Explicit) for name in CASES]
        + [(name, AxisType.Auto) for name in ("dense", "experts")],
        [("conv", AxisType.Explicit), ("experts", AxisType.Auto)],
    ),
    ids=lambda value: getattr(value, "name", value),
)


def plain(name):
    return {"w": jax.random.normal(jax.random.key(3), CASES[name][0])}


def all_of(name, functions=tuple(FUNCTIONS)):
    kernels = {".*": CASES[name][1]}
    return jax.jit(
        lambda params: {f: FUNCTIONS[f](params, kernels=kernels) for f in functions}
    )


@every_case
def test_results_are_the_single_devices_and_lie_as_the_kernel(name, kind):
    want, mesh = all_of(name)(plain(name)), make_mesh(kind)
    with jax.set_mesh(mesh):
        params = jax.device_put(plain(name), NamedSharding(mesh, CASES[name][2]))
        got = all_of(name)(params)
    for function, found in got.items():
        assert jax.typeof(found["w"]) == jax.typeof(params["w"])
        assert found["w"].sharding.is_equivalent_to(
            params["w"].sharding, found["w"].ndim
        )
        # The hammer's vectors are those of a Krylov space: the sums' order shows.
        atol = 3e-5 if function == "hammer" else 2e-5
        np.testing.assert_allclose(found["w"], want[function]["w"], atol=atol)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_stack_stays_split_and_the_hammer_moves_no_kernel(kind):
    mesh = make_mesh(kind)
    with jax.set_mesh(mesh):
        experts = jax.device_put(plain("experts"), NamedSharding(mesh, P("b")))
        program = all_of("experts", ("polar", "orthogonalize", "retract"))
        text = program.lower(experts).compile().as_text()
        assert "all-gather" not in text
        dense = jax.device_put(plain("dense"), NamedSharding(mesh, P("a", "b")))
        found = collectives(
            all_of("dense", ("hammer",)).lower(dense).compile().as_text()
        )
        assert found
        assert max(size for _, size in found) < dense["w"].nbytes / 2
        gathered = all_of("dense", ("polar",)).lower(dense).compile().as_text()
        assert "all-gather" in gathered


@jax.jit
def updated(params, grads):
    """Returns the params after an update that ends in a box, and in a ball."""
    rule = {".*": sx.Matrix()}
    ball = functools.partial(keep_projected, constraints.project_spectral_ball)
    after = {}
    for name, link in {
        "box": clip_weights(0.7, kernels=rule),
        "ball": ball(bound=0.8, kernels=rule),
    }.items():
        tx = optax.chain(optax.sgd(0.1), link)
        updates, _ = tx.update(grads, tx.init(params), params)
        after[name] = optax.apply_updates(params, updates)
    return after


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_updates_that_end_in_a_set(kind):
    grads = {"w": jax.random.normal(jax.random.key(4), CASES["dense"][0])}
    want, mesh = updated(plain("dense"), grads), make_mesh(kind)
    assert np.abs(want["box"]["w"]).max() == pytest.approx(0.7, abs=1e-6)
    with jax.set_mesh(mesh):
        place = NamedSharding(mesh, CASES["dense"][2])
        params, grads = jax.device_put((plain("dense"), grads), place)
        got = updated(params, grads)
    for name, found in got.items():
        assert jax.typeof(found["w"]) == jax.typeof(params["w"])
        assert found["w"].sharding.is_equivalent_to(place, 2)
        np.testing.assert_allclose(found["w"], want[name]["w"], atol=2e-5)


def test_inside_a_shard_map():
    mesh = make_mesh(AxisType.Auto)

    def inside(spec, kernels):
        function = functools.partial(constraints.orthogonalize, kernels=kernels)
        return jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec)

    rules = {".*": sx.Matrix()}
    want = constraints.orthogonalize(plain("dense"), kernels=rules)["w"]
    got = inside(P(), rules)(plain("dense"))["w"]
    np.testing.assert_allclose(got, want, atol=1e-5)
    old = jax.__version_info__ < (0, 9)
    need = (
        "need jax 0.9" if old else "got a shard of a kernel .*; need the whole kernel"
    )
    with pytest.raises(ValueError, match=need):
        inside(P("a"), sx.shard_map_kernels(P("a"), rules))(plain("dense"))


def test_bias_beside_it_is_not_touched():
    params = plain("dense") | {"bias": jnp.arange(3.0)}
    for function in FUNCTIONS.values():
        new = function(params, kernels={"w": sx.Matrix()})
        np.testing.assert_array_equal(new["bias"], params["bias"])
        assert np.abs(new["w"] - params["w"]).max() > 1e-3
