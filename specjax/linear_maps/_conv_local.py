"""`ConvLocal`: a convolution with another filter at each place, as Flax' `ConvLocal`.

y_p = patch_p(x) W_p
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax import errors
from specjax.linear_maps._conv_geometry import Padding, spread, spread_padding
from specjax.linear_maps._resolved import (
    Axes,
    ResolvedMap,
    Shape,
    StackedMap,
    Unresolved,
    as_tuple,
)


@dataclasses.dataclass(frozen=True)
class ConvLocal(Unresolved):
    """Reads a kernel as a local convolution of images of one size: ``y = x W``.

    The kernel is (output's spatial axes, in channels times window, out channels), as in
    Flax.

    Args:
        input_shape: spatial shape of the input, (32, 32) for an image of 32x32.
        window_shape: of the window.
        window_strides: step of the window; an int for all spatial axes, or one each.
        padding: "SAME", "VALID", an int, or an int or (low, high) for each axis.
        lhs_dilation: dilation of the input.
        rhs_dilation: dilation of the window.
        batch_axis: axes of the kernel along which independent kernels are stacked.

    Example:
        >>> import jax.numpy as jnp
        >>> local = ConvLocal(input_shape=(8,), window_shape=(3,))
        >>> local.apply(jnp.ones((8, 6, 4)), jnp.ones((8, 2))).shape
        (8, 4)
    """

    input_shape: Shape
    window_shape: Shape
    window_strides: int | Shape = 1
    padding: Padding = "SAME"
    lhs_dilation: int | Shape = 1
    rhs_dilation: int | Shape = 1
    batch_axis: Axes = ()

    def resolve(self, shape: Shape, where: str = "kernel") -> StackedMap:
        """Returns the map made for that shape.

        Raises:
            ValueError: if it does not fit.
        """
        batch = tuple(sorted(axis % len(shape) for axis in as_tuple(self.batch_axis)))
        *places, n_rows, n_out = (n for i, n in enumerate(shape) if i not in batch)
        n_spatial, window = len(self.input_shape), math.prod(self.window_shape)
        one = ResolvedConvLocal(
            shape=(*places, n_rows, n_out),
            in_shape=(*self.input_shape, n_rows // window),
            out_shape=(*places, n_out),
            name=f"local convolution of {'x'.join(map(str, self.input_shape))}",
            # Products with 0 and 1, and sums with 0: no entry is rounded.
            is_copied=True,
            unit_axes=(len(places) + 1,),
            window_shape=self.window_shape,
            window_strides=spread(self.window_strides, n_spatial),
            padding=spread_padding(self.padding, n_spatial),
            lhs_dilation=spread(self.lhs_dilation, n_spatial),
            rhs_dilation=spread(self.rhs_dilation, n_spatial),
        )
        if n_rows % window or one.patches(jnp.ones(one.in_shape)).shape != (
            *places,
            n_rows,
        ):
            message = errors.message(
                where,
                got=f"{self} for a kernel of shape {tuple(shape)}",
                need="a kernel of the output's spatial axes, in channels times window, "
                "and out channels",
                fix="the words of the layer, and the spatial shape of its input",
            )
            raise ValueError(message)
        return StackedMap(one, tuple(shape), batch, said=self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedConvLocal(ResolvedMap):
    """`ConvLocal`, made for the shape of one kernel."""

    window_shape: Shape
    window_strides: Shape
    padding: Any
    lhs_dilation: Shape
    rhs_dilation: Shape

    def patches(self, x: Inexact[Array, " *in"]) -> Inexact[Array, " *places_and_rows"]:
        """Returns what each output sees of the input."""
        n = len(self.window_shape)
        image = (0, n + 1, *range(1, n + 1))
        seen = lax.conv_general_dilated_patches(
            x[None],
            self.window_shape,
            self.window_strides,
            self.padding,
            lhs_dilation=self.lhs_dilation,
            rhs_dilation=self.rhs_dilation,
            dimension_numbers=lax.ConvDimensionNumbers(
                image, (n + 1, n, *range(n)), image
            ),
            precision=lax.Precision.HIGHEST,
        )
        return seen[0]

    def apply(
        self, kernel: Inexact[Array, " ..."], x: Inexact[Array, " *in"]
    ) -> Inexact[Array, " *out"]:
        """Returns ``y_p = patch_p(x) W_p``, in x's dtype."""
        patches = self.patches(x)
        return jnp.sum(kernel.astype(x.dtype) * patches[..., None], axis=-2)

    def squares(self, kernel: Inexact[Array, " ..."]) -> Real[Array, " ..."]:
        """Returns the square of each entry that meets the input, not its padding."""
        meets = self.patches(jnp.ones(self.in_shape, jnp.finfo(kernel.dtype).dtype))
        return jnp.square(jnp.abs(kernel)) * meets[..., None]
