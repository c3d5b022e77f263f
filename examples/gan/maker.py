"""The generator, with spectral normalization of its own where it is BigGAN's."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Int

import specjax as sx
from examples.gan.networks import networks
from examples.gan.settings import Config
from specjax import constraints as sc

Tree = Any
Images = Float[Array, "n side side channels"]
Labels = Int[Array, " n"] | None

_OFF_DIAGONAL = 1e-4  # BigGAN's weight


@dataclasses.dataclass(frozen=True)
class Maker:
    """The network; ``normalized`` says whether its kernels have norm one, too."""

    network: nn.Module
    normalized: bool

    @classmethod
    def of(cls, config: Config) -> "Maker":
        """Returns the generator of a run."""
        return cls(networks(config)[0], config.conditional)

    def init(self, params: Tree) -> Tree:
        """Returns what it carries, by name: specjax's state, or nothing."""
        return {"generator_sn": sx.sn_init(params)} if self.normalized else {}

    def constrain(
        self, params: Tree, carried: Tree, *, update_stats: bool
    ) -> tuple[Tree, Tree]:
        """Returns the kernels that G uses, and what is carried on."""
        if not self.normalized:
            return params, carried
        used, sn = sx.sn_apply(
            params, carried["generator_sn"], update_stats=update_stats
        )
        return used, carried | {"generator_sn": sn}

    def penalty(self, params: Tree) -> Float[Array, ""]:
        """Returns BigGAN's regularization of the raw kernels, with its weight."""
        return _OFF_DIAGONAL * sc.orthogonal_penalty(params)

    def draw(
        self, used: Tree, variables: Tree, z: Array, labels: Labels
    ) -> tuple[Images, Tree]:
        """Returns images, normalized over their batch, and the new batch statistics."""
        images, changed = self.network.apply(
            variables | {"params": used}, z, labels, train=True, mutable=["batch_stats"]
        )
        return images, changed["batch_stats"]

    def fused(self, variables: Tree) -> Tree:
        """Returns variables to draw samples with.

        The moving average is one of raw kernels, for which no step has carried a u: it
        is converged on them, and they are divided.
        """
        if not self.normalized:
            return variables
        params = jax.device_get(variables["params"])
        return variables | {"params": sx.sn_fuse(params, sx.sn_init(params))}
