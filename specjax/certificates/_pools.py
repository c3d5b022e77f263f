"""Pooling as a part of a network: how far it can stretch a distance.

The bounds hold for images of any size; a larger window or a smaller step makes them
larger, padding and the edges of an image only lower them.
"""

import dataclasses
import math
import operator
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

from jax import lax

from specjax import errors
from specjax.certificates._certificate import Factor
from specjax.certificates._upward import root

Shape: TypeAlias = tuple[int, ...]
_Padding: TypeAlias = str | Sequence[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class _Pool:
    """A window over the spatial axes of an image, with the words of `flax.linen`.

    Args:
        window: size of the window along each spatial axis; that of the whole image,
            with strides of the same size, for global pooling.
        strides: step of the window; None means 1 everywhere, as in Flax.
        padding: "SAME", "VALID", or (low, high) for each spatial axis.
    """

    window: Sequence[int]
    strides: int | Sequence[int] | None = None
    padding: _Padding = "VALID"

    def __post_init__(self) -> None:
        """Brings window and strides to one int for each spatial axis."""
        try:
            window = tuple(map(operator.index, self.window))
            strides = 1 if self.strides is None else self.strides
            if not isinstance(strides, Sequence):
                strides = (strides,) * len(window)
            strides = tuple(map(operator.index, strides))
        except TypeError:
            window, strides = (), (0,)
        if len(window) != len(strides) or min(window + strides, default=0) < 1:
            message = errors.message(
                type(self).__name__,
                got=f"window={self.window}, strides={self.strides}",
                need="an int of 1 or more for each spatial axis",
                fix=f"specjax.{type(self).__name__}((2, 2), strides=(2, 2))",
            )
            raise ValueError(message)
        object.__setattr__(self, "window", window)
        object.__setattr__(self, "strides", strides)

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the shape of the pooled image.

        Raises:
            ValueError: if it is not an image with these spatial axes, or too small.
        """
        *spatial, channels = shape
        if len(spatial) == len(self.window):
            pads = self.padding
            if isinstance(pads, str):
                pads = lax.padtype_to_pads(spatial, self.window, self._steps, pads)
            pooled = tuple(
                int(size + low + high - window) // step + 1
                for size, (low, high), window, step in zip(
                    spatial, pads, self.window, self._steps, strict=True
                )
            )
            if min(pooled) > 0:
                return (*pooled, channels)
        raise ValueError(f"an image with a window of {self.window}")

    @property
    def _steps(self) -> tuple[int, ...]:
        return self.strides  # type: ignore[return-value]  # so made by __post_init__

    def _covers(self) -> int:
        """Returns the largest number of windows that one pixel is in."""
        pairs = zip(self.window, self._steps, strict=True)
        return math.prod(-(-window // step) for window, step in pairs)

    def _overlaps(self) -> int:
        """Returns the pixels that a window shares with all windows, itself included.

        With B the 0/1 matrix of the pixels in each window, B B^T counts shared pixels;
        its norm is at most its largest row sum. In the middle of a large image it is.
        """
        counts = 1
        for window, step in zip(self.window, self._steps, strict=True):
            counts *= window + 2 * sum(range(window - step, 0, -step))
        return counts

    def _factor(self, square: Fraction | int, kind: str, method: str) -> Factor:
        words = f"{self.window}, strides={self.strides}, padding={self.padding!r}"
        name = f"{type(self).__name__}({words})"
        return Factor(name, root(Fraction(square)), kind, method)


@dataclasses.dataclass(frozen=True)
class AvgPool(_Pool):
    """The mean of each window, as `flax.linen.avg_pool` of the same words.

    Args:
        count_include_pad: padding counts in the mean; without it windows at the edge
            divide by less.
    """

    count_include_pad: bool = True

    def factor(self) -> Factor:
        """Returns the norm of the mean over windows on images of any size.

        Example:
            >>> AvgPool((2, 2), strides=(2, 2)).factor().constant
            0.5
        """
        if self.count_include_pad or self.padding == "VALID":
            square = Fraction(self._overlaps(), math.prod(self.window) ** 2)
            return self._factor(square, "upper", "row sums of B B^T, of any size")
        # Rows sum to 1, and a column to at most 1 for each window that the pixel is in.
        return self._factor(self._covers(), "upper", "row sums times column sums")


@dataclasses.dataclass(frozen=True)
class SumPool(_Pool):
    """The sum of each window: `AvgPool` times the number of pixels in it."""

    def factor(self) -> Factor:
        """Returns the norm of the sum over windows on images of any size.

        Example:
            >>> SumPool((4, 4), strides=(4, 4)).factor().constant  # of a 4x4 image
            4.0
        """
        return self._factor(self._overlaps(), "upper", "row sums of B B^T, of any size")


@dataclasses.dataclass(frozen=True)
class MaxPool(_Pool):
    """The maximum (or minimum) of each window, as `flax.linen.max_pool`."""

    def factor(self) -> Factor:
        """Returns the root of the number of windows that a pixel can be in.

        Two maxima differ by no more than the two windows somewhere do, so the squares
        of the differences sum to at most that of each pixel times its windows.

        Example:
            >>> MaxPool((3, 3), strides=(2, 2)).factor().constant
            2.0
        """
        return self._factor(self._covers(), "upper", "windows that a pixel is in")
