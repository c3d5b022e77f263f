"""The three functions with their options bound once, as optax and haiku do it."""

from typing import Any, NamedTuple, Protocol

from jaxtyping import Array

from specjax._core.state import State
from specjax._options import (
    Bound,
    check_flags,
    check_norm,
    check_options,
)
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.transforms import sn_apply, sn_fuse, sn_init


class InitFn(Protocol):
    """`sn_init` with its options bound."""

    def __call__(self, params: Any, key: Array | None = None) -> State:
        """Returns the state for the params."""
        ...


class ApplyFn(Protocol):
    """`sn_apply` with its options bound."""

    def __call__(
        self, params: Any, state: Any, update_stats: bool = True
    ) -> tuple[Any, Any]:
        """Returns the normalized params and the next state."""
        ...


class FuseFn(Protocol):
    """`sn_fuse` with its options bound."""

    def __call__(self, params: Any, state: Any) -> Any:
        """Returns the params, normalized for good."""
        ...


class SpectralNorm(NamedTuple):
    """Three pure functions that share their options."""

    init: InitFn
    apply: ApplyFn
    fuse: FuseFn


def spectral_norm(
    *,
    kernels: Kernels = flax_kernels,
    bound: Bound = 1.0,
    cap: bool = False,
    n_steps: int = 1,
    grad_sigma: bool = True,
    norm: str = "estimate",
) -> SpectralNorm:
    """Returns `sn_init`, `sn_apply` and `sn_fuse` with their options bound once.

    Args:
        kernels: which leaves are kernels and what linear map each one is.
        bound: the spectral norm of each normalized kernel.
        cap: only shrink: a kernel below the bound comes back as it is.
        n_steps: power steps for each call in training.
        grad_sigma: False holds sigma constant in the derivative (SNGP).
        norm: what is divided by, as for `sn_apply`. With "upper" there is no state:
            `init` returns {}.

    Raises:
        ValueError, TypeError: for options out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> init, apply, fuse = spectral_norm(bound=0.9, cap=True)
        >>> params = {"Dense_0": {"kernel": jnp.ones((3, 4))}}
        >>> params_sn, state = apply(params, init(params))
        >>> print(jnp.linalg.norm(params_sn["Dense_0"]["kernel"], 2).round(4))
        0.9
    """
    check_options(bound=bound, n_steps=n_steps)
    check_flags(cap=cap, grad_sigma=grad_sigma)
    check_norm(norm)

    def init(params: Any, key: Array | None = None) -> State:
        if norm == "upper":
            select(params, kernels)  # its errors are due here
            return {}
        return sn_init(params, kernels=kernels, key=key)

    def apply(params: Any, state: Any, update_stats: bool = True) -> tuple[Any, Any]:
        return sn_apply(
            params,
            state,
            kernels=kernels,
            bound=bound,
            cap=cap,
            n_steps=n_steps,
            update_stats=update_stats,
            grad_sigma=grad_sigma,
            norm=norm,
        )

    def fuse(params: Any, state: Any) -> Any:
        return sn_fuse(params, state, kernels=kernels, bound=bound, cap=cap, norm=norm)

    return SpectralNorm(init, apply, fuse)
