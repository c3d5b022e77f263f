"""Spectral norms of a model's weights, measured and controlled by pure functions.

    params --kernels--> kernel + its linear map --power--> u, v --sigma--> sigma --rescale--> kernel'
                                                    ^                                          |
    state --------------------------------------- u |            params', state' <-------------+

The names below are in the order of that path. The adapters `specjax.linen`,
`specjax.nnx`, `specjax.optax` and `specjax.testing` are imported by name, and so is
`specjax.plotting`. ``python -m specjax report CHECKPOINT`` reports on a saved model.
"""

from typing import TYPE_CHECKING

from specjax import bounds, certificates, constraints, errors, linear_maps
from specjax._core.krylov import warm_up
from specjax._core.sigma import normalize, sigma
from specjax._core.state import State
from specjax._core.step import SingularVectors, power_iteration
from specjax._moved import claim as _claim
from specjax._moved import moved as _moved
from specjax.certificates import Certificate
from specjax.certificates._lipschitz import lipschitz
from specjax.diagnostics import Report, metrics, report
from specjax.kernels import (
    Kernels,
    Rule,
    equinox_kernels,
    flax_kernels,
    haiku_kernels,
    shard_map_kernels,
    state_specs,
)
from specjax.linear_maps import Conv, LinearMap, Matrix
from specjax.transforms import SpectralNorm, sn_apply, sn_fuse, sn_init, spectral_norm

__version__ = "0.2.0"

# In the order of the drawing.
__all__ = [
    # kernels: which leaf is which linear map
    "Kernels",
    "Rule",
    "flax_kernels",
    "haiku_kernels",
    "equinox_kernels",
    "shard_map_kernels",
    "state_specs",
    "LinearMap",
    "Matrix",
    "Conv",
    # the arrows, for one kernel
    "warm_up",
    "SingularVectors",
    "power_iteration",
    "sigma",
    "normalize",
    # the trees
    "State",
    "sn_init",
    "sn_apply",
    "sn_fuse",
    "SpectralNorm",
    "spectral_norm",
    # what is said of them
    "metrics",
    "Report",
    "report",
    "Certificate",
    "lipschitz",
    # rooms
    "bounds",
    "certificates",
    "constraints",
    "errors",
    "linear_maps",
]
_OWN = [name for name in __all__ if name not in ("Kernels", "Rule", "State")]
_claim(__name__, _OWN, globals())
_PARTS = ("AvgPool", "Claim", "Factor", "MaxPool", "Repeat", "Reshape", "Residual")
_PARTS += ("Scale", "SumPool")
if not TYPE_CHECKING:  # a type checker is to flag the old names
    __getattr__ = _moved(
        __name__, {name: f"specjax.certificates.{name}" for name in _PARTS}
    )
