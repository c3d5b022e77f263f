"""A certificate for a network: how far it can stretch a distance, part by part.

`_named_layers` finds what the chain names, `bounds` bounds the kernels, `_chain` walks.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array

from specjax import bounds, errors
from specjax._tree import named_leaves
from specjax.certificates._certificate import Certificate
from specjax.certificates._chain import Network, names_in, walk
from specjax.certificates._named_layers import find_layers
from specjax.certificates._pools import Shape
from specjax.certificates._upward import product
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.linear_maps import StackedMap

_SMALL_SIDE = 1024  # of an operator that is written out: its cube is what it costs


def lipschitz(
    params: Any,
    parts: Sequence[Any],
    *,
    kernels: Kernels = flax_kernels,
    input_shape: Shape | None = None,
    unused: Sequence[str] = (),
    upper: Callable[..., bounds.Norm] | None = None,
) -> Certificate:
    """Returns a proved bound on how far a network can stretch a distance.

    Args:
        params: tree of arrays, not traced; those that the network multiplies by, so
            after `sn_apply` or `sn_fuse`.
        parts: what is applied, in order. A string names a layer of the params, with its
            bias if it has one; a function is an activation, known by identity
            (`flax.linen.relu`, or a `functools.partial` of one with its options); the
            rest is `Residual`, `Repeat`, `AvgPool`, `MaxPool`, `SumPool`, `Scale`,
            `Reshape` and `Claim`. Anything else is listed with the constant inf.
        kernels: which leaves are kernels and what linear map each one is. A convolution
            has to be a `Conv` with the size that it is used at.
        input_shape: shape of one example, to check that the parts fit each other from
            the first one on; without it, from the first convolution on.
        unused: names of what is in the params and not in the network.
        upper: how a kernel is bounded: `specjax.bounds.upper`, or a `functools.partial`
            of it with a method. Without it: "dense" for a convolution of an image that
            is small enough, where that is much tighter, and "gram" for the rest.

    Returns:
        The certificate: its value, and a factor with its method for each part. It is
        for the 2-norm over one example and for exact arithmetic: the rounding of a
        network's own sums is not in it.

    Raises:
        ValueError: if a name is not in the params, a leaf of the params has no part, a
            convolution is read as a matrix by its name alone, a stack of kernels is not
            in a `Repeat`, or the shape that a part returns does not fit the next one.
        TypeError: if the params are traced, or `upper` returns no upper bound.

    Example:
        >>> import jax
        >>> params = {"Dense_0": {"kernel": jax.numpy.ones((8, 2))}}
        >>> certificate = lipschitz(params, ["Dense_0", jax.nn.sigmoid])
        >>> print(round(certificate.value, 2))  # 4 times 1/4
        1.0

    Source: Szegedy et al., "Intriguing properties of neural networks" (2014), 4.3.
    """
    network = _read(params, parts, kernels, unused, upper or _tight)
    factors, _ = walk(parts, input_shape, network, None)
    return Certificate(product(factor.constant for factor in factors), factors)


def _read(
    params: Any,
    parts: Sequence[Any],
    kernels: Kernels,
    unused: Sequence[str],
    upper: Callable[..., bounds.Norm],
) -> Network:
    """Returns the named layers and the bounds of their kernels, each found once."""
    leaves = {p: leaf for p, leaf in named_leaves(params).items() if _is_array(leaf)}
    selected = select(params, kernels)
    names = list(names_in(parts))
    layers = find_layers(names, leaves, selected, kernels=kernels, unused=unused)
    used = {layer.kernel for layer in layers.values() if layer.kernel is not None}
    norms = {path: _bound(upper, *selected[path]) for path in sorted(used)}
    return Network(selected, layers, norms)


def _tight(kernel: Array, linear_map: StackedMap) -> bounds.Norm:
    """Returns the tightest of the bounds that take seconds."""
    one = linear_map.one
    if one.circular is not None and one.is_copied:
        n_in, n_out = math.prod(one.in_shape), math.prod(one.out_shape)
        if min(n_in, n_out) <= _SMALL_SIDE and n_in * n_out <= _SMALL_SIDE**2 * 8:
            return bounds.upper(kernel, linear_map, method="dense")
    return bounds.upper(kernel, linear_map)


def _bound(
    upper: Callable[..., bounds.Norm], leaf: Any, linear_map: StackedMap
) -> bounds.Norm:
    norm = upper(jnp.asarray(leaf), linear_map)
    if norm.kind != "upper":
        message = errors.message(
            "upper",
            got=f"a norm that is {norm.kind} ({norm.method})",
            need="an upper bound: rounding may have left the others below the norm",
            fix="upper=functools.partial(specjax.bounds.upper, method=...)",
        )
        raise TypeError(message)
    return norm


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, jax.core.Tracer):
        message = errors.message(
            "params",
            got="a traced array",
            need="values, since a certificate is for these very kernels",
            fix="specjax.lipschitz outside of jit",
        )
        raise TypeError(message)
    return hasattr(leaf, "shape")
