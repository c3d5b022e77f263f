"""Kernels on a mesh: specs for the state, and the rule for shards held by hand.

`specs` are the `PartitionSpec` of the params: a tree like theirs, or one whose leaf
stands for all below it, as in the in_specs of `jax.shard_map`.
"""

from typing import Any

import jax
from jax.sharding import PartitionSpec

from specjax import errors
from specjax._core.state import KernelState, State, build
from specjax._tree import Path, join, named_leaves
from specjax.kernels._rules import Kernels, Rule, as_rule, flax_kernels, select
from specjax.linear_maps import LinearMap, resolve
from specjax.linear_maps._resolved import with_spec


def shard_map_kernels(specs: Any, kernels: Kernels = flax_kernels) -> Rule:
    """Returns the rule for params inside `jax.shard_map`, each with its spec.

    There each device sees its own shard of a kernel. With this rule sums run over the
    devices too: u, u2 and v are shards as the kernel is, sigma is the same on all of
    them, and two vectors are all that moves. Without it, a kernel that differs between
    devices is an error, and with ``check_vma=False`` (and in `pmap`), where jax does
    not tell, a kernel is taken for a whole one. There jax also differentiates the sum
    of all devices' losses: what is the same on all of them counts once for each.

    Args:
        specs: of the params, the very in_specs. An axis without a name is whole. A
            kernel of each device's own keeps the axis of its stack, as a batch axis.
        kernels: which leaves are kernels and what linear map each one is.

    Raises:
        ValueError: by what uses the rule: for a kernel without a spec; where the spec
            and what `shard_map` knows differ; where an axis of that name is not held
            by hand (a wrapper that makes its state as it is built belongs into the
            body).

    Example:
        >>> import jax
        >>> from jax.sharding import PartitionSpec
        >>> rule = shard_map_kernels({"Dense_0": PartitionSpec(None, "model")})
        >>> tuple(rule(("Dense_0", "kernel"), jax.numpy.ones((4, 2))).spec)
        (None, 'model')
    """
    rule, found = as_rule(kernels), named_leaves(specs)

    def split(path: Path, leaf: Any) -> LinearMap | None:
        linear_map = rule(path, leaf)
        if linear_map is None:
            return None
        return with_spec(linear_map, _spec_of(path, found), join(path))

    return split


def state_specs(params: Any, specs: Any, *, kernels: Kernels = flax_kernels) -> State:
    """Returns the specs of `sn_init`'s state for params that lie as `specs` say.

    The natural ones: u and u2 lie as the output axes of their kernel, sigma as its
    batch axes. For in_specs and out_specs of `jax.shard_map`, for `NamedSharding` of
    what a checkpoint is restored to.

    Args:
        params: arrays, or anything with their shapes and dtypes (`jax.eval_shape`).
        specs: of the params.
        kernels: as given to `sn_init`.

    Raises:
        ValueError, TypeError: as `sn_init`; ValueError for a kernel without a spec.

    Example:
        >>> import jax
        >>> from jax.sharding import PartitionSpec
        >>> params = {"Dense_0": {"kernel": jax.numpy.ones((3, 4))}}
        >>> found = state_specs(params, PartitionSpec("data", "model"))
        >>> tuple(found["Dense_0"]["kernel"]["u"])
        ('model',)
    """
    shapes = jax.eval_shape(lambda tree: tree, params)
    found, states = named_leaves(specs), {}
    for path, (kernel, linear_map) in select(shapes, kernels).items():
        split = with_spec(linear_map.said, _spec_of(path, found), join(path))
        names = [name or None for name in resolve(split, kernel.shape).out_split]
        u = PartitionSpec(*names)
        sigma = PartitionSpec(*names[: len(linear_map.batch_axis)])
        states[path] = KernelState(u, u, sigma)
    return build(states)


def _spec_of(path: Path, specs: dict[Path, Any]) -> PartitionSpec:
    """Returns the spec at a path, or that of what it is below."""
    for length in range(len(path), -1, -1):
        if path[:length] in specs:
            return specs[path[:length]]
    message = errors.message(
        join(path),
        got="no spec",
        need="the PartitionSpec with which it goes into the shard_map, P() if whole",
        fix="specs: the in_specs of the params",
    )
    raise ValueError(message)
