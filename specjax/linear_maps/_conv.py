"""`Conv`: a kernel as the convolution that it is, at the size that it is used at.

Its norm is that of the operator on images, not that of the reshaped kernel, which is
smaller by up to the square root of the window's size. The adjoint is the transpose of
the convolution, by jax: stride, dilation, groups and padding come with it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Inexact

from specjax import errors
from specjax.linear_maps._check_spec import check_spec_kind
from specjax.linear_maps._conv_geometry import (
    Padding,
    check_words,
    ints,
    one_line,
    padding_of,
    spread,
    spread_padding,
)
from specjax.linear_maps._matrix import Axes, as_tuple, without_axes
from specjax.linear_maps._sharding import (
    Names,
    Shards,
    explicit_axes,
    names_on_axis,
    summed,
    varying_like,
)


@dataclasses.dataclass(frozen=True)
class Conv:
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

    def resolve(self, shape: tuple[int, ...], where: str = "kernel") -> "Conv":
        """Returns the map with every word spelled out for each spatial axis.

        Args:
            shape: the kernel's.
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
        try:
            whole = dataclasses.replace(
                self,
                window_strides=spread(self.window_strides, n_spatial),
                lhs_dilation=spread(self.lhs_dilation, n_spatial),
                rhs_dilation=spread(self.rhs_dilation, n_spatial),
                padding=spread_padding(self.padding, n_spatial),
                batch_axis=tuple(sorted(axis % len(shape) for axis in batch)),
            )
            check_words(whole)
            _check_split(whole, len(shape))
            _, out_shape = whole.one().sides(whole._one_shape(shape))
        except (ValueError, TypeError) as error:
            raise ValueError(self._message(shape, where, one_line(error))) from error
        if min(out_shape) < 1:
            need = f"an input that fills the window, not an output of {out_shape}"
            raise ValueError(self._message(shape, where, need))
        return whole

    def _message(self, shape: tuple[int, ...], where: str, need: str) -> str:
        return errors.message(
            where,
            got=f"{self} for a kernel of shape {shape}",
            need=need,
            fix="the words of the layer's own convolution and the spatial shape of its "
            "input, or specjax.Matrix() for the norm of the reshaped kernel",
        )

    def _one_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        batch = as_tuple(self.batch_axis)
        return tuple(size for axis, size in enumerate(shape) if axis not in batch)

    def one(self) -> "Conv":
        """Returns the map of one slice of the stack."""
        spec = without_axes(self.spec, as_tuple(self.batch_axis))
        return dataclasses.replace(self, batch_axis=(), spec=spec)

    def shards(self) -> Shards:
        """Returns how `spec` splits the channels; `self` is of one kernel."""
        n_spatial = len(self.input_shape)
        channels = [names_on_axis(self.spec, n_spatial + axis) for axis in (0, 1)]
        x, y = channels[::-1] if self.transpose_kernel else channels
        pixels: tuple[Names, ...] = ((),) * n_spatial
        return Shards((*pixels, x), (*pixels, y))

    def sides(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the shapes of one input image and of its output."""
        n_in = shape[-1] if self.transpose_kernel else shape[-2]
        in_shape = (*self.input_shape, n_in * self.feature_group_count)
        image = jax.ShapeDtypeStruct(in_shape, jnp.float32)
        kernel = jax.ShapeDtypeStruct(shape, jnp.float32)
        return in_shape, jax.eval_shape(self._convolve, kernel, image).shape

    def apply(
        self, kernel: Inexact[Array, " ..."], x: Inexact[Array, " *in"]
    ) -> Inexact[Array, " *out"]:
        """Returns the convolution of one image, in x's dtype (float32 at least)."""
        convolve = self._placed(
            self._convolve, kernel, 0 if self.transpose_kernel else 1
        )
        return summed(convolve(kernel, x), self.shards().over_x)

    def adjoint(
        self, kernel: Inexact[Array, " ..."], y: Inexact[Array, " *out"]
    ) -> Inexact[Array, " *in"]:
        """Returns the adjoint of the convolution at y."""
        transpose = self._placed(
            self._transpose, kernel, 1 if self.transpose_kernel else 0
        )
        return summed(transpose(kernel, y), self.shards().over_y)

    def _transpose(self, kernel: Array, y: Array) -> Array:
        in_shape, _ = self.sides(kernel.shape)
        # It varies as y does. Else jax adds up here what the devices have, and again
        # above.
        image = varying_like(varying_like(jnp.zeros(in_shape, y.dtype), kernel), y)
        _, transpose = jax.vjp(lambda x: self._convolve(jnp.conj(kernel), x), image)
        return transpose(varying_like(y, kernel))[0]

    def _placed(
        self, product: Callable[[Array, Array], Array], kernel: Array, channel: int
    ) -> Callable[[Array, Array], Array]:
        """Returns the product as one that explicit meshes allow, its channels placed.

        The compiler partitions a convolution, jax does not: what it has no rule for it
        has to be told.
        """
        if not explicit_axes(kernel):
            return product
        n_spatial = len(self.input_shape)
        names = jax.typeof(kernel).sharding.spec[n_spatial + channel]
        spec = PartitionSpec(*(None,) * n_spatial, names)
        placed: Any = jax.sharding.auto_axes(
            product, axes=explicit_axes(kernel), out_sharding=spec
        )
        return placed

    def _convolve(self, kernel: Array, x: Array) -> Array:
        kernel, images = kernel.astype(x.dtype), x[None]
        convolve = self._transposed if self.transposed else self._direct
        return convolve(kernel, images)[0]

    def _direct(self, kernel: Array, images: Array) -> Array:
        n_spatial = len(self.input_shape)
        dilation = spread(self.rhs_dilation, n_spatial)
        reach = [
            (size - 1) * d
            for size, d in zip(kernel.shape[:n_spatial], dilation, strict=True)
        ]
        padding = spread_padding(self.padding, n_spatial)
        if padding in ("CIRCULAR", "REFLECT", "CAUSAL"):
            # As in Flax.
            causal = padding == "CAUSAL"
            ends = [(r, 0) if causal else (r // 2, (r + 1) // 2) for r in reach]
            mode = {"CIRCULAR": "wrap", "REFLECT": "reflect", "CAUSAL": "constant"}
            pads = [(0, 0), *ends, (0, 0)]
            images, padding = jnp.pad(images, pads, mode=mode[padding]), "VALID"
        return lax.conv_general_dilated(
            images,
            kernel,
            window_strides=spread(self.window_strides, n_spatial),
            padding=padding,
            lhs_dilation=spread(self.lhs_dilation, n_spatial),
            rhs_dilation=dilation,
            dimension_numbers=_channels_last(n_spatial),
            feature_group_count=self.feature_group_count,
            precision=lax.Precision.HIGHEST,
        )

    def _transposed(self, kernel: Array, images: Array) -> Array:
        n_spatial = len(self.input_shape)
        strides = spread(self.window_strides, n_spatial)
        padding = spread_padding(self.padding, n_spatial)
        result = lax.conv_transpose(
            images,
            kernel,
            strides,
            "VALID" if padding == "CIRCULAR" else padding,
            rhs_dilation=spread(self.rhs_dilation, n_spatial),
            dimension_numbers=_channels_last(n_spatial),
            transpose_kernel=self.transpose_kernel,
            precision=lax.Precision.HIGHEST,
        )
        if padding != "CIRCULAR":
            return result
        for axis, (size, stride) in enumerate(
            zip(self.input_shape, strides, strict=True), start=1
        ):
            result = _wrapped(result, axis, size * stride, self.transpose_kernel)
        return result


def _wrapped(result: Array, axis: int, period: int, odd_at_end: bool) -> Array:
    """Returns the sum of an axis' periods, as Flax's ConvTranspose aligns them."""
    missing = -(result.shape[axis] - period) % (2 * period)
    less, more = missing // 2, (missing + 1) // 2
    ends = [(0, 0)] * result.ndim
    ends[axis] = (less, more) if odd_at_end else (more, less)
    result = jnp.pad(result, ends)
    before, after = result.shape[:axis], result.shape[axis + 1 :]
    return result.reshape(*before, -1, period, *after).sum(axis)


def _channels_last(n_spatial: int) -> lax.ConvDimensionNumbers:
    image = (0, n_spatial + 1, *range(1, n_spatial + 1))
    kernel = (n_spatial + 1, n_spatial, *range(n_spatial))
    return lax.ConvDimensionNumbers(image, kernel, image)


def _check_split(conv: Conv, ndim: int) -> None:
    """Raises a ValueError for a spec that splits what is not a channel."""
    if conv.spec is not None and len(conv.spec) > ndim:
        raise ValueError(f"a spec of at most {ndim} axes")
    one = conv.one()
    window = (names_on_axis(one.spec, axis) for axis in range(len(one.input_shape)))
    if any(window):
        raise ValueError("a spec that splits channels, not the window")
    if conv.feature_group_count > 1 and one.shards().over_x + one.shards().over_y:
        raise ValueError("no groups in a convolution whose channels are split by hand")
