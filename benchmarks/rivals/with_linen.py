"""Flax Linen: the plain network, its wrappers (flax's and ours), and our functions.

Flax's by its documentation: each layer is wrapped, called with `update_stats=True` in
training, and the collection "batch_stats" is carried. Ours is the same wrapper by its
API; the functions normalize the plain network's params in the loss, and `renormalize`
normalizes them in the optimizer.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

import specjax as sx
from benchmarks.rivals.array_ops import OnJax
from benchmarks.rivals.layers import Net
from benchmarks.rivals.training import Training, adam, functional
from benchmarks.rivals.weights import Problem, Weights, nested
from specjax import linen as sx_linen
from specjax.optax import renormalize

Wrap = Callable[[nn.Module], Callable[[Any], Any]]


class LinenNet(nn.Module):
    """A network whose layers are Flax's, each wrapped; `init` starts at the weights."""

    net: Net
    wrap: Wrap = lambda layer: layer
    weights: Weights | None = None

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Returns the scores."""
        return self.net(_LinenLayers(self), x)


class _LinenLayers(OnJax):
    def __init__(self, module: LinenNet) -> None:
        self.module = module

    def dense(self, name: str, x: Any, features: int) -> Any:
        return self.module.wrap(nn.Dense(features, name=name, **self._starts(name)))(x)

    def conv(
        self, name: str, x: Any, features: int, window: int, stride: int = 1
    ) -> Any:
        words = self._starts(name)
        layer = nn.Conv(features, (window, window), stride, name=name, **words)
        return self.module.wrap(layer)(x)

    def array(self, name: str, shape: tuple[int, ...], start: float) -> Any:
        return self.module.param(name, nn.initializers.constant(start), shape)

    def _starts(self, name: str) -> dict[str, Any]:
        weights = self.module.weights
        if weights is None:
            return {}
        kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
        return {"kernel_init": lambda *_: kernel, "bias_init": lambda *_: bias}


def plain(problem: Problem) -> Training:
    """Returns the network without normalization."""
    params = nested(problem.weights)
    return functional(problem, apply_plain(problem.net), params, {})


def flax(problem: Problem) -> Training:
    """Returns the network with `flax.linen.SpectralNorm` around each layer."""
    return _wrapped(problem, _flax)


def specjax(problem: Problem) -> Training:
    """Returns the network with `specjax.linen.SpectralNorm` around each layer."""
    return _wrapped(problem, sx_linen.SpectralNorm)


def around(problem: Problem) -> Training:
    """Returns the network with one `specjax.linen.SpectralNorm` around all of it."""
    params = nested(problem.weights)
    model = sx_linen.SpectralNorm(LinenNet(problem.net))
    return functional(
        problem,
        _apply_wrapped(model),
        {"layer_instance": params},
        problem.start(sx.sn_init, params),
    )


def functions(problem: Problem, **options: Any) -> Training:
    """Returns the plain network on the params that `sx.sn_apply` normalized."""
    params = nested(problem.weights)
    return functional(
        problem,
        apply_plain(problem.net),
        params,
        problem.start(sx.sn_init, params),
        prepare=functools.partial(sx.sn_apply, **options),
    )


def constant_sigma(problem: Problem) -> Training:
    """Returns the same with a sigma that is a constant in the derivative."""
    return functions(problem, grad_sigma=False)


def renormalized(problem: Problem) -> Training:
    """Returns the plain network with `specjax.optax.renormalize` around Adam."""
    return functional(
        problem,
        apply_plain(problem.net),
        nested(problem.weights),
        {},
        tx=renormalize(adam()),
    )


def apply_plain(net: Net) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Returns the plain network as a function of params, a state and inputs."""
    model = LinenNet(net)
    return lambda params, state, x: (model.apply({"params": params}, x), state)


def _flax(layer: nn.Module) -> Any:
    return functools.partial(nn.SpectralNorm(layer), update_stats=True)


def _wrapped(problem: Problem, wrap: Wrap) -> Training:
    model = LinenNet(problem.net, wrap)

    def start(weights: Weights) -> Any:
        begun = LinenNet(problem.net, wrap, weights)
        return begun.init(jax.random.key(0), problem.one_input())["batch_stats"]

    return functional(
        problem,
        _apply_wrapped(model),
        nested(problem.weights),
        problem.start(start, problem.weights),
    )


def _apply_wrapped(model: nn.Module) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    def forward(params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        variables = {"params": params, "batch_stats": state}
        scores, new = model.apply(variables, x, mutable=["batch_stats"])
        return scores, new["batch_stats"]

    return forward
