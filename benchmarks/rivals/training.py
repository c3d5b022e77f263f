"""A discriminator's training step: hinge loss on real and fake inputs, Adam."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

Tree = Any
Scores = Float[Array, "n 1"]

RATE, BETA1, BETA2 = 2e-4, 0.5, 0.9


class Training(NamedTuple):
    """A network of one framework with its training step.

    Attributes:
        step: takes what is carried, real and fake inputs; returns what is carried, and
            the loss. Pure, to be jitted, unless it is eager.
        carried: params, what the normalization keeps, Adam's moments.
        forward: takes what is carried and inputs; returns the scores that training
            sees. Takes one power step, which is lost.
        inputs: takes inputs with channels last to the framework's own.
        eager: whether the step runs as it is (torch).
    """

    step: Callable[[Tree, Any, Any], tuple[Tree, Any]]
    carried: Tree
    forward: Callable[[Tree, Any], Any]
    inputs: Callable[[np.ndarray], Any] = jnp.asarray
    eager: bool = False


def hinge(real: Scores, fake: Scores) -> Float[Array, ""]:
    """Returns the discriminator's hinge loss."""
    return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


def adam() -> optax.GradientTransformation:
    """Returns the optimizer of every jax rival."""
    return optax.adam(RATE, BETA1, BETA2)


def functional(
    forward: Callable[[Tree, Tree, Any], tuple[Scores, Tree]],
    params: Tree,
    state: Tree,
    tx: optax.GradientTransformation | None = None,
) -> Training:
    """Returns the training of a pure function.

    Real and fake are one batch, so that each kernel is normalized once in a step.

    Args:
        forward: takes params, state and inputs; returns scores and the new state.
        params: trained.
        state: carried, not trained.
        tx: the optimizer; None: Adam.
    """
    tx = adam() if tx is None else tx

    def step(carried: Tree, real: Any, fake: Any) -> tuple[Tree, Array]:
        params, state, moments = carried

        def loss(params: Tree) -> tuple[Array, Tree]:
            scores, new = forward(params, state, jnp.concatenate([real, fake]))
            return hinge(*jnp.split(scores, 2)), new

        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = tx.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), state, moments), value

    carried = (params, state, tx.init(params))
    return Training(step, carried, lambda held, x: forward(held[0], held[1], x)[0])
