"""What is measured: one library's normalization of one kernel, as start and step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Kernel = np.ndarray


class Passes(NamedTuple):
    """How often a program reads the whole kernel; the division itself is left out.

    Attributes:
        start: to make the state, once.
        update: for one update with its power steps, sigma included.
        copies: that an update writes of the kernel, besides the normalized one.
    """

    start: int
    update: int
    copies: int = 0


class Method(NamedTuple):
    """A library's own public layer around one kernel, which it is asked to show.

    Attributes:
        start: the state before the first step, from a kernel and a seed for u.
        step: ``(state, kernel) -> (normalized kernel, next state)``, in training.
        layout: the kernel (last axis out, as in Flax) as this library stores it.
        passes: counted for a kernel's shape, in what really runs.
    """

    start: Callable[[Kernel, int], Any]
    step: Callable[[Any, Kernel], tuple[Any, Any]]
    layout: Callable[[Kernel], Kernel]
    passes: Callable[[Kernel], Passes]


def as_it_is(kernel: Kernel) -> Kernel:
    """Returns the kernel: last axis out, the rest in."""
    return kernel


def out_first(kernel: Kernel) -> Kernel:
    """Returns the kernel's matrix as torch and equinox store it: (out, in)."""
    return np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]).T)


def sigma_used(kernel: Kernel, normalized: Any) -> float:
    """Returns what the kernel was divided by: the ratio at its largest entry.

    No library is asked for its sigma; what its layer multiplies by is what counts. The
    ratio is right to the rounding of float32, 1e-7.
    """
    at = np.unravel_index(np.argmax(np.abs(kernel)), kernel.shape)
    return float(np.float64(kernel[at]) / np.float64(np.asarray(normalized)[at]))
