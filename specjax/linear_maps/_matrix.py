"""`Matrix`: a kernel as the matrix between some of its axes and the others.

    y_o = sum_i x_i W_io

Nothing is reshaped or transposed: the sums run over the kernel's own axes, so a sharded
kernel stays where it is.
"""

import dataclasses
import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Inexact, Real

from specjax import errors
from specjax.linear_maps._check_spec import check_spec_kind
from specjax.linear_maps._resolved import (
    Axes,
    ResolvedMap,
    Shape,
    StackedMap,
    Unresolved,
    as_tuple,
)
from specjax.linear_maps._sharding import (
    Shards,
    explicit_axes,
    names_on_axis,
    summed,
    total,
    without_axes,
)


@dataclasses.dataclass(frozen=True)
class Matrix(Unresolved):
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

    def resolve(self, shape: Shape, where: str = "kernel") -> StackedMap:
        """Returns the map with each side as sorted non-negative axes.

        Args:
            shape: the kernel's, or a stack's.
            where: what the message of an error begins with, the kernel's path.

        Raises:
            ValueError: if an axis is out of range, named twice or left out, or if a
                side has no axis.
        """
        ndim = len(shape)
        out_axis, batch_axis = as_tuple(self.out_axis), as_tuple(self.batch_axis)
        named = out_axis + batch_axis + as_tuple(self.in_axis)
        used = {axis % ndim for axis in named} if ndim else set()
        others = tuple(axis for axis in range(ndim) if axis not in used)
        in_axis = others if self.in_axis is None else as_tuple(self.in_axis)
        if any(not -ndim <= axis < ndim for axis in named):
            need = f"axes from {-ndim} to {ndim - 1}"
        elif len(used) < len(named):
            need = "each axis on one side only"
        elif self.in_axis is not None and others:
            need = f"a side for axis {', '.join(map(str, others))} too"
        elif not in_axis or not out_axis:
            need = "an axis on the input and on the output side"
        elif self.spec is not None and len(self.spec) > ndim:
            need = f"a spec of at most {ndim} axes"
        else:
            return self._made_for(tuple(shape), in_axis, out_axis)
        message = errors.message(
            where,
            got=f"{self} for a kernel of shape {shape}",
            need=need,
            fix="naming in_axis, out_axis and batch_axis of that shape, or None if "
            "it is not a kernel",
        )
        raise ValueError(message)

    def _made_for(self, shape: Shape, in_axis: Shape, out_axis: Shape) -> StackedMap:
        ndim = len(shape)
        batch = tuple(sorted(axis % ndim for axis in as_tuple(self.batch_axis)))
        own = [axis for axis in range(ndim) if axis not in batch]
        in_axis, out_axis = (
            tuple(sorted(own.index(axis % ndim) for axis in side))
            for side in (in_axis, out_axis)
        )
        one_shape = tuple(shape[axis] for axis in own)
        spec = without_axes(self.spec, batch)
        n_in = math.prod(one_shape[axis] for axis in in_axis)
        one = ResolvedMatrix(
            shape=one_shape,
            in_shape=tuple(one_shape[axis] for axis in in_axis),
            out_shape=tuple(one_shape[axis] for axis in out_axis),
            split=Shards(
                tuple(names_on_axis(spec, axis) for axis in in_axis),
                tuple(names_on_axis(spec, axis) for axis in out_axis),
            ),
            name=f"matrix {n_in}x{math.prod(one_shape) // n_in}",
            of="matrix",
            is_copied=True,
            matrix_axes=(in_axis, out_axis),
            unit_axes=out_axis,
            in_axis=in_axis,
            out_axis=out_axis,
        )
        return StackedMap(one, shape, batch, self.spec, said=self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedMatrix(ResolvedMap):
    """`Matrix`, made for the shape of one kernel; its axes ascend."""

    in_axis: Shape
    out_axis: Shape

    def apply(
        self, kernel: Inexact[Array, " ..."], x: Inexact[Array, " *in"]
    ) -> Inexact[Array, " *out"]:
        """Returns ``x W``, summed in x's dtype (float32 at least)."""
        product = _contract(kernel, x, self.in_axis, self.out_axis)
        return summed(product, self.split.over_x)

    def adjoint(
        self, kernel: Inexact[Array, " ..."], y: Inexact[Array, " *out"]
    ) -> Inexact[Array, " *in"]:
        """Returns ``y W^H``, summed in y's dtype (float32 at least)."""
        product = _contract(jnp.conj(kernel), y, self.out_axis, self.in_axis)
        return summed(product, self.split.over_y)

    def bilinear_form(
        self,
        v: Inexact[Array, " *in"],
        kernel: Inexact[Array, " ..."],
        u: Inexact[Array, " *out"],
    ) -> Real[Array, ""]:
        """Returns the real part of ``v W u^H``.

        In one sum, over both sides: its transpose is one product of three factors,
        which fuses into what is done with the gradient.
        """
        products = self.outer(v, u) * kernel.astype(u.dtype)
        return total(products.real, self.split.over_x + self.split.over_y)

    def outer(
        self, x: Inexact[Array, " *in"], y: Inexact[Array, " *out"]
    ) -> Inexact[Array, " ..."]:
        """Returns the kernel ``x y^H``, of rank one."""
        return jnp.expand_dims(x, self.out_axis) * jnp.expand_dims(
            jnp.conj(y), self.in_axis
        )

    def dense(self, kernel: Inexact[Array, " ..."]) -> Inexact[Array, "n_in n_out"]:
        """Returns the kernel as the matrix, inputs by outputs."""
        moved = jnp.transpose(kernel, (*self.in_axis, *self.out_axis))
        return moved.reshape(math.prod(self.in_shape), math.prod(self.out_shape))

    def squares(self, kernel: Inexact[Array, " ..."]) -> Real[Array, " ..."]:
        """Returns the square of each entry."""
        return jnp.square(jnp.abs(kernel))


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
