"""The convolution of one image, as Flax and `jax.lax` have it."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from specjax.linear_maps._conv_geometry import Geometry


def convolve(
    kernel: Inexact[Array, " ..."], image: Inexact[Array, " *in"], geometry: Geometry
) -> Inexact[Array, " *out"]:
    """Returns the convolution of one image, in the image's dtype."""
    kernel, images = kernel.astype(image.dtype), image[None]
    form = _transposed if geometry.transposed else _direct
    return form(kernel, images, geometry)[0]


def _direct(kernel: Array, images: Array, geometry: Geometry) -> Array:
    reach = [
        (size - 1) * dilation
        for size, dilation in zip(kernel.shape, geometry.rhs_dilation, strict=False)
    ]
    padding = geometry.padding
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
        window_strides=geometry.window_strides,
        padding=padding,
        lhs_dilation=geometry.lhs_dilation,
        rhs_dilation=geometry.rhs_dilation,
        dimension_numbers=_channels_last(geometry.n_spatial),
        feature_group_count=geometry.feature_group_count,
        precision=lax.Precision.HIGHEST,
    )


def _transposed(kernel: Array, images: Array, geometry: Geometry) -> Array:
    circular = geometry.padding == "CIRCULAR"
    result = lax.conv_transpose(
        images,
        kernel,
        geometry.window_strides,
        "VALID" if circular else geometry.padding,
        rhs_dilation=geometry.rhs_dilation,
        dimension_numbers=_channels_last(geometry.n_spatial),
        transpose_kernel=geometry.transpose_kernel,
        precision=lax.Precision.HIGHEST,
    )
    if not circular:
        return result
    sizes = zip(geometry.input_shape, geometry.window_strides, strict=True)
    for axis, (size, stride) in enumerate(sizes, start=1):
        result = _wrapped(result, axis, size * stride, geometry.transpose_kernel)
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
