"""Flax NNX: the plain network, and its wrappers, flax's and ours.

By flax's documentation: each layer is wrapped in the constructor, called with
`update_stats=True`, and the loss is differentiated by `nnx.value_and_grad`. In flax's
the call writes the normalized kernel over the Param, so Adam moves that one. The step
is split and merged around `jax.jit`, as flax advises for small networks: `nnx.jit`
costs Python's time in each call.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx

from benchmarks.rivals.array_ops import OnJax
from benchmarks.rivals.training import Training, adam, hinge, scores_of_both
from benchmarks.rivals.weights import Conv, Dense, Numbers, Problem
from specjax import nnx as sx_nnx


class NnxNet(nnx.Module):
    """A network whose layers are NNX', each wrapped, with the problem's weights."""

    def __init__(self, problem: Problem, wrap: Callable[[nnx.Module], Any]) -> None:
        """Makes the layers."""
        self.net = problem.net
        self.layers = nnx.Dict()
        for name, layer in problem.layers.items():
            if isinstance(layer, Numbers):
                self.layers[name] = nnx.Param(jnp.asarray(problem.weights[name]))
                continue
            made = _made(layer)
            made.kernel[...] = jnp.asarray(problem.weights[f"{name}/kernel"])
            made.bias[...] = jnp.asarray(problem.weights[f"{name}/bias"])
            self.layers[name] = wrap(made)

    def __call__(self, x: Any) -> Any:
        """Returns the scores."""
        return self.net(_NnxLayers(self.layers), x)


class _NnxLayers(OnJax):
    def __init__(self, layers: nnx.Dict) -> None:
        self.layers = layers

    def dense(self, name: str, x: Any, features: int) -> Any:
        return self.layers[name](x)

    def conv(
        self, name: str, x: Any, features: int, window: int, stride: int = 1
    ) -> Any:
        return self.layers[name](x)

    def array(self, name: str, shape: tuple[int, ...], start: float) -> Any:
        return self.layers[name][...]


def _made(layer: Dense | Conv) -> Any:
    rngs = nnx.Rngs(0)
    match layer:
        case Dense(n_in, n_out):
            return nnx.Linear(n_in, n_out, rngs=rngs)
        case Conv(n_in, n_out, window, stride):
            size = (window, window)
            return nnx.Conv(n_in, n_out, size, stride, rngs=rngs)


def plain(problem: Problem) -> Training:
    """Returns the network without normalization."""
    return _training(NnxNet(problem, lambda layer: layer), problem.passes)


def flax(problem: Problem) -> Training:
    """Returns the network with `flax.nnx.SpectralNorm` around each layer."""
    rngs = nnx.Rngs(0)
    return _training(
        NnxNet(problem, functools.partial(nnx.SpectralNorm, rngs=rngs)), problem.passes
    )


def specjax(problem: Problem) -> Training:
    """Returns the network with `specjax.nnx.SpectralNorm` around each layer."""
    return _training(NnxNet(problem, sx_nnx.SpectralNorm), problem.passes)


def around(problem: Problem) -> Training:
    """Returns the network with one `specjax.nnx.SpectralNorm` around all of it."""
    network = NnxNet(problem, lambda layer: layer)
    return _training(sx_nnx.SpectralNorm(network), problem.passes)


def _training(model: nnx.Module, passes: int) -> Training:
    optimizer = nnx.Optimizer(model, adam(), wrt=nnx.Param)
    graph, carried = nnx.split((model, optimizer))

    def step(carried: Any, real: Any, fake: Any) -> tuple[Any, Any]:
        model, optimizer = nnx.merge(graph, carried)

        def loss(model: Any) -> Any:
            return hinge(*scores_of_both(model, real, fake, passes=passes))

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return nnx.state((model, optimizer)), value

    def forward(carried: Any, x: Any) -> Any:
        return nnx.merge(graph, carried)[0](x)

    return Training(step, carried, forward)
