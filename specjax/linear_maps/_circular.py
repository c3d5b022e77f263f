"""Which circular convolution contains a given one, so that its norm is a bound.

Zero padding is a circular convolution on a larger image, with zeros put in and outputs
left out; neither can raise a norm. A stride keeps every s-th output, a dilation of the
input puts zeros in: both stay in the frequency domain if the size is a multiple.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from specjax import errors


class Axis(NamedTuple):
    """One spatial axis of the circular convolution that contains another.

    Attributes:
        size: number of points, a multiple of stride and of dilation.
        stride: every so many outputs are kept; 1 if it is dropped for the bound.
        dilation: so many points for each input; not both above 1.
        reach: points that the window covers.
        step: points from one tap of the window to the next.
        repeats: how often an input may occur in the padded image.
        exact: whether the norms are equal, not only a bound.
        padding: what surrounds the input: "zeros", "circular" or "reflected".
    """

    size: int
    stride: int
    dilation: int
    reach: int
    step: int
    repeats: int
    exact: bool
    padding: str = "zeros"

    @property
    def n_classes(self) -> int:
        """Frequencies that do not mix with each other."""
        return self.size // (self.stride * self.dilation)

    @property
    def n_phases(self) -> int:
        """Taps of a polyphase component of the window: its degree plus one."""
        return -(-self.reach // (self.stride * self.dilation))


def containing(conv: Any, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Returns the axes of a circular convolution of norm at least that of `conv`.

    Args:
        conv: its `Geometry`.
        shape: the kernel's.
    """
    words = zip(
        conv.input_shape,
        shape[: len(conv.input_shape)],
        conv.window_strides,
        conv.lhs_dilation,
        conv.rhs_dilation,
        strict=True,
    )
    axes = []
    for i, (n, k, stride, dilation, step) in enumerate(words):
        if conv.transposed:
            stride, dilation = 1, stride
        whole = _Words(n, (k - 1) * step + 1, stride, dilation, step)
        axes.append(_axis(conv, whole, i))
    return tuple(axes)


class _Words(NamedTuple):
    n: int
    reach: int
    stride: int
    dilation: int
    step: int


def _axis(conv: Any, words: _Words, i: int) -> Axis:
    n, reach, stride, dilation, step = words
    if conv.padding == "CIRCULAR":
        return _circular(words)
    repeats, low, high = 1, 0, 0
    if conv.padding == "REFLECT":
        ends = (reach - 1) // 2, reach // 2
        indices = np.pad(np.arange(n), ends, mode="reflect")
        n, repeats = len(indices), int(np.bincount(indices).max())
    elif conv.transposed or conv.padding == "CAUSAL":
        low = high = reach - 1
    else:
        low, high = _pads(conv.padding, words, i)
    spread = (n - 1) * dilation + 1
    stride = stride if dilation == 1 else 1
    if reach <= stride * dilation:
        # No two windows overlap: each frequency has the same norm.
        if conv.transposed:
            # Pairs may crop the outputs that an input has.
            whole = conv.padding in ("SAME", "VALID")
        else:
            whole = dilation == 1 and _sees_a_whole_window(words, low, high)
        size = stride * dilation
        exact = repeats == 1 and whole
    else:
        size = spread + min(max(low, 0) + max(high, 0), reach - 1)
        size = -(-size // (stride * dilation)) * stride * dilation
        exact = False
    kind = "reflected" if conv.padding == "REFLECT" else "zeros"
    return Axis(size, stride, dilation, reach, step, repeats, exact, kind)


def _circular(words: _Words) -> Axis:
    n, reach, stride, dilation, step = words
    size = n * dilation
    exact = size % stride == 0
    return Axis(
        size, stride if exact else 1, dilation, reach, step, 1, exact, "circular"
    )


def _pads(padding: Any, words: _Words, i: int) -> tuple[int, int]:
    if not isinstance(padding, str):
        return padding[i]
    spread = (words.n - 1) * words.dilation + 1
    pads = lax.padtype_to_pads((spread,), (words.reach,), (words.stride,), padding)
    low, high = pads[0]
    return int(low), int(high)


def _sees_a_whole_window(words: _Words, low: int, high: int) -> bool:
    n_outputs = (words.n + low + high - words.reach) // words.stride + 1
    starts = (j * words.stride - low for j in range(n_outputs))
    return any(0 <= start <= words.n - words.reach for start in starts)


def repeats(axes: tuple[Axis, ...]) -> float:
    """Returns how much the inputs that occur more than once can add to the norm."""
    return math.prod(axis.repeats for axis in axes) ** 0.5


def every_size(axes: tuple[Axis, ...]) -> tuple[tuple[Axis, ...], float]:
    """Returns a grid of frequencies, and the factor from its maximum to the supremum.

    The factor is at most 1.0097 for each axis. Sixteen points for each degree of the
    window: `u^H K(w)^H K(w) u` is a trigonometric polynomial of that degree in w.

    Raises:
        ValueError: for reflected padding, in which an input occurs more or less often,
            depending on the size.

    Source: Ehlich and Zeller, "Schwankung von Polynomen zwischen Gitterpunkten" (1964),
    for the cosine; Pfister and Bresler, "Bounding Multivariate Trigonometric
    Polynomials" (2018), for the root.
    """
    if any(axis.padding == "reflected" for axis in axes):
        message = errors.message(
            "every_size=True",
            got="reflected padding",
            need="zero or circular padding, whose bound does not depend on the size",
            fix="every_size=False for the size of input_shape",
        )
        raise ValueError(message)
    grids, factor = [], 1.0
    for axis in axes:
        degree = axis.n_phases - 1
        n_classes = max(1, 16 * degree)
        period = axis.stride * axis.dilation
        grids.append(axis._replace(size=n_classes * period, exact=False))
        if degree:
            by_cosine = math.cos(math.pi * degree / n_classes) ** -0.5
            factor *= min(by_cosine, (1 - degree / n_classes) ** -0.5)
    return tuple(grids), factor
