"""All singular values brought to one by the series of Bjorck and Bowie."""

import functools
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from specjax import errors
from specjax._moved import renamed
from specjax._options import check_count
from specjax.constraints._matrices import each_kernel, of_matrices
from specjax.constraints._polar import at_most_one, product
from specjax.kernels._rules import Kernels, flax_kernels
from specjax.linear_maps import StackedMap


@renamed(n_steps="n_iterations")
def bjorck(
    params: Any,
    *,
    kernels: Kernels = flax_kernels,
    order: int = 1,
    n_iterations: int = 30,
) -> Any:
    """Returns the params with the singular values of each kernel brought to one.

    A kernel W is divided by its Frobenius norm and then, `n_iterations` times,
    multiplied by the first terms of the series of ``(W^H W)^(-1/2)`` in
    ``Q = 1 - W^H W``: ``1 + Q / 2 + 3 Q^2 / 8 + ...``, up to ``Q^order``.
    Differentiable, through the steps.

    On a mesh the kernel is gathered; a stack stays split along its batch axes.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what `Matrix` each one is.
        order: of the series; 2 is the step of Newton and Schulz of degree five. The
            cost of a step is that of ``order + 1`` products.
        n_iterations: the smallest values grow by 1.5 (order 1), 1.875 (2), 2.1875 (3) a
            step, then an error e becomes about ``e^(order + 1)``.

    Returns:
        The params, as `orthogonalize`; with the defaults values above 1e-4 of the
        Frobenius norm are one to 1e-5.

    Raises:
        ValueError, TypeError: as `orthogonalize`, and for an order below 1 or
            n_iterations below 0.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.array([[0.0, -3.0], [0.5, 0.0]])}}
        >>> print(bjorck(params)["Dense_0"]["kernel"].round(4))
        [[ 0. -1.]
         [ 1.  0.]]

    Source: Bjorck and Bowie, "An Iterative Algorithm for Computing the Best Estimate of
    an Orthogonal Matrix" (1971); for layers Anil, Lucas and Grosse, "Sorting out
    Lipschitz Function Approximation" (2019).
    """
    check_count(n_iterations=n_iterations)
    _check_order(order)

    def one(kernel: Array, linear_map: StackedMap) -> Array:
        return _bjorck(
            kernel, linear_map=linear_map, order=order, n_iterations=n_iterations
        )

    return each_kernel(params, kernels, one)


@functools.partial(jax.jit, static_argnames=("linear_map", "order", "n_iterations"))
@of_matrices
def _bjorck(matrix: Array, *, order: int, n_iterations: int) -> Array:
    rows, columns = matrix.shape
    tall = matrix if rows >= columns else matrix.T
    one = jnp.eye(tall.shape[1], dtype=tall.dtype)

    def step(tall: Array, _: None) -> tuple[Array, None]:
        rest = one - product(tall.conj().T, tall)
        series = _term(order) * rest
        for k in range(order - 1, 0, -1):
            series = product(rest, series + _term(k) * one)
        return tall + product(tall, series), None

    tall, _ = lax.scan(step, at_most_one(tall), length=n_iterations)
    return tall if rows >= columns else tall.T


def _term(k: int) -> float:
    """Returns the coefficient of ``Q^k`` in ``(1 - Q)^(-1/2)``."""
    return math.comb(2 * k, k) / 4**k


def _check_order(order: Any) -> None:
    static = isinstance(order, numbers.Integral) and not isinstance(order, bool)
    if not static or order < 1:
        message = errors.message(
            "order", got=str(order), need="a static int of 1 or more", fix="order=1"
        )
        raise (ValueError if static else TypeError)(message)
