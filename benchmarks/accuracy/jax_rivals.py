"""The four libraries on jax: flax's two layers, haiku's and equinox'.

Each wraps a layer that has the kernel and shows it, so that what comes out is what the
library's own code made of it. Their code, at one power step: ``v = u W^T``,
``u = v W``, ``sigma = (v W) u^T``: three products; XLA merges the last two. Equinox has
``sigma = u W v`` after ``v = W^T u``, which is a third, and starts with 15 steps, the
others from a random u. (Haiku's init returns a sigma as well, which costs a step's
passes and is not used.)
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.accuracy.method import Kernel, Method, as_it_is, out_first
from benchmarks.accuracy.passes import compiled_passes


def _method(start: Callable, step: Callable, layout: Callable = as_it_is) -> Method:
    step = jax.jit(step)
    passes = functools.partial(compiled_passes, start, step, layout)
    return Method(start, step, layout, passes)


class _LinenLayer(nn.Module):
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self):
        return self.param("kernel", nn.initializers.zeros, self.shape)


def linen(n_steps: int) -> Method:
    """Returns `flax.linen.SpectralNorm`; its own init, u is normal."""

    class Net(nn.Module):
        shape: tuple[int, ...]

        @nn.compact
        def __call__(self, update_stats: bool):
            layer = nn.SpectralNorm(_LinenLayer(self.shape), n_steps=n_steps)
            return layer(update_stats=update_stats)

    def start(kernel: Kernel, seed: int) -> Any:
        key, net = jax.random.key(seed), Net(kernel.shape)
        return jax.jit(lambda key: net.init(key, False)["batch_stats"])(key)

    def step(state: Any, kernel: Any) -> tuple[Any, Any]:
        params = {"_LinenLayer_0": {"kernel": kernel}}
        variables = {"params": params, "batch_stats": state}
        used, new = Net(kernel.shape).apply(variables, True, mutable=["batch_stats"])
        return used, new["batch_stats"]

    return _method(start, step)


class _NnxLayer(nnx.Module):
    def __init__(self, shape: tuple[int, ...]):
        self.kernel = nnx.Param(jnp.zeros(shape))

    def __call__(self, x: None) -> Any:
        return self.kernel[...]


def nnx_layer(n_steps: int) -> Method:
    """Returns `flax.nnx.SpectralNorm`; its own init, u is normal."""

    def start(kernel: Kernel, seed: int) -> Any:
        layer = _NnxLayer(kernel.shape)
        model = nnx.SpectralNorm(layer, n_steps=n_steps, rngs=nnx.Rngs(seed))
        graph, _, state = nnx.split(model, nnx.Param, ...)
        return graph, state

    def step(state: Any, kernel: Any) -> tuple[Any, Any]:
        params = nnx.State({"layer_instance": {"kernel": nnx.Param(kernel)}})
        model = nnx.merge(state[0], params, state[1])
        used = model(None, update_stats=True)
        graph, _, rest = nnx.split(model, nnx.Param, ...)
        return used, (graph, rest)

    return _method(start, step)


def haiku(n_steps: int) -> Method:
    """Returns haiku's `SNParamsTree`; its own init, u is normal."""
    net = hk.transform_with_state(lambda tree: hk.SNParamsTree(n_steps=n_steps)(tree))

    def start(kernel: Kernel, seed: int) -> Any:
        tree = {"layer": {"w": jnp.asarray(kernel)}}
        return net.init(jax.random.key(seed), tree)[1]

    def step(state: Any, kernel: Any) -> tuple[Any, Any]:
        used, state = net.apply({}, state, None, {"layer": {"w": kernel}})
        return used["layer"]["w"], state

    return _method(start, step)


class _EquinoxLayer(eqx.Module):
    weight: Any

    def __call__(self, x: None) -> Any:
        return self.weight


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Static:
    """A layer without arrays, to be passed through jit."""

    value: Any


def equinox(n_steps: int) -> Method:
    """Returns `equinox.nn.SpectralNorm`; its own init, 15 steps on this kernel."""

    def start(kernel: Kernel, seed: int) -> Any:
        make = eqx.nn.make_with_state(eqx.nn.SpectralNorm)
        layer = _EquinoxLayer(jnp.asarray(kernel))
        key = jax.random.key(seed)
        made, state = make(layer, "weight", num_power_iterations=n_steps, key=key)
        return _Static(_with_weight(made, None)), state

    def step(state: Any, kernel: Any) -> tuple[Any, Any]:
        layer, carried = state
        used, carried = _with_weight(layer.value, kernel)(None, carried)
        return used, (layer, carried)

    return _method(start, step, out_first)


def _with_weight(made: Any, kernel: Any) -> Any:
    return eqx.tree_at(
        lambda sn: sn.layer.weight, made, kernel, is_leaf=lambda x: x is None
    )
