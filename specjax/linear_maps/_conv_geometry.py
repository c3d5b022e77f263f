"""The words of a convolution: what may be said, and one number for each axis.

The words are those of `jax.lax.conv_general_dilated`.
"""

import operator
from typing import Any, TypeAlias

from specjax import errors
from specjax.linear_maps._matrix import as_tuple

Padding: TypeAlias = str | int | tuple[int | tuple[int, int], ...]
_NAMED = ("SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL")


def check_words(conv: Any) -> None:
    """Raises a ValueError for words that no convolution has."""
    numbers = (
        *conv.input_shape,
        *as_tuple(conv.window_strides),
        *as_tuple(conv.lhs_dilation),
        *as_tuple(conv.rhs_dilation),
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
    if conv.feature_group_count > 1 or max(as_tuple(conv.lhs_dilation)) > 1:
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
