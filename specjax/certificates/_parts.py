"""The parts of a network that have no kernel: scaling, shapes, branches, repetition.

Each says how far it can stretch a distance, and what it makes of a shape, that of one
example: (8, 8, 3) for an image.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from jax.typing import ArrayLike

from specjax import errors
from specjax.certificates._certificate import Factor
from specjax.certificates._pools import AvgPool, MaxPool, Shape, SumPool


@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
    """Multiplies by a number, or every channel (or entry) by its own.

    Args:
        by: the number, or an array that broadcasts to the input's shape.
    """

    by: ArrayLike

    def factor(self) -> Factor:
        """Returns the largest absolute value of the numbers."""
        numbers = np.abs(np.asarray(self.by).astype(np.float64))
        shape = "" if numbers.ndim == 0 else f" of shape {numbers.shape}"
        largest = float(np.max(numbers, initial=0.0))
        return Factor(f"Scale{shape}", largest, "exact", "largest absolute value")

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the same shape; numbers that would enlarge it are refused."""
        try:
            fits = np.broadcast_shapes(shape, np.shape(self.by)) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"an input that numbers {np.shape(self.by)} broadcast to")
        return shape


@dataclasses.dataclass(frozen=True)
class Reshape:
    """Puts the same numbers into another shape, that of one example; -1 flattens."""

    shape: int | tuple[int, ...] = -1

    def factor(self) -> Factor:
        """Returns 1: no number changes."""
        return Factor(f"Reshape({self.shape})", 1.0, "exact", "the same numbers")

    def output_shape(self, shape: Shape) -> Shape:
        """Returns the new shape."""
        try:
            return np.broadcast_to(0.0, shape).reshape(self.shape).shape
        except ValueError:
            raise ValueError(f"an input that reshapes to {self.shape}") from None


@dataclasses.dataclass(frozen=True)
class Claim:
    """A function of one's own, with the constant that one has proved for it.

    Args:
        name: what the listing calls it.
        constant: its Lipschitz constant in the 2-norm.
        why: the proof, in a phrase.
    """

    name: str
    constant: float
    why: str = "given"

    def __post_init__(self) -> None:
        """Refuses what is no constant."""
        if not self.constant >= 0:
            message = errors.message(
                f"Claim({self.name!r})",
                got=f"constant={self.constant}",
                need="a number of 0 or more, or inf",
                fix="constant=1.0",
            )
            raise ValueError(message)

    def factor(self) -> Factor:
        """Returns the claim as it is."""
        return Factor(self.name, float(self.constant), "upper", f"claimed: {self.why}")

    def output_shape(self, shape: Shape) -> None:
        """Returns None: not known."""


Part: TypeAlias = AvgPool | SumPool | MaxPool | Scale | Reshape | Claim


@dataclasses.dataclass(frozen=True)
class Residual:
    """The sum of a branch and a shortcut, which is the input itself if not given."""

    branch: Sequence[Any]
    shortcut: Sequence[Any] = ()


@dataclasses.dataclass(frozen=True)
class Repeat:
    """Parts that are applied again and again, with the kernels of a stack in turn.

    As `flax.linen.scan` over layers: every kernel below is a stack along one axis.
    """

    parts: Sequence[Any]
