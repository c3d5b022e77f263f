"""Kernels inside `shard_map` and `pmap`: whole on each device, or split by hand.

The oracle of the numbers is the single device's kernel; that of the traffic is the
compiled program's text.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import specjax as sx
import specjax.linen
from specjax._core.vectors import hashed_unit_vector
from specjax.linear_maps._sharding import names_on_axis
from specjax.optax import keep_spectral_norm
from tests.cases import Own, norm
from tests.exhaustive import exhaustive
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
FAST = [("experts on batch and out", True), ("dense on both", False)]
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
            marks=[splits] * (checked and name != "dense whole")
            + [exhaustive] * ((name, checked) not in FAST),
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


@splits
@pytest.mark.parametrize("name", CASES)
def test_only_two_vectors_move(name):
    shape, linear_map, spec = CASES[name]
    params, specs, rule = normal(shape), {"w": spec}, {".*": linear_map}
    state_specs = sx.state_specs(params, specs, kernels=rule)
    sn = sx.spectral_norm(kernels=sx.shard_map_kernels(specs, rule))
    state = jax.eval_shape(sx.spectral_norm(kernels=rule).init, params)
    step = by_hand(sn.apply, (specs, state_specs), (specs, state_specs))
    found = collectives(step.lower(params, state).compile().as_text())
    assert {operation for operation, _ in found} <= {"all-reduce"}
    resolved = linear_map.resolve(shape)
    n_kernels = math.prod(resolved.batch_shape)
    sides = math.prod(resolved.one.in_shape) + math.prod(resolved.one.out_shape)
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


@splits
def test_each_device_may_have_a_kernel_of_its_own():
    kernels = {"w": jax.random.normal(jax.random.key(0), (8, *DENSE))}
    spec = P(("a", "b"))
    rule = sx.shard_map_kernels(spec, {".*": STACK})

    def normalized(params):
        return sx.sn_apply(params, sx.sn_init(params, kernels=rule), kernels=rule)[0]

    each = by_hand(normalized, spec, spec)(kernels)["w"]
    np.testing.assert_allclose(norm(np.float64(each)), 1, rtol=1e-3)


@splits
@pytest.mark.parametrize(
    ("linear_map", "rest"),
    [
        (MATRIX, AxisType.Explicit),
        (IMAGE, AxisType.Auto),
        pytest.param(MATRIX, AxisType.Auto, marks=exhaustive),
        pytest.param(IMAGE, AxisType.Explicit, marks=exhaustive),
    ],
)
def test_a_mesh_that_is_held_by_hand_in_part(linear_map, rest):
    params, rule = normal(CONV), {".*": linear_map}
    hand = sx.shard_map_kernels(P(None, None, "a"), rule)
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto, rest))
    spec = P(None, None, "a")

    def normalized(params):
        return sx.sn_apply(params, sx.sn_init(params, kernels=hand), kernels=hand)[0]

    with jax.set_mesh(mesh):
        place = jax.sharding.NamedSharding(mesh, P(None, None, None, "b"))
        split = jax.jit(
            jax.shard_map(normalized, in_specs=spec, out_specs=spec, axis_names={"a"})
        )
        got = split(jax.device_put(params, place))
    want = sx.sn_apply(params, sx.sn_init(params, kernels=rule), kernels=rule)[0]
    np.testing.assert_allclose(got["w"], want["w"], rtol=1e-6, atol=1e-6)


@splits
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.complex64])
def test_other_dtypes_by_hand_and_one_bad_shard(dtype):
    params = {"w": jax.random.normal(jax.random.key(3), DENSE, dtype)}
    spec = P("a", "b")
    rule = sx.shard_map_kernels(spec, {".*": MATRIX})
    specs = sx.state_specs(params, spec, kernels={".*": MATRIX})
    init = by_hand(functools.partial(sx.sn_init, kernels=rule), spec, specs)
    step = by_hand(
        functools.partial(sx.sn_apply, kernels=rule), (spec, specs), (spec, specs)
    )
    state = init(params)
    bad = {"w": params["w"].at[0, 0].set(jnp.nan)}  # in the first device's shard
    after, kept = step(bad, state)
    np.testing.assert_array_equal(np.isnan(after["w"]), np.isnan(bad["w"]))
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    zeros, kept = step(jax.tree.map(jnp.zeros_like, params), kept)
    assert not np.any(zeros["w"])
    good, _ = step(params, kept)
    tol = 1e-2 if dtype == jnp.bfloat16 else 1e-3
    exact = np.asarray(good["w"]).astype(np.complex128)
    np.testing.assert_allclose(norm(exact), 1, rtol=tol)


@splits
def test_second_derivatives_by_hand():
    params, spec = normal(DENSE), P("a", "b")
    rule = {".*": MATRIX}
    state = sx.sn_init(params, kernels=rule)
    direction = normal(DENSE, 5)

    def hessian_product(kernels, total, params, state, direction):
        def loss(params):
            used, _ = sx.sn_apply(params, state, kernels=kernels)
            return total(jnp.sum(jnp.sin(3 * used["w"])))

        gradient = jax.grad(loss)
        return jax.jvp(gradient, (params,), (direction,))[1]

    hand = sx.shard_map_kernels(spec, rule)
    total = functools.partial(jax.lax.psum, axis_name=("a", "b"))
    specs = (spec, sx.state_specs(params, spec, kernels=rule), spec)
    got = by_hand(functools.partial(hessian_product, hand, total), specs, spec)
    want = functools.partial(hessian_product, rule, lambda loss: loss)
    np.testing.assert_allclose(
        got(params, state, direction)["w"],
        want(params, state, direction)["w"],
        rtol=1e-4,
        atol=1e-5,
    )


@splits
def test_the_linen_wrapper_by_hand():
    layer = nn.Dense(24, use_bias=False)
    rule = sx.shard_map_kernels(P(None, "b"))
    alone = specjax.linen.SpectralNorm(layer)
    x = jax.random.normal(jax.random.key(1), (5, 16))
    variables = alone.init(jax.random.key(0), x)
    want, _ = alone.apply(variables, x, mutable=["batch_stats"])
    split = specjax.linen.SpectralNorm(nn.Dense(6, use_bias=False), kernels=rule)
    specs = jax.tree.map(
        lambda leaf: P(*[None] * (leaf.ndim - 1), "b") if leaf.ndim else P(), variables
    )

    def apply(variables, x):
        return split.apply(variables, x, mutable=["batch_stats"])[0]

    got = by_hand(apply, (specs, P()), P(None, "b"))(variables, x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_split_kernel_in_pmap():
    whole = normal(DENSE)["w"]
    rule = sx.shard_map_kernels(P("model"), {".*": MATRIX})

    def normalized(shard):
        params = {"w": shard}
        state = sx.sn_init(params, kernels=rule)
        return sx.sn_apply(params, state, kernels=rule)[0]["w"]

    got = jax.pmap(normalized, axis_name="model")(whole.reshape(8, 2, 24))
    np.testing.assert_allclose(norm(np.float64(got).reshape(DENSE)), 1, rtol=1e-3)


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
        lambda w: sx.sn_fuse({"layer": {"kernel": w}}, {}, method="upper"),
        lambda w: sx.metrics({"layer": {"kernel": w}}, {}),
    ):
        said = refusal(use, P("a"))
        assert said.startswith("layer/kernel: got float32[8,24] that differs along ")
        assert "along the mesh axes a of a shard_map" in said
        assert "kernels=specjax.shard_map_kernels(in_specs" in said
    for use in (
        sx.bounds.exact,
        sx.bounds.upper,
        sx.bounds.lower,
        lambda w: sx.warm_up(w, jnp.ones(24)),
        lambda w: sx.normalize(w, jnp.ones(())),
    ):
        assert "differs along the mesh axes a of a shard_map" in refusal(use, P("a"))
    own = refusal(lambda w: sx.bounds.lower(w, Own()), P("a"))
    assert "specjax.Matrix or specjax.Conv, which take a spec" in own


@pytest.mark.parametrize("spec", [P(), P("a"), P(None, "b")])
def test_a_spec_that_leaves_out_an_axis_is_refused(spec):
    said = refusal(lambda w: sx.bounds.lower(w, sx.Matrix(spec=spec)), P("a", "b"))
    assert said.startswith(
        f"kernel: got float32[{DENSE[0] // 2},{DENSE[1] // 4}] with "
    )
    missing = {"a", "b"} - set(names_in(spec))
    assert f"differs along the mesh axes {', '.join(sorted(missing))} of" in said


def test_a_spec_that_is_not_how_the_kernel_lies_is_refused():
    def use(spec):
        return lambda w: sx.bounds.lower(w, sx.Matrix(spec=spec)).value

    said = refusal(use(P(None, "b")), P())
    assert "is the same along the mesh axis 'b'" in said
    with pytest.raises(ValueError, match="where no mesh axis 'b' is held by hand"):
        use(P(None, "b"))(normal(DENSE)["w"])
    assert "a spec of at most 2 axes" in refusal(use(P(None, None, "b")), P())


@pytest.mark.parametrize("make", [sx.Matrix, functools.partial(sx.Conv, (8, 8))])
def test_a_spec_that_is_none_is_refused(make):
    with pytest.raises(TypeError, match=r"\(spec=...\): got .*UNCONSTRAINED"):
        make(spec=P(P.UNCONSTRAINED))
    for twice in (P("a", "a"), P(("a", "a"))):
        with pytest.raises(ValueError, match="need each mesh axis once"):
            make(spec=twice)


@splits
def test_a_state_that_lies_elsewhere_is_refused():
    params, spec = normal((16, 16)), P("a", "b")
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    rule = sx.shard_map_kernels(spec, {".*": MATRIX})
    state = sx.sn_init(params, kernels={".*": MATRIX})
    wrong = {"w": {"u": P("a"), "u2": P("a"), "sigma": P()}}  # as long as P("b") is

    def step(params, state, update_stats):
        return sx.sn_apply(params, state, kernels=rule, update_stats=update_stats)[0]

    for update_stats in (True, False):
        use = functools.partial(step, update_stats=update_stats)
        by_axes = jax.shard_map(use, mesh=mesh, in_specs=(spec, wrong), out_specs=spec)
        with pytest.raises(ValueError, match=r"split as its side of .* over b"):
            jax.jit(by_axes)(params, state)


@splits
def test_a_sigma_that_differs_between_shards_of_one_kernel_is_refused():
    spec = P("a", "b")

    def use(w, axis):
        sigma = 1.0 + jax.lax.axis_index(axis)
        return sx.normalize(w, sigma, sx.Matrix(spec=spec))

    for axis in ("a", "b"):
        shard = by_hand(functools.partial(use, axis=axis), (spec,), spec)
        with pytest.raises(ValueError, match=rf"sigma: got .* mesh axes {axis} of"):
            shard(normal(DENSE)["w"])


@pytest.mark.parametrize("spec", [P("a", "b"), P("b"), P(("b", "a"))])
def test_a_shard_of_a_hashed_unit_vector_is_that_of_the_whole(spec):
    split = tuple(names_on_axis(spec, axis) for axis in (0, 1))

    def use():
        shape = tuple(
            n // math.prod({"a": 2, "b": 4}[name] for name in names)
            for n, names in zip(DENSE, split, strict=True)
        )
        return hashed_unit_vector(shape, jnp.float32, split)

    got = by_hand(use, (), spec, checked=False)()
    np.testing.assert_array_equal(got, hashed_unit_vector(DENSE, jnp.float32))
    np.testing.assert_allclose(jnp.linalg.norm(got), 1, rtol=0.1)


def test_bounds_refuse_what_an_explicit_mesh_splits():
    with jax.set_mesh(explicit_mesh()):
        split = jax.sharding.reshard(normal(DENSE)["w"], P("a"))
        for use in (sx.bounds.exact, sx.bounds.upper, sx.bounds.singular_values):
            with pytest.raises(ValueError, match="that an explicit mesh splits"):
                use(split)


@splits
def test_bounds_of_a_stack_that_an_explicit_mesh_splits():
    with jax.set_mesh(explicit_mesh()):
        stack = jax.sharding.reshard(normal(EXPERTS)["w"], P("b"))
        upper = sx.bounds.upper(stack, STACK).value
    exact = norm(np.float64(stack))
    assert np.all((exact <= upper) & (upper <= exact * 1.002))


def explicit_mesh():
    return jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)


@splits
def test_what_needs_the_whole_kernel_refuses_a_shard():
    shard = sx.Matrix(spec=P("a"))
    for use in (sx.bounds.exact, sx.bounds.upper, sx.bounds.singular_values):
        said = refusal(lambda w, use=use: use(w, shard), P("a"))
        assert "a shard of a kernel" in said
        assert "bounds.lower" in said
    rule = sx.shard_map_kernels(P("a"))
    upper = functools.partial(sx.sn_apply, kernels=rule, method="upper")
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
    for_all = sx.state_specs(shapes, P(None, "b"))
    assert for_all["Dense_0"]["kernel"]["u"] == P("b")
    with pytest.raises(ValueError, match="query/kernel: got no spec"):
        sx.state_specs(shapes, {"Dense_0": P(), "VmapDense_0": P()})
