"""What spectral normalization adds to a program: passes, memory, growth with depth."""

import functools
import itertools
import json
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import specjax as sx
import specjax.nnx
from benchmarks.accuracy.passes import reads, writes
from benchmarks.rivals import budget, depth
from benchmarks.rivals.compiled import counts
from specjax.linen import SpectralNorm
from specjax.optax import renormalize

# No two kernels of one size, and no vector as large as a kernel.
WIDTHS = (384, 512, 320)
BATCH = 4
ROOT = Path(__file__).parents[2]


class Net(nn.Module):
    """Dense layers, wrapped or not."""

    wrapped: bool = False

    @nn.compact
    def __call__(self, x):
        for i, width in enumerate(WIDTHS[1:]):
            layer = nn.Dense(width, name=f"dense{i}")
            x = jnp.tanh(SpectralNorm(layer)(x) if self.wrapped else layer(x))
        return x


X = np.ones((BATCH, WIDTHS[0]), np.float32)
PARAMS = jax.jit(Net().init)(jax.random.key(0), X)["params"]
STATE = sx.sn_init(PARAMS)
SIZES = [kernel["kernel"].size for kernel in PARAMS.values()]
N_VECTORS = sum(sum(leaf.shape) for leaf in jax.tree.leaves(PARAMS))


def plain(params, state, x):
    return Net().apply({"params": params}, x), state


def functions(params, state, x, **options):
    params, state = sx.sn_apply(params, state, **options)
    return Net().apply({"params": params}, x), state


def wrapper(params, state, x, **options):
    held = {"params": params, "batch_stats": stats(state)}
    if options:
        return Net(wrapped=True).apply(held, x), state
    return Net(wrapped=True).apply(held, x, mutable=["batch_stats"])


def stats(state):
    return {f"SpectralNorm_{i}": one for i, one in enumerate(state.values())}


def compiled(function, *args):
    return jax.jit(function).lower(*args).compile()


def step(forward, tx):
    def training(params, state, moments, x):
        def loss(params):
            y, new = forward(params, state, x)
            return jnp.sum(jnp.sin(y)), new

        grads, new = jax.grad(loss, has_aux=True)(params)
        updates, moments = tx.update(grads, moments, params)
        return optax.apply_updates(params, updates), new, moments

    return training


@functools.cache
def training(forward, wrap=lambda tx: tx):
    tx = wrap(optax.adam(1e-3))
    return compiled(step(forward, tx), PARAMS, STATE, tx.init(PARAMS), X)


@pytest.mark.parametrize("forward", [functions, wrapper])
def test_evaluation_reads_each_kernel_once_more_than_the_layer(forward):
    usual = compiled(plain, PARAMS, STATE, X).as_text()
    evaluation = functools.partial(forward, update_stats=False)
    text = compiled(evaluation, PARAMS, STATE, X).as_text()
    for size in SIZES:
        assert reads(usual, size) == 1
        assert reads(text, size) == 2


def test_evaluation_of_an_nnx_wrapper_reads_each_kernel_once_more():
    def net(wrap):
        keys, sides = nnx.Rngs(0), itertools.pairwise(WIDTHS)
        layers = [wrap(nnx.Linear(*side, rngs=keys)) for side in sides]
        return nnx.split(nnx.Sequential(layers[0], jnp.tanh, layers[1], jnp.tanh))

    def text(wrap):
        graphdef, variables = net(wrap)

        def evaluation(variables, x):
            model = nnx.merge(graphdef, variables)
            model.eval()
            return model(x)

        return compiled(evaluation, variables, X).as_text()

    usual, wrapped = text(lambda layer: layer), text(specjax.nnx.SpectralNorm)
    assert [reads(usual, size) for size in SIZES] == [1, 1]
    assert [reads(wrapped, size) for size in SIZES] == [2, 2]
    assert [writes(wrapped, size) for size in SIZES] == [0, 0]


def test_with_fused_params_the_program_is_the_plain_one():
    # As text before the compiler: what it would be given is the same.
    usual = jax.jit(plain).lower(PARAMS, STATE, X).as_text()
    fused = sx.sn_fuse(PARAMS, STATE)
    assert jax.jit(plain).lower(fused, STATE, X).as_text() == usual
    assert not jnp.allclose(fused["dense0"]["kernel"], PARAMS["dense0"]["kernel"])


def test_the_wrapper_writes_no_kernel_in_evaluation():
    evaluation = functools.partial(wrapper, update_stats=False)
    text = compiled(evaluation, PARAMS, STATE, X).as_text()
    assert [writes(text, size) for size in SIZES] == [0, 0]


def test_a_step_keeps_no_more_than_the_normalized_kernels():
    n_bytes = 4 * sum(SIZES)
    usual = counts(training(plain)).temporary_bytes
    vectors = 64 * N_VECTORS
    assert vectors < n_bytes / 4
    assert counts(training(functions)).temporary_bytes <= usual + n_bytes + vectors
    assert counts(training(wrapper)).temporary_bytes <= usual + vectors


def test_renormalize_leaves_forward_and_backward_alone():
    def grads(params, x):
        return jax.grad(lambda p: jnp.sum(jnp.sin(plain(p, STATE, x)[0])))(params)

    alone = compiled(grads, PARAMS, X).as_text()
    usual = training(plain).as_text()
    text = training(plain, renormalize).as_text()
    for size in SIZES:
        # Read by the layer and for the input's derivative; then for two products.
        assert reads(text, size) - reads(usual, size) == 2
        assert reads(usual, size) == reads(alone, size)
    n_dots = [text.count(" dot(") for text in (usual, alone)]
    assert n_dots[0] == n_dots[1]


def equations(jaxpr):
    """Counts those inside of others too, once for each use."""
    count = len(jaxpr.eqns)
    for equation in jaxpr.eqns:
        for inner in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            count += equations(inner) if hasattr(inner, "eqns") else 0
    return count


def test_programs_grow_by_the_same_for_each_kernel():
    def size_of(n):
        params = depth.apart(n)
        tree = params.tree
        state = sx.sn_init(tree, kernels=params.kernels)
        traced = jax.jit(depth.step(params.kernels)).trace(tree, state)
        program = counts(traced.lower().compile())
        n_equations = equations(traced.jaxpr)
        sizes = n_equations, program.instructions, program.bytes, program.flops
        return np.array(sizes), program.distinct

    # Fewer kernels than 16 make a batch that the CPU's compiler treats otherwise.
    sizes, distinct = zip(*(size_of(n) for n in (16, 24, 40)), strict=True)
    first, second, third = sizes
    np.testing.assert_allclose(third - second, 2 * (second - first), rtol=0.01)
    # What is compiled does not grow: only how often it is called.
    assert len(set(distinct)) == 1


# Of the plain step's, by the budget's jax; flax.linen.SpectralNorm makes 1.98 times as
# many.
CALLS_OF_TRACING = {
    "specjax sn_apply": 1.65,
    "specjax.linen.SpectralNorm": 1.55,
    "specjax.linen, one around all": 1.75,
    "specjax renormalize": 1.55,
}


def test_tracing_sixty_layers_takes_few_calls_of_functions():
    """Those of jax: tracing is made of them, and they are a number, no time.

    In a process of its own: what checks types in the tests asks jax of each array.
    """
    held = budget.read()["versions"]["jax"]
    if held != jax.__version__:
        pytest.skip(f"the numbers are those of jax {held}")
    names = [*CALLS_OF_TRACING]
    code = f"from benchmarks.rivals.tracing import ratios; r = ratios('mlp60', {names})"
    run = [sys.executable, "-c", f"{code}; import json; print(json.dumps(r))"]
    done = subprocess.run(run, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    ratios = json.loads(done.stdout.splitlines()[-1])
    assert all(ratios[name] <= CALLS_OF_TRACING[name] for name in names), ratios


def test_a_stack_of_any_depth_is_one_program():
    def size_of(n):
        params = depth.stack(n)
        state = jax.eval_shape(
            lambda tree: sx.sn_init(tree, kernels=params.kernels), params.tree
        )
        traced = jax.jit(depth.step(params.kernels)).trace(params.tree, state)
        program = counts(traced.lower().compile())
        return equations(traced.jaxpr), program.instructions, program.fusions

    assert size_of(3) == size_of(48)
