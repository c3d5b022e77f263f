"""No sum of products runs in bfloat16 unasked: the precision that the TPU is told.

A TPU multiplies float32 matrices in bfloat16, unless the program says `highest` at each
dot or convolution: six products of three bfloat16 parts.
"""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import SingleDeviceSharding

import specjax as sx
from benchmarks.tpu.hlo import n_bytes, parse
from benchmarks.tpu.topologies import LITTLE_EFFORT, tpu_devices
from specjax import bounds
from tests.exhaustive import exhaustive, sampled

DENSE = {"Dense_0": {"kernel": (256, 384)}}
CONV = {"Conv_0": {"kernel": (3, 3, 16, 32)}}
AS_MATRIX = {r".*": sx.flax_kernels}
AS_OPERATOR = {r".*": sx.Conv((8, 8))}
SAME, CIRCULAR = sx.Conv((6, 6)), sx.Conv((6, 6), padding="CIRCULAR")


def array(shape, dtype=jnp.float32):
    sharding = SingleDeviceSharding(tpu_devices("v5e:2x4")[0])
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def tree(shapes, dtype=jnp.float32):
    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(lambda s: array(s, dtype), shapes, is_leaf=is_shape)


def program(function, *arguments):
    compiled = jax.jit(function).lower(*arguments).compile(LITTLE_EFFORT)
    return parse(compiled.as_text())


def contractions(found):
    """Returns every dot and convolution, those inside of fusions too."""
    return [
        line
        for lines in found.computations.values()
        for line in lines
        if line.operation in ("dot", "convolution")
    ]


def at_low_precision(found):
    told = re.compile(r"operand_precision=\{highest,highest\}")
    return [line for line in contractions(found) if not told.search(line.attributes)]


def casts_down(found):
    """Returns the casts of a float32 array to a narrower type."""
    casts = []
    for lines in found.computations.values():
        shapes = {line.name: line.shape for line in lines}
        casts += [
            line
            for line in lines
            if line.operation == "convert"
            and shapes[line.operands[0]].startswith("f32")
            and line.shape.startswith(("bf16", "f16", "f8"))
        ]
    return casts


def all_functions(params, state, kernels):
    """One program with everything that is used in training and after it."""
    sn = sx.spectral_norm(kernels=kernels)
    moments = jax.grad(
        lambda p: sum(map(jnp.sum, jax.tree.leaves(sn.apply(p, state)[0])))
    )
    return (
        sn.init(params),
        sn.apply(params, state),
        sn.fuse(params, state),
        moments(params),
        sx.metrics(params, state, kernels=kernels),
        sx.sn_apply(params, {}, kernels=kernels, method="upper")[0],
    )


@pytest.mark.parametrize(
    ("shapes", "kernels", "has_contractions"),
    [
        # Of the warm-up's small matrices, and Gram's.
        pytest.param(DENSE | CONV, AS_MATRIX, True, id="matrix", marks=exhaustive),
        pytest.param(CONV, AS_OPERATOR, True, id="operator", marks=exhaustive),
    ],
)
def test_training_and_what_comes_after_it(shapes, kernels, has_contractions):
    params = tree(shapes)
    state = jax.eval_shape(functools.partial(sx.sn_init, kernels=kernels), params)
    state = jax.tree.map(lambda leaf: array(leaf.shape, leaf.dtype), state)
    found = program(functools.partial(all_functions, kernels=kernels), params, state)
    assert bool(contractions(found)) == has_contractions
    assert at_low_precision(found) == []
    assert casts_down(found) == []


BOUNDS = {
    "upper, Matrix": (bounds.upper, (256, 384), sx.Matrix(), {}),
    "upper, Conv": (bounds.upper, (3, 3, 8, 16), SAME, {}),
    "upper, dense": (bounds.upper, (3, 3, 4, 8), SAME, {"method": "dense"}),
    "upper, fantastic four": (
        bounds.upper, (3, 3, 8, 16), SAME, {"method": "fantastic_four"},
    ),
    "exact, Matrix": (bounds.exact, (48, 32), sx.Matrix(), {}),
    "exact, CIRCULAR": (bounds.exact, (3, 3, 4, 4), CIRCULAR, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", sampled(BOUNDS, ["upper, Conv"]))
def test_bounds(name):
    function, shape, linear_map, options = BOUNDS[name]
    found = program(lambda w: function(w, linear_map, **options).value, array(shape))
    assert contractions(found)
    assert at_low_precision(found) == []
    assert casts_down(found) == []


def convolved(kernel, images, precision):
    return lax.conv_general_dilated(
        images,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


def in_a_loop_and_a_branch(w, precision):
    def step(x, _):
        square = lambda x: jnp.matmul(w, x, precision=precision)  # noqa: E731
        return lax.cond(x[0, 0] > 0, square, jnp.sin, x), None

    return lax.scan(step, w, length=3)[0]


CONTRACTIONS = {
    "convolution": (convolved, ((3, 3, 64, 64), (8, 16, 16, 64))),
    "dot": (jnp.matmul, ((384, 256), (256, 384))),
    "batched dot": (jnp.matmul, ((8, 128, 256), (8, 256, 128))),
    "loop": (in_a_loop_and_a_branch, ((256, 256),)),
}
HIGHEST, DEFAULT = lax.Precision.HIGHEST, lax.Precision.DEFAULT


@pytest.mark.parametrize("name", CONTRACTIONS)
@pytest.mark.parametrize(
    "precision", [DEFAULT, lax.Precision.HIGH, (HIGHEST, DEFAULT)], ids=str
)
def test_the_check_sees_a_program_below_the_highest_precision(name, precision):
    function, shapes = CONTRACTIONS[name]
    told = functools.partial(function, precision=precision)
    assert at_low_precision(program(told, *map(array, shapes)))


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_the_check_passes_a_program_at_the_highest_precision(name):
    function, shapes = CONTRACTIONS[name]
    found = program(functools.partial(function, precision=HIGHEST), *map(array, shapes))
    assert contractions(found)
    assert not at_low_precision(found)


def test_the_check_sees_a_cast():
    assert casts_down(program(lambda w: w.astype(jnp.bfloat16) * 2, array((256, 384))))


def on_bfloat16(what, kernels, shape):
    params = {"w": array(shape, jnp.bfloat16)}
    state = jax.eval_shape(functools.partial(sx.sn_init, kernels=kernels), params)
    state = jax.tree.map(lambda leaf: array(leaf.shape, leaf.dtype), state)

    def pulled(params, state, direction):
        def loss(params):
            used, _ = sx.sn_apply(params, state, kernels=kernels)
            return jnp.vdot(used["w"].astype(jnp.float32), direction)

        return jax.grad(loss)(params)

    functions = {
        "init": (lambda p, _: sx.sn_init(p, kernels=kernels), (params, state)),
        "step": (lambda p, s: sx.sn_apply(p, s, kernels=kernels), (params, state)),
        "fuse": (lambda p, s: sx.sn_fuse(p, s, kernels=kernels), (params, state)),
        "gradient": (pulled, (params, state, params["w"])),
    }
    function, arguments = functions[what]
    return jax.jit(function).lower(*arguments).compile(LITTLE_EFFORT)


@pytest.mark.fast
@pytest.mark.parametrize(
    "what", sampled(["init", "step", "fuse", "gradient"], ["step"])
)
@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        pytest.param((8192, 8192), sx.Matrix(), id="dense", marks=exhaustive),
        pytest.param((4, 4096, 4096), sx.Matrix(batch_axis=0), id="stack"),
    ],
)
def test_a_bfloat16_kernel_is_not_copied_to_float32(what, shape, matrix):
    compiled = on_bfloat16(what, {".*": matrix}, shape)
    kernel = n_bytes(f"bf16[{','.join(map(str, shape))}]")
    assert compiled.memory_analysis().temp_size_in_bytes < 0.1 * kernel
