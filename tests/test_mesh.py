"""Sharded kernels, on automatic and on explicit meshes: same results, no kernel moved.

The oracle of the numbers is the single device; that of the traffic is the compiled
program's text.
"""

import functools
import math
import re
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
from specjax.optax import keep_spectral_norm
from tests.cases import norm
from tests.exhaustive import sampled


class Sharded(NamedTuple):
    """A kernel, how it lies on the mesh ("a", "b"), and where its u lies then."""

    shape: tuple[int, ...]
    linear_map: sx.Matrix | sx.Conv
    kernel: P
    u: P


DENSE, CONV, QUERY, EXPERTS = (16, 24), (3, 3, 16, 24), (16, 4, 6), (4, 16, 24)
HEADS = sx.Matrix(in_axis=0, out_axis=(1, 2))
STACK = sx.Matrix(batch_axis=0)
IMAGE, CHANNELS = sx.Conv((8, 8), window_strides=2), P(None, None, "b")
CASES = {
    "dense on in": Sharded(DENSE, sx.Matrix(), P("a"), P(None)),
    "dense on out": Sharded(DENSE, sx.Matrix(), P(None, "b"), P("b")),
    "dense on both": Sharded(DENSE, sx.Matrix(), P("a", "b"), P("b")),
    "conv on in": Sharded(CONV, sx.Matrix(), P(None, None, ("a", "b")), P(None)),
    "conv on both": Sharded(CONV, sx.Matrix(), P(None, None, "a", "b"), P("b")),
    "query on all": Sharded(QUERY, HEADS, P("a", "b"), P("b", None)),
    "experts on batch": Sharded(EXPERTS, STACK, P("a"), P("a", None)),
    "experts on batch and out": Sharded(EXPERTS, STACK, P("b", None, "a"), P("b", "a")),
    "experts on in and out": Sharded(EXPERTS, STACK, P(None, "a", "b"), P(None, "b")),
    "operator on in": Sharded(CONV, IMAGE, P(None, None, "a"), P(None, None, None)),
    "operator on out": Sharded(CONV, IMAGE, P(None, None, None, "b"), CHANNELS),
    "operator on both": Sharded(CONV, IMAGE, P(None, None, "a", "b"), CHANNELS),
}
FAST = ["dense on both-explicit", "conv on in-auto"]
FAST += ["experts on batch and out-explicit"]
AUTOMATIC = ("conv on in", "query on all", "operator on both")
NAMES = {case: name for name, case in CASES.items()}
both_kinds = pytest.mark.parametrize(
    "kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"]
)
# On an automatic mesh nothing of ours depends on the sharding: a few cases will do.
every_case = pytest.mark.parametrize(
    ("case", "kind"),
    sampled(
        (
            (CASES[name], kind)
            for name in CASES
            for kind in (AxisType.Auto, AxisType.Explicit)
            if kind is AxisType.Explicit or name in AUTOMATIC
        ),
        FAST,
        name=lambda pair: f"{NAMES[pair[0]]}-{pair[1].name.lower()}",
    ),
)


def pairs(names, fast):
    """Returns each name with each kind of mesh; by default only those of `fast` run."""
    both = [
        (name, kind) for name in names for kind in (AxisType.Auto, AxisType.Explicit)
    ]
    return sampled(both, fast)


def make_mesh(kind):
    return jax.make_mesh((2, 4), ("a", "b"), axis_types=(kind, kind))


def functions(case, **options):
    return sx.spectral_norm(kernels={".*": case.linear_map}, **options)


def on_one_device(case):
    return {"w": jax.random.normal(jax.random.key(3), case.shape)}


@functools.cache
def on_mesh(case, kind):
    """Returns the params on the mesh and the state made there, for all tests."""
    mesh = make_mesh(kind)
    with jax.set_mesh(mesh):
        params = jax.device_put(on_one_device(case), NamedSharding(mesh, case.kernel))
        return params, jax.jit(functions(case).init)(params)


# The type of what it returns, which may be several arrays, and its name.
COLLECTIVE = re.compile(
    r"= (\S.*?) (all-gather|all-reduce|reduce-scatter|(?:ragged-)?all-to-all|"
    r"collective-permute|collective-broadcast)(?:-start)?\("
)


def collectives(program):
    """Returns (operation, bytes of its result) for each one in a compiled program."""
    return [
        (operation, sum(WIDTHS[kind] * size for kind, size in arrays_of(result)))
        for result, operation in COLLECTIVE.findall(program)
    ]


WIDTHS = {"pred": 1, "f32": 4, "s32": 4, "u32": 4}


def arrays_of(result):
    found = re.findall(r"(\w+)\[([\d,]*)\]", result)
    assert found, result
    return [
        (kind, math.prod(int(size) for size in shape.split(",") if size))
        for kind, shape in found
    ]


def assert_same_place(got, given):
    # On an automatic mesh the type does not say it.
    assert got.sharding.is_equivalent_to(given.sharding, given.ndim)


@every_case
def test_results_are_the_single_devices_and_shardings_a_fixed_point(case, kind):
    sn, plain, mesh = functions(case, n_steps=2), on_one_device(case), make_mesh(kind)
    want_state = sn.init(plain)
    want = sn.apply(plain, want_state), sn.fuse(plain, want_state)
    params, state = on_mesh(case, kind)
    with jax.set_mesh(mesh):
        new_params, new_state = jax.jit(sn.apply)(params, state)
        fused = jax.jit(sn.fuse)(params, state)
    for name, u in (("u", case.u), ("u2", case.u), ("sigma", case.u)):
        entry = state["w"][name]
        natural = NamedSharding(mesh, P(*u[: entry.ndim]))
        assert entry.sharding.is_equivalent_to(natural, entry.ndim), name
    types = functools.partial(jax.tree.map, jax.typeof)
    assert types((new_params, new_state)) == types((params, state))
    assert types(fused) == types(params)
    jax.tree.map(
        assert_same_place, (new_params, new_state, fused), (params, state, params)
    )
    same = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=2e-6)
    jax.tree.map(same, ((new_params, new_state), fused), want)


@pytest.mark.parametrize(
    ("name", "kind"),
    pairs(
        ["dense on out", "dense on both", "conv on in"],
        [("dense on both", AxisType.Explicit), ("conv on in", AxisType.Auto)],
    ),
)
def test_kernels_with_alike_outputs(name, kind):
    """They are turned in one batch: each as it is alone, and none is moved."""
    case, mesh = CASES[name], make_mesh(kind)
    sn = functions(case)
    plain = {
        f"w{i}": jax.random.normal(jax.random.key(i), case.shape) for i in range(3)
    }

    def loss(params, state):
        normalized, state = sn.apply(params, state)
        return sum(jnp.sum(jnp.tanh(w)) for w in normalized.values()), state

    step = jax.jit(jax.grad(loss, has_aux=True))
    want = [step({name: w}, sn.init({name: w})) for name, w in plain.items()]
    with jax.set_mesh(mesh):
        params = jax.device_put(plain, NamedSharding(mesh, case.kernel))
        state = jax.jit(sn.init)(params)
        got = step(params, state)
        program = step.lower(params, state).compile().as_text()
    assert jax.tree.map(jax.typeof, got) == jax.tree.map(jax.typeof, (params, state))
    for gradient, moved in want:
        for mine, alone in zip(got, (gradient, moved), strict=True):
            # Sums over shards have another order, and vectors double what it changes.
            same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-5)
            jax.tree.map(same, {key: mine[key] for key in alone}, alone)
    assert {operation for operation, _ in collectives(program)} <= {"all-reduce"}


def without_flags(found, n_kernels):
    """Returns what moves but the flags of a stack, which an old jax gathers."""
    flags = [("all-gather", n_kernels)] * (jax.__version_info__ < (0, 10))
    return [entry for entry in found if entry not in flags]


@every_case
def test_no_kernel_is_moved(case, kind):
    sn, mesh = functions(case), make_mesh(kind)
    one = case.linear_map.resolve(case.shape).one
    n_in, n_out = math.prod(one.in_shape), math.prod(one.out_shape)
    n_kernels = case.shape[0] if case.linear_map is STACK else 1
    budget = 8 * n_kernels * (n_in + n_out) + 64 * n_kernels

    def loss(params, state, direction):
        normalized, state = sn.apply(params, state)
        return jnp.sum(normalized["w"] * direction["w"]), state

    params, state = on_mesh(case, kind)
    with jax.set_mesh(mesh):
        forward = jax.jit(sn.apply).lower(params, state)
        evaluate = jax.jit(functools.partial(sn.apply, update_stats=False))
        evaluate = evaluate.lower(params, state)
        backward = jax.jit(jax.grad(loss, has_aux=True)).lower(params, state, params)
    for step in (forward, evaluate, backward):
        found = collectives(step.compile().as_text())
        found = without_flags(found, n_kernels)
        assert {operation for operation, _ in found} <= {"all-reduce"}
        assert sum(n_bytes for _, n_bytes in found) <= budget


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("conv on in", AxisType.Auto),
        ("experts on batch and out", AxisType.Explicit),
        ("operator on both", AxisType.Explicit),
    ],
)
def test_no_kernel_is_moved_to_converge(name, kind):
    case, mesh = CASES[name], make_mesh(kind)
    params, state = on_mesh(case, kind)
    sn = functions(case)
    with jax.set_mesh(mesh):
        programs = jax.jit(sn.init).lower(params), jax.jit(sn.fuse).lower(params, state)
    for program in programs:
        found = collectives(program.compile().as_text())
        found = without_flags(found, case.shape[0])
        assert {operation for operation, _ in found} == {"all-reduce"}
        assert max(n_bytes for _, n_bytes in found) < params["w"].nbytes / 2


def gathered(w):
    return lax.all_gather(w, "a", tiled=True)


def in_a_loop(w):
    return lax.scan(lambda c, _: (c, gathered(w + c)), 0.0, length=3)[1]


def in_a_branch(w):
    return lax.cond(w[0, 0] > 0, gathered, lambda w: jnp.concatenate([w, w]), w)


SENT = {
    "all-gather": gathered,
    "all-gather in a loop": in_a_loop,
    "all-gather in a branch": in_a_branch,
    "all-gather in a function": jax.jit(gathered),
    "all-reduce": lambda w: lax.psum(w, "a"),
    "reduce-scatter": lambda w: lax.psum_scatter(w, "a", tiled=True),
    "all-to-all": lambda w: lax.all_to_all(w, "a", 0, 1, tiled=True),
    "collective-permute": lambda w: lax.ppermute(w, "a", [(0, 1), (1, 0)]),
}


@pytest.mark.parametrize("name", SENT)
def test_the_reader_sees_what_is_sent(name):
    # Of 16x24 numbers on two devices, which hold 8x24.
    mesh, bytes_of = make_mesh(AxisType.Auto), {"all-gather": 2, "reduce-scatter": 0.5}
    send = jax.shard_map(
        SENT[name], mesh=mesh, in_specs=P("a"), out_specs=P("a"), check_vma=False
    )
    program = jax.jit(send).lower(jnp.ones((16, 24))).compile().as_text()
    operation = name.partition(" ")[0]
    size = int(4 * 8 * 24 * bytes_of.get(operation, 1))
    assert collectives(program) == [(operation, size)]


def test_the_reader_sees_a_gather_by_the_compiler():
    mesh = make_mesh(AxisType.Auto)
    split = jax.device_put(jnp.ones((16, 24)), NamedSharding(mesh, P("a")))
    gather = jax.jit(lambda w: w * 2, out_shardings=NamedSharding(mesh, P()))
    assert collectives(gather.lower(split).compile().as_text()) == [
        ("all-gather", 4 * 16 * 24)
    ]


@pytest.mark.parametrize(
    "line",
    [
        "%s = (f32[8]{0}, f32[32]{0:T(8)S(1)}) all-gather-start(%a), channel_id=1",
        "ROOT %s = f32[40]{0} ragged-all-to-all(%a, %b), replica_groups={{0,1}}",
        "%s = (f32[16]{0}, /*index=1*/f32[24]{0}) all-reduce(%a, %b), to_apply=%add",
        "%s.1 = f32[40]{0} collective-broadcast(%a), replica_groups={{0,1}}",
    ],
)
def test_the_reader_sees_other_forms(line):
    ((_, size),) = collectives(line)
    assert size == 4 * 40


@both_kinds
def test_a_replicated_state_becomes_the_natural_one(kind):
    case, mesh = CASES["dense on both"], make_mesh(kind)
    sn, plain = functions(case), on_one_device(case)
    state = sn.init(plain)
    with jax.set_mesh(mesh):
        params = jax.device_put(plain, NamedSharding(mesh, case.kernel))
        state = jax.device_put(state, NamedSharding(mesh, P()))
        out, after = jax.jit(sn.apply)(params, state)
        again, last = jax.jit(sn.apply)(params, after)
    assert jax.typeof(last["w"]["u"]) == jax.typeof(after["w"]["u"])
    for normalized in (out, again):
        np.testing.assert_allclose(norm(np.float64(normalized["w"])), 1, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "kind"),
    pairs(
        ["dense on both", "operator on out"],
        [("dense on both", AxisType.Explicit), ("operator on out", AxisType.Auto)],
    ),
)
def test_renormalize_on_a_mesh(name, kind):
    case, mesh = CASES[name], make_mesh(kind)
    tx = keep_spectral_norm(kernels={".*": case.linear_map})
    with jax.set_mesh(mesh):
        params = jax.device_put(on_one_device(case), NamedSharding(mesh, case.kernel))
        state = jax.jit(tx.init)(params)
        updates, after = jax.jit(tx.update)(params, state, params)
    types = functools.partial(jax.tree.map, jax.typeof)
    assert types((updates, after)) == types((params, state))
    new = jnp.asarray(np.asarray(params["w"]) + np.asarray(updates["w"]))
    found = sx.bounds.exact(new, case.linear_map).value
    np.testing.assert_allclose(found, 1, rtol=1e-3)


def test_partitioned_params_keep_their_boxes_on_a_mesh():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            init = nn.initializers.lecun_normal()
            return nn.Dense(24, kernel_init=nn.with_partitioning(init, ("a", "b")))(x)

    mesh, model = make_mesh(AxisType.Auto), Model()
    with jax.set_mesh(mesh):
        boxed = jax.jit(model.init)(jax.random.key(0), jnp.ones((2, 16)))["params"]
        out, _ = jax.jit(sx.sn_apply)(boxed, jax.jit(sx.sn_init)(boxed))
    kernel = out["Dense_0"]["kernel"]
    assert kernel.names == ("a", "b")
    np.testing.assert_allclose(norm(np.float64(kernel.value)), 1, rtol=1e-3)
