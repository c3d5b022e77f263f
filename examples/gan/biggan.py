"""BigGAN's generator at the data set's size: one class for each image that it draws.

Brock et al. 2019, arXiv 1809.11096, appendix B: the class has one embedding for all
blocks; each block sees it beside its own chunk of z, and its batch normalization gets
its gain and its bias from the two by dense layers without bias. All kernels start
orthogonal. The attention that larger images have between two blocks is left out.

The kernels of these dense layers are normalized as those of the convolutions are. The
shared embedding is not: it feeds dense layers that are. (The authors' PyTorch code does
the same, and normalizes the embedding of the discriminator's projection.)
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from examples.gan.resnet import doubled

N_CLASSES = 10
ORTHOGONAL = nn.initializers.orthogonal()


class ConditionalBatchNorm(nn.Module):
    """Batch normalization, then ``(1 + gain) x + bias`` with both read off a vector."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n side side channels"],
        condition: Float[Array, "n size"],
        *,
        train: bool,
    ) -> Array:
        """Returns x, of mean bias and standard deviation ``1 + gain``."""
        norm = nn.BatchNorm(not train, momentum=0.9, use_scale=False, use_bias=False)

        def read() -> Array:
            layer = nn.Dense(x.shape[-1], use_bias=False, kernel_init=ORTHOGONAL)
            return layer(condition)[:, None, None]

        return (1 + read()) * norm(x) + read()


class BigGenerator(nn.Module):
    """Latent vectors and classes to images in [-1, 1].

    Attributes:
        widths: channels of the seed image and of each block, which doubles the side.
        side: of the images, in pixels.
        channels: of the images.
        embedding: size of the classes' shared vectors.
    """

    widths: Sequence[int]
    side: int
    channels: int
    embedding: int = 32

    @nn.compact
    def __call__(
        self, z: Float[Array, "n latent"], labels: Int[Array, " n"], *, train: bool
    ) -> Float[Array, "n side side channels"]:
        """Draws one image of each label; ``train`` is for batch normalization."""
        shared = nn.Embed(N_CLASSES, self.embedding, embedding_init=ORTHOGONAL)(labels)
        first, *chunks = jnp.array_split(z, len(self.widths), axis=1)
        seed_side = self.side >> (len(self.widths) - 1)
        x = nn.Dense(seed_side**2 * self.widths[0], kernel_init=ORTHOGONAL)(first)
        x = x.reshape(-1, seed_side, seed_side, self.widths[0])
        for width, chunk in zip(self.widths[1:], chunks, strict=True):
            condition = jnp.concatenate([shared, chunk], axis=1)
            y = ConditionalBatchNorm()(x, condition, train=train)
            y = _conv(width, 3)(doubled(nn.relu(y)))
            y = ConditionalBatchNorm()(y, condition, train=train)
            x = _conv(width, 3)(nn.relu(y)) + _conv(width, 1)(doubled(x))
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9)(x))
        return jnp.tanh(_conv(self.channels, 3)(x))


def _conv(width: int, size: int) -> nn.Conv:
    return nn.Conv(width, (size, size), kernel_init=ORTHOGONAL)
