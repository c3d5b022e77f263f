"""From where the params should be to the update that brings them there."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from specjax import errors


def changed(
    params: Any, updates: Any, constrain: Callable[[Any], tuple[Any, Any]]
) -> tuple[Any, Any]:
    """Returns the updates after which the params are constrained.

    Args:
        params: before the updates.
        updates: in whose dtypes the result is; None stays None.
        constrain: from the params after the updates to what they should be, and
            whatever else there is to return. A leaf that it gives back keeps its update
            as it is: ``(p + u) - p`` is not always u.
    """
    after = optax.apply_updates(params, updates)
    target, other = constrain(after)
    leaves = params, after, target, updates
    return jax.tree.map(_one, *leaves, is_leaf=_is_none), other


def _one(before: Any, after: Any, target: Any, update: Any) -> Any:
    if update is None or target is after:
        return update
    # In the dtype of the update, as the optimizer's own: a cond around it needs that.
    return (target - before).astype(update.dtype)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def refuse_without_params(where: str, params: Any) -> None:
    """Raises a ValueError for an update without the params."""
    if params is None:
        message = errors.message(
            where,
            got="an update without params",
            need="the params: what holds after the update depends on them",
            fix="tx.update(grads, opt_state, params)",
        )
        raise ValueError(message)
