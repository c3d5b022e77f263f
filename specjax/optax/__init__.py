"""Constraints on the params after each update, as links of an optax chain.

Forward and backward pass are the plain model's; the whole cost is in the update.
"""

from specjax._moved import claim as _claim
from specjax.optax._clip import clip_weights
from specjax.optax._project import keep_projected
from specjax.optax._renormalize import (
    KeepSpectralNormState,
    keep_spectral_norm,
    renormalize,
)

__all__ = [
    "KeepSpectralNormState",
    "clip_weights",
    "keep_projected",
    "keep_spectral_norm",
    "renormalize",
]
_claim(__name__, __all__, globals())
