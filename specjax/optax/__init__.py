"""Constraints on the params after each update, as links of an optax chain.

Forward and backward pass are the plain model's; the whole cost is in the update.
"""

from specjax.optax._clip import clip_weights as clip_weights
from specjax.optax._project import keep_projected as keep_projected
from specjax.optax._renormalize import KeepSpectralNormState as KeepSpectralNormState
from specjax.optax._renormalize import keep_spectral_norm as keep_spectral_norm
from specjax.optax._renormalize import renormalize as renormalize
