"""From where the params should be to the update that brings them there."""

from typing import Any

import jax

from specjax import _errors


def difference(params: Any, target: Any, updates: Any) -> Any:
    """Returns ``target - params``, in the dtypes of the updates; None stays None."""
    return jax.tree.map(_one, params, target, updates, is_leaf=_is_none)


def _one(old: Any, new: Any, update: Any) -> Any:
    # In the dtype of the update, as the optimizer's own: a cond around it needs that.
    return None if update is None else (new - old).astype(update.dtype)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def refuse_without_params(where: str, params: Any) -> None:
    """Raises a ValueError for an update without the params."""
    if params is None:
        message = _errors.complaint(
            where,
            got="an update without params",
            need="the params: what holds after the update depends on them",
            fix="tx.update(grads, opt_state, params)",
        )
        raise ValueError(message)
