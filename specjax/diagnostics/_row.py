"""One row of a report: what is known of the norm of one kernel, or of a stack."""

import dataclasses
import functools
import importlib
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from specjax import bounds
from specjax._core.kernel import init
from specjax.bounds._lower import proved, scaled_to_one
from specjax.diagnostics._frobenius import frobenius
from specjax.errors import TooLargeError
from specjax.linear_maps import StackedMap

# A Gram iteration has no SVD to wait for: it may take the memory of so many matrices.
_GRAM_MATRICES = 8


class Row(NamedTuple):
    """What is known of one kernel; all numbers are numpy's, of a stack one per slice.

    Attributes:
        path: ``"Dense_0/kernel"``.
        shape: the kernel's.
        dtype: the kernel's, by name.
        linear_map: what the numbers are of; resolved.
        finite: whether every entry is a number.
        lower: what the norm is at least.
        exact: the norm, up to rounding; None if its matrix would be too large.
        upper: what the norm is at most; None for a linear map of your own whose matrix
            would be too large.
        spectrum: all singular values, (*batch, r), descending; None as `exact`.
        stable_rank: sum of the squared singular values over the square of the first;
            without `exact` computed with `lower`, and at least the stable rank.
        condition_number: the largest singular value over the smallest, inf if that is
            zero, NaN for a zero kernel; None without a spectrum.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    linear_map: StackedMap
    finite: Bool[np.ndarray, " *batch"]
    lower: bounds.Norm
    exact: bounds.Norm | None
    upper: bounds.Norm | None
    spectrum: Float[np.ndarray, " *batch_and_r"] | None
    stable_rank: Float[np.ndarray, " *batch"] | None
    condition_number: Float[np.ndarray, " *batch"] | None


def make_row(path: str, leaf: Any, linear_map: StackedMap, max_bytes: int) -> Row:
    """Measures a kernel; see `Row`, and `specjax.report` for `max_bytes`."""
    if leaf.dtype.itemsize > 4 * (1 + np.iscomplexobj(leaf)):
        # A float64 kernel of numpy's: its float32 would have other bounds.
        with _double_precision():
            return _make_row(path, jnp.asarray(leaf), linear_map, max_bytes)
    return _make_row(path, jnp.asarray(leaf), linear_map, max_bytes)


def _make_row(path: str, kernel: Array, linear_map: StackedMap, max_bytes: int) -> Row:
    exact, spectrum = _exact(kernel, linear_map, max_bytes)
    upper = _upper(kernel, linear_map, max_bytes)
    finite = np.asarray(jnp.all(jnp.isfinite(kernel), axis=linear_map.kernel_axes))
    lower = _lower(kernel, linear_map, finite)
    row = Row(
        path=path,
        shape=kernel.shape,
        dtype=kernel.dtype.name,
        linear_map=linear_map,
        finite=finite,
        lower=lower,
        exact=exact and upper and _between(lower, exact, upper),
        upper=upper and _in_numpy(upper),
        spectrum=None,
        stable_rank=None,
        condition_number=None,
    )
    if spectrum is not None:
        return _with_spectrum(row, np.asarray(spectrum))
    size = _frobenius(kernel, linear_map=linear_map)
    if size is None:
        return row
    norm = row.exact or row.lower
    return row._replace(stable_rank=_stable_rank(size, norm.value))


def _exact(
    kernel: Array, linear_map: StackedMap, max_bytes: int
) -> tuple[bounds.Norm | None, Array | None]:
    """Returns the norm and all singular values, as far as their matrices are small."""
    spectrum = exact = None
    with suppress(TooLargeError):
        spectrum = bounds.singular_values(kernel, linear_map, max_bytes=max_bytes)
    if spectrum is not None and linear_map.one.circular is None:
        # By one SVD, where it can be large.
        method = "SVD" if linear_map.one.of == "matrix" else "dense SVD"
        norm = bounds.Norm(spectrum[..., 0], "exact", linear_map.one.of, method)
        return norm, spectrum
    with suppress(TooLargeError):
        exact = bounds.exact(kernel, linear_map, max_bytes=max_bytes)
    return exact, spectrum


def _upper(kernel: Array, linear_map: StackedMap, max_bytes: int) -> bounds.Norm | None:
    """Returns the bound of the Gram iteration, or else one that needs no memory."""
    try:
        return bounds.upper(kernel, linear_map, max_bytes=_GRAM_MATRICES * max_bytes)
    except TooLargeError:
        if linear_map.one.matrix_axes is None and linear_map.one.circular is None:
            return None  # its matrix would have to be written out
        no_limit = 2**62
        return bounds.upper(kernel, linear_map, method="frobenius", max_bytes=no_limit)


def _lower(kernel: Array, linear_map: StackedMap, finite: np.ndarray) -> bounds.Norm:
    """Returns `bounds.lower`, of the u that `sn_init` has a compiled program for."""
    near_one = scaled_to_one(kernel, linear_map)
    u = init(near_one, None, linear_map=linear_map).u
    value = np.where(finite, proved(kernel, u, linear_map), np.nan)
    return bounds.Norm(value, "lower", linear_map.one.of, "Golub-Kahan")


def _between(lower: bounds.Norm, exact: bounds.Norm, upper: bounds.Norm) -> bounds.Norm:
    """Returns an SVD's number, moved to where the norm is proved to be."""
    value = np.clip(np.asarray(exact.value), lower.value, np.asarray(upper.value))
    return dataclasses.replace(exact, value=value)


def _with_spectrum(row: Row, spectrum: np.ndarray) -> Row:
    values = spectrum.astype(np.float64)
    size, largest = np.linalg.norm(values, axis=-1), values[..., 0]
    return row._replace(
        spectrum=spectrum,
        stable_rank=_stable_rank(size, largest),
        condition_number=_ratio(largest, values[..., -1]),
    )


def _in_numpy(norm: bounds.Norm) -> bounds.Norm:
    return dataclasses.replace(norm, value=np.asarray(norm.value))


def _double_precision() -> AbstractContextManager[Any]:
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return importlib.import_module("jax.experimental").enable_x64()


def _stable_rank(size: Any, largest: Any) -> np.ndarray:
    return np.where(np.asarray(size) == 0, 0.0, _ratio(size, largest) ** 2)


def _ratio(above: Any, below: Any) -> np.ndarray:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above / below)


_frobenius = functools.partial(jax.jit, static_argnames=("linear_map",))(frobenius)
