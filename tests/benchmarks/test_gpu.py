"""What the compiler for a GPU makes of a step, without a GPU.

The oracle of its counts is a program whose kernels are known; that of a mesh are the
sizes of the vectors.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
from benchmarks import gpu
from benchmarks.rivals.compiled import launches
from benchmarks.tpu.collectives import collectives, total_bytes
from benchmarks.tpu.hlo import parse
from specjax.optax import renormalize

if not gpu.has_compiler():
    pytest.skip(gpu.GET_COMPILER, allow_module_level=True)

SIDE = 256


def on_one(shape, dtype="float32"):
    place = SingleDeviceSharding(gpu.gpu_devices()[0])
    return jax.ShapeDtypeStruct(shape, dtype, sharding=place)


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile()


def test_a_known_program_is_counted():
    found = launches(compiled(lambda x: jnp.sort(2 * x), on_one((SIDE, SIDE))))
    whole = 4 * SIDE**2
    # One kernel doubles, one call of a library sorts; each reads and writes all. The
    # library has as much to work in.
    assert (found.launches, found.bytes) == (2, 5 * whole)
    once = launches(compiled(lambda x: 2 * x + 1, on_one((SIDE, SIDE))))
    assert (once.launches, once.bytes) == (1, 2 * whole)


SHAPES = [(256, 256), (1024, 512), (32, 4096), (3, 3, 128, 128), (5, 5, 2, 2048)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_kernel_more_is_two_reads_of_it_and_its_two_products(shape, dtype):
    """Nothing of its size is written, and no vector takes a launch of its own.

    The second product is two sums, one after the other.
    """
    few, many = one_step(6, shape, dtype), one_step(18, shape, dtype)
    assert many.launches - few.launches <= 12 * 3 + 2
    kernel = math.prod(shape) * jnp.dtype(dtype).itemsize
    sides = 4 * (math.prod(shape[:-1]) + shape[-1])
    more = (many.bytes - few.bytes) / 12
    # The parts of the second sum are of complex numbers.
    parts = 8 * 32 * shape[-1]
    assert 2 * kernel <= more <= 2 * kernel + 16 * sides + 2 * parts
    assert many.temporary_bytes <= 18 * (8 * sides + parts)


def one_step(n, shape, dtype):
    """Returns what it takes to turn the vectors of n kernels."""
    layer = "Dense" if len(shape) == 2 else "Conv"
    params = {f"{layer}_{i}": {"kernel": on_one(shape, dtype)} for i in range(n)}
    unplaced = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    state = jax.eval_shape(sx.sn_init, unplaced)
    state = jax.tree.map(lambda x: on_one(x.shape, x.dtype), state)
    return launches(compiled(lambda p, s: sx.sn_apply(p, s)[1], params, state))


DENSE, CONV = (1024, 256), (3, 3, 64, 128)
SPLIT = {
    "conv out": (CONV, P(None, None, None, "model")),
    "conv in": (CONV, P(None, None, "model")),
    "conv both": (CONV, P(None, None, "data", "model")),
    "dense out": (DENSE, P(None, ("data", "model"))),
    "dense in": (DENSE, P(("data", "model"))),
}


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("name", SPLIT)
def test_renormalize_sends_vectors_and_no_kernel(name, kind):
    """A layout that is asked for would not be partitioned, and gather the kernel."""
    devices = np.array(gpu.gpu_devices(8)).reshape(2, 4)
    mesh = Mesh(devices, ("data", "model"), axis_types=(kind, kind))
    shape, spec = SPLIT[name]

    def placed(leaf):
        whole = {shape: spec, shape[-1:]: P(*spec[len(shape) - 1 :])}
        place = NamedSharding(mesh, whole.get(leaf.shape, P()))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    tx = renormalize(optax.adam(1e-3))
    layer = "Dense_0" if len(shape) == 2 else "Conv_0"
    params = {layer: {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}}
    opt_state = jax.tree.map(placed, jax.eval_shape(tx.init, params))
    params = jax.tree.map(placed, params)
    with jax.set_mesh(mesh):
        text = compiled(tx.update, params, opt_state, params).as_text()
    found = collectives(parse(text))
    assert {one.operation for one in found} == {"all-reduce"}

    # Two vectors of each side, that of the outputs for each pixel; and a few numbers.
    in_size, pixels = math.prod(shape[:-1]), math.prod(shape[:-2])
    assert total_bytes(found) <= 8 * (in_size + pixels * shape[-1]) + 64
