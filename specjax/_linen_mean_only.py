"""Mean-only batch normalization as a Linen layer, with the words of `nn.BatchNorm`."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array

from specjax.linear_maps._matrix import Axes
from specjax.normalization import feature_axes, mean_only


class MeanOnlyBatchNorm(nn.Module):
    """Takes the batch's mean away and adds a bias; nothing is divided.

    Made for layers with weight normalization, whose scale needs no batch. The running
    mean is in the collection ``batch_stats``, in float32; a mean that is not finite is
    not kept.

    Attributes:
        use_running_average: take away the running mean (evaluation), not the batch's.
        axis: the axes of the features.
        momentum: of the running mean, from 0 to 1.
        dtype: the dtype of the result; None: that of x.
        param_dtype: the dtype of the bias.
        use_bias: add a bias in the shape of the features.
        bias_init: its initializer.
        axis_name: the axis of a `pmap`, `vmap` or `shard_map` over which the mean is
            taken, too. Under `jit` of sharded arrays it needs no name.

    Example:
        >>> import jax
        >>> model, x = MeanOnlyBatchNorm(), jnp.array([[1.0], [3.0]])
        >>> variables = model.init(jax.random.key(0), x, use_running_average=False)
        >>> y, updates = model.apply(
        ...     variables, x, use_running_average=False, mutable=["batch_stats"]
        ... )
        >>> print(y.ravel(), updates["batch_stats"]["mean"])
        [-1.  1.] [0.02]

    Source: Salimans and Kingma, "Weight Normalization" (2016), section 4.
    """

    use_running_average: bool | None = None
    axis: Axes = -1
    momentum: float = 0.99
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    bias_init: Initializer = nn.initializers.zeros_init()
    axis_name: str | tuple[str, ...] | None = None

    @nn.compact
    def __call__(self, x: Any, use_running_average: bool | None = None) -> Array:
        """Returns ``x - mean + bias``.

        Args:
            x: the input, in any units.
            use_running_average: as the attribute, which has to be None then.

        Raises:
            ValueError, TypeError: as `specjax.normalization.mean_only`.
        """
        use_running_average = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        x = jnp.asarray(x)
        features = feature_axes(x, self.axis)
        shape = tuple(x.shape[axis] for axis in features)
        running = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        y, after = mean_only(
            x,
            running.value,
            use_running_average=use_running_average,
            axis=features,
            momentum=self.momentum,
            # In init, as in nn.BatchNorm, the axis need not exist.
            axis_name=None if self.is_initializing() else self.axis_name,
        )
        if not use_running_average and not self.is_initializing():
            running.value = after
        if not self.use_bias:
            return y.astype(self.dtype or x.dtype)
        bias = self.param("bias", self.bias_init, shape, self.param_dtype)
        others = tuple(axis for axis in range(x.ndim) if axis not in features)
        y = y + jnp.expand_dims(bias, others).astype(y.dtype)
        return y.astype(self.dtype or x.dtype)
