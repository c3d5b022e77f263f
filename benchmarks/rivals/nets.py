"""The networks, each written once; every one has a single output: a discriminator.

Sources: Miyato et al., "Spectral Normalization for GANs" (2018), tables 3 and 4; Brock
et al., "Large Scale GAN Training" (2019), table 4 (without the class embedding);
Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021), with the mean over all
tokens in place of the class token.
"""

import functools
from typing import Any, NamedTuple

from benchmarks.rivals.layers import Layers, Net


class Case(NamedTuple):
    """A network with what it is measured on.

    Attributes:
        net: the network.
        image_shape: of one input, channels last.
        batch: real inputs of a step; as many are fake.
        cpu_batch: the same, where a CPU takes the steps: some hundred in a minute.
        quick_net: for a quick look, in Linen alone: what takes long to compile.
    """

    net: Net
    image_shape: tuple[int, ...]
    batch: int
    cpu_batch: int
    quick_net: Net | None = None


def mlp(layers: Layers, x: Any, *, width: int = 512, depth: int = 3) -> Any:
    """Dense layers of one width, the last of them with one output."""
    for i in range(depth - 1):
        x = layers.relu(layers.dense(f"dense{i}", x, width))
    return layers.dense(f"dense{depth - 1}", x, 1)


def cnn(layers: Layers, x: Any, *, width: int = 64) -> Any:
    """SN-GAN's standard CNN, with the widths that the paper prints."""
    plan = ((1, 3, 1), (1, 4, 2), (2, 3, 1), (2, 4, 2), (4, 3, 1), (4, 4, 2), (8, 3, 1))
    for i, (widths, window, stride) in enumerate(plan):
        x = layers.conv(f"conv{i}", x, widths * width, window, stride)
        x = layers.leaky_relu(x)
    return layers.dense("last", layers.flatten(x), 1)


def resnet_d(layers: Layers, x: Any, *, channels: int = 128) -> Any:
    """SN-GAN's ResNet for 32x32: four blocks, of which the first two halve the side."""
    for i in range(4):
        x = _block(layers, f"block{i}", x, channels, first=i == 0, down=i < 2)
    x = layers.sum_pixels(layers.relu(x))
    return layers.dense("last", x, 1)


def biggan(
    layers: Layers,
    x: Any,
    *,
    channels: int = 96,
    widths: tuple[int, ...] = (2, 4, 8, 16),
) -> Any:
    """BigGAN's for 128x128, with attention at 64x64."""
    x = _block(layers, "block0", x, channels, first=True)
    x = _attend(layers, "attention", x, channels, side=64)
    for i, wide in enumerate(widths, 1):
        x = _block(layers, f"block{i}", x, wide * channels)
    x = _block(layers, "block5", x, widths[-1] * channels, down=False)
    x = layers.sum_pixels(layers.relu(x))
    return layers.dense("last", x, 1)


def vit(
    layers: Layers, x: Any, *, width: int = 768, depth: int = 12, patch: int = 16
) -> Any:
    """A Vision Transformer of size B with patches of 16x16, heads of 64."""
    x = layers.tokens(layers.conv("patches", x, width, patch, patch))
    x = x + layers.array("positions", (x.shape[-2], width), 0.0)
    for i in range(depth):
        y = _layer_norm(layers, f"layer{i}_norm0", x, width)
        parts = [
            layers.dense(f"layer{i}_{n}", y, width) for n in ("query", "key", "value")
        ]
        y = layers.attention(*parts, heads=width // 64)
        x = x + layers.dense(f"layer{i}_out", y, width)
        y = _layer_norm(layers, f"layer{i}_norm1", x, width)
        y = layers.gelu(layers.dense(f"layer{i}_up", y, 4 * width))
        x = x + layers.dense(f"layer{i}_down", y, width)
    x = layers.mean_tokens(_layer_norm(layers, "norm", x, width))
    return layers.dense("last", x, 1)


def _block(
    layers: Layers,
    name: str,
    x: Any,
    channels: int,
    *,
    first: bool = False,
    down: bool = True,
) -> Any:
    """Two convolutions and a shortcut, which has a kernel where the shape changes."""
    y = x if first else layers.relu(x)
    y = layers.conv(f"{name}_conv0", y, channels, 3)
    y = layers.conv(f"{name}_conv1", layers.relu(y), channels, 3)
    if not down:
        return x + y
    if first:
        x = layers.conv(f"{name}_shortcut", layers.average_pool(x), channels, 1)
    else:
        x = layers.average_pool(layers.conv(f"{name}_shortcut", x, channels, 1))
    return x + layers.average_pool(y)


def _attend(layers: Layers, name: str, x: Any, channels: int, side: int) -> Any:
    """Self-attention over the pixels (Zhang et al., 2019), times a trained scale."""
    inner = max(1, channels // 8)
    query = layers.conv(f"{name}_query", x, inner, 1)
    key = layers.max_pool(layers.conv(f"{name}_key", x, inner, 1))
    value = layers.max_pool(layers.conv(f"{name}_value", x, channels // 2, 1))
    y = layers.attention(*(layers.tokens(part) for part in (query, key, value)))
    y = layers.conv(f"{name}_out", layers.pixels(y, side), channels, 1)
    return x + layers.array(f"{name}_scale", (), 0.0) * y


def _layer_norm(layers: Layers, name: str, x: Any, width: int) -> Any:
    scale = layers.array(f"{name}_scale", (width,), 1.0)
    shift = layers.array(f"{name}_shift", (width,), 0.0)
    return layers.standardize(x) * scale + shift


_BIGGAN: Net = functools.partial(biggan, channels=32)  # the paper has 96
_MLP60: Net = functools.partial(mlp, width=256, depth=60)

NETS: dict[str, Case] = {
    "mlp": Case(mlp, (784,), 64, 64),
    "cnn": Case(cnn, (32, 32, 3), 64, 8, quick_net=cnn),
    "resnet_d": Case(resnet_d, (32, 32, 3), 64, 4),
    "biggan": Case(
        _BIGGAN, (128, 128, 3), 4, 1, functools.partial(_BIGGAN, widths=(2,))
    ),
    "mlp60": Case(_MLP60, (256,), 64, 64, quick_net=_MLP60),
    "vit": Case(vit, (224, 224, 3), 1, 1, quick_net=functools.partial(vit, depth=1)),
}

# What only a compiler sees, and needs no time to run.
COUNTED = NETS | {
    "resnet_d_512": Case(
        functools.partial(resnet_d, channels=512), (32, 32, 3), 16, 16
    ),
    "biggan_96": Case(biggan, (128, 128, 3), 8, 8),
}
