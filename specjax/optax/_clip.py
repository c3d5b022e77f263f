"""Weight clipping: every entry of a kernel in a box, as the first WGAN had it."""

from typing import Any

import jax.numpy as jnp
import optax

from specjax import errors
from specjax._moved import renamed
from specjax._options import Bound, check_options
from specjax._tree import Path, join, named_leaves, replace_leaves
from specjax.kernels._rules import Kernels, as_rule, flax_kernels
from specjax.optax._project import keep_projected


@renamed(limit="bound")
def clip_weights(
    bound: Bound = 0.01, *, kernels: Kernels | None = None
) -> optax.GradientTransformation:
    """Changes the updates so that no entry of a kernel is beyond ``[-bound, bound]``.

    ``W <- min(max(W, -bound), bound)`` after each update, by optax's own
    `projection_box`. The last link of an `optax.chain`. Exact up to the rounding of
    ``params + updates``.

    Args:
        bound: the c of the paper, in the kernel's units; may be traced. The spectral
            norm of a kernel of in by out entries is at most ``bound sqrt(in out)``.
        kernels: which leaves; None: `flax_kernels`. Any linear map will do, its axes
            are not read: ``{".*": specjax.Matrix()}`` clips biases too, as the paper
            does.

    Returns:
        A gradient transformation whose `update` needs the params.

    Raises:
        ValueError, TypeError: for a bound that is not above 0; by `init` and `update`,
            if no leaf is a kernel or one is not of real numbers; ValueError by `update`
            without params.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> params = {"Dense_0": {"kernel": jnp.array([[0.5, -0.001]])}}
        >>> tx = optax.chain(optax.sgd(0.1), clip_weights())
        >>> updates, _ = tx.update(params, tx.init(params), params)
        >>> print(optax.apply_updates(params, updates)["Dense_0"]["kernel"].round(4))
        [[ 0.01   -0.0009]]

    Source: Arjovsky, Chintala and Bottou, "Wasserstein GAN" (2017), Algorithm 1.
    """
    check_options(bound=bound)
    rules = flax_kernels if kernels is None else kernels

    def clip(params: Any) -> Any:
        chosen = _chosen(params, rules)
        most = {p: jnp.asarray(bound, leaf.dtype) for p, leaf in chosen.items()}
        least = {path: -high for path, high in most.items()}
        clipped = optax.projections.projection_box(chosen, least, most)
        return replace_leaves(params, clipped)

    return keep_projected(clip)


def _chosen(params: Any, kernels: Kernels) -> dict[Path, Any]:
    """Returns the leaves that the rules give a linear map.

    Raises:
        TypeError: for leaves that are not of real numbers.
        ValueError: if there is none.
    """
    rule, leaves = as_rule(kernels), named_leaves(params)
    chosen = {
        path: leaf
        for path, leaf in leaves.items()
        if hasattr(leaf, "shape") and rule(path, leaf) is not None
    }
    if not chosen:
        message = errors.message(
            "clip_weights",
            got=f"no kernel among {len(leaves)} leaves",
            need="at least one to clip",
            fix="kernels={'.*': specjax.Matrix()} for all of them",
        )
        raise errors.NoKernelError(message)
    wrong = [
        errors.message(
            join(path),
            got=errors.describe(leaf),
            need="a kernel of real numbers",
            fix="kernels={...: None, '.*': specjax.Matrix()}",
        )
        for path, leaf in chosen.items()
        if not jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    errors.raise_all(TypeError, wrong)
    return chosen
