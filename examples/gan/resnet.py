"""The residual networks: Miyato et al. 2018, Table 4, at any size."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from examples.gan.hidden import Hidden


def doubled(x: Float[Array, "n side side channels"]) -> Array:
    """Returns images of twice the side, each pixel four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def halved(x: Float[Array, "n side side channels"]) -> Array:
    """Returns images of half the side, the means of two by two pixels."""
    return nn.avg_pool(x, (2, 2), strides=(2, 2))


class ResidualGenerator(nn.Module):
    """Latent vectors to images in [-1, 1].

    Attributes:
        widths: channels of the seed image and of each block, which doubles the side.
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

        def bend(x: Array) -> Array:
            return nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))

        seed_side = self.side >> (len(self.widths) - 1)
        x = nn.Dense(seed_side * seed_side * self.widths[0])(z)
        x = x.reshape(-1, seed_side, seed_side, self.widths[0])
        for width in self.widths[1:]:
            y = nn.Conv(width, (3, 3))(doubled(bend(x)))
            y = nn.Conv(width, (3, 3))(bend(y))
            x = y + nn.Conv(width, (1, 1))(doubled(x))
        return jnp.tanh(nn.Conv(self.channels, (3, 3))(bend(x)))


class ResidualDiscriminator(nn.Module):
    """Images to one score each: two blocks that halve the side, and two that do not.

    Attributes:
        width: channels of every block.
        activation: of the hidden layers, as `Hidden` has it.
        normalization: of the hidden layers, as `Hidden` has it.
        n_classes: not 0: the score is that of the class, by projection (Miyato and
            Koyama 2018): a row of one matrix, times the features, is added. It is a
            dense layer of the class as a unit vector, so that its matrix is a kernel.
        kernel_init: of every kernel.
    """

    width: int
    activation: str = "relu"
    normalization: str | None = None
    n_classes: int = 0
    kernel_init: Any = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n side side channels"],
        labels: Int[Array, " n"] | None = None,
        *,
        train: bool = True,
    ) -> Float[Array, " n"]:
        """Scores every image; ``train`` is for mean-only batch normalization."""

        def bend(x: Array) -> Array:
            return Hidden(self.activation, self.normalization)(x, train=train)

        for i, halves in enumerate((True, True, False, False)):
            shorter = halved if halves else lambda x: x
            # The first one bends no pixel, and halves before its 1x1 convolution.
            y = self._conv(3)(bend(x) if i else x)
            y = self._conv(3)(bend(y))
            if not i:
                x = self._conv(1)(halved(x))
            elif halves:
                x = shorter(self._conv(1)(x))
            x = shorter(y) + x
        features = jnp.sum(bend(x), axis=(1, 2))
        score = nn.Dense(1, kernel_init=self.kernel_init)(features)[:, 0]
        if not self.n_classes:
            return score
        project = nn.Dense(self.width, use_bias=False, kernel_init=self.kernel_init)
        row = project(jax.nn.one_hot(labels, self.n_classes))
        return score + jnp.sum(row * features, axis=1)

    def _conv(self, size: int) -> nn.Conv:
        return nn.Conv(self.width, (size, size), kernel_init=self.kernel_init)
