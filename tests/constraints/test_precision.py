"""No product of a constraint runs in TF32 or bfloat16, whatever the backend does."""

import functools

import jax
import jax.numpy as jnp
import pytest

import specjax as sx
from specjax import constraints
from tests.programs import at_low_precision, contractions, trace

BALL = constraints.project_spectral_ball
FUNCTIONS = {
    "svd": functools.partial(BALL, method="svd"),
    "polar": functools.partial(BALL, method="polar"),
    "orthogonalize": constraints.orthogonalize,
    "bjorck": constraints.bjorck,
    "soft cap": functools.partial(constraints.spectral_soft_cap, max_update=0.2),
    "hammer": constraints.spectral_hammer,
    "retract": constraints.retract,
}


def orthogonal_penalty(params, kernels):
    return {"w": constraints.orthogonal_penalty(params, kernels=kernels)}


def spectral_penalty(params, kernels):
    state = sx.sn_init(params, kernels=kernels)
    return {"w": constraints.spectral_penalty(params, state, kernels=kernels)[0]}


def reparametrized(params, kernels):
    split, state = constraints.sr_init(params, kernels=kernels)
    return constraints.sr_apply(split, state, kernels=kernels)[0]


def both_ways(params, kernels):
    rules = {"kernels": kernels, "backward": {".*": sx.Matrix(out_axis=-2)}}
    return constraints.bsn_apply(
        params, constraints.bsn_init(params, **rules), **rules
    )[0]


FUNCTIONS |= {
    function.__name__: function
    for function in (orthogonal_penalty, spectral_penalty, reparametrized, both_ways)
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_contraction_is_at_the_highest_precision(name):
    def constrained(kernel):
        return FUNCTIONS[name]({"w": kernel}, kernels={".*": sx.Matrix()})["w"]

    kernel = jax.ShapeDtypeStruct((12, 8), jnp.float32)
    backward = jax.grad(lambda kernel: jnp.sum(constrained(kernel) ** 2))
    for function in (constrained, backward):
        traced = trace(function, kernel)
        for platform in ("cpu", "cuda", "tpu"):
            found = contractions(traced, platform)
            assert found
            assert at_low_precision(found) == [], platform
