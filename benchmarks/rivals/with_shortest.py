"""The shortest that Miyato's step can be written: what the others are measured by.

No library: one vector for each kernel, no guard, nothing carried but u, two products in
each step. What it takes over the plain step is taken by the products, by dividing and
by the derivative, not by what a library does beside them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from benchmarks.rivals.training import Training, functional
from benchmarks.rivals.weights import Problem, nested
from benchmarks.rivals.with_linen import apply_plain

Kernels = dict[str, Array]
Normalize = Callable[[Kernels, Kernels], tuple[Kernels, Kernels]]


def constant(problem: Problem) -> Training:
    """Returns the step with a sigma that is a constant in the derivative."""
    return _training(problem, lambda w, u: _each(w, u, lax.stop_gradient))


def miyato(problem: Problem) -> Training:
    """Returns the step with Miyato's derivative."""
    return _training(problem, lambda w, u: _each(w, u, lambda sigma: sigma))


def in_stacks(problem: Problem) -> Training:
    """Returns the same, with the kernels of each shape in one stack."""
    return _training(problem, _stacked)


def _training(problem: Problem, normalize: Normalize) -> Training:
    params = nested(problem.weights)
    names = [name for name, layer in params.items() if isinstance(layer, dict)]

    def prepare(params: Any, u: Kernels) -> tuple[Any, Kernels]:
        used, u = normalize({name: params[name]["kernel"] for name in names}, u)
        layers = {name: params[name] | {"kernel": used[name]} for name in names}
        return params | layers, u

    u = {name: _start(params[name]["kernel"]) for name in names}
    return functional(problem, apply_plain(problem.net), params, u, prepare=prepare)


def _start(kernel: Array) -> Float[Array, " out"]:
    return jax.random.normal(jax.random.key(0), kernel.shape[-1:])


def _normalized(
    kernel: Array, u: Array, derivative: Callable[[Array], Array]
) -> tuple[Array, Array]:
    w = kernel.reshape(-1, kernel.shape[-1])
    held = lax.stop_gradient(w)
    v = held @ u
    v /= jnp.linalg.norm(v)
    u = v @ held
    u /= jnp.linalg.norm(u)
    return kernel / derivative(v @ w @ u), u


def _each(
    kernels: Kernels, u: Kernels, derivative: Callable[[Array], Array]
) -> tuple[Kernels, Kernels]:
    pairs = {name: _normalized(w, u[name], derivative) for name, w in kernels.items()}
    used, new = ({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))
    return used, new


def _stacked(kernels: Kernels, u: Kernels) -> tuple[Kernels, Kernels]:
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, kernel in kernels.items():
        by_shape.setdefault(kernel.shape, []).append(name)
    used: Kernels = {}
    new: Kernels = {}
    for names in by_shape.values():
        both = (jnp.stack([tree[name] for name in names]) for tree in (kernels, u))
        w, moved = jax.vmap(lambda w, u: _normalized(w, u, lambda sigma: sigma))(*both)
        used |= dict(zip(names, w, strict=True))
        new |= dict(zip(names, moved, strict=True))
    return used, new
