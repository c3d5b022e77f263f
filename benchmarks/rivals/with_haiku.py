"""Haiku: the plain network, and its params through `SNParamsTree`.

By haiku's documentation: a second transformed function normalizes the tree of params in
the loss, and its state is carried. What is not a kernel is left out by `ignore_regex`.
"""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.rivals.array_ops import OnJax
from benchmarks.rivals.training import Training, functional
from benchmarks.rivals.weights import Problem

_NO_KERNEL = r".*/(?!w$)[^/]*$"
_PARTS = {"kernel": "w", "bias": "b"}


class _HaikuLayers(OnJax):
    def dense(self, name: str, x: Any, features: int) -> Any:
        return hk.Linear(features, name=name)(x)

    def conv(
        self, name: str, x: Any, features: int, window: int, stride: int = 1
    ) -> Any:
        return hk.Conv2D(features, window, stride, name=name)(x)

    def array(self, name: str, shape: tuple[int, ...], start: float) -> Any:
        return hk.get_parameter(name, shape, init=hk.initializers.Constant(start))


def plain(problem: Problem) -> Training:
    """Returns the network without normalization."""
    apply = _apply(problem)
    return functional(
        problem,
        lambda params, state, x: (apply(params, x), state),
        _params(problem),
        {},
    )


def haiku(problem: Problem) -> Training:
    """Returns the plain network on the params that `SNParamsTree` normalized."""
    apply, params = _apply(problem), _params(problem)
    normalize: Any = hk.transform_with_state(
        lambda tree: hk.SNParamsTree(ignore_regex=_NO_KERNEL)(tree)
    )

    _, state = problem.start(normalize.init, jax.random.key(0), params)
    return functional(
        problem,
        lambda params, state, x: (apply(params, x), state),
        params,
        state,
        prepare=lambda params, state: normalize.apply({}, state, None, params),
    )


def _apply(problem: Problem) -> Any:
    net = hk.without_apply_rng(hk.transform(lambda x: problem.net(_HaikuLayers(), x)))
    return net.apply


def _params(problem: Problem) -> Any:
    tree: dict[str, dict[str, Any]] = {}
    for name, array in problem.weights.items():
        layer, _, part = name.partition("/")
        place = (layer, _PARTS[part]) if part else ("~", layer)
        tree.setdefault(place[0], {})[place[1]] = jnp.asarray(array)
    return tree
