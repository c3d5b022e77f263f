"""The two networks of dense layers: what a CPU trains in minutes."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from examples.gan.hidden import Hidden


class DenseGenerator(nn.Module):
    """Latent vectors to images in [-1, 1].

    Attributes:
        widths: of the hidden layers.
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
        x = z
        for width in self.widths:
            x = nn.Dense(width, use_bias=False)(x)
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = nn.relu(x)
        x = nn.Dense(self.side * self.side * self.channels)(x)
        return jnp.tanh(x).reshape(-1, self.side, self.side, self.channels)


class DenseDiscriminator(nn.Module):
    """Images to one score each: high for real. It knows nothing of its kernels' norm.

    Attributes:
        widths: of the hidden layers.
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
        """Scores every image."""
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = Hidden(self.activation, self.normalization)(
                nn.Dense(width)(x), train=train
            )
        return nn.Dense(1)(x)[:, 0]
