"""Keras on jax: the plain network, and `SpectralNormalization` around each layer.

By keras' guide to training loops in jax: `stateless_call` in training mode, the
gradient by jax, `stateless_apply` of keras' own Adam. The wrapper assigns to the kernel
during the call; as in `fit`, what is kept of a call is the untrained variables alone.
"""

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import keras  # type: ignore[import-not-found]

from benchmarks.rivals.array_ops import OnJax
from benchmarks.rivals.training import (
    BETA1,
    BETA2,
    RATE,
    Training,
    hinge,
    scores_of_both,
)
from benchmarks.rivals.weights import (
    Conv,
    Dense,
    Numbers,
    Problem,
)


class KerasNet(keras.Model):
    """A network whose layers are keras', with the problem's weights."""

    def __init__(self, problem: Problem, *, normalized: bool) -> None:
        """Makes the layers; they have no variables before the first call."""
        super().__init__()
        self.net, self.named, self.arrays = problem.net, {}, {}
        for name, layer in problem.layers.items():
            if isinstance(layer, Numbers):
                start = keras.initializers.Constant(layer.start)
                self.arrays[name] = self.add_weight(layer.shape, start, name=name)
                continue
            made = _made(layer)
            if normalized:
                made = keras.layers.SpectralNormalization(made)
            self.named[name] = made

    def call(self, x: Any, training: bool = False) -> Any:
        """Returns the scores."""
        return self.net(_KerasLayers(self, training), x)


class _KerasLayers(OnJax):
    def __init__(self, model: KerasNet, training: bool) -> None:
        self.model, self.training = model, training

    def dense(self, name: str, x: Any, features: int) -> Any:
        layer = self.model.named[name]
        if isinstance(layer, keras.layers.SpectralNormalization):
            return layer(x, training=self.training)
        return layer(x)

    def conv(
        self, name: str, x: Any, features: int, window: int, stride: int = 1
    ) -> Any:
        return self.dense(name, x, features)

    def array(self, name: str, shape: tuple[int, ...], start: float) -> Any:
        return self.model.arrays[name].value


def _made(layer: Dense | Conv) -> Any:
    match layer:
        case Dense(_, n_out):
            return keras.layers.Dense(n_out)
        case Conv(_, n_out, window, stride):
            return keras.layers.Conv2D(n_out, window, stride, padding="same")


def plain(problem: Problem) -> Training:
    """Returns the network without normalization."""
    return _training(problem, normalized=False)


def keras_wrapped(problem: Problem) -> Training:
    """Returns the network with `keras.layers.SpectralNormalization` on each layer."""
    return _training(problem, normalized=True)


def _training(problem: Problem, *, normalized: bool) -> Training:
    keras.utils.set_random_seed(0)
    model = KerasNet(problem, normalized=normalized)
    model(problem.one_input())
    _load(model, problem)
    adam: Any = keras.optimizers.Adam(RATE, BETA1, BETA2)
    adam.build(model.trainable_variables)

    def call(params: Any, state: Any, x: Any) -> Any:
        return model.stateless_call(params, state, x, training=True)

    def step(carried: Any, real: Any, fake: Any) -> tuple[Any, Any]:
        params, state, moments = carried

        def loss(params: Any) -> tuple[Any, Any]:
            new = state

            def scores(x: Any) -> Any:
                nonlocal new
                y, new = call(params, new, x)
                return y

            both = scores_of_both(scores, real, fake, passes=problem.passes)
            return hinge(*both), new

        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        params, moments = adam.stateless_apply(moments, gradient, params)
        return (params, state, moments), value

    carried = tuple(
        [jnp.array(variable.value) for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            adam.variables,
        )
    )
    return Training(step, carried, lambda held, x: call(held[0], held[1], x)[0])


def _load(model: KerasNet, problem: Problem) -> None:
    for name, variable in model.arrays.items():
        variable.assign(problem.weights[name])
    for name, made in model.named.items():
        layer = getattr(made, "layer", made)
        layer.kernel.assign(problem.weights[f"{name}/kernel"])
        layer.bias.assign(problem.weights[f"{name}/bias"])
