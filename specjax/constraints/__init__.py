"""The other ways to constrain a network: pure functions on a tree of params.

Each takes the rules that say which leaves are kernels, as `specjax.sn_init` does.
"""

from specjax.constraints._ball import project_spectral_ball
from specjax.constraints._bjorck import bjorck
from specjax.constraints._coefficients import muon_steps, newton_schulz_steps
from specjax.constraints._hammer import spectral_hammer
from specjax.constraints._orthogonal import orthogonalize, retract
from specjax.constraints._soft_cap import soft_cap_strength, spectral_soft_cap

__all__ = [
    "bjorck",
    "muon_steps",
    "newton_schulz_steps",
    "orthogonalize",
    "project_spectral_ball",
    "retract",
    "soft_cap_strength",
    "spectral_hammer",
    "spectral_soft_cap",
]
