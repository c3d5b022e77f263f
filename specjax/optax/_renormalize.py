"""Spectral normalization after each update: the params themselves are on the bound.

Forward and backward pass are the plain model's; the whole cost is in the update.
"""

from typing import Any, NamedTuple

import optax

from specjax._options import Bound
from specjax.kernels._rules import Kernels, flax_kernels
from specjax.optax._difference import changed, refuse_without_params
from specjax.transforms import spectral_norm


class KeepSpectralNormState(NamedTuple):
    """What `keep_spectral_norm` carries.

    Attributes:
        power_iteration: the state of `specjax.sn_init`: u, u2, sigma of each kernel,
            sigma being the norm after the inner update and before the rescaling.
    """

    power_iteration: Any


def renormalize(
    inner: optax.GradientTransformation,
    *,
    kernels: Kernels | None = None,
    bound: Bound = 1.0,
    cap: bool = False,
    n_steps: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimizer: after each of its updates every kernel is on the bound.

    The same as ``optax.chain(inner, keep_spectral_norm(...))``. What is returned is a
    difference, so the result is as exact as ``params + updates`` is: start from params
    near the bound (``sn_fuse``). One power step lags when an update moves a kernel by
    more than about 1 %, as the first steps of Adam do: `n_steps` lags less.

    Args:
        inner: the optimizer.
        kernels: which leaves are kernels; None: `flax_kernels`.
        bound: the spectral norm of each kernel after the update; may be traced.
        cap: only shrink: a kernel below the bound stays where the update puts it.
        n_steps: power steps for each update; None: one.

    Returns:
        A gradient transformation whose `update` needs the params.

    Raises:
        ValueError, TypeError: by `init` and `update`, as `specjax.sn_init` and
            `specjax.sn_apply`; ValueError by `update` without params.

    Example:
        >>> import optax
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": 3 * jnp.ones((4, 4))}}
        >>> tx = renormalize(optax.sgd(0.1))
        >>> opt_state = tx.init(params)
        >>> updates, opt_state = tx.update(params, opt_state, params)
        >>> params = optax.apply_updates(params, updates)
        >>> print(jnp.linalg.norm(params["Dense_0"]["kernel"], 2).round(4))
        1.0
    """
    keep = keep_spectral_norm(kernels=kernels, bound=bound, cap=cap, n_steps=n_steps)
    return optax.with_extra_args_support(optax.chain(inner, keep))


# The defaults are None and not flax_kernels and 1, because optax.inject_hyperparams
# takes every function for a schedule and every number for an array.
def keep_spectral_norm(
    *,
    kernels: Kernels | None = None,
    bound: Bound = 1.0,
    cap: bool = False,
    n_steps: int | None = None,
) -> optax.GradientTransformation:
    """Changes the updates so that every kernel is on the bound after them.

    The last link of an `optax.chain`: what comes after it would move the params off
    the bound. Inside `optax.inject_hyperparams` a schedule may give `bound`; name
    `kernels` and `n_steps` in `static_args` if you pass them.

    Args:
        kernels: which leaves are kernels; None: `flax_kernels`.
        bound: the spectral norm of each kernel after the update; may be traced.
        cap: only shrink: a kernel below the bound stays where the update puts it.
        n_steps: power steps for each update; None: one.

    Returns:
        A gradient transformation whose `update` needs the params.

    Raises:
        ValueError, TypeError: as `renormalize`.
    """
    sn = spectral_norm(
        kernels=flax_kernels if kernels is None else kernels,
        bound=bound,
        cap=cap,
        n_steps=1 if n_steps is None else n_steps,
    )

    def init(params: Any) -> KeepSpectralNormState:
        return KeepSpectralNormState(sn.init(params))

    def update(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[Any, KeepSpectralNormState]:
        refuse_without_params("keep_spectral_norm", params)
        updates, carried = changed(
            params, updates, lambda after: sn.apply(after, state.power_iteration)
        )
        return updates, KeepSpectralNormState(carried)

    return optax.GradientTransformation(init, update)
