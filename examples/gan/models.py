"""The convolutional networks: Miyato et al. 2018, Table 3, at any size."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from examples.gan.hidden import Hidden


class Generator(nn.Module):
    """Latent vectors to images in [-1, 1].

    Attributes:
        widths: channels of the seed image and of each stage that doubles its side.
        side: of the images, in pixels.
        channels: of the images.
    """

    widths: Sequence[int]
    side: int
    channels: int

    @nn.compact
    def __call__(
        self, z: Float[Array, "n latent"], labels: Any = None, *, train: bool
    ) -> Float[Array, "n side side channels"]:
        """Draws one image per latent vector; ``train`` is for batch normalization."""
        seed_side = self.side >> (len(self.widths) - 1)
        x = nn.Dense(seed_side * seed_side * self.widths[0])(z)
        x = x.reshape(-1, seed_side, seed_side, self.widths[0])
        for width in self.widths[1:]:
            x = nn.ConvTranspose(width, (4, 4), strides=(2, 2), use_bias=False)(x)
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = nn.relu(x)
        return jnp.tanh(nn.Conv(self.channels, (3, 3))(x))


class Discriminator(nn.Module):
    """Images to one score each: high for real. It knows nothing of its kernels' norm.

    Attributes:
        widths: channels of each stage; all but the last halve the side.
        activation: of the hidden layers, as `Hidden` has it.
        normalization: of the hidden layers, as `Hidden` has it.
    """

    widths: Sequence[int]
    activation: str = "leaky_relu"
    normalization: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n side side channels"],
        labels: Any = None,
        *,
        train: bool = True,
    ) -> Float[Array, " n"]:
        """Scores every image; ``train`` is for mean-only batch normalization."""

        def bend(x: Array) -> Array:
            return Hidden(self.activation, self.normalization)(x, train=train)

        for width in self.widths[:-1]:
            x = bend(nn.Conv(width, (3, 3))(x))
            x = bend(nn.Conv(width, (4, 4), strides=(2, 2))(x))
        x = bend(nn.Conv(self.widths[-1], (3, 3))(x))
        return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]
