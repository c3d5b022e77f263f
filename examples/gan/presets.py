"""What each data set decides: image geometry, widths, defaults."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Preset:
    """One row of the table below."""

    side: int
    channels: int
    steps: int
    batch_size: int
    learning_rate: float
    latent: int
    generator_widths: tuple[int, ...]
    discriminator_widths: tuple[int, ...]
    dense_generator_widths: tuple[int, ...] = (256, 512)
    dense_discriminator_widths: tuple[int, ...] = (256, 256, 256)
    residual_generator_widths: tuple[int, ...] = (64, 64, 64, 64)
    residual_discriminator_width: int = 32
    biggan_discriminator_width: int = 32


# Miyato et al. 2018, Table 3: as printed for CIFAR-10, at a quarter of the widths for
# the grey images, and for the digits with one doubling and one halving less. The
# residual ones: Table 4 as printed for CIFAR-10 (BigGAN's code has 256 in both), at a
# quarter for the grey images, and for the digits at an eighth with a doubling less.
_GREY = Preset(
    side=32,
    channels=1,
    steps=10_000,
    batch_size=64,
    learning_rate=2e-4,
    latent=128,
    generator_widths=(128, 64, 32, 16),
    discriminator_widths=(16, 32, 64, 128),
)
PRESETS = {
    "digits": Preset(
        side=8,
        channels=1,
        steps=5_000,
        batch_size=32,
        learning_rate=4e-4,
        latent=64,
        generator_widths=(64, 32, 16),
        discriminator_widths=(16, 32, 64),
        residual_generator_widths=(32, 32, 32),
    ),
    "mnist": _GREY,
    "fashion_mnist": _GREY,
    "cifar10": Preset(
        side=32,
        channels=3,
        steps=100_000,
        batch_size=64,
        learning_rate=2e-4,
        latent=128,
        generator_widths=(512, 256, 128, 64),
        discriminator_widths=(64, 128, 256, 512),
        residual_generator_widths=(256, 256, 256, 256),
        residual_discriminator_width=128,
        biggan_discriminator_width=256,
    ),
}
