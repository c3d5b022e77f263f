"""Kernels inside `shard_map` and `pmap`: whole on each device, or split by hand.

The oracle of the numbers is the single device's kernel; that of the traffic is the
compiled program's text.
"""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import specjax as sx
from specjax.optax import keep_spectral_norm
from tests.cases import Own, norm
from tests.test_mesh import (
    CONV,
    DENSE,
    EXPERTS,
    HEADS,
    IMAGE,
    QUERY,
    STACK,
    collectives,
)

MATRIX = sx.Matrix()
UP = sx.Conv((8, 8), window_strides=2, transposed=True, transpose_kernel=True)
# Shape of the whole kernel, its linear map, how it is split over the mesh ("a", "b").
CASES = {
    "dense whole": (DENSE, MATRIX, P()),
    "dense on in": (DENSE, MATRIX, P("a")),
    "dense on out": (DENSE, MATRIX, P(None, "b")),
    "dense on both": (DENSE, MATRIX, P("a", "b")),
    "dense on in by both": (DENSE, MATRIX, P(("a", "b"))),
    "conv on both": (CONV, MATRIX, P(None, None, "a", "b")),
    "query on all": (QUERY, HEADS, P("a", "b")),
    "experts on batch": (EXPERTS, STACK, P("b")),
    "experts on batch and out": (EXPERTS, STACK, P("b", None, "a")),
    "operator on both": (CONV, IMAGE, P(None, None, "a", "b")),
    "operator up on both": (CONV, UP, P(None, None, "a", "b")),
}
WHOLE = ("dense whole", "experts on batch")  # nothing has to move
UNCHECKED = ("dense whole", "dense on both", "operator on both")
splits = pytest.mark.skipif(
    jax.__version_info__ < (0, 9), reason="jax itself can not, before 0.9"
)
every_case = pytest.mark.parametrize(
    ("name", "checked"),
    [
        pytest.param(
            name,
            checked,
            id=f"{name}-{'' if checked else 'un'}checked",
            marks=[splits] if checked and name != "dense whole" else [],
        )
        for name in CASES
        for checked in (True, False)
        if checked or name in UNCHECKED
    ],
)


def make_mesh():
    return jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)


def by_hand(function, in_specs, out_specs, checked=True):
    return jax.jit(
        jax.shard_map(
            function,
            mesh=make_mesh(),
            in_specs=in_specs,
            out_specs=out_specs,
            check_vma=checked,
        )
    )


def names_in(spec):
    entries = ((e,) if isinstance(e, str) else e for e in spec if e is not None)
    return tuple(name for entry in entries for name in entry)


def normal(shape, seed=3):
    return {"w": jax.random.normal(jax.random.key(seed), shape)}


def everything(kernels, total=lambda loss: loss):
    """Returns a function of all that is computed for a kernel, for one compilation."""
    sn = sx.spectral_norm(kernels=kernels, n_steps=2)

    def compute(params, state, direction):
        def loss(params):
            used = sn.apply(params, state)[0]["w"]
            return total(jnp.sum(used * direction["w"]))

        after, new = sn.apply(params, state)
        fused, gradient = sn.fuse(params, state), jax.grad(loss)(params)
        metrics = sx.metrics(params, state, kernels=kernels)["w"]
        return (after, fused, gradient), new, metrics

    return compute


@every_case
def test_shards_give_what_the_whole_kernel_gives(name, checked):
    shape, linear_map, spec = CASES[name]
    params, specs, rule = normal(shape), {"w": spec}, {".*": linear_map}
    state_specs = sx.state_specs(params, specs, kernels=rule)
    hand = sx.shard_map_kernels(specs, rule)
    want_state = jax.jit(sx.spectral_norm(kernels=rule).init)(params)
    init = sx.spectral_norm(kernels=hand).init
    state = by_hand(init, (specs,), state_specs, checked)(params)
    # Checked, a loss has to be the same on all devices; unchecked, theirs are added up.
    split = names_in(spec) if checked else ()
    total = functools.partial(jax.lax.psum, axis_name=split) if split else lambda x: x
    sigma = state_specs["w"]["sigma"]
    numbers = dict.fromkeys(("sigma", "residual", "frobenius", "stable_rank"), sigma)
    compute = by_hand(
        everything(hand, total),
        (specs, state_specs, specs),
        ((specs,) * 3, state_specs, numbers),
        checked,
    )
    got = compute(params, state, normal(shape, 4))
    want = jax.jit(everything(rule))(params, want_state, normal(shape, 4))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
    jax.tree.map(close, got[0], want[0])
    np.testing.assert_allclose(state["w"]["sigma"], want_state["w"]["sigma"], rtol=1e-6)
    metrics = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-3)
    jax.tree.map(metrics, got[2], want[2])
    for entry in ("u", "sigma"):  # u2 has converged only where there is a gap
        natural = jax.sharding.NamedSharding(make_mesh(), state_specs["w"][entry])
        ndim = got[1]["w"][entry].ndim
        assert got[1]["w"][entry].sharding.is_equivalent_to(natural, ndim)
        tol = 1e-3 if isinstance(linear_map, sx.Conv) else 1e-5
        np.testing.assert_allclose(got[1]["w"][entry], want[1]["w"][entry], atol=tol)


@every_case
def test_only_two_vectors_move(name, checked):
    shape, linear_map, spec = CASES[name]
    params, specs, rule = normal(shape), {"w": spec}, {".*": linear_map}
    state_specs = sx.state_specs(params, specs, kernels=rule)
    sn = sx.spectral_norm(kernels=sx.shard_map_kernels(specs, rule))
    state = jax.eval_shape(sx.spectral_norm(kernels=rule).init, params)
    step = by_hand(sn.apply, (specs, state_specs), (specs, state_specs), checked)
    found = collectives(step.lower(params, state).compile().as_text())
    assert {operation for operation, _ in found} <= {"all-reduce"}
    whole = linear_map.resolve(shape)
    n_kernels = math.prod(shape[axis] for axis in whole.batch_axis)
    one = tuple(n for axis, n in enumerate(shape) if axis not in whole.batch_axis)
    sides = sum(map(math.prod, whole.one().sides(one)))
    n_bytes = sum(size for _, size in found)
    assert n_bytes <= n_kernels * (8 * sides + 64)
    assert (n_bytes == 0) == (name in WHOLE)


@splits
def test_a_random_start_is_the_single_devices():
    params, specs = normal(DENSE), {"w": P("a", "b")}
    rule, key = {".*": MATRIX}, jax.random.key(7)
    # One step from the start: u still depends on it.
    hand = sx.shard_map_kernels(specs, rule)
    specs_of_state = sx.state_specs(params, specs, kernels=rule)
    init = functools.partial(sx.sn_init, kernels=hand)
    got = by_hand(lambda p, k: init(p, key=k), (specs, P()), specs_of_state)(
        {"w": params["w"] * 0}, key
    )
    want = sx.sn_init({"w": params["w"] * 0}, kernels=rule, key=key)
    np.testing.assert_allclose(got["w"]["u"], want["w"]["u"], atol=1e-6)
    assert norm(np.asarray(got["w"]["u"])[None]) == pytest.approx(1, abs=1e-6)


@splits
def test_renormalize_by_hand():
    params, specs = normal(DENSE), {"w": P("a", "b")}
    rule = sx.shard_map_kernels(specs, {".*": MATRIX})
    tx = keep_spectral_norm(kernels=rule)

    def update(params):
        return tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)

    updates = by_hand(lambda params: update(params)[0], (specs,), specs)(params)
    after = np.float64(params["w"]) + np.float64(updates["w"])
    np.testing.assert_allclose(norm(after), 1, rtol=1e-3)


def test_each_device_may_have_a_kernel_of_its_own():
    kernels = jax.random.normal(jax.random.key(0), (8, *DENSE))
    rule = sx.shard_map_kernels(P(), {".*": MATRIX})

    def normalized(stack):
        params = {"w": stack[0]}
        return sx.sn_apply(params, sx.sn_init(params, kernels=rule), kernels=rule)[0]

    spec = P(("a", "b"))
    each = by_hand(lambda stack: normalized(stack)["w"][None], spec, spec)
    np.testing.assert_allclose(norm(np.float64(each(kernels))), 1, rtol=1e-3)


def test_shards_along_a_vmap_with_a_name():
    whole = normal(DENSE)["w"]
    rule = sx.shard_map_kernels(P(None, "model"), {".*": MATRIX})

    def normalized(shard):
        params = {"w": shard}
        state = sx.sn_init(params, kernels=rule)
        return sx.sn_apply(params, state, kernels=rule)[0]["w"]

    shards = jnp.stack(jnp.split(whole, 4, axis=1))
    got = jax.jit(jax.vmap(normalized, axis_name="model"))(shards)
    joined = np.concatenate(np.float64(got), axis=1)
    np.testing.assert_allclose(norm(joined), 1, rtol=1e-3)


def drift(sn, replicated):
    """Returns the state after 100 steps in which the weights move by a percent each."""

    def step(carry, key):
        params, state = carry
        noise = jax.random.normal(key, DENSE) * 0.01
        params = {"w": params["w"] + noise}
        after, state = sn.apply(params, state)
        return (params, state), jnp.sum(after["w"])

    keys = jax.random.split(jax.random.key(1), 100)
    (_, state), _ = jax.lax.scan(step, replicated, keys)
    return state


@pytest.mark.parametrize("how", ["pmap", "checked", "unchecked"])
def test_replicas_agree_bit_for_bit_after_100_steps_and_never_talk(how):
    rule, params = {".*": MATRIX}, normal(DENSE)
    sn = sx.spectral_norm(kernels=rule)
    state = sn.init(params)
    if how == "pmap":
        copies = jax.tree.map(lambda x: np.stack([x] * 8), (params, state))
        run = jax.pmap(functools.partial(drift, sn), axis_name="data")
        after = run(copies)
        program = run.lower(copies).compile().as_text()
    else:
        run = by_hand(functools.partial(drift, sn), P(), P(), how == "checked")
        program = run.lower((params, state)).compile().as_text()
        after = jax.tree.map(
            lambda x: np.stack([shard.data for shard in x.addressable_shards]),
            run((params, state)),
        )
    assert collectives(program) == []
    alone = jax.jit(functools.partial(drift, sn))((params, state))
    for name in ("u", "u2", "sigma"):
        replicas = np.asarray(after["w"][name])
        assert len(replicas) == 8
        np.testing.assert_array_equal(replicas, np.stack([replicas[0]] * 8))
        np.testing.assert_allclose(replicas[0], alone["w"][name], rtol=1e-5, atol=1e-5)


def refusal(function, spec, checked=True, argument=None):
    with pytest.raises((ValueError, TypeError)) as caught:
        by_hand(function, spec, P(), checked)(
            normal(DENSE)["w"] if argument is None else argument
        )
    return str(caught.value)


def test_a_kernel_that_differs_without_a_word_is_refused():
    for use in (
        lambda w: sx.sn_init({"layer": {"kernel": w}}),
        lambda w: sx.sn_fuse({"layer": {"kernel": w}}, {}, norm="upper"),
        lambda w: sx.metrics({"layer": {"kernel": w}}, {}),
    ):
        said = refusal(use, P("a"))
        assert said.startswith(
            "layer/kernel: got float32[8,24] that differs along the "
        )
        assert "mesh axes a of a shard_map" in said
        assert "kernels=specjax.shard_map_kernels(in_specs" in said
    for use in (
        sx.bounds.exact,
        sx.bounds.upper,
        sx.bounds.lower,
        lambda w: sx.warm_up(w, jnp.ones(24)),
        lambda w: sx.normalize(w, jnp.ones(())),
    ):
        assert "differs along the mesh axes a of a shard_map" in refusal(use, P("a"))


def test_a_spec_that_is_not_how_the_kernel_lies_is_refused():
    def use(spec):
        return lambda w: sx.bounds.lower(w, sx.Matrix(spec=spec)).value

    said = refusal(use(P(None, "b")), P())
    assert "is the same along the mesh axis 'b'" in said
    with pytest.raises(ValueError, match="where no mesh axis 'b' is held by hand"):
        use(P(None, "b"))(normal(DENSE)["w"])
    assert "a spec of at most 2 axes" in refusal(use(P(None, None, "b")), P())
    with pytest.raises(TypeError, match=r"Matrix\(spec=...\): got 'b'"):
        inspect.unwrap(sx.Matrix.__init__)(sx.Matrix(), spec="b")


@splits
def test_what_needs_the_whole_kernel_refuses_a_shard():
    shard = sx.Matrix(spec=P("a"))
    for use in (sx.bounds.exact, sx.bounds.upper, sx.bounds.singular_values):
        said = refusal(lambda w, use=use: use(w, shard), P("a"))
        assert "a shard of a kernel" in said
        assert "bounds.lower" in said
    rule = sx.shard_map_kernels(P("a"))
    upper = functools.partial(sx.sn_apply, kernels=rule, norm="upper")
    said = refusal(lambda w: upper({"kernel": w}, {}), P("a"))
    assert "a shard of a kernel" in said


def test_operators_are_split_by_channels_only():
    kernel = normal(CONV)["w"]
    for spec, words, sentence in (
        (P("a"), {}, "a spec that splits channels, not the window"),
        (P(None, None, "a"), {"feature_group_count": 2}, "no groups in a convolution"),
        (P(*(None,) * 4, "a"), {}, "a spec of at most 4 axes"),
    ):
        conv = sx.Conv((8, 8), spec=spec, **words)
        with pytest.raises(ValueError, match=sentence):
            conv.resolve(kernel.shape)


def test_the_rule_names_what_it_misses():
    kernel = normal(DENSE)["w"]
    rule = sx.shard_map_kernels({"Dense_0": {"kernel": P("a")}})
    assert rule(("Dense_0", "kernel"), kernel).spec == P("a")
    assert rule(("Dense_0", "bias"), kernel) is None
    with pytest.raises(ValueError, match="Dense_1/kernel: got no spec"):
        rule(("Dense_1", "kernel"), kernel)
    own = sx.shard_map_kernels({"w": P("a")}, lambda path, leaf: Own())
    with pytest.raises(TypeError, match="need a Matrix or a Conv"):
        own(("w",), kernel)
    whole = sx.shard_map_kernels({"w": P()}, lambda path, leaf: Own())
    assert isinstance(whole(("w",), kernel), Own)


def test_specs_of_the_state_are_those_of_the_output_axes():
    params = {
        "Dense_0": {"kernel": jnp.ones(DENSE), "bias": jnp.ones(24)},
        "query": {"kernel": jnp.ones(QUERY)},
        "VmapDense_0": {"kernel": jnp.ones(EXPERTS)},
    }
    specs = {
        "Dense_0": {"kernel": P("a", "b"), "bias": P("b")},
        "query": P(None, "b"),
        "VmapDense_0": P("b", None, ("a",)),
    }
    shapes = jax.eval_shape(lambda: params)
    found = sx.state_specs(shapes, specs)
    state = sx.sn_init(params)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    assert found["Dense_0"]["kernel"] == {"u": P("b"), "u2": P("b"), "sigma": P()}
    assert found["query"]["kernel"]["u"] == P("b", None)
    stack = found["VmapDense_0"]["kernel"]
    assert (stack["u2"], stack["sigma"]) == (P("b", "a"), P("b"))
    with pytest.raises(ValueError, match="query/kernel: got no spec"):
        sx.state_specs(shapes, {"Dense_0": P(), "VmapDense_0": P()})
