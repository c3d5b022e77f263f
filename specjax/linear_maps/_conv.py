"""`Conv`: a kernel as the convolution that it is, at the size that it is used at.

Its norm is that of the operator on images, not that of the reshaped kernel, which is
smaller by up to the square root of the window's size. The adjoint is the transpose of
the convolution, by jax: stride, dilation, groups and padding come with it.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Inexact, Real

from specjax import errors
from specjax.linear_maps._check_spec import check_spec_kind
from specjax.linear_maps._circular import containing
from specjax.linear_maps._conv_geometry import (
    Geometry,
    Padding,
    geometry_of,
    ints,
    one_line,
    padding_of,
)
from specjax.linear_maps._convolve import convolve
from specjax.linear_maps._resolved import (
    Axes,
    ResolvedMap,
    Shape,
    StackedMap,
    Unresolved,
    as_tuple,
)
from specjax.linear_maps._sharding import (
    Names,
    Shards,
    explicit_axes,
    names_on_axis,
    summed,
    varying_like,
    without_axes,
)
from specjax.linear_maps._tap_counts import squares_in_operator
from specjax.linear_maps._written_out import written_out


@dataclasses.dataclass(frozen=True)
class Conv(Unresolved):
    """Reads a kernel as a convolution of images of one size: ``y = x W``.

    x is one image, (spatial axes, in channels), and y what the convolution makes of it:
    u has y's shape. The kernel is (window axes, in channels / groups, out channels), as
    in Flax and haiku. The words are those of `jax.lax.conv_general_dilated`.

    Args:
        input_shape: spatial shape of the input, (32, 32) for an image of 32x32.
        window_strides: step of the window; an int for all spatial axes, or one each.
        padding: "SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL" (1-D), an int, or an
            int or (low, high) for each spatial axis.
        lhs_dilation: dilation of the input.
        rhs_dilation: dilation of the kernel.
        feature_group_count: number of groups of channels.
        transposed: the convolution of `jax.lax.conv_transpose`, as in Flax's
            `ConvTranspose`. Padding is "SAME", "VALID", "CIRCULAR" or pairs.
        transpose_kernel: the kernel is (window axes, out channels, in channels) and
            flipped; with `transposed` only.
        batch_axis: axes of the kernel along which independent kernels are stacked.
        spec: only inside `jax.shard_map`, as for `Matrix`: how the channels of the
            kernel that this is a shard of are split over the mesh.

    Example:
        >>> import jax.numpy as jnp
        >>> conv = Conv(input_shape=(8, 8))  # 3x3, SAME
        >>> conv.apply(jnp.ones((3, 3, 2, 4)), jnp.ones((8, 8, 2))).shape
        (8, 8, 4)
    """

    input_shape: tuple[int, ...]
    window_strides: int | tuple[int, ...] = 1
    padding: Padding = "SAME"
    lhs_dilation: int | tuple[int, ...] = 1
    rhs_dilation: int | tuple[int, ...] = 1
    feature_group_count: int = 1
    transposed: bool = False
    transpose_kernel: bool = False
    batch_axis: Axes = ()
    spec: PartitionSpec | None = None

    def __post_init__(self) -> None:
        """Brings every field to ints and tuples of them: a map is hashed."""
        for name in ("window_strides", "lhs_dilation", "rhs_dilation"):
            object.__setattr__(self, name, ints(name, getattr(self, name)))
        shape = ints("input_shape", self.input_shape)
        shape = shape if isinstance(shape, tuple) else (shape,)
        object.__setattr__(self, "input_shape", shape)
        groups = ints("feature_group_count", self.feature_group_count)
        object.__setattr__(self, "feature_group_count", groups)
        object.__setattr__(self, "batch_axis", ints("batch_axis", self.batch_axis))
        object.__setattr__(self, "padding", padding_of(self.padding))
        check_spec_kind("Conv", self.spec)

    def resolve(self, shape: Shape, where: str = "kernel") -> StackedMap:
        """Returns the map with every word spelled out for each spatial axis.

        Args:
            shape: the kernel's, or a stack's.
            where: what the message of an error begins with, the kernel's path.

        Raises:
            ValueError: if the words do not fit that shape, or no output is left.
        """
        n_spatial, batch = len(self.input_shape), as_tuple(self.batch_axis)
        if not n_spatial or len(shape) != n_spatial + 2 + len(batch):
            need = f"a kernel of {n_spatial} window axes, in and out channels"
            raise ValueError(self._message(shape, where, need))
        if any(not -len(shape) <= axis < len(shape) for axis in batch):
            need = f"a batch_axis from {-len(shape)} to {len(shape) - 1}"
            raise ValueError(self._message(shape, where, need))
        batch = tuple(sorted(axis % len(shape) for axis in batch))
        one_shape = tuple(n for axis, n in enumerate(shape) if axis not in batch)
        try:
            geometry = geometry_of(self)
            split = _split_of(geometry, self.spec, batch, len(shape))
            one = resolved_conv(one_shape, geometry, split)
        except (ValueError, TypeError) as error:
            raise ValueError(self._message(shape, where, one_line(error))) from error
        if min(one.out_shape) < 1:
            need = f"an input that fills the window, not an output of {one.out_shape}"
            raise ValueError(self._message(shape, where, need))
        return StackedMap(one, tuple(shape), batch, self.spec, said=self)

    def _message(self, shape: Shape, where: str, need: str) -> str:
        return errors.message(
            where,
            got=f"{self} for a kernel of shape {shape}",
            need=need,
            fix="the words of the layer's own convolution and the spatial shape of its "
            "input, or specjax.Matrix() for the norm of the reshaped kernel",
        )


def resolved_conv(
    shape: Shape, geometry: Geometry, split: Shards = Shards()
) -> "ResolvedConv":
    """Returns the map of one kernel of that shape."""
    n_in = shape[geometry.in_channel_axis] * geometry.feature_group_count
    in_shape = (*geometry.input_shape, n_in)
    out = jax.eval_shape(
        lambda kernel, image: convolve(kernel, image, geometry),
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct(in_shape, jnp.float32),
    )
    return ResolvedConv(
        shape=shape,
        in_shape=in_shape,
        out_shape=out.shape,
        split=split,
        name=_name(geometry),
        is_copied=geometry.pads_zeros,
        unit_axes=(geometry.out_channel_axis,),
        circular=containing(geometry, shape),
        geometry=geometry,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedConv(ResolvedMap):
    """`Conv`, made for the shape of one kernel."""

    geometry: Geometry

    def apply(
        self, kernel: Inexact[Array, " ..."], x: Inexact[Array, " *in"]
    ) -> Inexact[Array, " *out"]:
        """Returns the convolution of one image, in x's dtype (float32 at least)."""
        product = self._placed(self._convolve, kernel, self.geometry.out_channel_axis)
        return summed(product(kernel, x), self.split.over_x)

    def adjoint(
        self, kernel: Inexact[Array, " ..."], y: Inexact[Array, " *out"]
    ) -> Inexact[Array, " *in"]:
        """Returns the adjoint of the convolution at y."""
        product = self._placed(self._transpose, kernel, self.geometry.in_channel_axis)
        return summed(product(kernel, y), self.split.over_y)

    def _convolve(self, kernel: Array, x: Array) -> Array:
        return convolve(kernel, x, self.geometry)

    def _transpose(self, kernel: Array, y: Array) -> Array:
        # It varies as y does. Else jax adds up here what the devices have, and again
        # above.
        zero = varying_like(varying_like(jnp.zeros(self.in_shape, y.dtype), kernel), y)
        _, transpose = jax.vjp(lambda x: self._convolve(jnp.conj(kernel), x), zero)
        return transpose(varying_like(y, kernel))[0]

    def _placed(
        self, product: Callable[[Array, Array], Array], kernel: Array, channel_axis: int
    ) -> Callable[[Array, Array], Array]:
        """Returns the product as one that explicit meshes allow, its channels placed.

        The compiler partitions a convolution, jax does not: what it has no rule for it
        has to be told.
        """
        if not explicit_axes(kernel):
            return product
        names = jax.typeof(kernel).sharding.spec[channel_axis]
        spec = PartitionSpec(*(None,) * self.geometry.n_spatial, names)
        placed: Any = jax.sharding.auto_axes(
            product, axes=explicit_axes(kernel), out_sharding=spec
        )
        return placed

    def dense(self, kernel: Inexact[Array, " ..."]) -> Inexact[Array, "n_in n_out"]:
        """Returns the operator's matrix, inputs by outputs."""
        if self.is_copied:
            return written_out(kernel, self.geometry)
        return super().dense(kernel)

    def taps(
        self, kernel: Inexact[Array, " ..."]
    ) -> Inexact[Array, "groups taps n_in n_out"]:
        """Returns the kernel with its window as one axis and its groups in front.

        A kernel that is flipped keeps its order: frequencies w and -w change places.
        """
        *window, n_in, n_out = kernel.shape
        groups = self.geometry.feature_group_count
        apart = kernel.reshape(math.prod(window), n_in, groups, n_out // groups)
        taps = jnp.moveaxis(apart, 2, 0)
        return jnp.swapaxes(taps, 2, 3) if self.geometry.transpose_kernel else taps

    def squares(self, kernel: Inexact[Array, " ..."]) -> Real[Array, " ..."]:
        """Returns the square of each entry, times how often it is in the operator."""
        return squares_in_operator(kernel, self.geometry)

    def pieces(self, n: int) -> tuple[np.ndarray, int, int]:
        """Returns the channels in pieces: an output sees a window of each."""
        n_channels = self.in_shape[-1]
        length = -(-n_channels // max(1, min(n, n_channels)))
        places = np.arange(n_channels) // length
        window = math.prod(self.shape[: self.geometry.n_spatial])
        seen = min(length, self.shape[self.geometry.in_channel_axis])
        return places, -(-n_channels // length), window * seen


def _split_of(
    geometry: Geometry, spec: PartitionSpec | None, batch: Shape, ndim: int
) -> Shards:
    """Returns how a spec splits the channels.

    Raises:
        ValueError: for one that splits what is not a channel.
    """
    if spec is None:
        return Shards()
    if len(spec) > ndim:
        raise ValueError(f"a spec of at most {ndim} axes")
    own = without_axes(spec, batch)
    window: tuple[Names, ...] = ((),) * geometry.n_spatial
    if any(names_on_axis(own, axis) for axis in range(geometry.n_spatial)):
        raise ValueError("a spec that splits channels, not the window")
    split = Shards(
        (*window, names_on_axis(own, geometry.in_channel_axis)),
        (*window, names_on_axis(own, geometry.out_channel_axis)),
    )
    if geometry.feature_group_count > 1 and split.over_x + split.over_y:
        raise ValueError("no groups in a convolution whose channels are split by hand")
    return split


def _name(geometry: Geometry) -> str:
    kind = "transposed convolution" if geometry.transposed else "convolution"
    strides = sorted(set(geometry.window_strides))
    suffix = "" if strides == [1] else f", strides {_times(strides)}"
    return f"{kind} of {_times(geometry.input_shape)}{suffix}"


def _times(sizes: Any) -> str:
    return "x".join(map(str, sizes))
