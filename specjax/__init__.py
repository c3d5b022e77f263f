"""Spectral norms of a model's weights, measured and controlled by pure functions.

    params --kernels--> kernel + its linear map --power--> u, v --sigma--> sigma --rescale--> kernel'
                                                    ^                                          |
    state --------------------------------------- u |            params', state' <-------------+

The names below are in the order of that path. The adapters `specjax.linen`,
`specjax.nnx`, `specjax.optax` and `specjax.testing` are imported by name, and so is
`specjax.plotting`. ``python -m specjax report CHECKPOINT`` reports on a saved model.
"""

from specjax import bounds as bounds
from specjax import constraints as constraints
from specjax.kernels import Kernels as Kernels
from specjax.kernels import Rule as Rule
from specjax.kernels import equinox_kernels as equinox_kernels
from specjax.kernels import flax_kernels as flax_kernels
from specjax.kernels import haiku_kernels as haiku_kernels
from specjax.kernels import shard_map_kernels as shard_map_kernels
from specjax.kernels import state_specs as state_specs
from specjax.linear_maps import Conv as Conv
from specjax.linear_maps import LinearMap as LinearMap
from specjax.linear_maps import Matrix as Matrix
from specjax._core.krylov import warm_up as warm_up
from specjax._core.step import SingularVectors as SingularVectors
from specjax._core.step import power_iteration as power_iteration
from specjax._core.sigma import sigma as sigma
from specjax._core.sigma import normalize as normalize
from specjax._core.state import State as State
from specjax.transforms import SpectralNorm as SpectralNorm
from specjax.transforms import sn_apply as sn_apply
from specjax.transforms import sn_fuse as sn_fuse
from specjax.transforms import sn_init as sn_init
from specjax.transforms import spectral_norm as spectral_norm
from specjax.diagnostics._metrics import metrics as metrics
from specjax.diagnostics._report import Report as Report
from specjax.diagnostics._report import report as report
from specjax.certificates._lipschitz import lipschitz as lipschitz
from specjax.certificates._certificate import Certificate as Certificate
from specjax.certificates._certificate import Factor as Factor
from specjax.certificates._pools import AvgPool as AvgPool
from specjax.certificates._pools import MaxPool as MaxPool
from specjax.certificates._pools import SumPool as SumPool
from specjax.certificates._parts import Claim as Claim
from specjax.certificates._parts import Repeat as Repeat
from specjax.certificates._parts import Reshape as Reshape
from specjax.certificates._parts import Residual as Residual
from specjax.certificates._parts import Scale as Scale

__version__ = "0.1.0"
