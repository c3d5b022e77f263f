"""Weight normalization: ``w = g v / |v|``, length and direction trained apart."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from specjax._core.guards import usable
from specjax._options import check_flags
from specjax._tree import replace_leaves
from specjax.constraints import _split
from specjax.constraints._split import Split
from specjax.constraints._units import all_number_shapes, check_units, norms, times
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.linear_maps import StackedMap


def wn_init(
    params: Any, *, kernels: Kernels = flax_kernels, per_unit: bool = True
) -> Split:
    """Returns ``{"g": |v|, "v": params}``: what to train, the function unchanged.

    g is the norm over all axes of a kernel but those of its output units (and of a
    stack): for y = x W the norm of each column of W. That is torch's
    ``weight_norm(dim=0)``, whose weights have their outputs first.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what linear map each one is; of a `Conv`
            the units are the output channels.
        per_unit: False has one g for each kernel (torch's ``dim=None``).

    Returns:
        A dict of two trees: g, in the kernel's units, a nested dict with an array for
        each kernel, the batch axes first and then the output axes, in float32 at least;
        and v, the params as they are, with what is not a kernel.

    Raises:
        ValueError, TypeError: if no leaf is a kernel, or one does not fit its map.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.array([[3.0, 0.0], [4.0, 2.0]])}}
        >>> split = wn_init(params)
        >>> print(split["g"]["Dense_0"]["kernel"])
        [5. 2.]
        >>> grads = jax.grad(lambda s: wn_apply(s)["Dense_0"]["kernel"][0, 0])(split)
        >>> print(grads["v"]["Dense_0"]["kernel"].round(2))  # orthogonal to (3, 4)
        [[ 0.64  0.  ]
         [-0.48  0.  ]]

    Source: Salimans and Kingma, "Weight Normalization" (2016), equation (2).
    """
    check_flags(per_unit=per_unit)
    selected = select(params, kernels)
    check_units(selected)
    gains = {
        path: _norms(jnp.asarray(kernel), linear_map, per_unit)
        for path, (kernel, linear_map) in selected.items()
    }
    return _split.build(params, gains)


def wn_apply(split: Any, *, kernels: Kernels = flax_kernels) -> Any:
    """Returns the params ``w = g v / |v|``, in v's tree and dtypes.

    Differentiate through it: ``dL/dg = <dL/dw, v> / |v|`` and ``dL/dv = g / |v| dL/dw -
    g dL/dg / |v|^2 v``, which is orthogonal to v, so that a step along it can only make
    v longer. A unit of zeros and one that is not finite come back as they are, with the
    derivative of that.

    Args:
        split: from `wn_init`, or after training steps. Whether g is for each unit or
            for each kernel, its shape says.
        kernels: as given to `wn_init`.

    Raises:
        ValueError, TypeError: at trace time, for a tree that `wn_init` does not make of
            these kernels.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.array([[3.0, 0.0], [4.0, 2.0]])}}
        >>> split = wn_init(params)
        >>> split["v"] = jax.tree.map(lambda v: 7 * v, split["v"])
        >>> print(wn_apply(split)["Dense_0"]["kernel"].round(4))
        [[3. 0.]
         [4. 2.]]

    Source: Salimans and Kingma (2016), equations (2) and (3).
    """
    found = _split.read(split, kernels, all_number_shapes, "wn_init")
    merged = {
        path: _merged(v, g, linear_map) for path, (v, g, linear_map) in found.items()
    }
    return replace_leaves(split["v"], merged)


def wn_fuse(split: Any, *, kernels: Kernels = flax_kernels) -> Any:
    """Returns plain params, for good: for deployment, export and other functions.

    They have the tree, shapes and dtypes of those that were given to `wn_init`, and the
    values of `wn_apply`, as constants: no derivative passes through.

    Args:
        split: from `wn_init`, or after training steps.
        kernels: as given to `wn_init`.

    Raises:
        ValueError, TypeError: as `wn_apply`.
    """
    return wn_apply(jax.lax.stop_gradient(split), kernels=kernels)


_norms = jax.jit(norms, static_argnums=(1, 2))


@functools.partial(jax.jit, static_argnums=2)
def _merged(v: Array, g: Array, linear_map: StackedMap) -> Array:
    norm = norms(v, linear_map, per_unit=g.ndim > len(linear_map.batch_axis))
    wanted = usable(norm)
    scale = g.astype(norm.dtype) / jnp.where(wanted, norm, 1)
    return times(v, jnp.where(wanted, scale, 1), linear_map)
