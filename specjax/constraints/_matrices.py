"""From a function of one matrix to the kernels of a tree, and the matrices back.

A projection multiplies a kernel with itself. On an explicit mesh it is gathered: each
device computes the whole of it (but for the axes of a stack, which stay where they
are), and the result lies as the kernel does. On an automatic one the compiler chooses,
which may gather a kernel, too, and leave the result whole on each device: out_shardings
of the jit around it put it back.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Inexact

from specjax import errors
from specjax._core.vectors import vector_dtype
from specjax._tree import join, replace_leaves
from specjax.kernels._rules import Kernels, select
from specjax.linear_maps import StackedMap
from specjax.linear_maps._check_spec import check_spec
from specjax.linear_maps._sharding import explicit_axes


def each_kernel(
    params: Any, kernels: Kernels, function: Callable[[Array, StackedMap], Array]
) -> Any:
    """Returns the tree with ``function(kernel, map)`` in the place of each kernel.

    Raises:
        ValueError, TypeError: as `specjax.sn_init`; TypeError for a kernel that is not
            a `Matrix`, ValueError for a shard of one. All are in the one message.
    """
    selected, refused = {}, []
    for path, (leaf, linear_map) in select(params, kernels).items():
        kernel = jnp.asarray(leaf)
        try:
            selected[path] = kernel, _whole_matrix(join(path), kernel, linear_map)
        except (TypeError, ValueError) as error:
            refused.append(error)
    if refused:
        errors.raise_all(type(refused[0]), [str(error) for error in refused])
    new = {path: function(*kernel) for path, kernel in selected.items()}
    return replace_leaves(params, new)


def _whole_matrix(where: str, kernel: Array, linear_map: StackedMap) -> StackedMap:
    check_spec(where, kernel, linear_map)
    if linear_map.one.matrix_axes is None:
        message = errors.message(
            where,
            got=f"{linear_map}",
            need="a Matrix: only of the kernel as a matrix can the singular values be "
            "set one by one",
            fix="specjax.Matrix() for the kernel as Miyato's matrix, or sn_apply, "
            "which divides by the norm of an operator",
        )
        raise TypeError(message)
    split = linear_map.one.split
    if split.over_x or split.over_y:
        message = errors.message(
            where,
            got=f"a shard of a kernel ({linear_map.spec})",
            need="the whole kernel, which is multiplied with itself",
            fix="the projection outside of the shard_map",
        )
        raise ValueError(message)
    return linear_map


def of_matrices(function: Callable[..., Array]) -> Callable[..., Array]:
    """Lifts ``function(matrix, *numbers, **options)`` to one kernel, or a stack.

    The matrix is inputs by outputs, float32 at least. The result comes back in the
    kernel's axes and dtype; a kernel that is not finite comes back as it is.
    """

    def lifted(kernel, *numbers, linear_map, **options):
        stack, back = _as_stack(kernel, linear_map)

        def one(matrix: Array) -> Array:
            usable = jnp.isfinite(matrix).all()
            result = function(jnp.where(usable, matrix, 0), *numbers, **options)
            return jnp.where(usable, result, matrix)

        for _ in linear_map.batch_axis:
            one = jax.vmap(one)
        return back(one(stack))

    return lifted


def _as_stack(
    kernel: Inexact[Array, " ..."], linear_map: StackedMap
) -> tuple[Inexact[Array, "*batch n_in n_out"], Callable[[Array], Array]]:
    """Returns the matrices of a kernel, and the way back."""
    batch = linear_map.batch_axis
    in_axis, out_axis = map(linear_map.in_array, linear_map.one.matrix_axes or ())
    order = (*batch, *in_axis, *out_axis)
    moved = jnp.transpose(_gathered(kernel, batch), order)
    sizes = moved.shape[: len(batch)]
    n_in = math.prod(kernel.shape[axis] for axis in in_axis)
    stack = moved.reshape(*sizes, n_in, -1).astype(vector_dtype(kernel.dtype))

    def back(stack: Array) -> Array:
        result = stack.astype(kernel.dtype).reshape(moved.shape)
        result = jnp.transpose(result, [order.index(a) for a in range(kernel.ndim)])
        if explicit_axes(kernel):
            return jax.sharding.reshard(result, jax.typeof(kernel).sharding)
        return result

    return stack, back


def _gathered(kernel: Array, batch: tuple[int, ...]) -> Array:
    """Returns the kernel with nothing but its stack split over an explicit mesh."""
    if not explicit_axes(kernel):
        return kernel
    spec = jax.typeof(kernel).sharding.spec
    kept = (spec[axis] if axis in batch else None for axis in range(kernel.ndim))
    return jax.sharding.reshard(kernel, PartitionSpec(*kept))
