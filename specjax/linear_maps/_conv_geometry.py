"""The geometry of a convolution: what may be said, and one number for each axis.

The words are those of `jax.lax.conv_general_dilated`.
"""

import dataclasses
import operator
from typing import Any, TypeAlias

from specjax import errors

Padding: TypeAlias = str | int | tuple[int | tuple[int, int], ...]
_NAMED = ("SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL")


@dataclasses.dataclass(frozen=True)
class Geometry:
    """What `Conv` says, spelled out for each spatial axis."""

    input_shape: tuple[int, ...]
    window_strides: tuple[int, ...]
    padding: Any
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    feature_group_count: int = 1
    transposed: bool = False
    transpose_kernel: bool = False

    @property
    def n_spatial(self) -> int:
        """The number of spatial axes."""
        return len(self.input_shape)

    @property
    def pads_zeros(self) -> bool:
        """Whether what surrounds the image is zero."""
        return self.padding not in ("CIRCULAR", "REFLECT")

    @property
    def in_channel_axis(self) -> int:
        """The axis of the input channels in one kernel."""
        return self.n_spatial + self.transpose_kernel

    @property
    def out_channel_axis(self) -> int:
        """The axis of the output channels in one kernel."""
        return self.n_spatial + 1 - self.transpose_kernel


def geometry_of(conv: Any) -> Geometry:
    """Returns what a `Conv` says for each spatial axis.

    Raises:
        ValueError: for words that do not go together, or do not fit the axes.
    """
    n_spatial = len(conv.input_shape)
    geometry = Geometry(
        input_shape=conv.input_shape,
        window_strides=spread(conv.window_strides, n_spatial),
        padding=spread_padding(conv.padding, n_spatial),
        lhs_dilation=spread(conv.lhs_dilation, n_spatial),
        rhs_dilation=spread(conv.rhs_dilation, n_spatial),
        feature_group_count=conv.feature_group_count,
        transposed=conv.transposed,
        transpose_kernel=conv.transpose_kernel,
    )
    check_words(geometry)
    return geometry


def check_words(conv: Geometry) -> None:
    """Raises a ValueError for words that no convolution has."""
    numbers = (
        *conv.input_shape,
        *conv.window_strides,
        *conv.lhs_dilation,
        *conv.rhs_dilation,
        conv.feature_group_count,
    )
    if min(numbers) < 1:
        raise ValueError("sizes, strides, dilations and groups of 1 or more")
    if conv.transpose_kernel and not conv.transposed:
        raise ValueError("transposed=True with transpose_kernel=True")
    if conv.padding == "CAUSAL" and len(conv.input_shape) > 1:
        raise ValueError("one spatial axis for CAUSAL padding")
    if not conv.transposed:
        return
    if conv.feature_group_count > 1 or max(conv.lhs_dilation) > 1:
        raise ValueError("no groups and no lhs_dilation in a transposed convolution")
    if conv.padding in ("REFLECT", "CAUSAL"):
        raise ValueError("SAME, VALID, CIRCULAR or pairs for a transposed convolution")


def spread(value: int | tuple[int, ...], n_spatial: int) -> tuple[int, ...]:
    """Returns one number for each spatial axis."""
    values = value if isinstance(value, tuple) else (value,) * n_spatial
    if len(values) != n_spatial:
        raise ValueError(f"one number for each of {n_spatial} axes, not {values}")
    return values


def spread_padding(padding: Padding, n_spatial: int) -> Any:
    """Returns the padding's name, or (low, high) for each spatial axis."""
    if isinstance(padding, str):
        return padding
    values = padding if isinstance(padding, tuple) else (padding,) * n_spatial
    if len(values) != n_spatial:
        raise ValueError(f"padding for each of {n_spatial} axes, not {values}")
    return tuple(ends if isinstance(ends, tuple) else (ends, ends) for ends in values)


def padding_of(padding: Any) -> Padding:
    """Returns the padding as a name, an int, or a tuple of ints and pairs of them."""
    if isinstance(padding, str):
        if padding.upper() in _NAMED:
            return padding.upper()
        raise ValueError(_word("padding", padding, f"one of {', '.join(_NAMED)}"))
    if isinstance(padding, tuple | list):
        return tuple(ints("padding", ends) for ends in padding)
    return ints("padding", padding)


def ints(name: str, value: Any) -> Any:
    """Returns an int or a tuple of ints, whatever kinds of ints were given."""
    try:
        if isinstance(value, tuple | list):
            return tuple(operator.index(number) for number in value)
        return operator.index(value)
    except TypeError:
        need = "an int or a tuple of ints"
        raise TypeError(_word(name, value, need)) from None


def _word(name: str, value: Any, need: str) -> str:
    fix = "the words of jax.lax.conv_general_dilated"
    return errors.message(f"Conv({name}=...)", got=repr(value), need=need, fix=fix)


def one_line(error: Exception) -> str:
    """Returns the first line of what an error says."""
    return str(error).strip().splitlines()[0]
