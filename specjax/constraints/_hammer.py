"""The hammer: the largest singular value set to the bound, and no other touched.

W + (bound - sigma) v u^H
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from specjax._core.batch import over_batch
from specjax._core.guards import usable
from specjax._core.krylov import fixed_start, warm_up
from specjax._core.sigma import sigma
from specjax._core.step import power_iteration
from specjax._core.vectors import vector_dtype
from specjax._moved import renamed
from specjax._options import Bound, check_count, check_flags, check_options
from specjax.constraints._matrices import each_kernel
from specjax.kernels._rules import Kernels, flax_kernels
from specjax.linear_maps import ResolvedMap, StackedMap


@renamed(n_steps="krylov_dim")
def spectral_hammer(
    params: Any,
    *,
    kernels: Kernels = flax_kernels,
    bound: Bound = 1.0,
    cap: bool = False,
    krylov_dim: int = 64,
) -> Any:
    """Returns the params with the largest singular value of each kernel at `bound`.

    Only that one: the norm of the result is the bound or the second singular value,
    whichever is larger. So it guarantees nothing after one step in which two of them
    grew; it is made for updates of low rank, as Adam's, one step after the other. The
    two vectors are found by products with the kernel only, and a kernel that is sharded
    stays where it is.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what `Matrix` each one is.
        bound: the new singular value, in the kernel's units; may be traced.
        cap: only shrink: a kernel below the bound comes back as it is.
        krylov_dim: dimension of the Krylov space for the two vectors, each of two
            products.

    Returns:
        The params, in the dtypes given. A kernel that is zero or not finite comes back
        as it is. Differentiable, u and v held constant.

    Raises:
        ValueError, TypeError: as `project_spectral_ball`.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.diag(jnp.array([3.0, 2.0]))}}
        >>> kernel = spectral_hammer(params)["Dense_0"]["kernel"]
        >>> print(jnp.linalg.svd(kernel, compute_uv=False).round(4))
        [2. 1.]

    Source: Newhouse et al., "Training Transformers with Enforced Lipschitz Constants"
    (2025), spectral hammer.
    """
    check_options(bound=bound)
    check_count(krylov_dim=krylov_dim)
    check_flags(cap=cap)

    def one(kernel: Array, linear_map: StackedMap) -> Array:
        return _hammer(
            kernel, bound, linear_map=linear_map, cap=cap, krylov_dim=krylov_dim
        )

    return each_kernel(params, kernels, one)


@functools.partial(jax.jit, static_argnames=("linear_map", "cap", "krylov_dim"))
def _hammer(
    kernel: Array, bound: Bound, *, linear_map: StackedMap, cap: bool, krylov_dim: int
) -> Array:
    start = fixed_start(kernel, linear_map)
    u, u2 = warm_up(jax.lax.stop_gradient(kernel), start, linear_map, krylov_dim)
    u, _, v, _ = power_iteration(kernel, u, u2, linear_map)
    value = sigma(kernel, u, v, linear_map)
    wanted = usable(value)
    if cap:
        wanted &= value > bound
    change = jnp.where(wanted, bound - value, 0).astype(vector_dtype(kernel.dtype))
    blow = _blow(kernel, v, u, change, linear_map=linear_map)
    batch = linear_map.batch_axis
    blow = jnp.moveaxis(blow, range(len(batch)), batch)
    return (kernel.astype(blow.dtype) + blow).astype(kernel.dtype)


@over_batch
def _blow(
    kernel: Array, v: Array, u: Array, change: Array, *, linear_map: ResolvedMap
) -> Array:
    # The gradient of `v W u^H` in W is the kernel of rank one.
    form = functools.partial(linear_map.bilinear_form, v, u=u)
    return change * jnp.conj(jax.grad(lambda w: form(w))(jnp.zeros_like(kernel)))
