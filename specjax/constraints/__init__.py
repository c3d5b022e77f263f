"""The other ways to constrain a network: pure functions on a tree of params.

Each takes the rules that say which leaves are kernels, as `specjax.sn_init` does.
"""

from specjax.constraints._ball import project_spectral_ball as project_spectral_ball
from specjax.constraints._bjorck import bjorck as bjorck
from specjax.constraints._coefficients import muon_steps as muon_steps
from specjax.constraints._coefficients import newton_schulz_steps as newton_schulz_steps
from specjax.constraints._hammer import spectral_hammer as spectral_hammer
from specjax.constraints._orthogonalize import orthogonalize as orthogonalize
from specjax.constraints._orthogonalize import retract as retract
from specjax.constraints._soft_cap import soft_cap_strength as soft_cap_strength
from specjax.constraints._soft_cap import spectral_soft_cap as spectral_soft_cap
