"""Activations that only reorder: MaxMin and GroupSort keep every norm and gradient."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from specjax import errors
from specjax.linear_maps._sharding import explicit_axes

__all__ = ["group_sort", "maxmin"]


def maxmin(x: Shaped[Array, " *shape"], axis: int = -1) -> Shaped[Array, " *shape"]:
    """Returns each pair of neighbors (a, b) as (max(a, b), min(a, b)).

    A permutation of x: 1-Lipschitz in every p-norm, and its Jacobian is a permutation
    matrix everywhere, ties included.

    Args:
        x: an array of any rank, in any units.
        axis: along which neighbors 2i and 2i + 1 are a pair; its size is even.

    Raises:
        ValueError: if the axis does not exist or its size is odd.

    Example:
        >>> print(maxmin(jnp.array([1.0, 2.0, 5.0, 4.0])))
        [2. 1. 5. 4.]

    Source: Chernodub and Nowicki, "Norm-preserving Orthogonal Permutation Linear Unit
    Activation Functions (OPLU)" (2016); Anil et al. (2019).
    """
    groups, axis = _grouped(x, 2, axis)
    first, second = (jnp.take(groups, i, axis=axis + 1) for i in (0, 1))
    # A choice, not maximum and minimum: at a tie those share the gradient, and a
    # Jacobian of halves loses half of it.
    swap = first < second
    pair = jnp.where(swap, second, first), jnp.where(swap, first, second)
    return jnp.stack(pair, axis=axis + 1).reshape(x.shape)


def group_sort(
    x: Shaped[Array, " *shape"], group_size: int, axis: int = -1
) -> Shaped[Array, " *shape"]:
    """Returns x with every group of neighbors in ascending order.

    A permutation of x: 1-Lipschitz in every p-norm. Two are `maxmin` with each pair
    turned around; all of them sort the axis.

    Args:
        x: an array of any rank, in any units.
        group_size: how many neighbors are a group.
        axis: along which they are; its size is a multiple of `group_size`.

    Raises:
        ValueError: if the axis does not exist or does not divide into such groups.

    Example:
        >>> print(group_sort(jnp.array([3.0, 1.0, 2.0, 9.0, 8.0, 7.0]), 3))
        [1. 2. 3. 7. 8. 9.]

    Source: Anil, Lucas and Grosse, "Sorting out Lipschitz Function Approximation"
    (2019).
    """
    groups, axis = _grouped(x, group_size, axis)
    return _sorted(groups, axis + 1).reshape(x.shape)


def _sorted(groups: Array, axis: int) -> Array:
    sort = functools.partial(jnp.sort, axis=axis)
    if not explicit_axes(groups):
        return sort(groups)
    # The compiler can sort what is sharded; jax has no rule for the derivative of it.
    place = jax.typeof(groups).sharding.spec
    placed: Any = jax.sharding.auto_axes(
        sort, axes=explicit_axes(groups), out_sharding=place
    )
    return placed(groups)


def _grouped(x: Array, group_size: int, axis: int) -> tuple[Array, int]:
    """Returns x with the axis split in two, and that axis counted from the front."""
    ndim = jnp.ndim(x)
    if not -ndim <= axis < ndim:
        got, need = f"axis={axis} of {errors.describe(x)}", "an axis that it has"
        raise ValueError(errors.message("x", got=got, need=need, fix="axis=-1"))
    axis %= ndim
    size = x.shape[axis]
    if group_size < 1 or size % group_size:
        message = errors.message(
            "x",
            got=f"{size} entries along axis {axis}, in groups of {group_size}",
            need="a size that divides into groups of one entry or more",
            fix="a layer of that many features, or another group_size or axis",
        )
        raise ValueError(message)
    split = (*x.shape[:axis], size // group_size, group_size, *x.shape[axis + 1 :])
    return x.reshape(split), axis
