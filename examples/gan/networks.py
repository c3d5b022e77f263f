"""Which two networks a run has."""

import flax.linen as nn

from examples.gan.biggan import N_CLASSES, ORTHOGONAL, BigGenerator
from examples.gan.mlp import DenseDiscriminator, DenseGenerator
from examples.gan.models import Discriminator, Generator
from examples.gan.resnet import ResidualDiscriminator, ResidualGenerator
from examples.gan.settings import Config


def networks(config: Config) -> tuple[nn.Module, nn.Module]:
    """Returns the generator and the discriminator of this size and kind."""
    preset = config.preset
    image = preset.side, preset.channels
    hidden = config.activation, config.parts.normalization
    match config.network:
        case "mlp":
            generator = DenseGenerator(preset.dense_generator_widths, *image)
            widths = preset.dense_discriminator_widths
            return generator, DenseDiscriminator(widths, *hidden)
        case "resnet":
            generator = ResidualGenerator(preset.residual_generator_widths, *image)
            width = preset.residual_discriminator_width
            return generator, ResidualDiscriminator(width, *hidden)
        case "biggan":
            generator = BigGenerator(preset.residual_generator_widths, *image)
            width = preset.biggan_discriminator_width
            return generator, ResidualDiscriminator(
                width, *hidden, n_classes=N_CLASSES, kernel_init=ORTHOGONAL
            )
        case _:
            generator = Generator(preset.generator_widths, *image)
            return generator, Discriminator(preset.discriminator_widths, *hidden)
