"""specjax: the two functions, and the two rooms inside them that take passes over W."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import specjax as sx
from benchmarks.accuracy.method import Kernel, Method, as_it_is
from benchmarks.accuracy.passes import compiled_passes, reads

_MAP = sx.Matrix()


def functions(n_steps: int) -> Method:
    """Returns `sn_init` and `sn_apply`; u starts where `sn_init` has brought it."""

    def start(kernel: Kernel, seed: int) -> Any:
        return sx.sn_init(_params(kernel), key=jax.random.key(seed), kernels=_rule)

    @jax.jit
    def step(state: Any, kernel: Kernel) -> tuple[Array, Any]:
        used, state = sx.sn_apply(
            _params(kernel), state, n_steps=n_steps, kernels=_rule
        )
        return used["layer"]["kernel"], state

    passes = functools.partial(compiled_passes, start, step, as_it_is)
    return Method(start, step, as_it_is, passes)


def krylov(kernel: Kernel, seed: int, n_steps: int) -> tuple[float, int]:
    """Returns sigma after `warm_up` with so many steps, and the passes that it took."""
    start = _random(kernel, seed)

    @jax.jit
    def sigma(kernel: Array) -> Array:
        u, u2 = sx.warm_up(kernel, start, _MAP, n_steps)
        return sx.power_iteration(kernel, u, u2, _MAP, n_steps=0).sigma

    return _measured(sigma, kernel)


def two_vectors(kernel: Kernel, seed: int, n_steps: int) -> tuple[float, int]:
    """Returns sigma after cold power steps with u and u2, and the passes they took."""
    starts = _random(kernel, seed), _random(kernel, seed + 1000)

    @jax.jit
    def sigma(kernel: Array) -> Array:
        return sx.power_iteration(kernel, *starts, _MAP, n_steps=n_steps).sigma

    return _measured(sigma, kernel)


def _measured(sigma: Any, kernel: Kernel) -> tuple[float, int]:
    compiled = sigma.lower(kernel).compile()
    return float(compiled(kernel)), reads(compiled.as_text(), kernel.size)


def _random(kernel: Kernel, seed: int) -> Array:
    u = np.random.default_rng(seed).standard_normal(kernel.shape[-1])
    return jnp.asarray(u / np.linalg.norm(u), jnp.float32)


def _params(kernel: Any) -> dict[str, Any]:
    return {"layer": {"kernel": kernel}}


def _rule(path: Any, leaf: Any) -> sx.Matrix:
    return _MAP
