"""All that a run carries from step to step, and where it starts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

import specjax as sx
from examples.gan.maker import Maker
from examples.gan.networks import networks
from examples.gan.operators import operators
from examples.gan.optimizers import optimizer
from examples.gan.parametrizations import PARAMETRIZATIONS
from examples.gan.settings import Config

Tree = Any


class TrainState(NamedTuple):
    """The carried arrays; this and the config are what a checkpoint holds.

    ``generator`` and ``average`` (its moving average, which draws the samples) are
    ``{"params", "batch_stats"}``; ``discriminator`` is what Adam moves, for most
    constraints the raw params; ``sn`` is specjax's state for the raw params; in
    ``carried`` is what else is carried by name, for most runs nothing: "backward" of
    bsn, "batch_stats" of mean-only, "generator_sn" of biggan.
    """

    step: Int[Array, ""]
    generator: Tree
    average: Tree
    discriminator: Tree
    sn: Tree
    generator_adam: Tree
    discriminator_adam: Tree
    carried: Tree


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


def init_state(config: Config) -> TrainState:
    """Returns the state before the first step; it depends on the seed alone."""
    variables, d_variables = jax.jit(_init_networks, static_argnums=0)(config)
    rules, parts = kernels(config), config.parts
    way = PARAMETRIZATIONS[parts.parametrization]
    trained, carried = way.init(d_variables.pop("params"), rules)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator=variables,
        average=jax.tree.map(jnp.copy, variables),
        discriminator=trained,
        sn=sx.sn_init(way.raw(trained, rules), kernels=rules),
        generator_adam=optimizer(config).init(variables["params"]),
        discriminator_adam=optimizer(config, parts.projection).init(trained),
        carried=carried | d_variables | Maker.of(config).init(variables["params"]),
    )


def d_kernels(config: Config, state: TrainState) -> Tree:
    """Returns the params that D uses in this state, as they would score images."""
    way = PARAMETRIZATIONS[config.parts.parametrization]
    held = state.discriminator, state.sn, state.carried
    return way.apply(*held, kernels(config), False)[0]


def raw_kernels(config: Config, state: TrainState) -> Tree:
    """Returns D's params before they are normalized, whose sigma is carried."""
    way = PARAMETRIZATIONS[config.parts.parametrization]
    return way.raw(state.discriminator, kernels(config))


def by_name(sn: Tree) -> dict[str, Any]:
    """Returns specjax's entry of each kernel by the name of its layer."""
    found = jax.tree_util.tree_leaves_with_path(
        sn, is_leaf=lambda node: isinstance(node, dict) and "sigma" in node
    )
    return {
        "/".join(key.key for key in path).removesuffix("/kernel"): entry
        for path, entry in found
    }


def key_of_step(seed: Any, step: Int[Array, ""] | int) -> Array:
    """Returns the random key of the update after ``step`` updates."""
    return jax.random.fold_in(jax.random.key(seed), step)


def _init_networks(config: Config) -> tuple[Tree, Tree]:
    """Returns the variables of the generator and of the discriminator."""
    generator, discriminator = networks(config)
    preset = config.preset
    g_key, d_key = jax.random.split(jax.random.key(config.seed))
    z = jnp.zeros((2, preset.latent))
    image = jnp.zeros((1, preset.side, preset.side, preset.channels))
    labels = jnp.zeros(2, jnp.int32) if config.conditional else None
    variables = dict(generator.init(g_key, z, labels, train=True))
    labels = None if labels is None else labels[:1]
    return variables, dict(discriminator.init(d_key, image, labels))
