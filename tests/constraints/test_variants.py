"""Sigma-reparametrization and bidirectional spectral normalization against SVDs."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax import constraints as sc
from tests.cases import CASES, designed, enable_x64, norm

BY_NAME = {case.name: case for case in CASES}
some_cases = pytest.mark.parametrize(
    "case",
    [BY_NAME[name] for name in ("conv_2d", "attention", "vmap_stack", "boxed")],
    ids=lambda case: case.name,
)


def leaf_of(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return tree


@some_cases
def test_the_gain_starts_at_sigma_and_is_the_norm(case):
    params = case.make()
    split, state = jax.jit(functools.partial(sc.sr_init, kernels=case.kernels))(params)
    apply = jax.jit(functools.partial(sc.sr_apply, kernels=case.kernels))
    merged, state = apply(split, state)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3), merged, params
    )
    for path, want in case.norms(params).items():
        np.testing.assert_allclose(leaf_of(split["g"], path), want, rtol=1e-3)
    # The gain is the norm, whatever becomes of the direction.
    split["g"] = jax.tree.map(lambda g: 3 * g + 1, split["g"])
    split["v"] = jax.tree.map(lambda v: 7 * v, split["v"])
    merged, after = apply(split, state)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    fused = sc.sr_fuse(split, state, kernels=case.kernels)
    for tree in (merged, fused):
        for path, found in case.norms(tree).items():
            np.testing.assert_allclose(found, leaf_of(split["g"], path), rtol=1e-3)
    for path, sigma in case.norms(split["v"]).items():
        held = leaf_of(after, path)["sigma"]
        np.testing.assert_allclose(held, sigma, rtol=1e-3)


def test_gradients_of_gain_and_direction():
    with enable_x64():
        w = designed(6, 5, np.array([3, 2, 1, 0.5, 0.1]))
        d = np.random.default_rng(0).standard_normal(w.shape)
        split, state = sc.sr_init({"kernel": jnp.asarray(w)})
        split["g"]["kernel"] = jnp.asarray(1.7)

        def ours(split):
            return jnp.sum(sc.sr_apply(split, state, n_steps=9)[0]["kernel"] * d)

        def oracle(split):
            v = split["v"]["kernel"]
            leading = jnp.linalg.svd(v, compute_uv=False)[0]
            return jnp.sum(split["g"]["kernel"] * v / leading * d)

        got, want = jax.jit(jax.grad(ours))(split), jax.grad(oracle)(split)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
            got,
            want,
        )
        inner = jnp.sum(got["v"]["kernel"] * w)
        np.testing.assert_allclose(inner, 0, atol=1e-12)

        def stopped(split):
            after, _ = sc.sr_apply(split, state, n_steps=9, grad_sigma=False)
            return jnp.sum(after["kernel"] * d)

        found = jax.grad(stopped)(split)["v"]["kernel"]
        np.testing.assert_allclose(found, 1.7 / 3 * d, rtol=1e-7)


@pytest.mark.parametrize("value", [0.0, jnp.nan, jnp.inf])
def test_zero_and_what_is_not_finite(value):
    good = {"Conv_0": {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 8))}}
    bad = {"Conv_0": {"kernel": jnp.full((3, 3, 4, 8), value)}}
    split, state = sc.sr_init(good)
    merged, after = sc.sr_apply({"g": split["g"], "v": bad}, state)
    np.testing.assert_array_equal(merged["Conv_0"]["kernel"], bad["Conv_0"]["kernel"])
    again, _ = sc.sr_apply(split, after)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3)
    jax.tree.map(close, again, good)

    state = sc.bsn_init(good)
    same, after = sc.bsn_apply(bad, state)
    np.testing.assert_array_equal(same["Conv_0"]["kernel"], bad["Conv_0"]["kernel"])
    for way in ("forward", "backward"):
        held, was = (s[way]["Conv_0"]["kernel"] for s in (after, state))
        np.testing.assert_array_equal(held["u"], was["u"])
        if value != 0:
            assert held["sigma"] == was["sigma"]
    if value == 0:
        gradient = jax.grad(
            lambda p: jnp.sum(sc.bsn_apply(p, state)[0]["Conv_0"]["kernel"])
        )
        assert jnp.isfinite(gradient(bad)["Conv_0"]["kernel"]).all()
    again, _ = sc.bsn_apply(good, after)
    np.testing.assert_allclose(mean_norm(again["Conv_0"]["kernel"]), 1, rtol=1e-3)


def test_evaluation_and_steps_are_those_of_spectral_normalization():
    key = jax.random.key(0)
    split, state = sc.sr_init({"kernel": jax.random.normal(key, (20, 30))})
    split["v"] = {"kernel": jax.random.normal(jax.random.key(1), (20, 30))}
    for options in ({}, {"update_stats": False}, {"n_steps": 40}):
        merged, after = sc.sr_apply(split, state, **options)
        want, want_after = sx.sn_apply(split["v"], state, **options)
        np.testing.assert_allclose(
            merged["kernel"], want["kernel"] * split["g"]["kernel"], rtol=1e-5
        )
        jax.tree.map(np.testing.assert_array_equal, after, want_after)
    named = sc.sr_init(split["v"], key=key)[1]
    jax.tree.map(np.testing.assert_array_equal, named, sx.sn_init(split["v"], key=key))


def test_bidirectional_evaluation_uses_both_u_as_they_are():
    draw = jax.random.normal
    old, new = (
        {"Conv_0": {"kernel": draw(jax.random.key(i), (3, 3, 4, 8))}} for i in (0, 1)
    )
    state = sc.bsn_init(old)
    got, after = sc.bsn_apply(new, state, update_stats=False, n_steps=3)
    jax.tree.map(np.testing.assert_array_equal, after, state)
    w = np.float64(new["Conv_0"]["kernel"])
    forward, backward = w.reshape(-1, 8), np.moveaxis(w, 2, 3).reshape(-1, 4)
    seen = [
        np.linalg.norm(matrix @ np.float64(state[way]["Conv_0"]["kernel"]["u"]))
        for way, matrix in (("forward", forward), ("backward", backward))
    ]
    assert np.mean(seen) < 0.95 * (norm(forward) + norm(backward)) / 2
    np.testing.assert_allclose(got["Conv_0"]["kernel"], w / np.mean(seen), rtol=1e-4)


def test_gains_that_do_not_fit():
    params = {"Dense_0": {"kernel": jnp.ones((2, 3))}}
    split, state = sc.sr_init(params)
    wrong = {"g": {"Dense_0": {"kernel": jnp.ones(3)}}, "v": params}
    for call in (sc.sr_apply, sc.sr_fuse):
        with pytest.raises(
            ValueError, match=r"need floats of shape \[\]\. Try: split = sr"
        ):
            call(wrong, state)
        with pytest.raises(TypeError, match="split: got a dict of Dense_0"):
            call(params, state)
    with pytest.raises(ValueError, match="state Dense_0/kernel/u: got nothing"):
        sc.sr_apply(split, {})


def both_matrices(kernel):
    """Returns (window, in) by out and (window, out) by in, as Lin et al. reshape."""
    kernel = np.asarray(kernel, np.float64)
    forward = kernel.reshape(-1, kernel.shape[-1])
    backward = np.moveaxis(kernel, -2, -1).reshape(-1, kernel.shape[-2])
    return forward, backward


def mean_norm(kernel):
    return np.mean([norm(matrix) for matrix in both_matrices(kernel)])


def test_bidirectional_divides_by_the_mean_of_both_norms():
    kernel = jax.random.normal(jax.random.key(0), (3, 5, 4, 16))
    forward, backward = map(norm, both_matrices(kernel))
    assert abs(forward / backward - 1) > 0.05  # else one of them would do
    params = {"Conv_0": {"kernel": kernel, "bias": jnp.ones(16)}}
    state = sc.bsn_init(params)
    apply = jax.jit(sc.bsn_apply)
    for bound in (1.0, jnp.float32(1.6)):
        found, after = apply(params, state, bound=bound)
        want = np.asarray(kernel) * float(bound) * 2 / (forward + backward)
        got = found["Conv_0"]["kernel"]
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(found["Conv_0"]["bias"], 1)
    for way, sigma in (("forward", forward), ("backward", backward)):
        held = after[way]["Conv_0"]["kernel"]["sigma"]
        np.testing.assert_allclose(held, sigma, rtol=1e-3)
    frozen = flax.core.freeze(state)
    _, same_kind = apply(params, frozen)
    assert jax.tree.structure(same_kind) == jax.tree.structure(frozen)
    small = {"Conv_0": {"kernel": kernel / 1000, "bias": jnp.ones(16)}}
    capped, _ = sc.bsn_apply(small, state, cap=True)
    jax.tree.map(np.testing.assert_array_equal, capped, small)
    evaluated, same = sc.bsn_apply(params, after, update_stats=False)
    jax.tree.map(np.testing.assert_array_equal, same, after)
    np.testing.assert_allclose(mean_norm(evaluated["Conv_0"]["kernel"]), 1, rtol=1e-3)


def test_bidirectional_gradient_is_that_of_the_svds():
    with enable_x64():
        rng = np.random.default_rng(0)
        kernel = rng.standard_normal((2, 3, 4, 6))
        kernel[..., 0] *= 3
        kernel[:, :, 0] *= 2
        d = rng.standard_normal(kernel.shape)
        params = {"Conv_0": {"kernel": jnp.asarray(kernel)}}
        state = sc.bsn_init(params)

        def ours(params, **options):
            after, _ = sc.bsn_apply(params, state, n_steps=20, **options)
            return jnp.sum(after["Conv_0"]["kernel"] * d)

        def oracle(params):
            kernel = params["Conv_0"]["kernel"]
            forward = kernel.reshape(-1, 6)
            backward = jnp.moveaxis(kernel, -2, -1).reshape(-1, 4)
            norms = [
                jnp.linalg.svd(m, compute_uv=False)[0] for m in (forward, backward)
            ]
            return jnp.sum(kernel * 2 / sum(norms) * d)

        got, want = jax.jit(jax.grad(ours))(params), jax.grad(oracle)(params)
        np.testing.assert_allclose(
            got["Conv_0"]["kernel"], want["Conv_0"]["kernel"], rtol=1e-6, atol=1e-9
        )
        stopped = jax.grad(functools.partial(ours, grad_sigma=False))(params)
        np.testing.assert_allclose(
            stopped["Conv_0"]["kernel"], d / mean_norm(kernel), rtol=1e-6
        )


def test_fuse_converges_on_other_params():
    key = jax.random.key(0)
    old = {"Conv_0": {"kernel": jax.random.normal(key, (3, 3, 8, 16))}}
    new = {"Conv_0": {"kernel": jax.random.normal(jax.random.key(1), (3, 3, 8, 16))}}
    fused = sc.bsn_fuse(new, sc.bsn_init(old), bound=0.7)
    np.testing.assert_allclose(mean_norm(fused["Conv_0"]["kernel"]), 0.7, rtol=1e-3)


def test_vectors_that_are_blind_to_what_leads_now():
    noise = jax.random.normal(jax.random.key(0), (3, 3, 8, 8))
    block = jnp.zeros((3, 3, 8, 8)).at[:, :, :4, :4].set(1)
    old = {"Conv_0": {"kernel": noise * block}}
    state = sc.bsn_init(old)
    for way in state.values():  # as they are after long training
        entry = way["Conv_0"]["kernel"]
        entry["u"] = entry["u"].at[4:].set(0)
        entry["u2"] = entry["u2"].at[4:].set(0)
    other = jnp.flip(block, (2, 3))
    new = {"Conv_0": {"kernel": noise * block + 9 * noise * other}}
    fused = sc.bsn_fuse(new, state)
    np.testing.assert_allclose(mean_norm(fused["Conv_0"]["kernel"]), 1, rtol=1e-3)
    # Evaluation uses them as they are: the norms of the old block.
    used, _ = sc.bsn_apply(new, state, update_stats=False, n_steps=50)
    used = used["Conv_0"]["kernel"] * block
    np.testing.assert_allclose(mean_norm(used), 1, rtol=1e-3)


@pytest.mark.parametrize("name", ["attention", "experts", "vmap_stack"])
def test_of_matrices_both_ways_are_one(name):
    case = BY_NAME[name]
    params = case.make()
    rules = {"kernels": case.kernels}
    if name == "experts":
        rules["backward"] = {"moe/w_in": sx.Matrix(out_axis=1, batch_axis=0)}
    found, _ = sc.bsn_apply(params, sc.bsn_init(params, **rules), **rules)
    for path, norms in case.norms(found).items():
        np.testing.assert_allclose(norms, 1, rtol=1e-3, err_msg=path)


@pytest.mark.parametrize(
    ("path", "shape", "out_axis", "batch_axis"),
    [
        (("Dense_0",), (3, 4), -1, ()),
        (("Conv_0",), (5, 3, 4), -2, ()),
        (("Conv_0",), (3, 3, 3, 4), -2, ()),
        (("block", "conv"), (3, 3, 3, 4), -2, ()),
        (("ConvTranspose_0",), (2, 2, 2, 3, 4), -2, ()),
        (("Attention_0", "query"), (8, 2, 4), (-2, -1), ()),
        (("Attention_0", "out"), (2, 4, 8), -1, ()),
        (("ScanBlock_0", "Conv_0"), (6, 3, 3, 3, 4), -2, (0,)),
        (("ScanBlock_0", "out"), (6, 2, 4, 8), -1, (0,)),
        (("VmapDense_0",), (6, 3, 4), -1, (0,)),
    ],
)
def test_which_map_is_the_backward_pass(path, shape, out_axis, batch_axis):
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    found = sc.backward_kernels((*path, "kernel"), leaf)
    assert found == sx.Matrix(out_axis=out_axis, batch_axis=batch_axis)
    assert sc.backward_kernels((*path, "bias"), leaf) is None


def test_rules_and_states_that_do_not_fit_each_other():
    params = {
        "a": {"kernel": jnp.ones((2, 3, 3))},
        "b": {"kernel": jnp.ones((2, 3, 3))},
        "c": {"kernel": jnp.ones((2, 3, 3))},
    }
    kernels = {"[ab]/kernel": sx.Matrix()}
    backward = {"[bc]/kernel": sx.Matrix(batch_axis=0)}
    with pytest.raises(ValueError, match="got") as caught:
        sc.bsn_init(params, kernels=kernels, backward=backward)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "a/kernel",
        "b/kernel",
        "c/kernel",
    ]
    assert "and no linear map backward; need a linear map for both ways" in lines[0]
    assert "got no linear map forward and Matrix(" in lines[2]
    good = {"Conv_0": {"kernel": jnp.ones((3, 3, 2, 3))}}
    for state in ({}, sx.sn_init(good), 3):
        with pytest.raises(TypeError, match="need a mapping of forward and backward"):
            sc.bsn_apply(good, state)
    state = sc.bsn_init(good)
    swapped = {"forward": state["backward"], "backward": state["forward"]}
    need = {"forward": (2, 3), "backward": (3, 2)}
    for call in (sc.bsn_apply, sc.bsn_fuse):
        with pytest.raises(ValueError, match="got") as caught:
            call(good, swapped)
        assert str(caught.value).splitlines() == [
            f"state {way}/Conv_0/kernel/{entry}: got float32[{was}]; need "
            f"float32[{size}]. Try: state = bsn_init(params) with the same kernels=...."
            for way, (was, size) in need.items()
            for entry in ("u", "u2")
        ]
    state["backward"]["Conv_1"] = state["forward"]["Conv_0"]
    with pytest.raises(ValueError, match="state backward/Conv_1/kernel/u: got float32"):
        sc.bsn_apply(good, state)
    del state["backward"]["Conv_1"]
    with pytest.raises(ValueError, match="bound: got 0; need"):
        sc.bsn_apply(good, state, bound=0)


def test_vmap_and_one_compilation():
    kernels = jax.random.normal(jax.random.key(0), (3, 3, 3, 4, 8))
    params = {"Conv_0": {"kernel": kernels}}
    state = jax.vmap(sc.bsn_init)(params)
    step = jax.jit(jax.vmap(sc.bsn_apply))
    for _ in range(2):
        found, state = step(params, state)
    assert step._cache_size() == 1
    for kernel in found["Conv_0"]["kernel"]:
        np.testing.assert_allclose(mean_norm(kernel), 1, rtol=1e-3)
