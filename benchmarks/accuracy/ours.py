"""specjax: the two functions, and the two rooms inside them that take passes over W."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import specjax as sx
from benchmarks.accuracy.method import Kernel, Method, as_it_is
from benchmarks.accuracy.passes import compiled_passes, reads

_MAP = sx.Matrix()


class Room(NamedTuple):
    """Sigma from each seed, and the passes over W that one of them took."""

    sigmas: list[float]
    passes: int


def functions(n_steps: int) -> Method:
    """Returns `sn_init` and `sn_apply`; u starts where `sn_init` has brought it."""

    def start(kernel: Kernel, seed: int) -> Any:
        key = jax.random.key(seed) if seed else None  # without one: its fixed start
        return sx.sn_init(_params(kernel), key=key, kernels=_rule)

    @jax.jit
    def step(state: Any, kernel: Kernel) -> tuple[Array, Any]:
        used, state = sx.sn_apply(
            _params(kernel), state, n_steps=n_steps, kernels=_rule
        )
        return used["layer"]["kernel"], state

    passes = functools.partial(compiled_passes, start, step, as_it_is)
    return Method(start, step, as_it_is, passes)


def krylov(kernel: Kernel, n_steps: int, n_seeds: int) -> Room:
    """Returns sigma after `warm_up` with so many steps, each time from a random u."""

    @jax.jit
    def sigma(start: Array, kernel: Array) -> Array:
        u, u2 = sx.warm_up(kernel, start[0], _MAP, n_steps)
        return sx.power_iteration(kernel, u, u2, _MAP, n_steps=0).sigma

    return _measured(sigma, kernel, n_seeds)


def two_vectors(kernel: Kernel, n_steps: int, n_seeds: int) -> Room:
    """Returns sigma after so many power steps, from a random u and u2."""

    @jax.jit
    def sigma(start: Array, kernel: Array) -> Array:
        return sx.power_iteration(
            kernel, start[0], start[1], _MAP, n_steps=n_steps
        ).sigma

    return _measured(sigma, kernel, n_seeds)


def _measured(sigma: Any, kernel: Kernel, n_seeds: int) -> Room:
    compiled = sigma.lower(_random(kernel, 0), kernel).compile()
    passes = reads(compiled.as_text(), kernel.size)
    found = [float(compiled(_random(kernel, s), kernel)) for s in range(n_seeds)]
    return Room(found, passes)


def _random(kernel: Kernel, seed: int) -> Array:
    pair = np.random.default_rng(seed).standard_normal((2, kernel.shape[-1]))
    return jnp.asarray(pair / np.linalg.norm(pair, axis=1, keepdims=True), jnp.float32)


def _params(kernel: Any) -> dict[str, Any]:
    return {"layer": {"kernel": kernel}}


def _rule(path: Any, leaf: Any) -> sx.Matrix:
    return _MAP
