"""The training of a GAN beside its weights: losses, and penalties on gradients."""

from specjax._moved import claim as _claim
from specjax.gan._gradient_penalty import (
    gradient_norms,
    gradient_penalty,
    interpolate,
    r1,
    r2,
    wgan_gp,
)
from specjax.gan._losses import GanLoss, hinge, non_saturating, wasserstein

__all__ = [
    "GanLoss",
    "interpolate",
    "gradient_norms",
    "gradient_penalty",
    "hinge",
    "non_saturating",
    "r1",
    "r2",
    "wasserstein",
    "wgan_gp",
]
_claim(__name__, __all__, globals())
