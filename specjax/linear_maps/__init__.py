"""What a kernel does to an input: the one place that knows `Matrix` from `Conv`.

A map is said without a shape (`LinearMap`) and resolved once for the array that it is
of: `StackedMap` is how kernels are stacked in it, `ResolvedMap` the map of one kernel.
"""

from specjax._moved import claim as _claim
from specjax.linear_maps._conv import Conv as Conv
from specjax.linear_maps._conv_local import ConvLocal as ConvLocal
from specjax.linear_maps._matrix import Matrix as Matrix
from specjax.linear_maps._resolved import LinearMap as LinearMap
from specjax.linear_maps._resolved import ResolvedMap as ResolvedMap
from specjax.linear_maps._resolved import StackedMap as StackedMap
from specjax.linear_maps._resolved import resolve as resolve

__all__ = [
    "Conv",
    "ConvLocal",
    "LinearMap",
    "Matrix",
    "ResolvedMap",
    "StackedMap",
    "resolve",
]
_claim(__name__, __all__, globals())
