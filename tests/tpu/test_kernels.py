"""Single kernels on a TPU's mesh: explicit axes, and convolutions as operators."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
from benchmarks.tpu.collectives import collectives, each_array
from benchmarks.tpu.hlo import parse
from benchmarks.tpu.topologies import LITTLE_EFFORT, tpu_devices, tpu_mesh
from benchmarks.tpu.traffic import main_memory_bytes
from specjax.optax import renormalize
from tests.exhaustive import exhaustive, sampled


class Sharded(NamedTuple):
    """A kernel, how it lies on the mesh ("data", "model"), and how its u lies then."""

    shape: tuple[int, ...]
    linear_map: Any
    kernel: P
    u: P


STACK, IMAGES = sx.Matrix(batch_axis=0), sx.Conv((8, 8))
MATRICES = {
    "dense on both": Sharded((512, 768), sx.Matrix(), P("data", "model"), P("model")),
    "conv on in": Sharded(
        (3, 3, 64, 96), sx.Matrix(), P(None, None, ("data", "model")), P(None)
    ),
    "stack": Sharded(
        (4, 512, 768), STACK, P(None, "data", "model"), P(None, "model")
    ),
    "experts": Sharded(
        (8, 512, 768), STACK, P("data", None, "model"), P("data", "model")
    ),
}  # fmt: skip
OPERATORS = {
    "on in": Sharded((3, 3, 16, 32), IMAGES, P(None, None, "model"), P()),
    "on both": Sharded(
        (3, 3, 16, 32), IMAGES, P(None, None, "data", "model"), P(None, None, "model")
    ),
}


def sent_by_gradient(case, kind):
    """Returns what one step sends, forward and backward."""
    mesh = tpu_mesh(tpu_devices("v5e:2x4"), 4, kind)
    kernels = {".*": case.linear_map}
    on_one = {"w": jax.ShapeDtypeStruct(case.shape, jnp.float32)}
    state = jax.eval_shape(functools.partial(sx.sn_init, kernels=kernels), on_one)

    def place(leaf, spec):
        sharding = NamedSharding(mesh, P(*spec[: len(leaf.shape)]))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    params = jax.tree.map(lambda leaf: place(leaf, case.kernel), on_one)
    state = jax.tree.map(lambda leaf: place(leaf, case.u), state)

    def loss(params, state, direction):
        used, state = sx.sn_apply(params, state, kernels=kernels)
        return jnp.sum(used["w"] * direction["w"]), state

    with jax.set_mesh(mesh):
        lowered = jax.jit(jax.grad(loss, has_aux=True)).lower(params, state, params)
        text = lowered.compile(LITTLE_EFFORT).as_text()
    return each_array(collectives(parse(text)))


def two_vectors_of_each_side(case):
    resolved = case.linear_map.resolve(case.shape)
    copies, one = math.prod(resolved.batch_shape), resolved.one
    return copies * (8 * (math.prod(one.in_shape) + math.prod(one.out_shape)) + 64)


@pytest.mark.parametrize("name", sampled(MATRICES, ["experts"]))
def test_an_explicit_mesh_sends_what_an_automatic_one_sends(name):
    explicit = sent_by_gradient(MATRICES[name], AxisType.Explicit)
    assert {operation for operation, _ in explicit} == {"all-reduce"}
    sent = sum(size * n for (_, size), n in explicit.items())
    assert 0 < sent <= two_vectors_of_each_side(MATRICES[name])
    # jax 0.8.1 sends a few scalars more.
    more = explicit - sent_by_gradient(MATRICES[name], AxisType.Auto)
    assert (
        sum(size * n for (_, size), n in more.items()) <= 64 * MATRICES[name].shape[0]
    )


@pytest.mark.parametrize("name", sampled(OPERATORS, ["on both"]))
def test_an_operator_sends_images_and_no_kernel(name):
    found = sent_by_gradient(OPERATORS[name], AxisType.Auto)
    assert {operation for operation, _ in found} == {"all-reduce"}
    sent = sum(size * n for (_, size), n in found.items())
    assert 0 < sent <= two_vectors_of_each_side(OPERATORS[name])


@pytest.mark.fast
@pytest.mark.parametrize(
    ("dtype", "n_steps", "passes"),
    [
        (jnp.bfloat16, 1, 4),
        *(
            pytest.param(*point, marks=exhaustive)
            for point in (
                (jnp.float32, 1, 4),
                (jnp.float32, 3, 8),
                (jnp.bfloat16, 3, 8),
            )
        ),
    ],
)
def test_a_step_reads_the_kernel_twice(dtype, n_steps, passes):
    # And once more to be divided, and once to be written.
    device = tpu_devices("v5e:2x4")[0]
    params = {"kernel": jax.ShapeDtypeStruct((16384, 8192), dtype)}
    tree = params, jax.eval_shape(sx.sn_init, params)
    params, state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=jax.sharding.SingleDeviceSharding(device)
        ),
        tree,
    )
    step = jax.jit(functools.partial(sx.sn_apply, n_steps=n_steps))
    moved = main_memory_bytes(parse(step.lower(params, state).compile().as_text()))
    kernel = 16384 * 8192 * jnp.dtype(dtype).itemsize
    assert math.isclose(moved, passes * kernel, rel_tol=0.01)


def test_an_update_of_a_convolution_reads_the_kernel_twice():
    """The first sum back is not one with a sum there: that would be a third read."""
    device = tpu_devices("v5e:2x4")[0]
    shape = (3, 3, 2048, 2048)
    tree = {f"Conv_{i}": {"kernel": jax.ShapeDtypeStruct(shape, "f4")} for i in (0, 1)}

    def moved(tx):
        def step(params, updates, state):
            updates, state = tx.update(updates, state, params)
            return optax.apply_updates(params, updates), state

        arguments = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape,
                leaf.dtype,
                sharding=jax.sharding.SingleDeviceSharding(device),
            ),
            (tree, tree, jax.eval_shape(tx.init, tree)),
        )
        compiled = jax.jit(step).lower(*arguments).compile(LITTLE_EFFORT)
        return main_memory_bytes(parse(compiled.as_text()))

    kernels = 2 * 4 * math.prod(shape)
    assert math.isclose(moved(optax.sgd(0.1)), 3 * kernels, rel_tol=0.01)
    # The sum is written, read for the second product and to be scaled; and the params
    # once more, for the difference.
    more = moved(renormalize(optax.sgd(0.1))) - 3 * kernels
    assert math.isclose(more, 4 * kernels, rel_tol=0.01)
