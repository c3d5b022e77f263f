"""Which layers a network has, and their numbers: the same for every framework."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.rivals.array_ops import OnJax
from benchmarks.rivals.layers import Net

Weights = dict[str, np.ndarray]


class Dense(NamedTuple):
    """A dense layer: its inputs and outputs."""

    n_in: int
    n_out: int


class Conv(NamedTuple):
    """A convolution: channels in and out, square window and stride."""

    n_in: int
    n_out: int
    window: int
    stride: int

    @property
    def padding(self) -> int:
        """On every side; what "SAME" comes to for the windows that are used here."""
        return (self.window - self.stride) // 2


class Numbers(NamedTuple):
    """Trained numbers that are no kernel, and the value that they begin near."""

    shape: tuple[int, ...]
    start: float


Layer = Dense | Conv | Numbers


class Problem(NamedTuple):
    """A network to train.

    Attributes:
        net: the network.
        image_shape: of one input, channels last.
        layers: by name.
        weights: their numbers.
        passes: in which real and fake inputs go through the network: both in 1, or 2.
        cold: whether what is carried begins at any numbers. No step takes a different
            time for that, and nothing is compiled before it.
    """

    net: Net
    image_shape: tuple[int, ...]
    layers: dict[str, Layer]
    weights: Weights
    passes: int
    cold: bool

    def one_input(self) -> jax.Array:
        """Returns a batch of one input, all zeros."""
        return jnp.zeros((1, *self.image_shape))

    def start(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what the function makes of the arguments; its shapes if cold."""
        if not self.cold:
            return jax.jit(function)(*arguments)
        shapes = jax.eval_shape(function, *arguments)
        return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), shapes)


class Recorder(OnJax):
    """Writes the layers of a network down, in the order of its calls."""

    def __init__(self) -> None:
        """Starts with none."""
        self.layers: dict[str, Layer] = {}

    def dense(self, name: str, x: Any, features: int) -> Any:
        """Returns zeros of the result's shape."""
        self.layers[name] = Dense(x.shape[-1], features)
        return jnp.zeros((*x.shape[:-1], features))

    def conv(
        self, name: str, x: Any, features: int, window: int, stride: int = 1
    ) -> Any:
        """Returns zeros of the result's shape."""
        self.layers[name] = Conv(x.shape[-1], features, window, stride)
        n, height, width, _ = x.shape
        return jnp.zeros((n, height // stride, width // stride, features))

    def array(self, name: str, shape: tuple[int, ...], start: float) -> Any:
        """Returns zeros."""
        self.layers[name] = Numbers(shape, start)
        return jnp.zeros(shape)


def layers_of(net: Net, image_shape: tuple[int, ...]) -> dict[str, Layer]:
    """Returns the layers of a network on such inputs, by name, without running it."""
    recorder = Recorder()
    x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    jax.eval_shape(functools.partial(net, recorder), x)
    return recorder.layers


def weights(layers: dict[str, Layer], seed: int = 0) -> Weights:
    """Returns float32 arrays: "name/kernel", "name/bias", or "name" for numbers.

    Kernels are LeCun normal, in the layout of Flax (inputs, outputs; height, width,
    inputs, outputs). The rest is off its usual start by a little, so that each number
    matters.
    """
    rng = np.random.default_rng(seed)
    normal = functools.partial(rng.standard_normal, dtype=np.float32)
    found: Weights = {}
    for name, layer in layers.items():
        match layer:
            case Dense(n_in, n_out):
                shape, fan_in = (n_in, n_out), n_in
            case Conv(n_in, n_out, window, _):
                shape, fan_in = (window, window, n_in, n_out), window**2 * n_in
            case Numbers(shape, start):
                found[name] = np.float32(start) + np.float32(0.02) * normal(shape)
                continue
        found[f"{name}/kernel"] = normal(shape) / np.float32(math.sqrt(fan_in))
        found[f"{name}/bias"] = np.float32(0.02) * normal(n_out)
    return found


def problem(
    net: Net, image_shape: tuple[int, ...], passes: int = 1, *, cold: bool = False
) -> Problem:
    """Returns the network with its layers and weights."""
    layers = layers_of(net, image_shape)
    return Problem(net, image_shape, layers, weights(layers), passes, cold)


def nested(weights: Weights) -> dict[str, Any]:
    """Returns the weights as Flax nests them: a dict of kernel and bias by name."""
    tree: dict[str, Any] = {}
    for name, array in weights.items():
        layer, _, part = name.partition("/")
        if part:
            tree.setdefault(layer, {})[part] = jnp.asarray(array)
        else:
            tree[layer] = jnp.asarray(array)
    return tree
