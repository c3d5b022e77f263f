"""A projection of the params after each update: every step ends in the set."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from specjax import errors
from specjax.optax._difference import changed, refuse_without_params


def keep_projected(
    projection: Callable[..., Any], **options: Any
) -> optax.GradientTransformation:
    """Changes the updates so that the params after them are ``projection(params)``.

    The last link of an `optax.chain`: what comes after it would move the params again.
    What is returned is a difference, so the result is as exact as ``params + updates``
    is. There is no state: a constraint holds from the first update on, whatever the
    params were.

    Args:
        projection: a function from params to params like them:
            `specjax.constraints.project_spectral_ball`, `spectral_soft_cap`,
            `spectral_hammer`, `orthogonalize`, `bjorck`, `retract`, or one's own.
        options: given to it by name: ``kernels=``, ``bound=`` and so on.

    Returns:
        A gradient transformation whose `update` needs the params.

    Raises:
        ValueError, TypeError: by `init` and `update`, as the projection for those
            params and options; TypeError if it changes tree, shapes or dtypes;
            ValueError by `update` without params.

    Example:
        >>> import optax
        >>> import jax.numpy as jnp
        >>> from specjax.constraints import project_spectral_ball
        >>> params = {"Dense_0": {"kernel": jnp.diag(jnp.array([1.0, 0.5]))}}
        >>> ball = keep_projected(project_spectral_ball, bound=1.0)
        >>> tx = optax.chain(optax.sgd(1.0), ball)
        >>> grads = {"Dense_0": {"kernel": -jnp.eye(2)}}
        >>> updates, _ = tx.update(grads, tx.init(params), params)
        >>> print(optax.apply_updates(params, updates)["Dense_0"]["kernel"].round(4))
        [[1. 0.]
         [0. 1.]]
    """

    def project(params: Any) -> Any:
        return projection(params, **options)

    def init(params: Any) -> optax.EmptyState:
        before = jax.eval_shape(lambda tree: tree, params)
        after = jax.eval_shape(project, params)
        if jax.tree.structure(before) != jax.tree.structure(after) or any(
            (old.shape, old.dtype) != (new.shape, new.dtype)
            for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True)
        ):
            raise TypeError(_not_a_projection(projection))
        return optax.EmptyState()

    def update(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[Any, optax.EmptyState]:
        refuse_without_params("keep_projected", params)
        return changed(params, updates, lambda after: (project(after), state))

    return optax.GradientTransformation(init, update)


def _not_a_projection(projection: Any) -> str:
    return errors.message(
        "keep_projected",
        got=f"{getattr(projection, '__name__', projection)}, which changes the tree, a "
        "shape or a dtype",
        need="a function from params to params like them",
        fix="a function of specjax.constraints",
    )
