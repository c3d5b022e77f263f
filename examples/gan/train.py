"""One jitted update of both networks: D on its hinge loss, then G on D's new score."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

import specjax as sx
from examples.gan.mesh import batch_sharding, state_sharding
from examples.gan.models import Discriminator, Generator
from examples.gan.settings import Config
from examples.gan.state import (
    TrainState,
    Tree,
    kernels,
    key_of_step,
    networks,
    optimizer,
)

Images = Float[Array, "n side side channels"]
Metrics = dict[str, Any]

_EMA_DECAY = 0.999
_PROBED = 16  # real images per step at which D's input gradient is measured


def make_train_step(
    config: Config, mesh: Mesh
) -> Callable[[TrainState, Images], tuple[TrainState, Metrics]]:
    """Returns the jitted update ``(state, real batch) -> (state, metrics)``.

    The state lies on the mesh as `state_sharding` says, before and after, the batch as
    `batch_sharding` says, and the metrics are on every device. The state that is passed
    in is given away (donated): go on with the returned one.
    """
    images, state = batch_sharding(mesh), state_sharding(config, mesh)
    parts = (*networks(config), optimizer(config), kernels(config))
    return jax.jit(
        _Game(config, *parts, images).step,
        in_shardings=(state, images),
        out_shardings=(state, NamedSharding(mesh, P())),
        donate_argnums=0,
    )


def hinge(real: Float[Array, " n"], fake: Float[Array, " n"]) -> Float[Array, ""]:
    """Returns the discriminator's hinge loss for its scores of both batches."""
    return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))


@dataclasses.dataclass(frozen=True)
class _Game:
    """The two players and how each of them moves."""

    config: Config
    generator: Generator
    discriminator: Discriminator
    adam: optax.GradientTransformation
    kernels: Any
    batch_sharding: NamedSharding

    def step(self, state: TrainState, real: Images) -> tuple[TrainState, Metrics]:
        """Moves D, then G, then the average of G's weights."""
        key = key_of_step(self.config, state.step)
        shape = (2, real.shape[0], self.config.preset.latent)
        # Each device draws its own part of the batch; which bits does not depend on it.
        d_z, g_z = (
            jax.lax.with_sharding_constraint(z, self.batch_sharding)
            for z in jax.random.normal(key, shape)
        )
        state, d_loss, d_used = self._move_discriminator(state, real, d_z)
        state, g_loss = self._move_generator(state, g_z)
        average = _moved(state.average, state.generator, state.step)
        metrics = {
            "d_loss": d_loss,
            "g_loss": g_loss,
            "gradient_norm": self._gradient_norm(d_used, real[:_PROBED]),
            "skipped": _skipped(state),
            "sigma": {name: sn["kernel"]["sigma"] for name, sn in state.sn.items()},
        }
        return state._replace(step=state.step + 1, average=average), metrics

    def _move_discriminator(
        self, state: TrainState, real: Images, z: Array
    ) -> tuple[TrainState, Array, Tree]:
        """Also returns D's loss and the kernels with which it saw both batches."""
        fake, _ = self._draw(state.generator["params"], state.generator, z)

        def loss(params: Tree) -> tuple[Array, tuple[Tree, Tree]]:
            used, sn = self._constrain(params, state.sn, update_stats=True)
            return hinge(self._score(used, real), self._score(used, fake)), (used, sn)

        (value, (used, sn)), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.discriminator
        )
        updates, adam = self._update(gradient, state.discriminator_adam)
        params = optax.apply_updates(state.discriminator, updates)
        state = state._replace(discriminator=params, sn=sn, discriminator_adam=adam)
        return state, value, used

    def _move_generator(self, state: TrainState, z: Array) -> tuple[TrainState, Array]:
        """Also returns G's loss; D is normalized anew, since its kernels have moved."""
        d_used, _ = self._constrain(state.discriminator, state.sn, update_stats=False)

        def loss(params: Tree) -> tuple[Array, Tree]:
            fake, batch_stats = self._draw(params, state.generator, z)
            return -jnp.mean(self._score(d_used, fake)), batch_stats

        params = state.generator["params"]
        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, adam = self._update(gradient, state.generator_adam)
        params = optax.apply_updates(params, updates)
        good, kept = adam.last_finite, state.generator["batch_stats"]
        stats = jax.tree.map(functools.partial(jnp.where, good), stats, kept)
        variables = {"params": params, "batch_stats": stats}
        return state._replace(generator=variables, generator_adam=adam), value

    def _update(self, gradient: Tree, adam: Tree) -> tuple[Tree, Tree]:
        """Returns Adam's updates; zeros, and its state but for a count, if denied."""
        return self.adam.update(gradient, adam)

    def _constrain(
        self, params: Tree, sn: Tree, *, update_stats: bool
    ) -> tuple[Tree, Tree]:
        """Returns the kernels that D uses; with ``none``, sigma is only measured."""
        normalized, sn = sx.sn_apply(
            params, sn, kernels=self.kernels, update_stats=update_stats
        )
        return (normalized if self.config.constraint == "sn" else params), sn

    def _draw(self, params: Tree, variables: Tree, z: Array) -> tuple[Images, Tree]:
        """Returns images, normalized over their batch, and the new batch statistics."""
        images, changed = self.generator.apply(
            variables | {"params": params}, z, train=True, mutable=["batch_stats"]
        )
        return images, changed["batch_stats"]

    def _score(self, params: Tree, images: Images) -> Array:
        """Returns D's score of every image."""
        return jnp.asarray(self.discriminator.apply({"params": params}, images))

    def _gradient_norm(self, params: Tree, images: Images) -> Float[Array, ""]:
        """Returns the mean over ``images`` of the norm of D's gradient at each."""
        gradient = jax.grad(lambda x: jnp.sum(self._score(params, x)))(images)
        return jnp.mean(jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2, 3))))


def _skipped(state: TrainState) -> Int[Array, ""]:
    """Returns how many updates in a row a network has now been denied; the larger."""
    return jnp.maximum(
        state.generator_adam.notfinite_count,
        state.discriminator_adam.notfinite_count,
    )


def _moved(average: Tree, variables: Tree, step: Int[Array, ""]) -> Tree:
    """Moves the average towards ``variables``, faster at the start of a run."""
    decay = jnp.minimum(_EMA_DECAY, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, v: decay * a + (1 - decay) * v, average, variables)
