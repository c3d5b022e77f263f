"""What is said of a norm: a number, its kind, what it is of, and the method."""

import dataclasses
import functools
from typing import Any, Literal, TypeAlias

import jax

from specjax._conv import Conv
from specjax._linear_map import LinearMap

Kind: TypeAlias = Literal["lower", "exact", "upper"]
Of: TypeAlias = Literal["matrix", "operator"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["value"],
    meta_fields=["kind", "of", "method"],
)
@dataclasses.dataclass(frozen=True)
class Norm:
    """A statement about the largest singular value of a kernel under a linear map.

    A pytree with one leaf, so it goes through jit, vmap and grad.

    Attributes:
        value: in the kernel's units; one for each slice of a stack.
        kind: "lower" (at most the norm), "exact", or "upper" (at least the norm).
        of: "matrix", the kernel reshaped, or "operator", what it does to images.
        method: how it was found.
    """

    value: Any
    kind: Kind
    of: Of
    method: str

    def __str__(self) -> str:
        """Returns the number with its label, ``"1.234 (upper, matrix, ...)"``."""
        return f"{self.value} ({self.kind}, {self.of}, {self.method})"


def of(linear_map: LinearMap) -> Of:
    """Returns what a norm under this map is a norm of."""
    return "operator" if isinstance(linear_map, Conv) else "matrix"
