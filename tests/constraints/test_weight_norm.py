"""Weight normalization against numpy, the paper's formulas, autodiff and torch.

The matrices of every kernel are cut out by `tests.cases`, which knows nothing of
specjax: a unit is a column.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import specjax as sx
from specjax.constraints import wn_apply, wn_data_init, wn_fuse, wn_init
from tests.cases import CASES, Own, enable_x64

BY_NAME = {case.name: case for case in CASES}
# One g for a kernel is no matter of its axes: a few cases will do.
every_case = pytest.mark.parametrize(
    ("case", "per_unit"),
    [
        pytest.param(case, per_unit, id=f"{case.name}-{per_unit}")
        for case in CASES
        for per_unit in (True, False)
        if per_unit or case.name in ("attention", "scan_stack", "boxed")
    ],
)
both_forms = pytest.mark.parametrize("per_unit", [True, False])


def matrix_norms(matrices, per_unit):
    axes = -2 if per_unit else (-2, -1)
    return np.sqrt(np.sum(np.abs(matrices) ** 2, axis=axes))


def leaf_of(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return tree


def perturbed(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x + jnp.asarray(rng.standard_normal(x.shape), x.dtype), tree
    )


@functools.cache
def halves(name, per_unit):
    """Returns the split params, compiled once for all tests of a case."""
    case = BY_NAME[name]
    return jax.jit(functools.partial(wn_init, kernels=case.kernels, per_unit=per_unit))(
        case.make()
    )


@functools.cache
def apply(name):
    return jax.jit(functools.partial(wn_apply, kernels=BY_NAME[name].kernels))


@every_case
def test_g_is_the_norm_of_each_column_and_the_function_is_unchanged(case, per_unit):
    params = case.make()
    split = halves(case.name, per_unit)
    for path, matrices in case.matrices(params).items():
        want = matrix_norms(matrices, per_unit)
        g = leaf_of(split["g"], path)
        assert g.dtype == jnp.float32
        np.testing.assert_allclose(g.reshape(want.shape), want, rtol=1e-6)
    assert len(jax.tree.leaves(split["g"])) == len(case.views)
    merged = apply(case.name)(split)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    # A rounding of the norm: its sum may run in another order.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2.5e-7, atol=0),
        merged,
        params,
    )


@every_case
def test_the_norm_is_g_and_the_direction_is_that_of_v(case, per_unit):
    split = halves(case.name, per_unit)
    split = {"g": perturbed(split["g"], 1), "v": perturbed(split["v"], 2)}
    merged = apply(case.name)(split)
    wanted, directions = case.matrices(merged), case.matrices(split["v"])
    for path, v in directions.items():
        norm = matrix_norms(v, per_unit)
        g = np.asarray(leaf_of(split["g"], path), np.float64).reshape(norm.shape)
        ratio = (g / norm)[..., None, :] if per_unit else (g / norm)[..., None, None]
        np.testing.assert_allclose(wanted[path], v * ratio, rtol=1e-5, atol=1e-6)
    kernels = {path.replace("/", ".") for path in case.views}
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(split["v"]),
        jax.tree.leaves(merged),
        strict=True,
    ):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not any(name.startswith(kernel) for kernel in kernels):
            np.testing.assert_array_equal(old, new)


@both_forms
def test_axes_in_any_order(per_unit):
    # Outputs, inputs, a stack, outputs, a stack.
    kernels = {"w": sx.Matrix(in_axis=1, out_axis=(3, 0), batch_axis=(4, 2))}
    w = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6))
    split = wn_init(
        {"w": jnp.asarray(w, jnp.float32)}, kernels=kernels, per_unit=per_unit
    )
    squares = np.einsum("aibcd,aibcd->bdac", w, w)
    squares = squares if per_unit else squares.sum((2, 3))
    np.testing.assert_allclose(split["g"]["w"], np.sqrt(squares), rtol=1e-6)
    gains = np.float32(np.random.default_rng(1).standard_normal(squares.shape))
    merged = wn_apply(
        {"g": {"w": jnp.asarray(gains)}, "v": split["v"]}, kernels=kernels
    )
    ratio = gains / np.sqrt(squares)
    letters = "bdac" if per_unit else "bd"
    want = np.einsum(f"aibcd,{letters}->aibcd", w, ratio)
    np.testing.assert_allclose(merged["w"], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("conv", "axis"),
    [
        (sx.Conv((8, 8), feature_group_count=2), 3),
        (sx.Conv((8, 8), window_strides=2, transposed=True), 3),
        (sx.Conv((8, 8), transposed=True, transpose_kernel=True), 2),
    ],
)
def test_units_of_a_convolution_are_its_output_channels(conv, axis):
    w = jax.random.normal(jax.random.key(0), (3, 3, 4, 6))
    split = wn_init({"w": w}, kernels={"w": conv})
    want = np.linalg.norm(np.moveaxis(w, axis, -1).reshape(-1, w.shape[axis]), axis=0)
    np.testing.assert_allclose(split["g"]["w"], want, rtol=1e-6)
    split["v"]["w"] = w * 5
    np.testing.assert_allclose(wn_apply(split, kernels={"w": conv})["w"], w, rtol=1e-6)
    stack = {"w": jnp.stack([w, 2 * w])}
    kernels = {"w": dataclasses.replace(conv, batch_axis=0)}
    found = wn_init(stack, kernels=kernels)["g"]["w"]
    np.testing.assert_allclose(found, [want, 2 * want], rtol=1e-6)


@both_forms
def test_gradients_are_those_of_the_paper(per_unit):
    with enable_x64():
        rng = np.random.default_rng(0)
        v, d = rng.standard_normal((2, 3, 2, 5, 4))
        split = wn_init({"Conv_0": {"kernel": jnp.asarray(v)}}, per_unit=per_unit)
        split = perturbed(split, 3)

        def loss(split):
            return jnp.sum(wn_apply(split)["Conv_0"]["kernel"] * d)

        found = jax.grad(loss)(split)
        v = np.asarray(split["v"]["Conv_0"]["kernel"])
        g = np.asarray(split["g"]["Conv_0"]["kernel"])
        axes = (0, 1, 2) if per_unit else (0, 1, 2, 3)
        norm = np.sqrt(np.sum(v**2, axis=axes))
        d_g = np.sum(d * v, axis=axes) / norm
        d_v = g / norm * d - g * d_g / norm**2 * v
        np.testing.assert_allclose(found["g"]["Conv_0"]["kernel"], d_g, rtol=1e-12)
        np.testing.assert_allclose(found["v"]["Conv_0"]["kernel"], d_v, rtol=1e-11)
        inner = np.sum(found["v"]["Conv_0"]["kernel"] * v, axis=axes)
        np.testing.assert_allclose(inner, 0, atol=1e-13)
        check_grads(loss, (split,), 2, ("fwd", "rev"))


def torch_weights(torch, dim, layer, per):
    wrapped = torch.nn.utils.parametrizations.weight_norm(layer, dim=dim)
    g, v = (getattr(wrapped.parametrizations.weight, f"original{i}") for i in (0, 1))
    with torch.no_grad():
        g.mul_(1.7).add_(0.1)
        v.add_(0.3 * torch.randn(v.shape))
    return wrapped, g, v


@pytest.mark.parametrize("dim", [0, None])
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_equal_to_torch_in_values_and_gradients(kind, dim):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 7) if kind == "dense" else torch.nn.Conv2d(3, 4, (2, 5))
    wrapped, g, v = torch_weights(torch, dim, layer, kind)
    order = (1, 0) if kind == "dense" else (2, 3, 1, 0)  # torch's outputs are first
    direction = torch.randn(v.shape)
    (wrapped.weight * direction).sum().backward()

    def ours(tensor):
        return jnp.asarray(tensor.detach().numpy().transpose(order))

    split = {
        "g": {
            "kernel": jnp.asarray(g.detach().numpy().reshape(-1 if dim == 0 else ()))
        },
        "v": {"kernel": ours(v)},
    }
    merged, pull = jax.vjp(wn_apply, split)
    np.testing.assert_allclose(merged["kernel"], ours(wrapped.weight), rtol=2e-6)
    (found,) = pull({"kernel": ours(direction)})
    d_g = g.grad.numpy().reshape(-1 if dim == 0 else ())
    np.testing.assert_allclose(found["g"]["kernel"], d_g, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found["v"]["kernel"], ours(v.grad), rtol=2e-5, atol=1e-6)
    fresh = wn_init({"kernel": ours(v)}, per_unit=dim == 0)["g"]["kernel"]
    norm = torch.linalg.vector_norm(v.flatten(1), dim=1) if dim == 0 else v.norm()
    np.testing.assert_allclose(fresh, norm.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_the_scale_of_v_does_not_matter(factor):
    v = jax.random.normal(jax.random.key(0), (6, 4))
    split = wn_init({"kernel": v})
    far = {"g": split["g"], "v": {"kernel": v * factor}}
    np.testing.assert_allclose(
        wn_apply(far)["kernel"], wn_apply(split)["kernel"], rtol=1e-5
    )


def test_a_unit_of_zeros_comes_back_with_a_finite_derivative():
    v = jnp.array([[0.0, 3.0], [0.0, 4.0]])
    split = wn_init({"kernel": v})
    np.testing.assert_array_equal(split["g"]["kernel"], [0, 5])
    split["g"]["kernel"] = jnp.array([2.0, 10.0])
    np.testing.assert_allclose(wn_apply(split)["kernel"], [[0, 6], [0, 8]], rtol=1e-6)

    def loss(split):
        return jnp.sum(wn_apply(split)["kernel"] ** 2 * jnp.arange(1.0, 3.0) + 1) ** 2

    gradient = jax.grad(loss)(split)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    ones = jax.tree.map(jnp.ones_like, split)
    second = jax.jvp(jax.grad(loss), (split,), (ones,))[1]
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(second))
    # As the unit itself: it can leave zero.
    pulled = jax.vjp(wn_apply, split)[1]({"kernel": jnp.ones((2, 2))})[0]
    np.testing.assert_array_equal(pulled["v"]["kernel"][:, 0], 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_unit_that_is_not_finite_shows_and_the_others_stay(bad):
    v = jnp.array([[bad, 3.0], [1.0, 4.0]])
    merged = jax.jit(wn_apply)(
        {"g": {"kernel": jnp.array([2.0, 10.0])}, "v": {"kernel": v}}
    )
    np.testing.assert_allclose(merged["kernel"], [[bad, 6], [1, 8]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64", "float64"])
def test_dtypes(dtype):
    with enable_x64():
        values = np.random.default_rng(0).standard_normal((6, 4))
        v = jnp.asarray(values + (1j * values[::-1] if dtype == "complex64" else 0))
        v = v.astype(dtype)
        split = wn_init({"kernel": v})
        g = split["g"]["kernel"]
        assert g.dtype == ("float64" if dtype == "float64" else "float32")
        want = np.linalg.norm(np.asarray(v, np.complex128), axis=0)
        np.testing.assert_allclose(g, want, rtol=1e-6)
        merged = wn_apply(split)["kernel"]
        assert merged.dtype == dtype
        rtol = 1e-15 if dtype == "float64" else 2e-7
        np.testing.assert_allclose(merged, v, rtol=rtol)


@pytest.mark.skipif(
    jax.__version_info__ < (0, 10),
    reason="the CPU compiler of jaxlib 0.8.1 keeps a float32 copy, barrier or not",
)
def test_a_bfloat16_kernel_is_never_a_float32_array_in_memory():
    params = {"kernel": jax.ShapeDtypeStruct((512, 768), jnp.bfloat16)}
    split = jax.eval_shape(wn_init, params)
    for function, given in ((wn_init, params), (wn_apply, split)):
        compiled = jax.jit(function).lower(given).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 4 * 512 * 768 // 8


def test_training_in_a_scan_and_under_remat_keeps_the_types():
    split = wn_init({"kernel": jax.random.normal(jax.random.key(0), (6, 4))})
    x = jax.random.normal(jax.random.key(1), (8, 6))

    @jax.remat
    def loss(split):
        return jnp.mean((x @ wn_apply(split)["kernel"] - 1) ** 2)

    def step(split, _):
        value, gradient = jax.value_and_grad(loss)(split)
        return jax.tree.map(lambda p, g: p - 0.1 * g, split, gradient), value

    new, values = jax.jit(lambda s: jax.lax.scan(step, s, None, 200))(split)
    assert jax.tree.map(jax.typeof, new) == jax.tree.map(jax.typeof, split)
    assert values[-1] < values[0] / 2
    # A step along a gradient that is orthogonal to v can only make v longer.
    before, after = (jnp.linalg.norm(s["v"]["kernel"], axis=0) for s in (split, new))
    assert (after > before).all()


def test_fused_params_are_plain_and_constant():
    case = BY_NAME["boxed"]
    split = perturbed(wn_init(case.make()))
    fused = wn_fuse(split)
    jax.tree.map(np.testing.assert_array_equal, fused, wn_apply(split))
    assert jax.tree.structure(fused) == jax.tree.structure(case.make())
    total = jax.grad(lambda s: sum(map(jnp.sum, jax.tree.leaves(wn_fuse(s)))))(split)
    assert all(not leaf.any() for leaf in jax.tree.leaves(total["g"]))


def test_vmap_and_no_second_compilation():
    v = jax.random.normal(jax.random.key(0), (3, 6, 4))
    split = jax.vmap(wn_init)({"kernel": v})
    many = jax.vmap(wn_apply)(perturbed(split))["kernel"]
    for i in range(3):
        one = wn_apply(jax.tree.map(lambda leaf: leaf[i], perturbed(split)))  # noqa: B023
        np.testing.assert_allclose(many[i], one["kernel"], rtol=1e-6)
    step = jax.jit(jax.grad(lambda s: jnp.sum(wn_apply(s)["kernel"] ** 3)))
    for _ in range(2):
        step(wn_init({"kernel": v[0]}))
    assert step._cache_size() == 1


def text_of(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def test_bad_input():
    params = {"Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
    split = wn_init(params)
    text = text_of(TypeError, lambda: wn_apply(params))
    assert text == (
        "split: got a dict of Dense_0; need the mapping of g and v that the function "
        "makes. Try: split = wn_init(params)."
    )
    wrong = {
        "g": {"Dense_0": {"kernel": jnp.ones(2)}, "Dense_1": {"kernel": jnp.ones(3)}},
        "v": split["v"] | {"Dense_2": {"kernel": jnp.ones((2, 2))}},
    }
    lines = text_of(ValueError, lambda: wn_apply(wrong)).splitlines()
    assert lines == [
        "g Dense_0/kernel: got float32[2]; need floats of shape [3] or []. Try: "
        "split = wn_init(params) with the same kernels=....",
        "g Dense_2/kernel: got nothing; need floats of shape [2] or []. Try: "
        "split = wn_init(params) with the same kernels=....",
        "g Dense_1/kernel: got float32[3]; need no such entry. Try: "
        "split = wn_init(params) with the same kernels=....",
    ]
    ints = {"g": {"Dense_0": {"kernel": jnp.ones(3, int)}}, "v": params}
    assert "got int32[3]; need floats" in text_of(ValueError, lambda: wn_apply(ints))
    text = text_of(ValueError, lambda: wn_init({"a": jnp.ones(3)}))
    assert "no kernel among 1 leaves" in text


def test_all_maps_without_units_are_in_one_message():
    layer = {"kernel": jnp.ones((2, 3))}
    params = {"a": layer, "b": layer, "c": layer}
    split, map_of_b = wn_init(params), Own()
    own = {"a/kernel": Own(), "b/kernel": map_of_b, "c/kernel": sx.Matrix()}
    for call in (
        lambda: wn_init(params, kernels=own),
        lambda: wn_apply(split, kernels=own),
        lambda: wn_fuse(split, kernels=own),
        lambda: wn_data_init(split, dict, kernels=own),
    ):
        lines = text_of(TypeError, call).splitlines()
        assert [line.split(": got ")[0] for line in lines] == ["a/kernel", "b/kernel"]
        assert lines[1] == (
            f"b/kernel: got {map_of_b!r}; need a Matrix or a Conv, which name the axes "
            "of the output units. Try: specjax.Matrix(out_axis=...)."
        )


class Net(nn.Module):
    """Layers in another order than their names', one without a bias."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3), name="z")(x))
        x = nn.relu(nn.Conv(4, (3, 3), use_bias=False, name="b")(x))
        return nn.Dense(5, name="a")(x.mean((1, 2)))


def rule(path, leaf):
    return sx.Matrix() if path[-1] == "kernel" else None


@both_forms
def test_every_unit_starts_with_mean_0_and_variance_1(per_unit):
    x = jax.random.normal(jax.random.key(1), (32, 5, 5, 3)) * 4 + 1
    model = Net()
    params = model.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)

    def outputs(params):
        options = {"capture_intermediates": True, "mutable": ["intermediates"]}
        return model.apply({"params": params}, x, **options)[1]["intermediates"]

    def layers(params):
        seen = outputs(params)
        return {name: seen[name] for name in ("a", "b", "z")}

    options = {"kernels": rule}
    split = wn_init(params, per_unit=per_unit, **options)
    new = jax.jit(lambda s: wn_data_init(s, layers, **options))(split)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, split)
    seen = jax.tree.map(np.float64, layers(wn_apply(new, **options)))
    for name in ("a", "b", "z"):
        (t,) = seen[name]["__call__"]
        axes = tuple(range(t.ndim - 1))
        if name != "b":  # it has no bias to take the mean away
            np.testing.assert_allclose(t.mean(axes), 0, atol=1e-5)
        variance = t.var(axes)
        variance = variance if per_unit else variance.mean()
        np.testing.assert_allclose(variance, 1, rtol=2e-5)
    for path in ("a", "b", "z"):  # directions stay
        np.testing.assert_array_equal(
            new["v"][path]["kernel"], split["v"][path]["kernel"]
        )


def test_data_init_of_a_stack_and_of_units_that_do_not_vary():
    key = jax.random.key(0)
    params = {
        "kernel": jax.random.normal(key, (3, 4, 2)).at[1, :, 0].set(0),
        "bias": jnp.ones((3, 2)),
    }
    x = jax.random.normal(key, (16, 4))
    kernels = {"kernel": sx.Matrix(batch_axis=0)}

    def outputs(params):
        y = jnp.einsum("ni,sio->sno", x, params["kernel"]) + params["bias"][:, None]
        return {"y": y}

    split = wn_init(params, kernels=kernels)
    new = wn_data_init(split, outputs, kernels=kernels)
    y = np.asarray(outputs(wn_apply(new, kernels=kernels))["y"])
    np.testing.assert_allclose(y.mean(1), 0, atol=1e-6)
    varying = np.ones((3, 2))
    varying[1, 0] = 0
    np.testing.assert_allclose(y.std(1), varying, rtol=1e-5, atol=1e-6)
    assert new["g"]["kernel"][1, 0] == split["g"]["kernel"][1, 0]


def test_data_init_of_a_stack_whose_slices_follow_each_other():
    # Each slice sees what those before it have become.
    keys = jax.random.split(jax.random.key(1), 2)
    kernel = 3 * jax.random.normal(keys[0], (4, 5, 5))
    params = {"kernel": kernel, "bias": jnp.ones((4, 5))}
    x = jax.random.normal(keys[1], (64, 5))
    kernels = {"kernel": sx.Matrix(batch_axis=0)}

    def outputs(params):
        def layer(x, one):
            y = x @ one["kernel"] + one["bias"]
            return jnp.maximum(y, 0), y

        return {"y": jax.lax.scan(layer, x, params)[1]}

    new = wn_data_init(wn_init(params, kernels=kernels), outputs, kernels=kernels)
    y = np.asarray(outputs(wn_apply(new, kernels=kernels))["y"])
    np.testing.assert_allclose(y.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(1), 1, rtol=1e-4)


def test_data_init_refuses_outputs_that_it_can_not_read():
    params = {"Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones((1, 3))}}
    split = wn_init(params)
    for outputs, got in (
        ({"Dense_1": jnp.ones((4, 3))}, "nothing"),
        ({"Dense_0": jnp.ones((4, 2))}, "float32[4,2]"),
        ({"Dense_0": [jnp.ones(3), jnp.ones(3)]}, "float32[3], float32[3]"),
    ):
        text = text_of(ValueError, lambda o=outputs: wn_data_init(split, lambda _: o))
        need = "need one array for the kernel Dense_0/kernel, [] in front and [3] last"
        assert text.startswith(f"outputs Dense_0: got {got}; {need}")
    text = text_of(
        ValueError,
        lambda: wn_data_init(split, lambda _: {"Dense_0": jnp.ones((4, 3))}),
    )
    assert text.startswith("Dense_0/bias: got float32[1,3]; need a bias of shape (3,)")


def test_all_layers_that_data_init_can_not_read_are_in_one_message():
    kernel = jnp.ones((2, 3))
    params = {
        "a": {"kernel": kernel, "bias": jnp.ones(2)},
        "b": {"kernel": kernel, "bias": jnp.ones(3)},
        "c": {"kernel": kernel},
    }
    split = wn_init(params)
    outputs = {"a": jnp.ones((4, 3)), "b": jnp.ones((4, 2))}
    text = text_of(ValueError, lambda: wn_data_init(split, lambda _: outputs))
    fix = (
        "Try: outputs=lambda params: {'Dense_0': x @ params['Dense_0']['kernel']}, or "
        "the intermediates of model.apply(..., capture_intermediates=True)."
    )
    assert text.splitlines() == [
        "a/bias: got float32[2]; need a bias of shape (3,), one number for each unit. "
        "Try: bias='the name of the layer's bias'.",
        "outputs b: got float32[4,2]; need one array for the kernel b/kernel, [] in "
        f"front and [3] last. {fix}",
        "outputs c: got nothing; need one array for the kernel c/kernel, [] in front "
        f"and [3] last. {fix}",
    ]


def test_nnx_state_and_its_gradient():
    class Two(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 4, rngs=rngs)
            self.last = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.first(x)))

    model = Two(nnx.Rngs(0))
    graphdef, params = nnx.split(model, nnx.Param)
    split, x = wn_init(params), jnp.ones((2, 3))

    @jax.jit
    @jax.grad
    def gradient(split):
        return jnp.sum(nnx.merge(graphdef, wn_apply(split))(x) ** 2)

    found = gradient(split)
    v, d_v = split["v"]["first"]["kernel"][...], found["v"]["first"]["kernel"][...]
    assert jnp.abs(d_v).max() > 0
    np.testing.assert_allclose(jnp.sum(v * d_v, axis=0), 0, atol=1e-6)
