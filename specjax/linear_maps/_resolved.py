"""A linear map made for a shape: the map of one kernel, and how kernels are stacked.

`LinearMap` is what a user says (`Matrix`, `Conv`, a map of your own). `resolve` makes
it for the shape of an array, once; everything below asks the result, and nothing asks
which map it is. A question that a map of your own does not answer has a default here.
"""

import dataclasses
import functools
import math
import warnings
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Inexact, Real

from specjax import errors
from specjax.linear_maps._circular import Axis
from specjax.linear_maps._sharding import (
    Names,
    Shards,
    names_on_axis,
    total,
    varying_like,
)

_WHOLE = Shards()

Shape: TypeAlias = tuple[int, ...]
Axes: TypeAlias = int | tuple[int, ...]


@runtime_checkable
class LinearMap(Protocol):
    """What a kernel does to an input, ``y = x W``, said without the kernel's shape.

    Maps are hashable, since they are static under jit: a frozen dataclass, say. For a
    map of your own return a subclass of `ResolvedMap` from `resolve`.
    """

    def resolve(self, shape: Shape, where: str = "kernel") -> Any:
        """Returns the map made for that shape, or raises a ValueError.

        Args:
            shape: of the array, batch axes included.
            where: what the message of an error begins with: the kernel's path.

        Returns:
            A `ResolvedMap`, or a `StackedMap` if the array is a stack of kernels.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedMap:
    """The linear map of one kernel of a known shape, and all that is asked of it.

    A map of your own says its shapes and `apply`; `adjoint` follows by transposition.
    With these it has power steps, bounds, certificates, reports and the constraints
    that need no axes. Each further method makes one of them cheaper or possible.

    On an explicit mesh the products have to be legal for a sharded kernel, as sums of
    elementwise products are.

    Attributes:
        shape: the kernel's.
        in_shape: of x.
        out_shape: of y; u has it.
        split: over which mesh axes the two sides are split by hand, inside
            `jax.shard_map`; the products then sum over these devices.
        name: what the kernel is read as, in a few words; by default its map's type.
        of: what a norm is a norm of: the kernel reshaped, or what it does to inputs.
        is_copied: whether each entry of `dense` is one of the kernel or zero.
        matrix_axes: input and output axes, if the products are plain sums over them.
        unit_axes: the kernel's axes along which its output units lie, if it has some.
        circular: a circular convolution of at least this norm, if there is one; its
            kernel is `taps`.

    Example:
        >>> import dataclasses
        >>> import jax.numpy as jnp
        >>> class ResolvedTransposed(ResolvedMap):
        ...     def apply(self, kernel, x):
        ...         return kernel @ x
        >>> @dataclasses.dataclass(frozen=True)
        ... class Transposed:
        ...     def resolve(self, shape, where="kernel"):
        ...         sides = {"in_shape": shape[1:], "out_shape": shape[:1]}
        ...         return ResolvedTransposed(shape=shape, **sides)
        >>> resolve(Transposed(), (3, 2)).one.adjoint(jnp.ones((3, 2)), jnp.ones(3))
        Array([3., 3.], dtype=float32)
    """

    shape: Shape
    in_shape: Shape
    out_shape: Shape
    split: Shards = _WHOLE
    name: str = ""
    of: Literal["matrix", "operator"] = "operator"
    is_copied: bool = False
    matrix_axes: tuple[Shape, Shape] | None = None
    unit_axes: Shape | None = None
    circular: tuple[Axis, ...] | None = None

    def apply(
        self, kernel: Inexact[Array, " ..."], x: Inexact[Array, " *in"]
    ) -> Inexact[Array, " *out"]:
        """Returns ``x W``, in x's dtype: from the input side to the output side."""
        raise NotImplementedError(f"{type(self).__name__}.apply has to return x W")

    def adjoint(
        self, kernel: Inexact[Array, " ..."], y: Inexact[Array, " *out"]
    ) -> Inexact[Array, " *in"]:
        """Returns ``y W^H``, in y's dtype: from the output side to the input side."""
        conjugate = jnp.conj(kernel)
        # Inside `shard_map` a zero has to vary as y does.
        zero = varying_like(varying_like(jnp.zeros(self.in_shape, y.dtype), kernel), y)
        _, transpose = jax.vjp(lambda x: self.apply(conjugate, x), zero)
        return transpose(varying_like(y, kernel))[0]

    def bilinear_form(
        self,
        v: Inexact[Array, " *in"],
        kernel: Inexact[Array, " ..."],
        u: Inexact[Array, " *out"],
    ) -> Real[Array, ""]:
        """Returns the real part of ``v W u^H``."""
        product = jnp.conj(v) * self.adjoint(kernel, u)
        return total(product.real, self.split.over_x)

    def dense(self, kernel: Inexact[Array, " ..."]) -> Inexact[Array, "n_in n_out"]:
        """Returns the matrix, inputs by outputs, in the kernel's dtype."""
        size = math.prod(self.in_shape)
        inputs = jnp.eye(size, dtype=kernel.dtype).reshape(size, *self.in_shape)
        rows = jax.vmap(lambda x: self.apply(kernel, x))(inputs)
        return rows.reshape(size, math.prod(self.out_shape))

    def taps(
        self, kernel: Inexact[Array, " ..."]
    ) -> Inexact[Array, "groups taps n_in n_out"]:
        """Returns the kernel of the circular convolution."""
        raise NotImplementedError(f"{type(self).__name__}.taps has to return its taps")

    def squares(self, kernel: Inexact[Array, " ..."]) -> Real[Array, " ..."] | None:
        """Returns numbers whose sum is the squared Frobenius norm, in one read of it.

        None: it is known by way of `dense` only.
        """
        del kernel
        return None

    def pieces(self, n: int) -> tuple[np.ndarray, int, int]:
        """Returns how x is divided into n pieces at most, so that sums are short.

        An entry of y is a sum of products of an entry of x and one of the kernel.

        Returns:
            The piece of each entry of x (anything that broadcasts to x), how many there
            are, and how many products of one piece an entry of y has at most.
        """
        size = math.prod(self.in_shape)
        length = -(-size // max(1, min(n, size)))
        places = np.arange(size).reshape(self.in_shape) // length
        return places, -(-size // length), length


@dataclasses.dataclass(frozen=True)
class StackedMap:
    """The linear map of every kernel in an array, of which there may be but one.

    Attributes:
        one: the map of one kernel.
        shape: of the array.
        batch_axis: the axes of the array along which kernels are stacked, ascending.
        spec: how the array that this is a shard of is split by hand.
        said: the map as it was given, for messages.
    """

    one: ResolvedMap
    shape: Shape
    batch_axis: Shape = ()
    spec: PartitionSpec | None = None
    said: Any = dataclasses.field(default=None, compare=False)

    def resolve(self, shape: Shape, where: str = "kernel") -> "StackedMap":
        """Returns the map itself, made for this shape.

        Raises:
            ValueError: for another shape.
        """
        if tuple(shape) == self.shape:
            return self
        message = errors.message(
            where,
            got=f"a kernel of shape {tuple(shape)} with a map for {self.shape}",
            need="the kernel that the map was made for",
            fix="the linear map that was resolved",
        )
        raise ValueError(message)

    def __str__(self) -> str:
        """Returns the map as it was given."""
        return str(self.said)

    @functools.cached_property
    def kernel_axes(self) -> Shape:
        """The axes of the array that are those of one kernel."""
        axes = range(len(self.shape))
        return tuple(axis for axis in axes if axis not in self.batch_axis)

    @functools.cached_property
    def batch_shape(self) -> Shape:
        """How many kernels there are along each batch axis."""
        return tuple(self.shape[axis] for axis in self.batch_axis)

    @functools.cached_property
    def batch_split(self) -> tuple[Names, ...]:
        """Over which mesh axes each batch axis is split by hand."""
        return tuple(names_on_axis(self.spec, axis) for axis in self.batch_axis)

    @functools.cached_property
    def out_shape(self) -> Shape:
        """Of u: the batch axes first."""
        return self.batch_shape + self.one.out_shape

    @functools.cached_property
    def in_shape(self) -> Shape:
        """Of v: the batch axes first."""
        return self.batch_shape + self.one.in_shape

    @functools.cached_property
    def out_split(self) -> tuple[Names, ...]:
        """Over which mesh axes each axis of u is split by hand."""
        whole = ((),) * len(self.one.out_shape)
        return self.batch_split + (self.one.split.y or whole)

    def in_array(self, axes: Shape) -> Shape:
        """Returns where axes of one kernel are in the array."""
        return tuple(self.kernel_axes[axis] for axis in axes)


def resolve(linear_map: Any, shape: Shape, where: str = "kernel") -> StackedMap:
    """Returns a map made for the shape of an array; one that is, as it is.

    Raises:
        ValueError: if the map does not fit the shape.
    """
    resolved = linear_map.resolve(tuple(shape), where)
    if isinstance(resolved, StackedMap):
        return resolved
    if not isinstance(resolved, ResolvedMap):
        resolved = _of_old_protocol(resolved, shape)
    if not resolved.name:
        resolved = dataclasses.replace(resolved, name=type(linear_map).__name__)
    return StackedMap(resolved, tuple(shape), said=linear_map)


class Unresolved:
    """What `Matrix` and `Conv` can do for one kernel without being resolved before."""

    def sides(self, shape: Shape) -> tuple[Shape, Shape]:
        """Returns the shapes of x and of y for one kernel of that shape."""
        one = resolve(self, shape).one
        return one.in_shape, one.out_shape

    def apply(
        self, kernel: Inexact[Array, " ..."], x: Inexact[Array, " *in"]
    ) -> Inexact[Array, " *out"]:
        """Returns ``x W`` of one kernel, summed in x's dtype (float32 at least)."""
        return resolve(self, kernel.shape).one.apply(kernel, x)

    def adjoint(
        self, kernel: Inexact[Array, " ..."], y: Inexact[Array, " *out"]
    ) -> Inexact[Array, " *in"]:
        """Returns ``y W^H`` of one kernel, summed in y's dtype (float32 at least)."""
        return resolve(self, kernel.shape).one.adjoint(kernel, y)


def with_spec(linear_map: Any, spec: PartitionSpec, where: str) -> Any:
    """Returns a map for shards of a kernel that is split as `spec` says.

    Raises:
        TypeError: for a map of your own that takes no spec.
    """
    if hasattr(linear_map, "spec"):
        return dataclasses.replace(linear_map, spec=spec)
    if any(entry is not None for entry in spec):
        message = errors.message(
            where,
            got=f"{spec} for {linear_map!r}",
            need="a Matrix or a Conv, which know how to add up what the devices have",
            fix="a whole kernel on each device, or specjax.Matrix()",
        )
        raise TypeError(message)
    return linear_map


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfOldProtocol(ResolvedMap):
    own: Any

    def apply(self, kernel: Array, x: Array) -> Array:
        return self.own.apply(kernel, x)

    def adjoint(self, kernel: Array, y: Array) -> Array:
        return self.own.adjoint(kernel, y)


def _of_old_protocol(own: Any, shape: Shape) -> ResolvedMap:
    warnings.warn(
        f"{type(own).__name__}.resolve returns a map with sides, apply and adjoint, "
        "which the next release will not support. Return a subclass of "
        "specjax.linear_maps.ResolvedMap.",
        DeprecationWarning,
        stacklevel=2,
    )
    in_shape, out_shape = own.one().sides(tuple(shape))
    return _OfOldProtocol(
        shape=tuple(shape),
        in_shape=in_shape,
        out_shape=out_shape,
        own=own.one(),
    )


def as_tuple(axes: Axes | None) -> Shape:
    """Returns the axes of a side as a tuple; None is no axis."""
    if axes is None:
        return ()
    return axes if isinstance(axes, tuple) else (axes,)
