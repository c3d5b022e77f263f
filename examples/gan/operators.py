"""The discriminator's convolutions as operators, at the sizes that they are used at."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import specjax as sx


def operators(network: nn.Module, image_shape: tuple[int, ...]) -> dict[str, sx.Conv]:
    """Returns the linear map of each convolution of a network, by its kernel's path.

    Each size and stride is read off a traced call of the network itself.

    Args:
        network: its convolutions are `flax.linen.Conv`.
        image_shape: (height, width, channels) of what it sees.
    """
    found: dict[str, sx.Conv] = {}

    def note(call: Any, inputs: Any, options: Any, context: Any) -> Any:
        layer = context.module
        if isinstance(layer, nn.Conv):
            words: dict[str, Any] = {
                "window_strides": layer.strides or 1,
                "padding": layer.padding,
                "lhs_dilation": layer.input_dilation or 1,
                "rhs_dilation": layer.kernel_dilation or 1,
                "feature_group_count": layer.feature_group_count,
            }
            size = inputs[0].shape[1:-1]
            found["/".join((*layer.path, "kernel"))] = sx.Conv(size, **words)
        return call(*inputs, **options)

    with nn.intercept_methods(note):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *image_shape)))
    return found
