"""What a kernel does to an input: `Matrix`, its two directions, and its batch axes.

A linear map is written for one kernel. A stack of kernels (a `batch_axis`) is a
`jax.vmap` over that kernel, made in one place: `over_batch`.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Inexact

from specjax import _errors

Axes: TypeAlias = int | tuple[int, ...]
_P = ParamSpec("_P")
_R = TypeVar("_R")


@runtime_checkable
class LinearMap(Protocol):
    """What the power iteration needs to know about a kernel: ``y = x W`` and back.

    Maps are hashable, since they are static under jit: a frozen dataclass, say.
    """

    @property
    def batch_axis(self) -> Any:
        """Axes of the kernel along which independent kernels are stacked."""
        ...

    def resolve(self, shape: tuple[int, ...], where: str = "kernel") -> "LinearMap":
        """Returns the map made for that shape, or raises a ValueError that names it."""
        ...

    def one(self) -> "LinearMap":
        """Returns the map of one kernel of the stack; `self` must be resolved."""
        ...

    def sides(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the shapes of x and of y for one kernel of that shape."""
        ...

    def apply(self, kernel: Array, x: Array) -> Array:
        """Returns ``x W``: from the input side to the output side."""
        ...

    def adjoint(self, kernel: Array, y: Array) -> Array:
        """Returns ``y W^H``: from the output side to the input side."""
        ...


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Reads a kernel as a matrix: ``y = x W``, x over `in_axis`, y over `out_axis`.

    Nothing is reshaped or transposed: the sums run over the kernel's own axes, so a
    sharded kernel stays where it is. Negative axes count from the end.

    Args:
        in_axis: axes of the input side; None means every axis that is not named.
        out_axis: axes of the output side. u has their shape, in the kernel's order.
        batch_axis: axes along which independent kernels are stacked; each slice has
            its own u and sigma, in leading axes, in the kernel's order.

    Example:
        >>> Matrix()  # Dense, and Conv as Miyato's matrix
        Matrix(in_axis=None, out_axis=-1, batch_axis=())
        >>> Matrix(in_axis=0, out_axis=(1, 2))  # a query kernel (in, heads, head_dim)
        Matrix(in_axis=0, out_axis=(1, 2), batch_axis=())
    """

    in_axis: Axes | None = None
    out_axis: Axes = -1
    batch_axis: Axes = ()

    def __post_init__(self) -> None:
        """Brings every side to an int or a tuple of ints."""
        for name in ("in_axis", "out_axis", "batch_axis"):
            axes = getattr(self, name)
            if axes is not None or name != "in_axis":
                object.__setattr__(self, name, _as_axes(name, axes))

    def resolve(self, shape: tuple[int, ...], where: str = "kernel") -> "Matrix":
        """Returns the map with each side as a sorted tuple of non-negative axes.

        Args:
            shape: the kernel's.
            where: what the message of an error begins with, the kernel's path.

        Raises:
            ValueError: if an axis is out of range, named twice or left out, or if a
                side has no axis.
        """
        ndim = len(shape)
        out_axis, batch_axis = as_tuple(self.out_axis), as_tuple(self.batch_axis)
        named = out_axis + batch_axis + as_tuple(self.in_axis)
        used = {axis % ndim for axis in named} if ndim else set()
        rest = tuple(axis for axis in range(ndim) if axis not in used)
        in_axis = rest if self.in_axis is None else as_tuple(self.in_axis)
        if any(not -ndim <= axis < ndim for axis in named):
            need = f"axes from {-ndim} to {ndim - 1}"
        elif len(used) < len(named):
            need = "each axis on one side only"
        elif self.in_axis is not None and rest:
            need = f"a side for axis {', '.join(map(str, rest))} too"
        elif not in_axis or not out_axis:
            need = "an axis on the input and on the output side"
        else:
            sides = (in_axis, out_axis, batch_axis)
            return Matrix(*(tuple(sorted(a % ndim for a in side)) for side in sides))
        raise ValueError(self._complaint(shape, where, need))

    def _complaint(self, shape: tuple[int, ...], where: str, need: str) -> str:
        return _errors.complaint(
            where,
            got=f"{self} for a kernel of shape {shape}",
            need=need,
            fix="naming in_axis, out_axis and batch_axis of that shape, or None if "
            "it is not a kernel",
        )

    def one(self) -> "Matrix":
        """Returns the map of one slice: the axes left when the batch axes are gone."""
        batch = as_tuple(self.batch_axis)

        def shift(axes: Axes | None) -> tuple[int, ...]:
            return tuple(a - sum(b < a for b in batch) for a in as_tuple(axes))

        return Matrix(shift(self.in_axis), shift(self.out_axis))

    def sides(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the shapes of the input and of the output side."""
        whole = self.resolve(shape)
        in_axis, out_axis = as_tuple(whole.in_axis), as_tuple(whole.out_axis)
        return tuple(shape[a] for a in in_axis), tuple(shape[a] for a in out_axis)

    def apply(
        self, kernel: Inexact[Array, " ..."], x: Inexact[Array, " *in"]
    ) -> Inexact[Array, " *out"]:
        """Returns ``x W``, summed in x's dtype (float32 at least)."""
        whole = self.resolve(kernel.shape)
        return _contract(kernel, x, as_tuple(whole.in_axis), as_tuple(whole.out_axis))

    def adjoint(
        self, kernel: Inexact[Array, " ..."], y: Inexact[Array, " *out"]
    ) -> Inexact[Array, " *in"]:
        """Returns ``y W^H``, summed in y's dtype (float32 at least)."""
        whole = self.resolve(kernel.shape)
        sides = as_tuple(whole.out_axis), as_tuple(whole.in_axis)
        return _contract(jnp.conj(kernel), y, *sides)


def _contract(
    kernel: Array, vector: Array, over: tuple[int, ...], kept: tuple[int, ...]
) -> Array:
    # Multiply and reduce, not a dot: it is legal under any sharding (a dot raises on an
    # explicit mesh when the contracted axis is sharded), it never reshapes, and the
    # cast of a half-precision kernel fuses into the read of it.
    spread = jnp.expand_dims(vector, kept)
    return jnp.sum(kernel.astype(vector.dtype) * spread, axis=over)


def read_anew(kernel: Array, vector: Array) -> Array:
    """Returns the kernel, so that a cast of it is not shared with another use.

    Each product with a half-precision kernel casts it. A compiler that sees one cast
    with several uses keeps its result: a float32 copy of the kernel. Behind a barrier
    each use has a cast of its own, which fuses into it.
    """
    if kernel.dtype == vector.dtype:
        return kernel
    return lax.optimization_barrier((kernel, vector))[0]


def placed_as_output(kernel: Array, linear_map: LinearMap, vector: Array) -> Array:
    """Returns the vector with the sharding of what the kernel's products return.

    On an explicit mesh a sharding is part of the type: what a loop carries, and the two
    sides of a `where`, must have the same. Elsewhere this is the vector itself.
    """
    if not _on_explicit_mesh(kernel):
        return vector
    product = jax.eval_shape(
        lambda: linear_map.apply(kernel, linear_map.adjoint(kernel, vector))
    )
    return jax.sharding.reshard(vector, product.sharding)


def check_vectors(kernel: Array, linear_map: LinearMap, **vectors: Array) -> None:
    """Raises a ValueError for a u, v or sigma without the shape of its side."""
    whole = linear_map.resolve(jnp.shape(kernel))
    batch = tuple(kernel.shape[axis] for axis in whole.batch_axis)
    others = (n for axis, n in enumerate(kernel.shape) if axis not in whole.batch_axis)
    in_shape, out_shape = whole.one().sides(tuple(others))
    shapes = {
        "u": batch + out_shape,
        "u2": batch + out_shape,
        "v": batch + in_shape,
        "sigma": batch,
    }
    for name, vector in vectors.items():
        if jnp.shape(vector) != shapes[name]:
            message = _errors.complaint(
                name,
                got=f"shape {jnp.shape(vector)}",
                need=f"shape {shapes[name]} for a kernel of shape {kernel.shape} under "
                f"{linear_map}",
                fix="the batch axes first, then the axes of the side as in the kernel",
            )
            raise ValueError(message)


def over_batch(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Lifts a function of one kernel to a stack of kernels.

    The function is called as ``function(kernel, *vectors, linear_map=...)``. Here
    `linear_map` may have batch axes; the vectors and the results then have those axes
    in front. Without batch axes this is the function itself.
    """

    @functools.wraps(function)
    def lifted(kernel, *vectors, linear_map, **options):
        whole = linear_map.resolve(jnp.shape(kernel))
        one = functools.partial(function, linear_map=whole.one(), **options)
        for gone, axis in reversed(list(enumerate(whole.batch_axis))):
            one = jax.vmap(one, in_axes=(axis - gone, *(0 for _ in vectors)))
        return one(kernel, *(_placed_as_stack(kernel, whole, v) for v in vectors))

    return lifted  # type: ignore[return-value]  # a wrapper with the same signature


def _placed_as_stack(kernel: Array, whole: LinearMap, vector: Array) -> Array:
    """Returns the vectors of a stack, its batch axes sharded as the kernel's are."""
    if not whole.batch_axis or not _on_explicit_mesh(kernel):
        return vector
    spec = jax.typeof(kernel).sharding.spec
    rest = jax.typeof(vector).sharding.spec[len(whole.batch_axis) :]
    spec = PartitionSpec(*(spec[axis] for axis in whole.batch_axis), *rest)
    return jax.sharding.reshard(vector, spec)


def _on_explicit_mesh(array: Array) -> bool:
    return AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types


def as_tuple(axes: Axes | None) -> tuple[int, ...]:
    """Returns the axes of a side as a tuple; None is no axis."""
    if axes is None:
        return ()
    return axes if isinstance(axes, tuple) else (axes,)


def _as_axes(name: str, axes: Any) -> Axes:
    try:
        if isinstance(axes, tuple | list):
            return tuple(operator.index(axis) for axis in axes)
        return operator.index(axes)
    except TypeError:
        message = _errors.complaint(
            f"Matrix({name}=...)",
            got=repr(axes),
            need="an int or a tuple of ints",
            fix=f"{name}=-1 or {name}=(0, 1)",
        )
        raise TypeError(message) from None
