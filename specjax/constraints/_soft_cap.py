"""The soft cap: a polynomial that takes off as much as the next update can add.

    p(x) = y + a y^3  with  y = x - a x^3,   x = s / bound

It rises up to ``a x^2 = 1/3``, where ``p(x) = 62/81 x``. An update of norm at most
`max_update`, after a weight decay, brings singular values up to
``k = (1 - weight_decay) bound + max_update``; with ``p(k) = bound`` every one of them
ends at most at the bound, as long as k is where p still rises: up to 81/62 bound.
"""

import functools
import math
import numbers
from typing import Any

import jax
from jax import lax
from jaxtyping import Array

from specjax import errors
from specjax._core.krylov import converge, fixed_start
from specjax._core.sigma import normalize
from specjax._options import check_options
from specjax.constraints._matrices import each_kernel, of_matrices
from specjax.constraints._polar import product
from specjax.kernels._rules import Kernels, flax_kernels
from specjax.linear_maps import StackedMap

# How much above the bound a singular value may be, as a part of it.
_LARGEST = 81 / 62


def spectral_soft_cap(
    params: Any,
    *,
    max_update: float | int,
    weight_decay: float | int = 0.0,
    bound: float | int = 1.0,
    kernels: Kernels = flax_kernels,
) -> Any:
    """Returns the params after a step whose kernels are again on the bound or below.

    Four products of matrices for each kernel. Small singular values hardly change, by
    about ``3 a^2 s^5``. The guarantee, in exact arithmetic: from kernels with norms of
    at most `bound`, a step ``W <- (1 - weight_decay) W + update`` with
    ``|update| <= max_update``, and the cap after it, end with norms of at most `bound`
    again. It holds for

        max_update <= (19/62 + weight_decay) bound,

    and outside of it this function refuses: a singular value in the middle would end
    above the bound. For Muon `max_update` is the learning rate times 1.203, the most
    that its steps make of a singular value, and times its scale for the shape. Adam has
    no such small number: it moves every entry by about its learning rate.

    A kernel that is above ``k`` all the same (before the first step, or after an update
    larger than said) is divided down to it first, as far as 8 steps of Golub and Kahan
    see it: it ends near the bound. Differentiable, that factor held constant.

    On a mesh the kernel is gathered; a stack stays split along its batch axes.

    Args:
        params: tree of arrays after the update; boxes and `nnx.State` included.
        max_update: the largest spectral norm of an update, its learning rate included,
            in the kernel's units; the largest of a schedule.
        weight_decay: what a step takes off the kernel, as a part of it: with
            decoupled decay the learning rate times the decay; the smallest of a
            schedule.
        bound: the largest spectral norm, in the kernel's units.
        kernels: which leaves are kernels and what `Matrix` each one is.

    Returns:
        The params, in the dtypes given; 16-bit kernels are computed in float32. A
        kernel that is zero or not finite comes back as it is.

    Raises:
        ValueError: outside of the range above; for numbers out of range.
        ValueError, TypeError: as `project_spectral_ball`.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.diag(jnp.array([1.1, 0.5]))}}
        >>> params = spectral_soft_cap(params, max_update=0.1)
        >>> print(params["Dense_0"]["kernel"].round(2))
        [[1.  0. ]
         [0.  0.5]]

    Source: Newhouse et al., "Training Transformers with Enforced Lipschitz Constants"
    (2025), spectral soft cap and its coupling to learning rate and weight decay; the
    range, which is where the polynomial rises, is derived above.
    """
    strength = soft_cap_strength(max_update, weight_decay, bound)
    largest = (1 - weight_decay) * bound + max_update

    def one(kernel: Array, linear_map: StackedMap) -> Array:
        kernel = _divided_down(kernel, max(largest, bound), linear_map)
        return _capped(kernel, linear_map=linear_map, strength=strength, bound=bound)

    return each_kernel(params, kernels, one)


def soft_cap_strength(
    max_update: float | int, weight_decay: float | int = 0.0, bound: float | int = 1.0
) -> float:
    """Returns the a of the polynomial above; zero if weight decay alone is enough.

    Raises:
        ValueError, TypeError: as `spectral_soft_cap`.

    Example:
        >>> round(soft_cap_strength(0.1), 4), soft_cap_strength(0.1, weight_decay=0.1)
        (0.1589, 0.0)
    """
    check_options(bound=bound)
    _check(max_update=max_update, weight_decay=weight_decay, bound=bound)
    largest = (1 - weight_decay) + max_update / bound
    if largest <= 1:
        return 0.0
    if largest > _LARGEST:
        raise ValueError(_out_of_range(max_update, weight_decay, bound))
    # The kept part falls from 1 to 62/81 as t = a k^2 rises to 1/3: halve the interval.
    low, high = 0.0, 1 / 3
    for _ in range(60):
        t = (low + high) / 2
        kept = 1 - 3 * t**2 + 3 * t**3 - t**4
        low, high = (t, high) if kept * largest > 1 else (low, t)
    return high / largest**2


def _divided_down(kernel: Array, largest: float, linear_map: StackedMap) -> Array:
    # Sigma is zero where it would not be finite: such a kernel stays.
    start = fixed_start(kernel, linear_map)
    norm = converge(lax.stop_gradient(kernel), linear_map, start, krylov_dim=8).sigma
    return normalize(kernel, norm, linear_map, largest, cap=True)


@functools.partial(jax.jit, static_argnames=("linear_map", "strength", "bound"))
@of_matrices
def _capped(matrix: Array, *, strength: float, bound: float) -> Array:
    rows, columns = matrix.shape
    tall = (matrix if rows >= columns else matrix.T) / bound
    for sign in (-1, 1):
        gram = product(tall.conj().T, tall)
        tall = tall + sign * strength * product(tall, gram)
    return bound * (tall if rows >= columns else tall.T)


def _check(**given: Any) -> None:
    need = {
        "max_update": "a static number of 0 or more",
        "weight_decay": "a static number from 0 to below 1",
        "bound": "a static number above 0",
    }
    for name, value in given.items():
        message = errors.message(
            name, got=str(value), need=need[name], fix=f"{name}=0.1"
        )
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise TypeError(message)
        top = 1 if name == "weight_decay" else math.inf
        if not 0 <= float(value) < top:
            raise ValueError(message)


def _out_of_range(max_update: float | int, weight_decay: float, bound: float) -> str:
    most = (19 / 62 + weight_decay) * bound
    return errors.message(
        "spectral_soft_cap",
        got=f"max_update={max_update} with weight_decay={weight_decay} and "
        f"bound={bound}",
        need=f"max_update of at most (19/62 + weight_decay) * bound = {most:.4g}, "
        "above which no strength keeps every singular value at the bound",
        fix=f"a learning rate {max_update / most:.3g} times smaller, or weight_decay "
        f"above {max_update / bound - 19 / 62:.3g}, or project_spectral_ball, which "
        "takes any update",
    )
