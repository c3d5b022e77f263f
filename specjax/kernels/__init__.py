"""Which leaf of a tree is which linear map: rules, and where a rule meets a tree."""

from specjax.kernels._presets import equinox_kernels as equinox_kernels
from specjax.kernels._presets import haiku_kernels as haiku_kernels
from specjax.kernels._rules import Kernels as Kernels
from specjax.kernels._rules import Rule as Rule
from specjax.kernels._rules import flax_kernels as flax_kernels
from specjax.kernels._rules import select as select
from specjax.kernels._sharded import shard_map_kernels as shard_map_kernels
from specjax.kernels._sharded import state_specs as state_specs

__all__ = [
    "Kernels",
    "Rule",
    "equinox_kernels",
    "flax_kernels",
    "haiku_kernels",
    "select",
    "shard_map_kernels",
    "state_specs",
]
