"""No contraction of ours runs in TF32 or bfloat16, whatever the backend's default is.

A compiler for a GPU or a TPU may compute a float32 product in less, unless the program
says otherwise. The programs are lowered here for each of them, and read.
"""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

import specjax as sx

MATRIX, STACK = sx.Matrix(), sx.Matrix(batch_axis=0)
IMAGE = sx.Conv((6, 6), window_strides=2)
WRAP = sx.Conv((6, 6), padding="CIRCULAR")
KERNELS = {
    "matrix": (MATRIX, (12, 8)),
    "stack": (STACK, (3, 12, 8)),
    "operator": (IMAGE, (3, 3, 4, 8)),
    "circular operator": (WRAP, (3, 3, 4, 8)),
}
CONTRACTION = re.compile(
    r"stablehlo\.(?:dot_general|dot|convolution)\b.*?(?:->|\n\s*\}\))", re.DOTALL
)


def contractions(function, kernel, platform):
    """Returns the text of each contraction in the program for a platform."""
    traced = jax.jit(function).trace(kernel)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return CONTRACTION.findall(text)


def uses(linear_map):
    """Returns everything that is done with a kernel, by name."""
    rule = {".*": linear_map}
    sn = sx.spectral_norm(kernels=rule)
    upper = sx.spectral_norm(kernels=rule, norm="upper")

    def trained(kernel):
        params = {"w": kernel}
        state = sn.init(params)
        loss = lambda params: jnp.sum(sn.apply(params, state)[0]["w"] ** 3)  # noqa: E731
        return jax.grad(loss)(params), sx.metrics(params, state, kernels=rule)

    methods = ["gram", "aol", "frobenius"]
    methods += ["fantastic_four"] * isinstance(linear_map, sx.Conv)
    return {
        "init": lambda kernel: sn.init({"w": kernel}),
        "train": trained,
        "fuse": lambda kernel: sn.fuse({"w": kernel}, sn.init({"w": kernel})),
        "upper": lambda kernel: upper.apply({"w": kernel}, {}),
        "exact": lambda kernel: sx.bounds.exact(kernel, linear_map).value,
        "all": lambda kernel: sx.bounds.singular_values(kernel, linear_map),
        **{
            method: functools.partial(_bound, linear_map=linear_map, method=method)
            for method in methods
        },
    }


def _bound(kernel, *, linear_map, method):
    return sx.bounds.upper(kernel, linear_map, method=method).value


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", KERNELS)
def test_every_contraction_is_at_the_highest_precision(name, platform):
    linear_map, shape = KERNELS[name]
    kernel = jax.ShapeDtypeStruct(shape, jnp.float32)
    n_found = 0
    for use, function in uses(linear_map).items():
        for text in contractions(function, kernel, platform):
            n_found += 1
            assert text.count("HIGHEST") >= 2 or "f32" not in text, (use, text)
    assert n_found > 5


def test_the_reader_sees_what_is_not():
    kernel = jax.ShapeDtypeStruct((3, 3, 4, 8), jnp.float32)

    def low(kernel):
        image = jnp.ones((1, 6, 6, 4))
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=layout
        )

    for function in (low, lambda k: jnp.tensordot(k, k, 4)):
        (text,) = contractions(function, kernel, "cuda")
        assert "HIGHEST" not in text
