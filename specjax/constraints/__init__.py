"""The other ways to constrain a network: pure functions on a tree of params.

Each takes the rules that say which leaves are kernels, as `specjax.sn_init` does.
"""

from typing import TYPE_CHECKING

from specjax._moved import claim as _claim
from specjax._moved import moved as _moved
from specjax.constraints._backward import backward_kernels
from specjax.constraints._ball import project_spectral_ball
from specjax.constraints._bidirectional import bsn_apply, bsn_fuse, bsn_init
from specjax.constraints._bjorck import bjorck
from specjax.constraints._coefficients import muon_steps, newton_schulz_steps
from specjax.constraints._data_init import wn_data_init
from specjax.constraints._hammer import spectral_hammer
from specjax.constraints._orthogonal import orthogonal_penalty
from specjax.constraints._orthogonalize import orthogonalize, retract
from specjax.constraints._sigma_reparam import sr_apply, sr_fuse, sr_init
from specjax.constraints._soft_cap import soft_cap_strength, spectral_soft_cap
from specjax.constraints._spectral_penalty import spectral_penalty
from specjax.constraints._weight_norm import wn_apply, wn_fuse, wn_init

__all__ = [
    "backward_kernels",
    "bjorck",
    "bsn_apply",
    "bsn_fuse",
    "bsn_init",
    "muon_steps",
    "newton_schulz_steps",
    "orthogonal_penalty",
    "orthogonalize",
    "project_spectral_ball",
    "retract",
    "soft_cap_strength",
    "spectral_hammer",
    "spectral_penalty",
    "spectral_soft_cap",
    "sr_apply",
    "sr_fuse",
    "sr_init",
    "wn_apply",
    "wn_data_init",
    "wn_fuse",
    "wn_init",
]
_claim(__name__, __all__, globals())
_GAN = ("GanLoss", "gradient_norms", "gradient_penalty", "hinge", "non_saturating")
_GAN += ("r1", "r2", "wasserstein", "wgan_gp")
if not TYPE_CHECKING:  # a type checker is to flag the old names
    __getattr__ = _moved(
        __name__,
        {name: f"specjax.gan.{name}" for name in _GAN}
        | {
            "between": "specjax.gan.interpolate",
            "group_sort": "specjax.activations.group_sort",
            "maxmin": "specjax.activations.maxmin",
            "mean_only": "specjax.normalization.mean_only",
        },
    )
