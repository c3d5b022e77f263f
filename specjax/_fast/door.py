"""The step of all kernels, in the form that compiles to the least.

Kernels whose outputs are alike have their vectors rotated in one batch, from so many
on that it pays; the others go one by one, as in the core. All have the products of
their platform.
"""

import functools
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax
import jax.core
from jax import lax
from jaxtyping import Array

from specjax._core.batch import check_vectors, placed_as_output
from specjax._core.kernel import Normalized, apply, rescaled
from specjax._core.rayleigh_ritz import RitzPair
from specjax._core.state import KernelState
from specjax._core.step import SingularVectors, power_iteration
from specjax._fast.batch import ritz_pairs
from specjax._fast.products import gram_products
from specjax._options import Bound
from specjax.linear_maps import StackedMap

# From how many kernels with alike outputs on a batch pays.
MIN_BATCH = 4
# The public arrow, with the products of each platform.
_iterate = functools.partial(power_iteration, products=gram_products)


def apply_all(
    kernels: Sequence[Array],
    states: Sequence[KernelState],
    bound: Bound,
    *,
    linear_maps: Sequence[StackedMap],
    cap: bool,
    n_steps: int,
    grad_sigma: bool,
) -> list[Normalized]:
    """Returns what `_core.kernel.apply_all` does."""
    # Outside of jit all of them are one program.
    traced = any(isinstance(kernel, jax.core.Tracer) for kernel in kernels)
    return (_apply_all if traced else _apply_all_jitted)(
        list(kernels),
        list(states),
        bound,
        linear_maps=tuple(linear_maps),
        cap=cap,
        n_steps=n_steps,
        grad_sigma=grad_sigma,
    )


def _apply_all(
    kernels: list[Array],
    states: list[KernelState],
    bound: Bound,
    *,
    linear_maps: tuple[StackedMap, ...],
    cap: bool,
    n_steps: int,
    grad_sigma: bool,
) -> list[Normalized]:
    results: dict[int, Normalized] = {}
    for group in _groups(states, linear_maps) if n_steps == 1 else []:
        members = [_Member(kernels[i], states[i], linear_maps[i]) for i in group]
        normalized = _in_a_batch(members, bound, cap, grad_sigma)
        results.update(zip(group, normalized, strict=True))
    for i in (i for i in range(len(kernels)) if i not in results):
        results[i] = apply(
            kernels[i],
            states[i],
            bound,
            linear_map=linear_maps[i],
            cap=cap,
            n_steps=n_steps,
            grad_sigma=grad_sigma,
            iterate=_iterate,
        )
    return [results[i] for i in range(len(kernels))]


_apply_all_jitted = jax.jit(
    _apply_all, static_argnames=("linear_maps", "cap", "n_steps", "grad_sigma")
)


class _Member(NamedTuple):
    kernel: Array
    state: KernelState
    linear_map: StackedMap


def _groups(
    states: Sequence[KernelState], linear_maps: Sequence[StackedMap]
) -> list[list[int]]:
    """Returns the places of kernels with alike outputs, as far as a batch pays.

    A stack is a batch already and stays where it lies. What is split by hand is summed
    over devices, which jax 0.8 does not batch.
    """
    alike: dict[Hashable, list[int]] = {}
    for i, (state, linear_map) in enumerate(zip(states, linear_maps, strict=True)):
        if not linear_map.batch_axis and not any(linear_map.one.split.y):
            alike.setdefault(jax.typeof(state.u), []).append(i)
    return [group for group in alike.values() if len(group) >= MIN_BATCH]


def _in_a_batch(
    members: Sequence[_Member], bound: Bound, cap: bool, grad_sigma: bool
) -> list[Normalized]:
    pairs = [_products(m.kernel, m.state, linear_map=m.linear_map) for m in members]
    turned = ritz_pairs([outputs for _, outputs in pairs])
    return [
        _rescaled(
            m.kernel,
            m.state,
            found,
            inputs,
            bound,
            linear_map=m.linear_map,
            cap=cap,
            grad_sigma=grad_sigma,
        )
        for m, found, (inputs, _) in zip(members, turned, pairs, strict=True)
    ]


# Jitted, as `_rescaled` is, so that kernels of one shape are traced, and
# differentiated, once.
@functools.partial(jax.jit, static_argnames="linear_map")
def _products(
    kernel: Array, state: KernelState, *, linear_map: StackedMap
) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
    """Returns V and V2, and ``(u, u2, z, z2)``."""
    check_vectors(kernel, linear_map, u=state.u, u2=state.u2)
    one = linear_map.one
    kernel, u, u2 = lax.stop_gradient((kernel, state.u, state.u2))
    u, u2 = (placed_as_output(kernel, one, vector) for vector in (u, u2))
    inputs, outputs = gram_products(kernel, u, u2, one)
    return inputs, (u, u2, *outputs)


@functools.partial(jax.jit, static_argnames=("linear_map", "cap", "grad_sigma"))
def _rescaled(
    kernel: Array,
    state: KernelState,
    found: RitzPair,
    inputs: tuple[Array, Array],
    bound: Bound,
    *,
    linear_map: StackedMap,
    cap: bool,
    grad_sigma: bool,
) -> Normalized:
    vectors = SingularVectors(found.u, found.u2, found.v(*inputs), found.sigma)
    return rescaled(
        kernel,
        state,
        vectors,
        bound,
        linear_map=linear_map,
        cap=cap,
        grad_sigma=grad_sigma,
    )
