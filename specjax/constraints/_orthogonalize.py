"""All singular values brought to one, by products of matrices: U V^H for U S V^H.

A layer with such a kernel keeps lengths: of its inputs if it has no more of them than
outputs, else of the gradients of its outputs.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import Array

from specjax import errors
from specjax._options import Bound, check_options
from specjax.constraints._coefficients import Step
from specjax.constraints._matrices import each_kernel, of_matrices
from specjax.constraints._polar import polar
from specjax.kernels._rules import Kernels, flax_kernels
from specjax.linear_maps import StackedMap


def orthogonalize(
    params: Any,
    *,
    kernels: Kernels = flax_kernels,
    steps: Sequence[Step] | None = None,
) -> Any:
    """Returns the params with all singular values of each kernel at one: ``U V^H``.

    A kernel W is divided by its Frobenius norm, and then, for each (a, b, c), becomes
    ``a W + b W W^H W + c W (W^H W)^2``, which is that polynomial of its singular
    values. Differentiable, through the steps.

    On a mesh the kernel is gathered; a stack stays split along its batch axes.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what `Matrix` each one is.
        steps: `newton_schulz_steps`, `muon_steps`, or rows of one's own; None: those
            that bring what is above roundoff to one, 14 in float32. Three products
            each.

    Returns:
        The params, in the dtypes given; 16-bit kernels are computed in float32.
        Singular values are one to about 20 units of roundoff, those below roundoff of
        the Frobenius norm between zero and one, and zeros stay what rounding makes of
        them. A kernel that is zero or not finite comes back as it is.

    Raises:
        ValueError, TypeError: as `specjax.sn_init`; TypeError for a kernel under a
            `Conv`, ValueError for a shard of one, and for steps that are not rows of
            three numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.array([[0.0, -3.0], [0.5, 0.0]])}}
        >>> print(orthogonalize(params)["Dense_0"]["kernel"].round(4))
        [[ 0. -1.]
         [ 1.  0.]]

    Source: Bernstein and Newhouse, "Old Optimizer, New Norm: An Anthology" (2024),
    appendix A.
    """
    rows = check_steps(steps)

    def one(kernel: Array, linear_map: StackedMap) -> Array:
        return _polar(kernel, linear_map=linear_map, steps=rows)

    return each_kernel(params, kernels, one)


def retract(
    params: Any,
    *,
    kernels: Kernels = flax_kernels,
    bound: Bound = 1.0,
    steps: Sequence[Step] | None = None,
) -> Any:
    """Returns the params with all singular values at ``bound sqrt(out / in)``.

    That is the nearest such kernel, ``bound sqrt(out / in) U V^H``. Its norm from the
    root mean square of an input to that of the output is `bound`, whatever the sizes.

    On a mesh the kernel is gathered; a stack stays split along its batch axes.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what `Matrix` each one is: in and out are
            the sizes of its sides (the window of a convolution counts as inputs).
        bound: the norm between root mean squares; may be traced.
        steps: as for `orthogonalize`.

    Raises:
        ValueError, TypeError: as `orthogonalize`.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.ones((1, 4))}}
        >>> print(retract(params, bound=3.0)["Dense_0"]["kernel"].round(4))
        [[3. 3. 3. 3.]]

    Source: Large et al., "Scalable Optimization in the Modular Norm" (2024), the
    normalization of Linear; Bernstein and Newhouse (2024), as above.
    """
    check_options(bound=bound)
    rows = check_steps(steps)

    def one(kernel: Array, linear_map: StackedMap) -> Array:
        return _retract(kernel, bound, linear_map=linear_map, steps=rows)

    return each_kernel(params, kernels, one)


@functools.partial(jax.jit, static_argnames=("linear_map", "steps"))
@of_matrices
def _polar(matrix: Array, *, steps: tuple[Step, ...]) -> Array:
    return polar(matrix, steps)


@functools.partial(jax.jit, static_argnames=("linear_map", "steps"))
@of_matrices
def _retract(matrix: Array, bound: Bound, *, steps: tuple[Step, ...]) -> Array:
    n_in, n_out = matrix.shape
    return (bound * math.sqrt(n_out / n_in)) * polar(matrix, steps)


def check_steps(steps: Any) -> tuple[Step, ...]:
    """Returns the steps as tuples of floats; () for None.

    Raises:
        ValueError: for what is not a row of three finite numbers, or for no row.
    """
    if steps is None:
        return ()
    try:
        rows = tuple((float(a), float(b), float(c)) for a, b, c in steps)
    except (TypeError, ValueError):
        rows = ()
    if not rows or not all(math.isfinite(c) for row in rows for c in row):
        message = errors.message(
            "steps",
            got=repr(steps),
            need="rows of three finite numbers",
            fix="newton_schulz_steps(1e-3), muon_steps() or [(a, b, c), ...]",
        )
        raise ValueError(message)
    return rows
