"""The two libraries from outside: torch's parametrization, and keras on jax.

Neither has to be installed: without it there is a line that says so.
"""

import functools
import importlib
import os
from typing import Any

import jax

from benchmarks.accuracy.method import Kernel, Method, Passes, as_it_is, out_first
from benchmarks.accuracy.passes import compiled_passes, dispatched_reads


def torch_layer(n_steps: int) -> Method:
    """Returns torch's `parametrizations.spectral_norm`; 15 steps on this kernel first.

    Its code: two products for each power step, and ``W v`` once more for sigma, which
    nothing merges.
    """
    torch: Any = importlib.import_module("torch")
    importlib.import_module("torch.utils._python_dispatch")
    spectral_norm = torch.nn.utils.parametrizations.spectral_norm

    def start(kernel: Kernel, seed: int) -> Any:
        torch.manual_seed(seed)
        layer = torch.nn.Linear(*kernel.shape[::-1], bias=False)
        layer.weight.data.copy_(torch.from_numpy(kernel))
        return spectral_norm(layer, n_power_iterations=n_steps).train()

    def step(layer: Any, kernel: Kernel) -> tuple[Any, Any]:
        with torch.no_grad():
            original = layer.parametrizations.weight.original
            original.copy_(torch.from_numpy(kernel))
            return layer.weight.numpy(), layer

    def passes(kernel: Kernel) -> Passes:
        layer = start(out_first(kernel), 0)
        again = torch.nn.utils.parametrizations._SpectralNorm
        weight = layer.parametrizations.weight.original.detach()
        with torch.no_grad():
            return Passes(
                dispatched_reads(torch, kernel.size, lambda: again(weight)),
                dispatched_reads(torch, kernel.size, lambda: layer.weight),
            )

    return Method(start, step, out_first, passes)


def keras_layer(n_steps: int) -> Method:
    """Returns keras' `SpectralNormalization` on jax; its own init, u is normal.

    Its code is flax's, behind a test whether the whole kernel is zero: one pass more.
    """
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras: Any = importlib.import_module("keras")
    if keras.backend.backend() != "jax":
        raise ImportError(f"keras is on {keras.backend.backend()}: expected jax")

    class Layer(keras.layers.Layer):
        def __init__(self, shape: tuple[int, ...]):
            super().__init__()
            self.kernel = self.add_weight(shape=shape, initializer="zeros")
            self.built = True

        def call(self, inputs: Any) -> Any:
            return self.kernel.value

        def compute_output_shape(self, input_shape: Any) -> Any:
            return self.kernel.shape

    @functools.cache
    def layer_of(shape: tuple[int, ...]) -> Any:
        wrap = keras.layers.SpectralNormalization
        layer = wrap(Layer(shape), power_iterations=n_steps)
        layer.build((1, shape[0]))
        return layer

    def start(kernel: Kernel, seed: int) -> Any:
        layer = layer_of(kernel.shape)
        init = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
        return [init(u.shape) for u in layer.non_trainable_variables]

    @jax.jit
    def step(state: Any, kernel: Any) -> tuple[Any, Any]:
        layer = layer_of(kernel.shape)
        x = jax.numpy.zeros((1, kernel.shape[0]))
        return layer.stateless_call([kernel], state, x, training=True)

    passes = functools.partial(compiled_passes, start, step, as_it_is)
    return Method(start, step, as_it_is, passes)
