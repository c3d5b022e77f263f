"""Mean-only batch normalization as an NNX layer, with the words of `nnx.BatchNorm`."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array

from specjax.normalization import feature_axes, mean_only


class MeanOnlyBatchNorm(nnx.Module):
    """Takes the batch's mean away and adds a bias; nothing is divided.

    Made for layers with weight normalization, whose scale needs no batch. The running
    mean is an `nnx.BatchStat` in float32; a mean that is not finite is not kept.
    ``.train()`` takes the batch's mean, ``.eval()`` the running one.

    Example:
        >>> layer = MeanOnlyBatchNorm(1, rngs=nnx.Rngs(0))
        >>> print(layer(jnp.array([[1.0], [3.0]])).ravel(), layer.mean[...])
        [-1.  1.] [0.02]

    Source: Salimans and Kingma, "Weight Normalization" (2016), section 4.
    """

    def __init__(
        self,
        num_features: int,
        *,
        use_running_average: bool = False,
        axis: int = -1,
        momentum: float = 0.99,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        use_bias: bool = True,
        bias_init: Initializer = nnx.initializers.zeros_init(),
        axis_name: str | tuple[str, ...] | None = None,
        rngs: nnx.Rngs,
    ):
        """Makes the layer.

        Args:
            num_features: the size of the axis of the features.
            use_running_average: start in evaluation mode; ``.train()`` and ``.eval()``
                switch.
            axis: the axis of the features.
            momentum: of the running mean, from 0 to 1.
            dtype: the dtype of the result; None: that of x.
            param_dtype: the dtype of the bias.
            use_bias: add a bias.
            bias_init: its initializer.
            axis_name: the axis of a `pmap`, `vmap` or `shard_map` over which the mean
                is taken, too. Under `jit` of sharded arrays it needs no name.
            rngs: for the bias' initializer.
        """
        shape = (num_features,)
        self.mean: nnx.BatchStat[Array] = nnx.BatchStat(jnp.zeros(shape, jnp.float32))
        bias = bias_init(rngs.params(), shape, param_dtype) if use_bias else None
        self.bias: nnx.Param[Array] | None = (
            nnx.data(None) if bias is None else nnx.Param(bias)
        )
        # What train() and eval() set.
        self.use_running_average: bool = use_running_average
        self.axis = axis
        self.momentum = momentum
        self.dtype = dtype
        self.axis_name = axis_name

    def __call__(self, x: Any, use_running_average: bool | None = None) -> Array:
        """Returns ``x - mean + bias``.

        Args:
            x: the input, in any units.
            use_running_average: overrides the mode of the layer.

        Raises:
            ValueError, TypeError: as `specjax.normalization.mean_only`.
        """
        if use_running_average is None:
            use_running_average = self.use_running_average
        x = jnp.asarray(x)
        y, after = mean_only(
            x,
            self.mean[...],
            use_running_average=use_running_average,
            axis=self.axis,
            momentum=self.momentum,
            axis_name=self.axis_name,
        )
        if not use_running_average:
            self.mean[...] = after
        if self.bias is None:
            return y.astype(self.dtype or x.dtype)
        (feature,) = feature_axes(x, self.axis)
        others = tuple(axis for axis in range(x.ndim) if axis != feature)
        y = y + jnp.expand_dims(self.bias[...], others).astype(y.dtype)
        return y.astype(self.dtype or x.dtype)
