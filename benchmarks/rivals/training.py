"""A discriminator's training step: hinge loss on real and fake inputs, Adam."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from benchmarks.rivals.weights import Problem

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


def scores_of_both(
    call: Callable[[Any], Any], real: Any, fake: Any, *, passes: int
) -> tuple[Scores, Scores]:
    """Returns the scores of real and of fake inputs.

    Args:
        call: the network on a batch; keeps by itself what it carries.
        real: a batch.
        fake: another.
        passes: 1: both as one batch, so that a wrapped layer normalizes once. 2: one
            after the other, as much GAN code has it; a wrapped layer normalizes twice.
    """
    if passes == 2:
        return call(real), call(fake)
    one, other = jnp.split(call(jnp.concatenate([real, fake])), 2)
    return one, other


def functional(
    problem: Problem,
    forward: Callable[[Tree, Tree, Any], tuple[Scores, Tree]],
    params: Tree,
    state: Tree,
    *,
    tx: optax.GradientTransformation | None = None,
    prepare: Callable[[Tree, Tree], tuple[Tree, Tree]] | None = None,
) -> Training:
    """Returns the training of a pure function.

    Args:
        problem: what is trained.
        forward: takes params, state and inputs; returns scores and the new state.
        params: trained.
        state: carried, not trained.
        tx: the optimizer; None: Adam.
        prepare: takes params and state, once in a step, to those that `forward` takes.
    """
    tx = adam() if tx is None else tx
    prepared = prepare or (lambda params, state: (params, state))

    def step(carried: Tree, real: Any, fake: Any) -> tuple[Tree, Array]:
        params, state, moments = carried

        def loss(params: Tree) -> tuple[Array, Tree]:
            used, new = prepared(params, state)

            def call(x: Any) -> Scores:
                nonlocal new
                scores, new = forward(used, new, x)
                return scores

            return hinge(*scores_of_both(call, real, fake, passes=problem.passes)), new

        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = tx.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), state, moments), value

    def scores(carried: Tree, x: Any) -> Scores:
        return forward(*prepared(carried[0], carried[1]), x)[0]

    return Training(step, (params, state, problem.start(tx.init, params)), scores)
