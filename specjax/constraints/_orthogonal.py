"""Orthogonal regularization: how far the output units are from orthonormal."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Inexact, Real

from specjax import errors
from specjax._core.vectors import vector_dtype
from specjax._tree import join
from specjax.constraints._over_stack import over_stack
from specjax.constraints._units import Selected, check_units, out_axes
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.linear_maps import StackedMap
from specjax.linear_maps._sharding import explicit_axes, summed

FORMS = ("off_diagonal", "squared", "absolute")


def orthogonal_penalty(
    params: Any, *, kernels: Kernels = flax_kernels, form: str = "off_diagonal"
) -> Float[Array, ""]:
    """Returns how far the units of all kernels are from orthonormal, summed.

    With G = W^H W the inner products of the output units (columns of W in y = x W):

    * "off_diagonal": ``|G * (1 - I)|_F^2``, angles alone; lengths are left free.
    * "squared": ``|G - I|_F^2``.
    * "absolute": ``sum |G - I|``, the sum of absolute values.

    Of a kernel with more outputs than inputs the units can not all be orthogonal: then
    "squared" is at least their difference. Multiply by its weight (1e-4 in BigGAN).

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what linear map each one is; of a `Conv`
            the units are its output channels, as filters.
        form: as above.

    Returns:
        The sum over all kernels and stacks, in float32 at least: in the fourth power of
        their units ("off_diagonal").

    Raises:
        ValueError, TypeError: for another form, for kernels as `sn_init`, and for
            outputs that are split by hand: each device has some of the units only.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.array([[2.0, 1.0], [0.0, 1.0]])}}
        >>> for form in ("off_diagonal", "squared", "absolute"):
        ...     print(orthogonal_penalty(params, form=form))
        8.0
        18.0
        8.0

    Source: Brock et al., "Large Scale GAN Training" (2019), equations (2) and (3);
    "absolute" is Brock et al., "Neural Photo Editing with Introspective Adversarial
    Networks" (2017).
    """
    if form not in FORMS:
        names = " or ".join(map(repr, FORMS))
        fix = "form='off_diagonal'"
        raise ValueError(errors.message("form", got=repr(form), need=names, fix=fix))
    selected = select(params, kernels)
    check_units(selected)
    _check_whole_outputs(selected)
    penalties = (
        _penalty(jnp.asarray(kernel), linear_map, form)
        for kernel, linear_map in selected.values()
    )
    return functools.reduce(operator.add, penalties)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _penalty(kernel: Array, linear_map: StackedMap, form: str) -> Real[Array, ""]:
    n_batch = len(linear_map.batch_axis)
    gram = _inner_products(kernel, linear_map)
    diagonal = _diagonal(gram, n_batch)
    off = gram * (1 - diagonal) if form == "off_diagonal" else gram - diagonal
    if form == "absolute":
        return over_stack(jnp.abs(off), linear_map)
    return over_stack((off * jnp.conj(off)).real, linear_map)


def _inner_products(kernel: Array, linear_map: StackedMap) -> Inexact[Array, " ..."]:
    """Returns ``W^H W``: axes of the stack, then those of the units twice."""
    batch, out = linear_map.batch_axis, out_axes(linear_map)
    gone = tuple(axis for axis in range(kernel.ndim) if axis not in batch + out)
    wide = kernel.astype(vector_dtype(kernel.dtype))
    gram = lax.dot_general(
        jnp.conj(wide),
        wide,
        ((gone, gone), (batch, batch)),
        precision=lax.Precision.HIGHEST,
        **_placed(kernel, batch, out),
    )
    return summed(gram, linear_map.one.split.over_x)


def _placed(
    kernel: Array, batch: tuple[int, ...], out: tuple[int, ...]
) -> dict[str, Any]:
    """Returns where the products lie on an explicit mesh, which has to be told."""
    if not explicit_axes(kernel):
        return {}
    sharding = jax.typeof(kernel).sharding
    spec = PartitionSpec(*(sharding.spec[axis] for axis in batch + out))
    return {"out_sharding": jax.sharding.NamedSharding(sharding.mesh, spec)}


def _diagonal(gram: Array, n_batch: int) -> Array:
    """Returns the identity in the shape of the inner products."""
    n_units = (gram.ndim - n_batch) // 2
    same = jnp.ones((), bool)
    for axis in range(n_batch, n_batch + n_units):
        here, there = (
            lax.broadcasted_iota(jnp.int32, gram.shape, a)
            for a in (axis, axis + n_units)
        )
        same = same & (here == there)
    return same.astype(gram.real.dtype)


def _check_whole_outputs(kernels: Selected) -> None:
    messages = [
        errors.message(
            join(path) or "kernel",
            got="output units that are split over devices by hand",
            need="all units on each device: each is multiplied with each",
            fix="a spec that splits the input side, or the penalty outside shard_map",
        )
        for path, (_, linear_map) in kernels.items()
        if linear_map.one.split.over_y
    ]
    errors.raise_all(ValueError, messages)
