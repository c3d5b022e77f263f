"""The reader of lowered programs is shown each construct that it must refuse."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tests.exhaustive import sampled
from tests.programs import at_low_precision, contractions, operations, trace, users

HIGHEST, DEFAULT = lax.Precision.HIGHEST, lax.Precision.DEFAULT
IMAGE, KERNEL = jnp.ones((1, 6, 6, 4)), jnp.ones((3, 3, 4, 8))
LEFT, RIGHT = jnp.ones((5, 3)), jnp.ones((3, 4))


def convolution(image, kernel, precision):
    return lax.conv_general_dilated(
        image,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


def transposed(image, kernel, precision):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_transpose(
        image, kernel, (2, 2), "SAME", dimension_numbers=layout, precision=precision
    )


def grouped(image, kernel, precision):
    return lax.conv_general_dilated(
        image,
        kernel[:, :, :2],
        (2, 1),
        [(1, 2), (0, 1)],
        rhs_dilation=(1, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
        precision=precision,
    )


def dot(left, right, precision):
    return jnp.matmul(left, right, precision=precision)


def widened(left, right, precision):
    """The products of bfloat16 numbers, and their sum in float32."""
    return lax.dot_general(
        *(side.astype(jnp.bfloat16) for side in (left, right)),
        (((1,), (0,)), ((), ())),
        precision=precision,
        preferred_element_type=jnp.float32,
    )


def half_narrow(left, right, precision):
    return dot(left.astype(jnp.bfloat16), right, precision)


CONTRACTIONS = {
    "convolution": (convolution, IMAGE, KERNEL),
    "transposed convolution": (transposed, IMAGE, KERNEL),
    "grouped convolution": (grouped, IMAGE, KERNEL),
    "complex convolution": (convolution, IMAGE + 1j, KERNEL + 1j),
    "dot": (dot, LEFT, RIGHT),
    "batched dot": (dot, jnp.ones((2, 5, 3)), jnp.ones((2, 3, 4))),
    "dot of vectors": (dot, LEFT[0], RIGHT[:, 0]),
    "complex dot": (dot, LEFT + 1j, RIGHT + 1j),
    "bfloat16 by float32": (half_narrow, LEFT, RIGHT),
    "bfloat16 to float32": (widened, LEFT, RIGHT),
}


def in_scan(function):
    return lambda x, w: lax.scan(lambda c, _: (c, function(x + c, w)), 0.0, length=3)[1]


def in_while(function):
    def loop(x, w):
        start = jnp.zeros_like(function(x, w))
        body = lambda pair: (pair[0] + 1, function(x, w) + pair[1])  # noqa: E731
        return lax.while_loop(lambda pair: pair[0] < 3, body, (0, start))

    return loop


def in_cond(function):
    return lambda x, w: lax.cond(
        x.real.max() > 0, function, lambda x, w: 0 * function(x, w), x, w
    )


def in_custom_jvp(function):
    wrapped = jax.custom_jvp(function)
    wrapped.defjvp(lambda xs, dxs: (function(*xs), function(dxs[0], xs[1])))
    return wrapped


def in_derivative(function):
    def total(x, w):
        return jnp.sum(jnp.sin(jnp.abs(function(x, w))))

    return jax.grad(total, argnums=(0, 1))


PLACES = {
    "main": lambda function: function,
    "jit": jax.jit,
    "jit in jit": lambda function: jax.jit(lambda x, w: jax.jit(function)(x, w)),
    "scan": in_scan,
    "while": in_while,
    "cond": in_cond,
    "custom_jvp": in_custom_jvp,
    "derivative": in_derivative,
    "remat": jax.checkpoint,
    "vmap": lambda function: jax.vmap(function, (None, 0)),
}


# Each contraction as it is, and each place around the first of them.
FAST = [(name, next(iter(PLACES))) for name in CONTRACTIONS]
FAST += [(next(iter(CONTRACTIONS)), place) for place in PLACES]


@pytest.mark.parametrize(
    ("name", "place"), sampled(itertools.product(CONTRACTIONS, PLACES), FAST)
)
def test_what_is_not_at_the_highest_precision_is_refused(name, place):
    function, x, w = CONTRACTIONS[name]
    if place == "vmap":
        w = jnp.stack([w, w])

    def low(precision):
        around = PLACES[place](lambda x, w: function(x, w, precision))
        found = contractions(trace(around, x, w), "cuda")
        assert found
        return len(at_low_precision(found)), len(found)

    for precision in (None, DEFAULT, lax.Precision.HIGH):
        n_low, n_found = low(precision)
        assert n_low == n_found, precision
    for precision in ((HIGHEST, DEFAULT), (DEFAULT, HIGHEST)):
        # In a derivative the two change places: each of the products has one.
        n_low, n_found = low(precision)
        assert n_low == n_found, precision
    assert low(HIGHEST)[0] == 0


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_the_program_is_that_of_the_platform(platform):
    function = lambda x: lax.platform_dependent(  # noqa: E731
        x, cuda=lambda x: x @ x, tpu=lambda x: dot(x, x, HIGHEST), default=jnp.sin
    )
    found = contractions(trace(function, jnp.ones((3, 3))), platform)
    assert len(found) == (platform != "cpu")
    assert len(at_low_precision(found)) == (platform == "cuda")


def test_an_algorithm_is_refused():
    def product(left, right):
        preset = lax.DotAlgorithmPreset.TF32_TF32_F32
        return dot(left, right, preset)

    assert at_low_precision(contractions(trace(product, LEFT, RIGHT), "cuda"))


def test_a_dot_of_another_dialect_is_refused():
    def product(left, right):
        return lax.ragged_dot(left, right[None], jnp.array([5]))

    assert at_low_precision(contractions(trace(product, LEFT, RIGHT), "tpu"))


def test_a_call_that_may_hide_a_contraction_is_refused():
    def called(x):
        kind = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.ffi.ffi_call("my_gemm", kind)(x)

    assert at_low_precision(contractions(trace(called, LEFT), "cuda"))
    routine = lambda x: jnp.linalg.qr(x)[1]  # noqa: E731
    assert not at_low_precision(contractions(trace(routine, LEFT), "cuda"))


def test_what_has_nothing_to_lose_is_accepted():
    whole, narrow = LEFT.astype(jnp.int32), LEFT.astype(jnp.bfloat16)
    for array in (whole, narrow):
        found = contractions(trace(lambda x: x @ x.T, array), "cuda")
        assert len(found) == 1
        assert not at_low_precision(found)


def test_the_users_of_an_array_are_found_wherever_they_are():
    kernel, kind = jnp.ones((5, 7)), "tensor<5x7xf32>"
    once = ["stablehlo.dot_general", "stablehlo.dot_general", "stablehlo.tanh"]

    def function(x, w):
        return x @ w + x @ jnp.tanh(w)

    for name in ("main", "jit", "scan", "cond", "remat"):
        found = operations(trace(PLACES[name](function), kernel[:, 0], kernel))
        n_copies = 2 if name == "cond" else 1
        assert sorted(users(found, kind)) == sorted(once * n_copies), name
    handed_on = operations(trace(jax.jit(lambda w: jax.jit(lambda w: w)(w)), kernel))
    assert users(handed_on, kind) == []
