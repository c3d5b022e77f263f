"""No contraction of ours runs in TF32 or bfloat16, whatever the backend's default is.

A compiler for a GPU or a TPU may compute a float32 product in less, unless the program
says otherwise; so may a CPU's, if jax is told so. The programs are lowered here for
each of them, and read. `test_programs` shows what the reader refuses.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

import specjax as sx
from tests.exhaustive import sampled
from tests.programs import at_low_precision, contractions, trace

MATRIX, STACK = sx.Matrix(), sx.Matrix(batch_axis=0)
IMAGE = sx.Conv((6, 6), window_strides=2)
WRAP = sx.Conv((6, 6), padding="CIRCULAR")
KERNELS = {
    "matrix": (MATRIX, (12, 8)),
    "stack": (STACK, (3, 12, 8)),
    "operator": (IMAGE, (3, 3, 4, 8)),
    "circular operator": (WRAP, (3, 3, 4, 8)),
    "transposed operator": (sx.Conv((3, 3), 2, transposed=True), (3, 3, 4, 8)),
}


def uses(linear_map):
    """Returns everything that is done with a kernel, by name."""
    rule = {".*": linear_map}
    sn = sx.spectral_norm(kernels=rule)
    upper = sx.spectral_norm(kernels=rule, method="upper")

    def trained(kernel):
        params = {"w": kernel}
        state = sn.init(params)
        loss = lambda params: jnp.sum(sn.apply(params, state)[0]["w"] ** 3)  # noqa: E731
        return jax.grad(loss)(params), sx.metrics(params, state, kernels=rule)

    methods = ["gram", "aol", "frobenius"]
    if isinstance(linear_map, sx.Conv):
        methods.append("fantastic_four")
        methods += ["dense"] * (linear_map.padding != "CIRCULAR")
    return {
        "init": lambda kernel: sn.init({"w": kernel}),
        "train": trained,
        "fuse": lambda kernel: sn.fuse({"w": kernel}, sn.init({"w": kernel})),
        "upper": lambda kernel: upper.apply({"w": kernel}, {}),
        "lower": lambda kernel: sx.bounds.lower(kernel, linear_map).value,
        "exact": lambda kernel: sx.bounds.exact(kernel, linear_map).value,
        "all": lambda kernel: sx.bounds.singular_values(kernel, linear_map),
        **{
            method: functools.partial(_bound, linear_map=linear_map, method=method)
            for method in methods
        },
    }


def _bound(kernel, *, linear_map, method):
    return sx.bounds.upper(kernel, linear_map, method=method).value


@pytest.mark.parametrize("name", sampled(KERNELS, ["stack", "circular operator"]))
def test_every_contraction_is_at_the_highest_precision(name):
    linear_map, shape = KERNELS[name]
    kernel = jax.ShapeDtypeStruct(shape, jnp.float32)
    names = {platform: set() for platform in ("cpu", "cuda", "tpu")}
    for use, function in uses(linear_map).items():
        traced = trace(function, kernel)
        for platform, seen in names.items():
            found = contractions(traced, platform)
            assert at_low_precision(found) == [], (use, platform)
            seen |= {operation.name for operation in found}
    for seen in names.values():
        assert seen == {"stablehlo.dot_general", "stablehlo.convolution"}
