"""All that a run carries from step to step, and where it starts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

import specjax as sx
from examples.gan.models import Discriminator, Generator
from examples.gan.operators import operators
from examples.gan.settings import Config

Tree = Any

_NEVER = 2**31 - 1  # optax would then take the bad gradient


class TrainState(NamedTuple):
    """The carried arrays; this and the config are what a checkpoint holds.

    ``generator`` and ``average`` (its moving average, which draws the samples) are
    ``{"params", "batch_stats"}``; ``discriminator`` is the raw params; ``sn`` is
    specjax's state for them.
    """

    step: Int[Array, ""]
    generator: Tree
    average: Tree
    discriminator: Tree
    sn: Tree
    generator_adam: Tree
    discriminator_adam: Tree


def networks(config: Config) -> tuple[Generator, Discriminator]:
    """Returns the data set's generator and discriminator."""
    preset = config.preset
    generator = Generator(preset.generator_widths, preset.side, preset.channels)
    return generator, Discriminator(preset.discriminator_widths)


def kernels(config: Config) -> dict[str, Any]:
    """Returns the linear map of each of the discriminator's kernels, as a rule.

    The default rule reads a convolution as its reshaped kernel; with ``--operator``
    each one is listed in front of it, as the operator that it is.
    """
    default = {r".*": sx.flax_kernels}
    if not config.operator:
        return default
    preset = config.preset
    image_shape = (preset.side, preset.side, preset.channels)
    return {**operators(networks(config)[1], image_shape), **default}


def optimizer(config: Config) -> optax.GradientTransformation:
    """Returns Adam with the betas of Miyato et al. 2018, setting C, one per network.

    The rate (theirs for the 32x32 images, twice that for the digits) falls over the
    data set's own number of steps, not over ``--steps``, and to a tenth, not to zero:
    a run can be prolonged and still be the same run. A gradient that is not finite
    changes nothing; how many there were in a row is counted, and `loop` gives up.
    """
    first = config.preset.learning_rate
    rate = optax.linear_schedule(first, first / 10, config.preset.steps)
    adam = optax.adam(rate, b1=0.5, b2=0.999)
    return optax.apply_if_finite(adam, max_consecutive_errors=_NEVER)


def init_state(config: Config) -> TrainState:
    """Returns the state before the first step; it depends on the seed alone."""
    adam = optimizer(config)
    variables, d_params = jax.jit(_init_networks, static_argnums=0)(config)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator=variables,
        average=jax.tree.map(jnp.copy, variables),
        discriminator=d_params,
        sn=sx.sn_init(d_params, kernels=kernels(config)),
        generator_adam=adam.init(variables["params"]),
        discriminator_adam=adam.init(d_params),
    )


def key_of_step(config: Config, step: Int[Array, ""] | int) -> Array:
    """Returns the random key of the update after ``step`` updates."""
    return jax.random.fold_in(jax.random.key(config.seed), step)


def _init_networks(config: Config) -> tuple[Tree, Tree]:
    """Returns the generator's variables and the discriminator's params."""
    generator, discriminator = networks(config)
    preset = config.preset
    g_key, d_key = jax.random.split(jax.random.key(config.seed))
    z = jnp.zeros((2, preset.latent))
    image = jnp.zeros((1, preset.side, preset.side, preset.channels))
    variables = dict(generator.init(g_key, z, train=True))
    return variables, discriminator.init(d_key, image)["params"]
