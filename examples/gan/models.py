"""The generator and the discriminator: Miyato et al. 2018, Table 3, at any size."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


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
        self, z: Float[Array, "n latent"], *, train: bool
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
    """Images to one score each: high for real. It knows nothing of its constraint.

    Attributes:
        widths: channels of each stage; all but the last halve the side.
    """

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "n side side channels"]) -> Float[Array, " n"]:
        """Scores every image."""
        for width in self.widths[:-1]:
            x = _leaky(nn.Conv(width, (3, 3))(x))
            x = _leaky(nn.Conv(width, (4, 4), strides=(2, 2))(x))
        x = _leaky(nn.Conv(self.widths[-1], (3, 3))(x))
        return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]


def _leaky(x: jax.Array) -> jax.Array:
    """The paper's leaky ReLU, slope 0.1."""
    return nn.leaky_relu(x, 0.1)
