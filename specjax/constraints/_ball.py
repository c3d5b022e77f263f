"""The nearest kernel in the spectral ball: singular values above the bound come to it.

    W - U max(S - bound, 0) V^H

What is taken off is zero inside the ball, so there a kernel is left alone. It is found
by an SVD, or from two polar factors, which need products of matrices alone.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from specjax import errors
from specjax._options import Bound, check_options
from specjax.constraints._excess import excess
from specjax.constraints._matrices import each_kernel, of_matrices
from specjax.kernels._rules import Kernels, flax_kernels
from specjax.linear_maps import StackedMap

_METHODS = ("svd", "polar")


def project_spectral_ball(
    params: Any,
    *,
    kernels: Kernels = flax_kernels,
    bound: Bound = 1.0,
    method: str | None = None,
) -> Any:
    """Returns the nearest params whose kernels have a spectral norm of at most `bound`.

    ``U min(S, bound) V^H`` for a kernel ``U S V^H``: the one matrix in the ball that is
    closest in the Frobenius norm. Differentiable, at equal singular values too.

    * "svd": off by at most about 15 eps times the kernel's norm (float32: 2e-6).
    * "polar": two polar factors by products of matrices alone, 28 steps of three each
      in float32, which is what accelerators are made for; at most about 30 eps.

    On a mesh the kernel is gathered; a stack stays split along its batch axes.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what `Matrix` each one is.
        bound: the largest singular value that stays, in the kernel's units; may be
            traced.
        method: one of the above; None: the SVD on a CPU and for kernels with up to 32
            singular values, else "polar".

    Returns:
        The params, in the dtypes given; 16-bit kernels are computed in float32. A
        kernel that is zero or not finite comes back as it is.

    Raises:
        ValueError, TypeError: as `specjax.sn_init`; TypeError for a kernel under a
            `Conv`, ValueError for a shard of one, and for options out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.diag(jnp.array([3.0, 0.5]))}}
        >>> print(project_spectral_ball(params)["Dense_0"]["kernel"].round(4))
        [[1.  0. ]
         [0.  0.5]]

    Source: Higham, "Functions of Matrices" (2008), chapter 8, for the polar factor; the
    clipped values from it are ``(s + bound - |s - bound|) / 2``.
    """
    check_options(bound=bound)
    if method is not None and method not in _METHODS:
        message = errors.message(
            "method", got=repr(method), need="'svd', 'polar' or None", fix="method=None"
        )
        raise ValueError(message)

    def one(kernel: Array, linear_map: StackedMap) -> Array:
        return _project(kernel, bound, linear_map=linear_map, method=method)

    return each_kernel(params, kernels, one)


@functools.partial(jax.jit, static_argnames=("linear_map", "method"))
@of_matrices
def _project(matrix: Array, bound: Bound, *, method: str | None) -> Array:
    limit = jnp.asarray(bound, jnp.finfo(matrix.dtype).dtype)
    return matrix - excess(matrix, limit, method)
