"""What follows each hidden layer of D: a normalization, if any, and an activation."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

import specjax.linen
from specjax.activations import maxmin

# The paper's leaky ReLU has slope 0.1.
ACTIVATIONS = {
    "relu": nn.relu,
    "leaky_relu": functools.partial(nn.leaky_relu, negative_slope=0.1),
    "maxmin": maxmin,
}


class Hidden(nn.Module):
    """Normalizes features, images or not, and bends them.

    Attributes:
        activation: a key of ``ACTIVATIONS``.
        normalization: "layer-norm", over all but the batch, without a gain, as in the
            comparisons of Miyato et al. 2018; "mean-only", with the batch's mean; or
            None.
    """

    activation: str
    normalization: str | None

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."], *, train: bool) -> Array:
        """Bends every feature; ``train`` is for mean-only batch normalization."""
        if self.normalization == "layer-norm":
            axes = tuple(range(1, x.ndim))
            x = nn.LayerNorm(use_scale=False, reduction_axes=axes)(x)
        if self.normalization == "mean-only":
            norm = specjax.linen.MeanOnlyBatchNorm(momentum=0.9)
            x = norm(x, use_running_average=not train)
        return jnp.asarray(ACTIVATIONS[self.activation](x))
