"""Assertions for users' own tests, made with chex.

The norms come from a float64 SVD with numpy, which shares no code with the power
iteration. The operator of a convolution is written out first.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from specjax import errors
from specjax._tree import join, named_leaves
from specjax.bounds._size import MAX_BYTES, check_bytes
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.linear_maps import StackedMap

__all__ = [
    "assert_fixed_point",
    "assert_only_kernels_differ",
    "assert_spectral_norms",
    "spectral_norms",
]


def spectral_norms(params: Any, *, kernels: Kernels = flax_kernels) -> dict[str, Any]:
    """Returns the largest singular value of every kernel, by float64 SVD.

    Args:
        params: tree of arrays, not traced.
        kernels: which leaves are kernels and what linear map each one is.

    Returns:
        ``{"Dense_0/kernel": 1.0, ...}``: an array of the batch axes' shape each, NaN
        where a kernel is not finite.

    Example:
        >>> params = {"Dense_0": {"kernel": np.diag([3.0, 1.0])}}
        >>> spectral_norms(params)["Dense_0/kernel"].item()
        3.0
    """
    return {
        join(path): _norms(_matrices(kernel, linear_map))
        for path, (kernel, linear_map) in select(params, kernels).items()
    }


def assert_spectral_norms(
    params: Any,
    *,
    at_most: float | int | None = None,
    equal_to: float | int | None = None,
    rtol: float = 1e-3,
    kernels: Kernels = flax_kernels,
) -> None:
    """Asserts the spectral norm of every kernel, by float64 SVD.

    Args:
        params: tree of arrays, not traced.
        at_most: the norm is at most this, times ``1 + rtol``.
        equal_to: the norm is this, to `rtol`.
        rtol: relative tolerance.
        kernels: which leaves are kernels and what linear map each one is.

    Raises:
        AssertionError: with the path and the norm of every kernel that fails.
        ValueError: if neither `at_most` nor `equal_to` is given.

    Example:
        >>> import specjax as sx
        >>> params = {"Dense_0": {"kernel": np.ones((3, 4), np.float32)}}
        >>> assert_spectral_norms(sx.sn_apply(params, sx.sn_init(params))[0], at_most=1)
    """
    if at_most is None and equal_to is None:
        message = errors.message(
            "assert_spectral_norms",
            got="neither at_most nor equal_to",
            need="one of them",
            fix="at_most=1.0",
        )
        raise ValueError(message)
    failures = []
    for path, norms in spectral_norms(params, kernels=kernels).items():
        # A norm that is not a number fails both.
        if at_most is not None and not np.all(norms <= at_most * (1 + rtol)):
            failures.append(f"{path}: {norms} is not at most {at_most} (rtol {rtol})")
        if equal_to is not None and not np.allclose(norms, equal_to, rtol=rtol, atol=0):
            failures.append(f"{path}: {norms} is not {equal_to} (rtol {rtol})")
    if failures:
        raise AssertionError("\n".join(failures))


def assert_only_kernels_differ(
    before: Any, after: Any, *, kernels: Kernels = flax_kernels
) -> None:
    """Asserts that everything but the kernels is bit-equal, and no type has changed.

    Args:
        before: params as trained.
        after: params from `sn_apply` or `sn_fuse`.
        kernels: which leaves are kernels.

    Raises:
        AssertionError: if trees, shapes, dtypes or other leaves differ.
    """
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    selected = select(before, kernels)
    old, new = named_leaves(before), named_leaves(after)
    for path in old.keys() - selected.keys():
        message = f"{join(path)} is not a kernel and has changed"
        np.testing.assert_array_equal(old[path], new[path], err_msg=message)


def assert_fixed_point(before: Any, after: Any) -> None:
    """Asserts that a state (or params) can go where it came from without a recompile.

    Trees, shapes, dtypes and weak types are the same, so `jax.lax.scan` carries it and
    a second call of a jitted step finds the first one's compilation.

    Raises:
        AssertionError: if any of these differ.
    """
    chex.assert_trees_all_equal_structs(before, after)
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    types = [[jax.typeof(leaf) for leaf in jax.tree.leaves(t)] for t in (before, after)]
    if types[0] != types[1]:
        raise AssertionError(f"types differ: {types[0]} and {types[1]}")


def _norms(matrices: np.ndarray) -> np.ndarray:
    finite = np.asarray(np.isfinite(matrices).all(axis=(-2, -1)))
    matrices = np.where(finite[..., None, None], matrices, 0)
    return np.where(finite, np.linalg.norm(matrices, 2, axis=(-2, -1)), np.nan)


def _matrices(kernel: Any, linear_map: StackedMap) -> np.ndarray:
    """Returns the kernel as (*batch, in, out) in double precision."""
    one, batch = linear_map.one, linear_map.batch_axis
    wide = np.complex128 if np.iscomplexobj(kernel) else np.float64
    stack = np.moveaxis(np.asarray(kernel), batch, range(len(batch)))
    n_in, n_out = int(np.prod(one.in_shape)), int(np.prod(one.out_shape))
    if one.matrix_axes is None:
        check_bytes(
            "specjax.testing",
            stack.size // int(np.prod(one.shape)) * n_in * n_out * 8,
            MAX_BYTES,
            linear_map=linear_map,
            fix="specjax.bounds.upper, which writes out no matrix",
        )
        slices = stack.reshape(-1, *one.shape)
        dense = np.stack([np.asarray(one.dense(jnp.asarray(w))) for w in slices])
        return dense.astype(wide).reshape(*linear_map.batch_shape, n_in, n_out)
    order = [len(batch) + axis for side in one.matrix_axes for axis in side]
    moved = np.transpose(stack.astype(wide), (*range(len(batch)), *order))
    return moved.reshape(*linear_map.batch_shape, n_in, n_out)
