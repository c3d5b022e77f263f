"""Equinox: the plain network, and `SpectralNorm` around each layer.

By equinox' documentation: a layer sees one example, channels first; `jax.vmap` has the
batch, with one state for all of it, which each layer reads and replaces.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.rivals.array_ops import OnJax
from benchmarks.rivals.training import Training, functional
from benchmarks.rivals.weights import Conv, Dense, Numbers, Problem


class EquinoxNet(eqx.Module):
    """A network whose layers are Equinox', with the problem's weights."""

    net: Any = eqx.field(static=True)
    layers: dict[str, Any]

    def __init__(self, problem: Problem, *, normalized: bool) -> None:
        """Makes the layers."""
        self.net = problem.net
        self.layers = {}
        for name, layer in problem.layers.items():
            if isinstance(layer, Numbers):
                self.layers[name] = jnp.asarray(problem.weights[name])
                continue
            made = _made(layer, name, problem)
            if normalized:
                made = eqx.nn.SpectralNorm(made, "weight", key=jax.random.key(0))
            self.layers[name] = made

    def __call__(self, x: Any, state: Any) -> tuple[Any, Any]:
        """Returns the scores of one example, and the new state."""
        layers = _EquinoxLayers(self.layers, state)
        return self.net(layers, x), layers.state


class _EquinoxLayers(OnJax):
    """Images are (channels, height, width); features and tokens have them last."""

    def __init__(self, layers: dict[str, Any], state: Any) -> None:
        self.layers, self.state = layers, state

    def dense(self, name: str, x: Any, features: int) -> Any:
        if x.ndim == 1:
            return self._call(name, x)
        return self._call_each(name, x)

    def conv(
        self, name: str, x: Any, features: int, window: int, stride: int = 1
    ) -> Any:
        return self._call(name, x)

    def array(self, name: str, shape: tuple[int, ...], start: float) -> Any:
        return self.layers[name]

    def _call(self, name: str, x: Any) -> Any:
        layer = self.layers[name]
        if not isinstance(layer, eqx.nn.SpectralNorm):
            return layer(x)
        y, self.state = layer(x, self.state)
        return y

    def _call_each(self, name: str, x: Any) -> Any:
        layer = self.layers[name]
        if not isinstance(layer, eqx.nn.SpectralNorm):
            return jax.vmap(layer)(x)
        each = jax.vmap(layer, in_axes=(0, None), out_axes=(0, None))
        y, self.state = each(x, self.state)
        return y

    @staticmethod
    def average_pool(x: Any) -> Any:
        return eqx.nn.AvgPool2d(2, 2)(x)

    @staticmethod
    def max_pool(x: Any) -> Any:
        return eqx.nn.MaxPool2d(2, 2)(x)

    @staticmethod
    def sum_pixels(x: Any) -> Any:
        return jnp.sum(x, (1, 2))

    @staticmethod
    def flatten(x: Any) -> Any:
        return jnp.moveaxis(x, 0, -1).ravel()

    @staticmethod
    def tokens(x: Any) -> Any:
        return jnp.moveaxis(x, 0, -1).reshape(-1, x.shape[0])

    @staticmethod
    def pixels(x: Any, side: int) -> Any:
        return jnp.moveaxis(x, -1, 0).reshape(-1, side, side)


def _made(layer: Dense | Conv, name: str, problem: Problem) -> Any:
    kernel, bias = (problem.weights[f"{name}/{part}"] for part in ("kernel", "bias"))
    key = jax.random.key(0)
    match layer:
        case Dense(n_in, n_out):
            made: Any = eqx.nn.Linear(n_in, n_out, key=key)
            kernel = kernel.T
        case Conv(n_in, n_out, window, stride):
            padding = layer.padding
            made = eqx.nn.Conv2d(n_in, n_out, window, stride, padding, key=key)
            kernel, bias = kernel.transpose(3, 2, 0, 1), bias[:, None, None]
    parts = (jnp.asarray(kernel), jnp.asarray(bias))
    return eqx.tree_at(lambda made: (made.weight, made.bias), made, parts)


def plain(problem: Problem) -> Training:
    """Returns the network without normalization."""
    return _training(problem, normalized=False)


def equinox(problem: Problem) -> Training:
    """Returns the network with `equinox.nn.SpectralNorm` around each layer."""
    return _training(problem, normalized=True)


def _training(problem: Problem, *, normalized: bool) -> Training:
    make = eqx.nn.make_with_state(EquinoxNet)
    model, state = make(problem, normalized=normalized)
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    def forward(params: Any, state: Any, x: Any) -> tuple[Any, Any]:
        model = eqx.combine(params, rest)
        each = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        return each(x, state)

    training = functional(problem, forward, params, state)
    return training._replace(inputs=_channels_first)


def _channels_first(x: np.ndarray) -> Any:
    return jnp.asarray(np.moveaxis(x, -1, 1) if x.ndim == 4 else x)
