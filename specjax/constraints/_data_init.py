"""Weight normalization's first values from data: every unit with mean 0, variance 1."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from specjax import errors
from specjax._core.guards import usable
from specjax._core.vectors import vector_dtype
from specjax._tree import Path, join, named_leaves, replace_leaves
from specjax.constraints import _split
from specjax.constraints._split import Split
from specjax.constraints._units import all_number_shapes, number_shapes
from specjax.constraints._weight_norm import wn_apply
from specjax.kernels._rules import Kernels, flax_kernels
from specjax.linear_maps import StackedMap
from specjax.linear_maps._sharding import explicit_axes


def wn_data_init(
    split: Any,
    outputs: Callable[[Any], Any],
    *,
    kernels: Kernels = flax_kernels,
    bias: str = "bias",
) -> Split:
    """Returns the split with g and biases such that every unit starts standardized.

    With t the output of a layer on a batch, bias included, and its mean and standard
    deviation over everything but units: ``g' = g / std[t]`` and ``b' = (b - mean[t]) /
    std[t]``. A layer's statistics are those behind the new layers before it: there are
    as many passes as kernels, each of which sets all of them, so that the order in
    which the model calls them need not be known.

    Args:
        split: from `wn_init`.
        outputs: from params to the output of each kernel's layer on the batch, before
            its nonlinearity: a tree with one array at, or anywhere below, the path of
            the layer, as flax's ``capture_intermediates`` makes it. In each the axes of
            a stack come first and those of the units last.
        kernels: as given to `wn_init`.
        bias: the name of a layer's bias beside its kernel, in the shape of its units.
            Where there is none the mean stays as it is.

    Returns:
        A split tree like the one given. A unit whose output does not vary, or is not
        finite, keeps its g. With one g for each kernel, ``std^2`` is the mean of the
        units' variances.

    Raises:
        ValueError, TypeError: as `wn_apply`, and if kernels have no output, or several,
            or one without their units, or a bias of another shape; all of them in the
            one message.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from specjax.constraints import wn_init
        >>> x = jax.random.normal(jax.random.key(0), (64, 3))
        >>> def outputs(params):
        ...     return {"Dense_0": x @ params["Dense_0"]["kernel"]}
        >>> split = wn_init({"Dense_0": {"kernel": jnp.full((3, 2), 5.0)}})
        >>> split = wn_data_init(split, outputs)
        >>> print(outputs(wn_apply(split))["Dense_0"].std(0).round(3))
        [1. 1.]

    Source: Salimans and Kingma (2016), section 3, equations (5) and (6).
    """
    found = _split.read(split, kernels, all_number_shapes, "wn_init")
    n_passes = sum(
        math.prod(linear_map.batch_shape) for _, _, linear_map in found.values()
    )

    def one_pass(_: Any, split: Split) -> Split:
        seen = named_leaves(outputs(wn_apply(split, kernels=kernels)))
        found = _split.read(split, kernels, all_number_shapes, "wn_init")
        return _standardized(split, found, seen, bias)

    return lax.fori_loop(0, n_passes, one_pass, split)


def _standardized(
    split: Split,
    found: Mapping[Path, tuple[Array, Array, StackedMap]],
    seen: Mapping[Path, Any],
    bias: str,
) -> Split:
    gains, biases, held = {}, {}, named_leaves(split["v"])
    _check(found, seen, held, bias)
    for path, (v, g, linear_map) in found.items():
        each, one = number_shapes(v, linear_map)
        output = jnp.asarray(_outputs_of(path, seen)[0])
        mean, variance = _moments(output, each, len(one))
        if g.shape == one:
            units = tuple(range(len(one), len(each)))
            variance = jnp.mean(variance, axis=units)
        factor = _inverse_root(variance)
        gains[path] = _like(g * factor, g)
        beside = (*path[:-1], bias)
        if beside in held:
            old = jnp.asarray(held[beside])
            spread = jnp.expand_dims(factor, tuple(range(factor.ndim, old.ndim)))
            biases[beside] = _like((old - mean) * spread, old)
    return {
        "g": replace_leaves(split["g"], gains),
        "v": replace_leaves(split["v"], biases),
    }


def _like(new: Array, old: Array) -> Array:
    """Returns the array in the dtype and the place of the old one."""
    new = new.astype(old.dtype)
    if not explicit_axes(old):
        return new
    return jax.sharding.reshard(new, jax.typeof(old).sharding)


def _moments(output: Array, each: tuple[int, ...], n_batch: int) -> tuple[Array, Array]:
    """Returns mean and variance of each unit, over all that is not a unit."""
    samples = tuple(range(n_batch, output.ndim - len(each) + n_batch))
    wide = output.astype(vector_dtype(output.dtype))
    mean = jnp.mean(wide, axis=samples, keepdims=True)
    variance = jnp.mean(jnp.square(jnp.abs(wide - mean)), axis=samples)
    mean = jnp.where(jnp.isfinite(mean), mean, 0)
    return jnp.squeeze(mean, samples), variance


def _inverse_root(variance: Array) -> Array:
    wanted = usable(variance)
    return jnp.where(wanted, lax.rsqrt(jnp.where(wanted, variance, 1)), 1)


def _outputs_of(path: Path, seen: Mapping[Path, Any]) -> list[Any]:
    layer = path[:-1]
    return [leaf for name, leaf in seen.items() if name[: len(layer)] == layer]


def _check(
    found: Mapping[Path, tuple[Array, Array, StackedMap]],
    seen: Mapping[Path, Any],
    held: Mapping[Path, Any],
    bias: str,
) -> None:
    """Raises one ValueError for all outputs and biases that do not fit the kernels."""
    messages = []
    for path, (v, _, linear_map) in found.items():
        each, one = number_shapes(v, linear_map)
        outputs, beside = _outputs_of(path, seen), (*path[:-1], bias)
        if len(outputs) != 1 or not _has_units(outputs[0], each, len(one)):
            messages.append(_not_an_output(path, outputs, each, len(one)))
        if beside in held and jnp.shape(held[beside]) != each:
            messages.append(_not_a_bias(beside, held[beside], each))
    errors.raise_all(ValueError, messages)


def _has_units(output: Any, each: tuple[int, ...], n_batch: int) -> bool:
    shape = jnp.shape(output)
    ends = shape[:n_batch], shape[len(shape) - len(each) + n_batch :]
    return len(shape) >= len(each) and ends == (each[:n_batch], each[n_batch:])


def _not_an_output(
    path: Path, outputs: list[Any], each: tuple[int, ...], n_batch: int
) -> str:
    return errors.message(
        f"outputs {join(path[:-1])}",
        got=", ".join(map(errors.describe, outputs)) or "nothing",
        need=f"one array for the kernel {join(path)}, {list(each[:n_batch])} in front "
        f"and {list(each[n_batch:])} last",
        fix="outputs=lambda params: {'Dense_0': x @ params['Dense_0']['kernel']}, or "
        "the intermediates of model.apply(..., capture_intermediates=True)",
    )


def _not_a_bias(path: Path, leaf: Any, each: tuple[int, ...]) -> str:
    return errors.message(
        join(path),
        got=errors.describe(leaf),
        need=f"a bias of shape {each}, one number for each unit",
        fix="bias='the name of the layer's bias'",
    )
