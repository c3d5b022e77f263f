"""The trees: params and state in, normalized params and state out.

`sn_init` makes the state, `sn_apply` takes one step, `sn_fuse` converges and bakes the
result; `spectral_norm` binds their options. Each walks the path of `_core.kernel` for
every kernel of a tree. Options are checked here.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from specjax._core import kernel as _kernel
from specjax._core import state as _state
from specjax._core.state import State
from specjax._moved import renamed
from specjax._options import Bound, check_flags, check_method, check_options
from specjax._tree import Path, replace_leaves
from specjax.bounds._certified import certified
from specjax.kernels import Kernels, flax_kernels, select
from specjax.linear_maps import StackedMap

__all__ = ["SpectralNorm", "sn_apply", "sn_fuse", "sn_init", "spectral_norm"]

# The door of `_fast`, which changes compiled programs and no number. The package is
# whole without that folder.
try:
    from specjax import _fast
except ImportError:
    _fast = None
_apply_all = _fast.apply_all if _fast else _kernel.apply_all

_Selected: TypeAlias = dict[Path, tuple[Array, StackedMap]]


def sn_init(
    params: Any, *, kernels: Kernels = flax_kernels, key: Array | None = None
) -> State:
    """Returns a state whose u has converged: sigma is right before the first step.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what linear map each one is.
        key: PRNG key for the start vectors; without one they are fixed.

    Returns:
        A nested dict that mirrors the params: ``u``, ``u2``, ``sigma`` for each kernel.

    Raises:
        ValueError, TypeError: if no leaf is a kernel, or one does not fit its map.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
        >>> state = sn_init(params)
        >>> print(state["Dense_0"]["kernel"]["sigma"].round(4))
        3.4641
    """
    selected = _selected(params, kernels)
    keys = (
        [None] * len(selected) if key is None else jax.random.split(key, len(selected))
    )
    states = {
        path: _kernel.init(kernel, own_key, linear_map=linear_map)
        for own_key, (path, (kernel, linear_map)) in zip(
            keys, selected.items(), strict=True
        )
    }
    return _state.build(states)


@renamed(norm="method")
def sn_apply(
    params: Any,
    state: Any,
    *,
    kernels: Kernels = flax_kernels,
    bound: Bound = 1.0,
    cap: bool = False,
    n_steps: int = 1,
    update_stats: bool = True,
    grad_sigma: bool = True,
    method: str = "estimate",
) -> tuple[Any, Any]:
    """Returns the params with every kernel at ``W bound / sigma``, and the next state.

    Differentiable in the params, with u and v constant (Miyato's gradient). A kernel
    that is zero or not finite comes back as it is; its u stays, and its sigma stays the
    last finite one.

    Args:
        params: tree of arrays, as given to `sn_init`.
        state: from `sn_init` or the step before.
        kernels: as given to `sn_init`.
        bound: the spectral norm of each normalized kernel; may be traced.
        cap: only shrink: a kernel below the bound comes back as it is.
        n_steps: power steps; one is enough in training. 0 uses u as it is.
        update_stats: False for evaluation: u as it is, the state comes back unchanged.
        grad_sigma: False holds sigma constant in the derivative (SNGP).
        method: "estimate" divides by sigma, a running estimate from below. "upper"
            divides by a proved bound (`specjax.bounds.upper`), which costs products of
            the kernel with itself: the norm of the result is then at most `bound`, of
            the matrix under a `Matrix`, of the operator under a `Conv`. The state is
            neither read nor changed: {} will do.

    Returns:
        ``(params, state)``, in trees, shapes and dtypes equal to those of the jax
        arrays given. The norm is the bound up to the precision of the kernel's dtype,
        for kernels of norm 1e-16 to 1e18 in float32.

    Raises:
        ValueError, TypeError: at trace time, for options out of range, for kernels as
            `sn_init`, and for a state that does not fit the params.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": 5 * jnp.ones((3, 4)), "bias": jnp.ones(4)}}
        >>> params_sn, state = sn_apply(params, sn_init(params))
        >>> print(jnp.linalg.norm(params_sn["Dense_0"]["kernel"], 2).round(4))
        1.0

    Source: Miyato et al., "Spectral Normalization for GANs" (2018), Algorithm 1.
    """
    options = Options(kernels, bound, cap, n_steps, grad_sigma, method)
    return step(params, state, options, update_stats)[:2]


@renamed(norm="method")
def sn_fuse(
    params: Any,
    state: Any,
    *,
    kernels: Kernels = flax_kernels,
    bound: Bound = 1.0,
    cap: bool = False,
    method: str = "estimate",
) -> Any:
    """Returns plain params on the bound: u is converged on these very params.

    For deployment, export and averaged (EMA) params; the state may be of other params
    of the same shapes.

    Args:
        params: tree of arrays with the shapes that the state was made for.
        state: from `sn_init` or `sn_apply`; read, not changed.
        kernels: as given to `sn_init`.
        bound: the spectral norm of each normalized kernel.
        cap: only shrink: a kernel below the bound comes back as it is.
        method: as for `sn_apply`; with "upper" the state is not read.

    Returns:
        The params, with the norm of each kernel within 1e-3 of the bound (and within
        the precision of its dtype); with method="upper" at most the bound.

    Raises:
        ValueError, TypeError: as `sn_apply`.
    """
    options = Options(kernels, bound, cap, method=method)
    options.check()
    selected = _selected(params, kernels)
    if method == "upper":
        return _certified(params, selected, options)
    states = _state.read(state, selected)
    fused = {
        path: _kernel.fuse(
            kernel, states[path].u, bound, linear_map=linear_map, cap=cap
        )
        for path, (kernel, linear_map) in selected.items()
    }
    return replace_leaves(params, fused)


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


@renamed(norm="method")
def spectral_norm(
    *,
    kernels: Kernels = flax_kernels,
    bound: Bound = 1.0,
    cap: bool = False,
    n_steps: int = 1,
    grad_sigma: bool = True,
    method: str = "estimate",
) -> SpectralNorm:
    """Returns `sn_init`, `sn_apply` and `sn_fuse` with their options bound once.

    Args:
        kernels: which leaves are kernels and what linear map each one is.
        bound: the spectral norm of each normalized kernel.
        cap: only shrink: a kernel below the bound comes back as it is.
        n_steps: power steps for each call in training.
        grad_sigma: False holds sigma constant in the derivative (SNGP).
        method: what is divided by, as for `sn_apply`. With "upper" there is no state:
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
    options = Options(kernels, bound, cap, n_steps, grad_sigma, method)
    options.check()

    def init(params: Any, key: Array | None = None) -> State:
        if method == "upper":
            select(params, kernels)  # its errors are due here
            return {}
        return sn_init(params, kernels=kernels, key=key)

    def apply(params: Any, state: Any, update_stats: bool = True) -> tuple[Any, Any]:
        return step(params, state, options, update_stats)[:2]

    def fuse(params: Any, state: Any) -> Any:
        return sn_fuse(
            params, state, kernels=kernels, bound=bound, cap=cap, method=method
        )

    return SpectralNorm(init, apply, fuse)


class Options(NamedTuple):
    """The options of the three functions, as `sn_apply` describes them."""

    kernels: Kernels = flax_kernels
    bound: Bound = 1.0
    cap: bool = False
    n_steps: int = 1
    grad_sigma: bool = True
    method: str = "estimate"

    def check(self) -> None:
        """Raises for an option out of range.

        Raises:
            ValueError, TypeError: one of the two.
        """
        check_options(bound=self.bound, n_steps=self.n_steps)
        check_flags(cap=self.cap, grad_sigma=self.grad_sigma)
        check_method(self.method)


class Step(NamedTuple):
    """What `sn_apply` returns, and the way in which a wrapper may use it faster.

    Attributes:
        params: normalized.
        state: the next one.
        products: of `_fast`: which layers may scale their result in place of their
            kernel; None if none may.
    """

    params: Any
    state: Any
    products: Any = None


def step(params: Any, state: Any, options: Options, update_stats: Any) -> Step:
    """Returns what `sn_apply` does, for a wrapper; the options are checked here."""
    options.check()
    check_flags(update_stats=update_stats)
    selected = _selected(params, options.kernels)
    if options.method == "upper":
        return Step(_certified(params, selected, options), state)
    states = _state.read(state, selected)
    normalized = _apply_all(
        [kernel for kernel, _ in selected.values()],
        list(states.values()),
        options.bound,
        linear_maps=[linear_map for _, linear_map in selected.values()],
        cap=options.cap,
        n_steps=options.n_steps if update_stats else 0,
        grad_sigma=options.grad_sigma,
    )
    new = dict(zip(selected, normalized, strict=True))
    params = replace_leaves(params, {path: one.kernel for path, one in new.items()})
    if update_stats:
        state = _state.write(state, {path: one.state for path, one in new.items()})
    if _fast is None:
        return Step(params, state)
    kernels = [kernel for kernel, _ in selected.values()]
    return Step(params, state, _fast.ScaledProducts(kernels, normalized))


def _certified(params: Any, selected: _Selected, options: Options) -> Any:
    divided = {
        path: certified(
            kernel,
            options.bound,
            linear_map=linear_map,
            cap=options.cap,
            grad_sigma=options.grad_sigma,
        )
        for path, (kernel, linear_map) in selected.items()
    }
    return replace_leaves(params, divided)


def _selected(params: Any, kernels: Kernels) -> _Selected:
    selected = select(params, kernels).items()
    return {
        path: (jnp.asarray(leaf), linear_map) for path, (leaf, linear_map) in selected
    }
