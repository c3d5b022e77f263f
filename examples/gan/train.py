"""One jitted update of both networks: D on its batches, then G on D's new score."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, UInt32

from examples.gan.biggan import N_CLASSES
from examples.gan.critic import Critic, Report, Round
from examples.gan.data import Real
from examples.gan.games import LOSSES
from examples.gan.maker import Images, Labels, Maker
from examples.gan.mesh import batch_sharding, real_sharding, state_sharding
from examples.gan.optimizers import optimizer
from examples.gan.settings import Config
from examples.gan.state import TrainState, Tree, by_name, key_of_step

Metrics = dict[str, Any]
Seed = UInt32[np.ndarray, ""] | np.uint32
Step = Callable[[TrainState, Real, Seed], tuple[TrainState, Metrics]]

_EMA_DECAY = 0.999
_PROBED = 16  # real images per step at which D's input gradient is measured


def make_train_step(config: Config, mesh: Mesh) -> Step:
    """Returns the jitted update ``(state, real, seed) -> (state, metrics)``.

    It is one update of D for each of the real batches, then one of G. What only says
    how long a run is, where its data lies and what its seed is, is not in the program:
    such runs share one, which is compiled once.

    The state lies on the mesh as `state_sharding` says, before and after, the batches
    as `real_sharding` says, and the metrics are on every device. The state that is
    passed in is given away (donated): go on with the returned one.
    """
    program = dataclasses.replace(config, steps=1, seed=0, data_dir=None, data_crc32=0)
    return _shared(program, config.preset, mesh)


@functools.cache
def _shared(config: Config, preset: Any, mesh: Mesh) -> Step:
    """Returns the one step of a config; ``preset`` is there to tell them apart."""
    del preset
    return new_train_step(config, mesh)


def new_train_step(config: Config, mesh: Mesh) -> Step:
    """Returns what `make_train_step` does, as a function that is not shared."""
    state = state_sharding(config, mesh)
    d_adam = optimizer(config, config.parts.projection)
    parts = Maker.of(config), Critic.of(config), optimizer(config), d_adam
    return jax.jit(
        _Game(config, *parts, batch_sharding(mesh)).step,
        in_shardings=(state, real_sharding(mesh), None),
        out_shardings=(state, NamedSharding(mesh, P())),
        donate_argnums=0,
    )


@dataclasses.dataclass(frozen=True)
class _Game:
    """The two players and how each of them moves."""

    config: Config
    maker: Maker
    critic: Critic
    adam: optax.GradientTransformation
    d_adam: optax.GradientTransformation
    batch_sharding: NamedSharding

    def step(
        self, state: TrainState, real: Real, seed: Seed
    ) -> tuple[TrainState, Metrics]:
        """Moves D once for each real batch, then G, then the average of G's weights."""
        key = key_of_step(seed, state.step)
        n_dis, n_images = real.images.shape[:2]
        shape = (n_dis + 1, n_images, self.config.preset.latent)
        # Each device draws its own part of the batch; which bits does not depend on it.
        *d_z, g_z = (
            jax.lax.with_sharding_constraint(z, self.batch_sharding)
            for z in jax.random.normal(key, shape)
        )
        real_labels, fake_labels = self._labels(real, key)
        seen: Any = None
        # Written out: on a CPU a `lax.scan` over the rounds took 2 to 3 times as long.
        for i, z in enumerate(d_z):
            points = jax.random.fold_in(key, i)
            fake = self._draw(state, z, fake_labels[i])
            labels = real_labels[i], fake_labels[i]
            seeing = Round(real.images[i], fake, points, *labels)
            state, seen = self._move_discriminator(state, seeing)
        state, g_loss = self._move_generator(state, g_z, fake_labels[-1])
        average = _moved(state.average, state.generator, state.step)
        labels = real_labels[-1]
        probed = real.images[-1, :_PROBED], None if labels is None else labels[:_PROBED]
        metrics = {
            "d_loss": seen.loss,
            "g_loss": g_loss,
            "gradient_norm": self.critic.gradient_norm(
                seen.used, state.carried, *probed
            ),
            "skipped": _skipped(state),
            "sigma": {name: sn["sigma"] for name, sn in by_name(state.sn).items()},
        }
        if self.critic.parts.penalties:
            metrics["penalty"] = seen.penalty
        return state._replace(step=state.step + 1, average=average), metrics

    def _labels(self, real: Real, key: Array) -> tuple[list[Labels], list[Labels]]:
        """Returns the classes of each real batch, and those that G is to draw.

        There is one batch more of these, for its own update. None where no network
        looks at them.
        """
        n_dis, n_images = real.labels.shape
        if not self.config.conditional:
            return [None] * n_dis, [None] * (n_dis + 1)
        key = jax.random.fold_in(key, n_dis)
        drawn = jax.random.randint(key, (n_dis + 1, n_images), 0, N_CLASSES)
        lie = functools.partial(
            jax.lax.with_sharding_constraint, shardings=self.batch_sharding
        )
        return list(real.labels), [lie(labels) for labels in drawn]

    def _draw(self, state: TrainState, z: Array, labels: Labels) -> Images:
        """Returns the images that D is to tell from real ones."""
        used, _ = self.maker.constrain(
            state.generator["params"], state.carried, update_stats=False
        )
        return self.maker.draw(used, state.generator, z, labels)[0]

    def _move_discriminator(
        self, state: TrainState, seeing: Round
    ) -> tuple[TrainState, Report]:
        """Also returns what D saw and with which kernels."""
        gradient, seen = jax.grad(self.critic.loss, has_aux=True)(
            state.discriminator, state.sn, state.carried, seeing
        )
        params, adam = _moved_by(
            self.d_adam, gradient, state.discriminator_adam, state.discriminator
        )
        state = state._replace(
            discriminator=params,
            sn=seen.sn,
            discriminator_adam=adam,
            carried=_kept(adam.last_finite, seen.carried, state.carried),
        )
        return state, seen

    def _move_generator(
        self, state: TrainState, z: Array, labels: Labels
    ) -> tuple[TrainState, Array]:
        """Also returns G's loss; D is normalized anew, since its kernels have moved."""
        held = state.discriminator, state.sn, state.carried
        d_used, _, _ = self.critic.constrain(*held, update_stats=False)

        def loss(params: Tree) -> tuple[Array, tuple[Tree, Tree]]:
            used, carried = self.maker.constrain(
                params, state.carried, update_stats=True
            )
            fake, batch_stats = self.maker.draw(used, state.generator, z, labels)
            scores, _ = self.critic.scores(d_used, state.carried, fake, labels)
            value = LOSSES[self.config.loss].generator(scores)
            if self.maker.normalized:
                value += self.maker.penalty(params)
            return value, (batch_stats, carried)

        params = state.generator["params"]
        (value, (stats, carried)), gradient = jax.value_and_grad(loss, has_aux=True)(
            params
        )
        params, adam = _moved_by(self.adam, gradient, state.generator_adam, params)
        stats = _kept(adam.last_finite, stats, state.generator["batch_stats"])
        state = state._replace(
            generator={"params": params, "batch_stats": stats},
            generator_adam=adam,
            carried=_kept(adam.last_finite, carried, state.carried),
        )
        return state, value


def _moved_by(
    adam: optax.GradientTransformation, gradient: Tree, held: Tree, params: Tree
) -> tuple[Tree, Any]:
    """Returns params and the optimizer's state; if denied as given, but for a count."""
    updates, held = adam.update(gradient, held, params)
    return optax.apply_updates(params, updates), held


def _kept(good: Array, new: Tree, old: Tree) -> Tree:
    """Returns the new statistics, or the old ones after a gradient that was denied."""
    return jax.tree.map(functools.partial(jnp.where, good), new, old)


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
