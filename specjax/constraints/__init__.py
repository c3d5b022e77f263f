"""The other ways to constrain a network: pure functions on a tree of params.

Each takes the rules that say which leaves are kernels, as `specjax.sn_init` does.
"""

from specjax.constraints._backward import backward_kernels as backward_kernels
from specjax.constraints._ball import project_spectral_ball as project_spectral_ball
from specjax.constraints._bidirectional import bsn_apply as bsn_apply
from specjax.constraints._bidirectional import bsn_fuse as bsn_fuse
from specjax.constraints._bidirectional import bsn_init as bsn_init
from specjax.constraints._bjorck import bjorck as bjorck
from specjax.constraints._coefficients import muon_steps as muon_steps
from specjax.constraints._coefficients import newton_schulz_steps as newton_schulz_steps
from specjax.constraints._data_init import wn_data_init as wn_data_init
from specjax.constraints._gradient_penalty import between as between
from specjax.constraints._gradient_penalty import gradient_norms as gradient_norms
from specjax.constraints._gradient_penalty import gradient_penalty as gradient_penalty
from specjax.constraints._gradient_penalty import r1 as r1
from specjax.constraints._gradient_penalty import r2 as r2
from specjax.constraints._gradient_penalty import wgan_gp as wgan_gp
from specjax.constraints._group_sort import group_sort as group_sort
from specjax.constraints._group_sort import maxmin as maxmin
from specjax.constraints._hammer import spectral_hammer as spectral_hammer
from specjax.constraints._losses import GanLoss as GanLoss
from specjax.constraints._losses import hinge as hinge
from specjax.constraints._losses import non_saturating as non_saturating
from specjax.constraints._losses import wasserstein as wasserstein
from specjax.constraints._mean_only import mean_only as mean_only
from specjax.constraints._orthogonal import orthogonal_penalty as orthogonal_penalty
from specjax.constraints._orthogonalize import orthogonalize as orthogonalize
from specjax.constraints._orthogonalize import retract as retract
from specjax.constraints._sigma_reparam import sr_apply as sr_apply
from specjax.constraints._sigma_reparam import sr_fuse as sr_fuse
from specjax.constraints._sigma_reparam import sr_init as sr_init
from specjax.constraints._soft_cap import soft_cap_strength as soft_cap_strength
from specjax.constraints._soft_cap import spectral_soft_cap as spectral_soft_cap
from specjax.constraints._spectral_penalty import spectral_penalty as spectral_penalty
from specjax.constraints._weight_norm import wn_apply as wn_apply
from specjax.constraints._weight_norm import wn_fuse as wn_fuse
from specjax.constraints._weight_norm import wn_init as wn_init
