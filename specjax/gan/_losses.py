"""The losses of a GAN, for critic and generator: non-saturating, hinge, Wasserstein.

A loss is a pair of functions of scores, as a critic returns them before any sigmoid.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from specjax import errors
from specjax._core.vectors import vector_dtype


class CriticLoss(Protocol):
    """What the critic minimizes."""

    def __call__(
        self, real: Float[Array, " ..."], fake: Float[Array, " ..."]
    ) -> Float[Array, ""]:
        """Returns the loss of scores of real samples and of fake ones."""
        ...


class GeneratorLoss(Protocol):
    """What the generator minimizes."""

    def __call__(self, fake: Float[Array, " ..."]) -> Float[Array, ""]:
        """Returns the loss of scores of fake samples."""
        ...


class GanLoss(NamedTuple):
    """A pair of losses.

    Both take scores of any shape and return their mean loss, in float32 at least; NaN
    for no scores.

    Attributes:
        critic: ``critic(real, fake)``, of the scores of real samples and of fake ones.
        generator: ``generator(fake)``.

    Example:
        >>> import jax.numpy as jnp
        >>> scores = jnp.array([2.0, -1.0])
        >>> for loss in (non_saturating, hinge, wasserstein):
        ...     print(loss.critic(scores, -scores).round(3), loss.generator(-scores))
        1.44 1.2200949
        2.0 0.5
        -1.0 0.5
    """

    critic: CriticLoss
    generator: GeneratorLoss


def _log_critic(
    real: Float[Array, " ..."], fake: Float[Array, " ..."]
) -> Float[Array, ""]:
    """Returns ``mean(softplus(-real)) + mean(softplus(fake))``."""
    return jnp.mean(jax.nn.softplus(-_wide("real", real))) + jnp.mean(
        jax.nn.softplus(_wide("fake", fake))
    )


def _log_generator(fake: Float[Array, " ..."]) -> Float[Array, ""]:
    """Returns ``mean(softplus(-fake))``."""
    return jnp.mean(jax.nn.softplus(-_wide("fake", fake)))


def _hinge_critic(
    real: Float[Array, " ..."], fake: Float[Array, " ..."]
) -> Float[Array, ""]:
    """Returns ``mean(max(0, 1 - real)) + mean(max(0, 1 + fake))``."""
    return jnp.mean(jax.nn.relu(1 - _wide("real", real))) + jnp.mean(
        jax.nn.relu(1 + _wide("fake", fake))
    )


def _linear_critic(
    real: Float[Array, " ..."], fake: Float[Array, " ..."]
) -> Float[Array, ""]:
    """Returns ``mean(fake) - mean(real)``."""
    return jnp.mean(_wide("fake", fake)) - jnp.mean(_wide("real", real))


def _linear_generator(fake: Float[Array, " ..."]) -> Float[Array, ""]:
    """Returns ``-mean(fake)``."""
    return -jnp.mean(_wide("fake", fake))


non_saturating: GanLoss = GanLoss(_log_critic, _log_generator)
"""``mean(softplus(-real)) + mean(softplus(fake))`` and ``mean(softplus(-fake))``.

Source: Goodfellow et al., "Generative Adversarial Nets" (2014), section 3.
"""

hinge: GanLoss = GanLoss(_hinge_critic, _linear_generator)
"""``mean(max(0, 1 - real)) + mean(max(0, 1 + fake))`` and ``-mean(fake)``.

Source: Lim and Ye, "Geometric GAN" (2017); Miyato et al. (2018), equations (16), (17).
"""

wasserstein: GanLoss = GanLoss(_linear_critic, _linear_generator)
"""``mean(fake) - mean(real)`` and ``-mean(fake)``, for a critic of bounded slope.

Source: Arjovsky, Chintala and Bottou, "Wasserstein GAN" (2017), equation (2).
"""


def _wide(name: str, scores: Array) -> Array:
    if not hasattr(scores, "dtype") or not jnp.issubdtype(scores.dtype, jnp.floating):
        message = errors.message(
            name,
            got=errors.describe(scores),
            need="an array of scores, as floats",
            fix="the critic's output before any sigmoid",
        )
        raise TypeError(message)
    return scores.astype(vector_dtype(scores.dtype))
