"""No product of a projection runs in TF32 or bfloat16, whatever the backend does."""

import functools

import jax
import jax.numpy as jnp
import pytest

import specjax as sx
from specjax import constraints
from tests.test_precision import contractions

BALL = constraints.project_spectral_ball
FUNCTIONS = {
    "svd": functools.partial(BALL, method="svd"),
    "polar": functools.partial(BALL, method="polar"),
    "orthogonalize": constraints.orthogonalize,
    "bjorck": constraints.bjorck,
    "soft cap": functools.partial(constraints.spectral_soft_cap, max_update=0.2),
    "hammer": constraints.spectral_hammer,
}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_contraction_is_at_the_highest_precision(name, platform):
    def projected(kernel):
        return FUNCTIONS[name]({"w": kernel}, kernels={".*": sx.Matrix()})["w"]

    kernel = jax.ShapeDtypeStruct((12, 8), jnp.float32)
    backward = jax.grad(lambda kernel: jnp.sum(projected(kernel) ** 2))
    found = contractions(projected, kernel, platform)
    found += contractions(backward, kernel, platform)
    assert found
    for text in found:
        assert text.count("HIGHEST") >= 2 or "f32" not in text, text
