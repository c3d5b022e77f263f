"""What a kernel does to an input: `Matrix`, its two directions, and its batch axes.

A linear map is written for one kernel. A stack of kernels (a `batch_axis`) is a
`jax.vmap` over that kernel, made in one place (`_batch`).
"""

import dataclasses
import functools
import operator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Inexact

from specjax import errors
from specjax.linear_maps._check_spec import check_spec_kind
from specjax.linear_maps._sharding import Shards, explicit_axes, names_on_axis, summed

Axes: TypeAlias = int | tuple[int, ...]


@runtime_checkable
class LinearMap(Protocol):
    """What the power iteration needs to know about a kernel: ``y = x W`` and back.

    Maps are hashable, since they are static under jit: a frozen dataclass, say. On an
    explicit mesh the products have to be legal for a sharded kernel, as sums of
    elementwise products are. A map for kernels that are split by hand has two members
    more, `spec` and `shards`, and sums over the devices in its products, as `Matrix`.
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
        spec: only inside `jax.shard_map`: how the kernel that this is a shard of is
            split over the mesh, the very spec of its in_specs. P() is one that is whole
            and the same on each device. Sums then run over the devices too, and u, u2
            and v are shards as the kernel is.

    Example:
        >>> Matrix()  # Dense, and Conv as Miyato's matrix
        Matrix(in_axis=None, out_axis=-1, batch_axis=(), spec=None)
        >>> Matrix(in_axis=0, out_axis=(1, 2))  # a query kernel (in, heads, head_dim)
        Matrix(in_axis=0, out_axis=(1, 2), batch_axis=(), spec=None)
    """

    in_axis: Axes | None = None
    out_axis: Axes = -1
    batch_axis: Axes = ()
    spec: PartitionSpec | None = None

    def __post_init__(self) -> None:
        """Brings every side to an int or a tuple of ints."""
        for name in ("in_axis", "out_axis", "batch_axis"):
            axes = getattr(self, name)
            if axes is not None or name != "in_axis":
                object.__setattr__(self, name, _as_axes(name, axes))
        check_spec_kind("Matrix", self.spec)

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
        elif self.spec is not None and len(self.spec) > ndim:
            need = f"a spec of at most {ndim} axes"
        else:
            sides = (in_axis, out_axis, batch_axis)
            sides = (tuple(sorted(a % ndim for a in side)) for side in sides)
            return Matrix(*sides, spec=self.spec)
        raise ValueError(self._message(shape, where, need))

    def _message(self, shape: tuple[int, ...], where: str, need: str) -> str:
        return errors.message(
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

        spec = without_axes(self.spec, batch)
        return Matrix(shift(self.in_axis), shift(self.out_axis), spec=spec)

    def shards(self) -> Shards:
        """Returns how `spec` splits the two sides; `self` must be resolved."""
        in_axis, out_axis = as_tuple(self.in_axis), as_tuple(self.out_axis)
        return Shards(
            tuple(names_on_axis(self.spec, axis) for axis in in_axis),
            tuple(names_on_axis(self.spec, axis) for axis in out_axis),
        )

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
        sides = as_tuple(whole.in_axis), as_tuple(whole.out_axis)
        return summed(_contract(kernel, x, *sides), whole.shards().over_x)

    def adjoint(
        self, kernel: Inexact[Array, " ..."], y: Inexact[Array, " *out"]
    ) -> Inexact[Array, " *in"]:
        """Returns ``y W^H``, summed in y's dtype (float32 at least)."""
        whole = self.resolve(kernel.shape)
        sides = as_tuple(whole.out_axis), as_tuple(whole.in_axis)
        return summed(_contract(jnp.conj(kernel), y, *sides), whole.shards().over_y)

    def outer(
        self, x: Inexact[Array, " *in"], y: Inexact[Array, " *out"]
    ) -> Inexact[Array, " ..."]:
        """Returns the kernel ``x y^H``, of rank one; `self` must be resolved."""
        in_axis, out_axis = as_tuple(self.in_axis), as_tuple(self.out_axis)
        return jnp.expand_dims(x, out_axis) * jnp.expand_dims(jnp.conj(y), in_axis)


# Jitted, so that the products with two vectors are traced once.
@functools.partial(jax.jit, static_argnames=("over", "kept"))
def _contract(
    kernel: Array, vector: Array, over: tuple[int, ...], kept: tuple[int, ...]
) -> Array:
    # A cast would be a copy of the kernel before a dot, and a dot raises on an explicit
    # mesh when the axis that it sums over is sharded.
    if kernel.dtype != vector.dtype or explicit_axes(kernel):
        return _sum(kernel, vector, over, kept)
    dot, total = (
        functools.partial(form, over=over, kept=kept) for form in (_dot, _sum)
    )
    return lax.platform_dependent(kernel, vector, cpu=dot, default=total)


def _sum(
    kernel: Array, vector: Array, over: tuple[int, ...], kept: tuple[int, ...]
) -> Array:
    # Multiply and reduce: it is legal under any sharding, it never reshapes, and the
    # cast of a half-precision kernel fuses into the read of it.
    spread = jnp.expand_dims(vector, kept)
    return jnp.sum(kernel.astype(vector.dtype) * spread, axis=over)


def _dot(
    kernel: Array, vector: Array, over: tuple[int, ...], kept: tuple[int, ...]
) -> Array:
    # The larger operand where the CPU's library wants it: a kernel that is summed over
    # its leading axes on the right, else on the left.
    highest, own = lax.Precision.HIGHEST, tuple(range(len(over)))
    if kept[-1] == kernel.ndim - 1:
        return lax.dot_general(vector, kernel, ((own, over), ((), ())), highest)
    return lax.dot_general(kernel, vector, ((over, own), ((), ())), highest)


def without_axes(
    spec: PartitionSpec | None, gone: tuple[int, ...]
) -> PartitionSpec | None:
    """Returns the spec of an array without some of its axes."""
    if spec is None:
        return None
    kept = (entry for axis, entry in enumerate(spec) if axis not in gone)
    return PartitionSpec(*kept)


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
        message = errors.message(
            f"Matrix({name}=...)",
            got=repr(axes),
            need="an int or a tuple of ints",
            fix=f"{name}=-1 or {name}=(0, 1)",
        )
        raise TypeError(message) from None
