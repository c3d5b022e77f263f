"""The reader of compiled programs: what it counts is known beforehand."""

import functools
import math

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.tpu.collectives import (
    Collective,
    collectives,
    total_bytes,
    total_count,
)
from benchmarks.tpu.hlo import parse
from benchmarks.tpu.topologies import tpu_devices, tpu_mesh
from benchmarks.tpu.traffic import main_memory_bytes

ROUNDS, SIZE = 7, 4096


@functools.cache
def on_mesh():
    return tpu_mesh(tpu_devices("v5e:2x4"), 4)


def array(shape, spec=P(), dtype=jnp.float32):
    sharding = NamedSharding(on_mesh(), spec)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def compiled(function, *arguments, **options):
    return jax.jit(function, **options).lower(*arguments).compile().as_text()


def through_all(stack, x):
    """A scan whose rounds have one sum over the axis "model" each."""
    return lax.scan(lambda x, w: (jnp.tanh(jnp.sum(w * x[:, None], 0)), None), x, stack)


def test_a_collective_in_a_loop_counts_in_each_round():
    stack = array((ROUNDS, SIZE, SIZE), P(None, "model"))
    found = collectives(parse(compiled(through_all, stack, array((SIZE,)))))
    assert found == [Collective("all-reduce", (4 * SIZE,), ROUNDS)]


def test_a_gather_in_bfloat16_is_seen():
    split = array((512, 384), P("model"), jnp.bfloat16)
    whole = NamedSharding(on_mesh(), P())
    text = compiled(lambda w: w * 2, split, out_shardings=whole)
    assert collectives(parse(text)) == [Collective("all-gather", (2 * 512 * 384,), 1)]


def test_a_loop_of_unknown_length_is_refused():
    def until_small(w, x):
        step = lambda x: jnp.sum(w * x[:, None], 0)  # noqa: E731
        return lax.while_loop(lambda x: jnp.sum(x) > 1, step, x)

    program = parse(
        compiled(until_small, array((SIZE, SIZE), P("model")), array((SIZE,)))
    )
    with pytest.raises(ValueError, match="unknown length"):
        collectives(program)


ASYNCHRONOUS = """\
HloModule made_up

%inside (p: f32[8]) -> f32[32] {
  %p = f32[8]{0} parameter(0)
  ROOT %all-gather.9 = f32[32]{0} all-gather(%p), channel_id=4, dimensions={0}
}

%again (q: f32[8]) -> f32[32] {
  %q = f32[8]{0} parameter(0)
  ROOT %all-gather.10 = f32[32]{0} all-gather(%q), channel_id=4, dimensions={0}
}

ENTRY %main (a: f32[8], b: bf16[3]) -> f32[32] {
  %a = f32[8]{0:T(8)} parameter(0)
  %b = bf16[3]{0} parameter(1)
  %s = (f32[8]{0}, f32[32]{0:T(8)S(1)}, u32[]) all-gather-start(%a), channel_id=1
  %d = f32[32]{0} all-gather-done(%s)
  %t = ((f32[8], bf16[3]), (f32[16], /*index=1*/bf16[6])) all-gather-start(%a, %b), channel_id=2
  %r = (f32[8], bf16[3]) all-reduce-start(%a, %b), channel_id=3
  %f = f32[32]{0} fusion(%a), kind=kCustom, calls=%inside
  ROOT %g = f32[32]{0} fusion(%a), kind=kCustom, calls=%again
}
"""  # noqa: E501


def test_the_start_of_an_asynchronous_one_counts_with_its_result_alone():
    found = collectives(parse(ASYNCHRONOUS))
    assert sorted(found) == [
        Collective("all-gather", (64, 12), 1),
        Collective("all-gather", (128,), 1),
        Collective("all-gather", (128,), 1),  # of two fusions, on one channel
        Collective("all-reduce", (32, 6), 1),
    ]
    assert total_count(found) == 4
    assert total_bytes(found) == 64 + 12 + 128 + 128 + 32 + 6


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_main_memory_is_read_and_written_once_by_a_product(dtype):
    w = array((8192, 8192), dtype=dtype)
    size = 8192 * 8192 * jnp.dtype(dtype).itemsize
    assert main_memory_bytes(parse(compiled(lambda w: 2 * w, w))) == 2 * size


def test_a_loop_over_slices_reads_the_stack_once():
    stack, x = array((ROUNDS, SIZE, SIZE)), array((SIZE,))
    moved = main_memory_bytes(parse(compiled(through_all, stack, x)))
    assert math.isclose(moved, 4 * ROUNDS * SIZE**2, rel_tol=0.01)


def test_a_loop_that_writes_slices_writes_the_stack_once():
    def powers(x):
        return lax.scan(lambda x, _: (jnp.sin(x), x), x, length=ROUNDS)[1]

    moved = main_memory_bytes(parse(compiled(powers, array((SIZE, 2 * SIZE)))))
    # Each round reads x, writes it into the stack, and may keep the next x inside.
    assert ROUNDS * SIZE * 2 * SIZE * 4 <= moved <= 5 * ROUNDS * SIZE * 2 * SIZE * 4
