"""The text of every error: where, what was given, what is needed, what to try."""

import collections
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax._flax_layers import einsum_kernel, layer_kernel, matrices_only
from specjax.kernels._rules import as_rule, select
from specjax.linear_maps._matrix import _as_axes

PARAMS = {"Dense_0": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}


# The functions without the type checks that the tests switch on: with them a wrong kind
# does not get as far as our own sentence.
sn_apply = inspect.unwrap(sx.sn_apply)


def text_of(error: type[Exception], call) -> str:
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def test_every_message_has_the_one_shape():
    shape = re.compile(r".+: got .+; need .+\. Try: .+\.", re.DOTALL)
    state = sx.sn_init(PARAMS)
    for error, call in (
        (ValueError, lambda: sx.sn_init({"a": jnp.ones(3)})),
        (ValueError, lambda: sx.sn_apply(PARAMS, {})),
        (ValueError, lambda: sx.sn_apply(PARAMS, state, n_steps=-1)),
        (TypeError, lambda: sn_apply(PARAMS, state, n_steps=1.5)),
        (ValueError, lambda: sx.sn_apply(PARAMS, state, bound=0)),
        (TypeError, lambda: sn_apply(PARAMS, state, bound="1")),
        (TypeError, lambda: sn_apply(PARAMS, state, cap=1)),
        (TypeError, lambda: inspect.unwrap(as_rule)(3)),
        (TypeError, lambda: inspect.unwrap(_as_axes)("in_axis", "rows")),
    ):
        assert shape.fullmatch(text_of(error, call))


def test_no_kernel_selected():
    params = {
        "embedder": {"embedding": jnp.ones((5, 3))},
        "norm": {"scale": jnp.ones(3)},
    }
    text = text_of(ValueError, lambda: sx.sn_init(params))
    assert "no kernel among 2 leaves (embedder/embedding, norm/scale)" in text
    assert "kernels={r'.*/kernel': specjax.Matrix()}" in text


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        (("layers", "Dense_0", "kernel"), (6, 3, 4)),
        (("layers", "query", "kernel"), (6, 3, 2, 4)),
        (("conv", "kernel"), (5, 3, 4)),
        (("DenseGeneral_0", "kernel"), (3, 4, 5, 6)),
        (("Einsum_0", "kernel"), (3, 4)),
        (("ConvLocal_0", "kernel"), (7, 7, 27, 8)),
        (("kernel",), (2, 3, 4)),
        (("ScanBlock_0", "Conv_0", "kernel"), (2, 3, 3, 3, 3, 8, 9)),
        (("ScanNet_0", "Conv_0", "kernel"), (3, 3, 4, 16)),
        (("ScanAttn_0", "query", "kernel"), (8, 2, 4)),
        (("Remat_scanB_0", "Conv_0", "kernel"), (2, 3, 3, 4, 4)),
        (("x", "kernel"), (4,)),
        (("x", "kernel"), ()),
    ],
)
def test_an_undecided_kernel_says_what_to_pass(path, shape):
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    text = text_of(ValueError, lambda: sx.flax_kernels(path, leaf))
    assert text.startswith("/".join(path) + ": got a kernel float32[")
    assert "specjax.Matrix(in_axis=..., out_axis=..., batch_axis=...)" in text


def test_the_fix_that_an_undecided_kernel_names_works():
    params = {"layers": {"Dense_0": {"kernel": jnp.ones((6, 3, 4))}}} | PARAMS
    text = text_of(ValueError, lambda: sx.sn_init(params))
    fix = text.split("Try: kernels=")[1].rstrip(".")
    fix = fix.replace("in_axis=...", "in_axis=1").replace("out_axis=...", "out_axis=2")
    kernels = eval(fix.replace("batch_axis=...", "batch_axis=0"), {"specjax": sx})
    state = sx.sn_init(params, kernels=kernels)
    assert state["layers"]["Dense_0"]["kernel"]["u"].shape == (6, 4)
    assert state["Dense_0"]["kernel"]["u"].shape == (4,)


def test_every_bad_leaf_is_in_one_message():
    params = {
        "a": {"kernel": jnp.ones((2, 3, 4))},
        "b": {"kernel": jnp.ones((2, 3), jnp.int32)},
        "Einsum_0": {"kernel": jnp.ones((2, 3))},
        "Dense_0": {"kernel": jnp.ones((2, 3))},
    }
    lines = text_of(ValueError, lambda: sx.sn_init(params)).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "Einsum_0/kernel",
        "a/kernel",
        "b/kernel",
    ]


def test_kinds_are_type_errors():
    ints = {"Dense_0": {"kernel": jnp.ones((2, 3), jnp.int8)}}
    text = text_of(TypeError, lambda: sx.sn_init(ints))
    assert text.startswith("Dense_0/kernel: got int8[2,3]; need a kernel of floating")
    text = text_of(TypeError, lambda: sx.sn_init(PARAMS, kernels=lambda path, leaf: 3))
    assert "got 3; need a linear map or None" in text


@pytest.mark.parametrize(
    ("matrix", "need"),
    [
        (sx.Matrix(out_axis=2), "axes from -2 to 1"),
        (sx.Matrix(in_axis=-3), "axes from -2 to 1"),
        (sx.Matrix(in_axis=0, out_axis=0), "each axis on one side only"),
        (sx.Matrix(in_axis=1, out_axis=-1), "each axis on one side only"),
        (sx.Matrix(batch_axis=(0, 0)), "each axis on one side only"),
        (sx.Matrix(in_axis=(), out_axis=1), "a side for axis 0 too"),
        (sx.Matrix(out_axis=(0, 1)), "an axis on the input and on the output side"),
        (sx.Matrix(in_axis=0, out_axis=(), batch_axis=1), "an axis on the input"),
    ],
)
def test_axes_that_do_not_fit_the_kernel(matrix, need):
    kernels = {"Dense_0/kernel": matrix}
    text = text_of(ValueError, lambda: sx.sn_init(PARAMS, kernels=kernels))
    assert text.startswith("Dense_0/kernel: got Matrix(")
    assert "for a kernel of shape (3, 4)" in text
    assert need in text


def test_bad_pattern():
    text = text_of(ValueError, lambda: sx.sn_init(PARAMS, kernels={"*": sx.Matrix()}))
    assert "got the pattern '*' (nothing to repeat" in text


def test_a_state_that_does_not_fit_names_every_path():
    state = sx.sn_init(PARAMS)
    wrong = {
        "Dense_0": {"kernel": {"u": jnp.ones(5), "sigma": jnp.float32(1)}},
        "Dense_1": {"kernel": {"u": jnp.ones(5)}},
    }
    text = text_of(ValueError, lambda: sx.sn_apply(PARAMS, wrong))
    assert text.splitlines() == [
        "state Dense_0/kernel/u: got float32[5]; need float32[4]. Try: state = "
        "sn_init(params) with the same kernels=....",
        "state Dense_0/kernel/u2: got nothing; need float32[4]. Try: state = "
        "sn_init(params) with the same kernels=....",
        "state Dense_1/kernel/u: got float32[5]; need no such entry. Try: state = "
        "sn_init(params) with the same kernels=....",
    ]
    for function in (sx.sn_apply, sx.sn_fuse):
        text = text_of(ValueError, lambda f=function: f(PARAMS, {}))
        assert "state Dense_0/kernel/u: got nothing; need float32[4]" in text
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), state)
    assert "got float64[4]; need float32[4]" in text_of(
        ValueError, lambda: sx.sn_apply(PARAMS, wide)
    )


@pytest.mark.parametrize("bound", [0, -1.0, float("nan"), float("inf")])
def test_bound_out_of_range(bound):
    state = sx.sn_init(PARAMS)
    for call in (
        lambda: sx.sn_apply(PARAMS, state, bound=bound),
        lambda: sx.sn_fuse(PARAMS, state, bound=bound),
        lambda: sx.spectral_norm(bound=bound),
    ):
        assert text_of(ValueError, call).startswith(
            f"bound: got {bound}; need a number"
        )


def test_options_that_must_be_static():
    state = sx.sn_init(PARAMS)
    text = text_of(
        TypeError,
        lambda: jax.jit(lambda n: sn_apply(PARAMS, state, n_steps=n))(1),
    )
    assert "n_steps" in text
    assert "need a static int" in text
    text = text_of(TypeError, lambda: sn_apply(PARAMS, state, n_steps=True))
    assert text.startswith("n_steps: got True; need a static int")
    text = text_of(
        TypeError,
        lambda: jax.jit(lambda t: sn_apply(PARAMS, state, update_stats=t))(True),
    )
    assert "need a static bool. Try: update_stats=True, or jax.lax.cond" in text


def test_two_leaves_of_one_name():
    params = {"Dense_0": {"kernel": jnp.ones((2, 2))}, 0: {"b": 1.0}, "0": {"b": 1.0}}
    with pytest.raises((ValueError, TypeError)):
        sx.sn_init(params)
    # jax sorts no keys of these, and takes both.
    both = collections.OrderedDict([(0, jnp.ones((2, 2))), ("0", jnp.ones((2, 2)))])
    text = text_of(ValueError, lambda: sx.sn_init({"a": both, **PARAMS}))
    assert text.startswith("a/0: got two leaves of that name; need one.")
    named = {"a": {"b/c": jnp.ones(2)}, "a/b": {"c": jnp.ones(2)}, **PARAMS}
    assert sx.sn_init(named)  # paths are tuples: these two are different


def test_layers():
    text = text_of(ValueError, lambda: einsum_kernel("abc,ad->bc"))
    assert "einsum_str='abc,ad->bc'" in text
    rule = matrices_only(layer_kernel(sx.Matrix(), 4))
    leaf = jax.ShapeDtypeStruct((3, 3, 4, 5), jnp.float32)
    text = text_of(ValueError, lambda: rule(("kernel",), leaf))
    assert text.startswith("kernel: got float32[3,3,4,5]; need a kernel of two axes")


def test_the_arrows_check_what_they_are_given():
    w = jnp.ones((3, 4))
    for call, need in (
        (
            lambda: sx.power_iteration(w, jnp.ones(3), jnp.ones(4)),
            "u: got shape (3,); need shape (4,)",
        ),
        (
            lambda: sx.power_iteration(w, jnp.ones(4), jnp.ones(3)),
            "u2: got shape (3,); need shape (4,)",
        ),
        (
            lambda: sx.power_iteration(w, jnp.ones(4), jnp.ones(4), n_steps=-1),
            "n_steps: got -1",
        ),
        (lambda: sx.warm_up(w, jnp.ones(1)), "u: got shape (1,); need shape (4,)"),
        (lambda: sx.sigma(w, jnp.ones(4), jnp.ones(4)), "v: got shape (4,); need"),
        (lambda: sx.normalize(w, jnp.ones(4)), "sigma: got shape (4,); need shape ()"),
        (lambda: sx.normalize(w, jnp.float32(1), bound=-1.0), "bound: got -1.0; need"),
    ):
        assert text_of(ValueError, call).startswith(need)


def test_a_traced_bound_must_be_one_number():
    state = sx.sn_init(PARAMS)
    call = jax.jit(lambda b: sn_apply(PARAMS, state, bound=b))
    assert "need one number" in text_of(TypeError, lambda: call(jnp.ones(1)))


def test_errors_of_a_users_own_rule_are_his_own():
    with pytest.raises(KeyError, match="mine"):
        sx.sn_init(PARAMS, kernels=lambda path, leaf: {}["mine"])
    with pytest.raises(ValueError, match=r"^mine$"):
        sx.sn_init(PARAMS, kernels=_raise_mine)


def _raise_mine(path, leaf):
    raise ValueError("mine")


def test_a_class_is_no_linear_map_and_a_number_no_pattern():
    as_given = inspect.unwrap(select)
    text = text_of(TypeError, lambda: as_given(PARAMS, {".*kernel": sx.Matrix}))
    assert "Dense_0/kernel: got <class" in text
    text = text_of(ValueError, lambda: inspect.unwrap(as_rule)({3: sx.Matrix()}))
    assert text.startswith("kernels: got the pattern 3")
