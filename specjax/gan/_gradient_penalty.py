"""Gradient penalties: how steep a critic is, sample by sample, as a loss.

A critic is a function from a batch of samples to one score for each. Each penalty is
differentiable in what the critic closes over, in reverse and in forward mode.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from specjax import errors
from specjax._core.guards import root
from specjax._core.vectors import vector_dtype
from specjax._options import check_flags, check_target

Critic = Callable[[Any], Array]


def gradient_norms(critic: Critic, x: Float[Array, "n ..."]) -> Float[Array, " n"]:
    """Returns ``|d critic(x_i) / d x_i|`` for each sample, the l2 norm over its axes.

    One backward pass for the whole batch: samples must not see each other in the
    critic, as they do in batch normalization. In float32 at least; in scores per unit
    of x; right for entries of 1e-18 to 1e18. Where the gradient is zero, so are the
    norm's derivatives.

    Args:
        critic: from a batch of samples to their scores, (n,) or (n, 1).
        x: the samples, batch axis first.

    Raises:
        TypeError: if x is not an array of floats.
        ValueError: if the critic does not return one score for each sample.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
        >>> print(gradient_norms(lambda x: jnp.sum(x**2, axis=1) / 2, x))
        [5. 0.]
    """
    return root(_squares(critic, x))


def gradient_penalty(
    critic: Critic,
    x: Float[Array, "n ..."],
    *,
    target: float | Array = 1.0,
    one_sided: bool = False,
) -> Float[Array, ""]:
    """Returns ``mean((|d critic / d x| - target)^2)`` over the samples.

    One-sided: ``mean(max(0, |d critic / d x| - target)^2)``, nothing for a critic that
    is less steep. Not multiplied by its weight (10 in WGAN-GP). Inside `shard_map` it
    is the mean of this device's samples.

    Args:
        critic: from a batch of samples to their scores, (n,) or (n, 1).
        x: where the gradient is taken; for WGAN-GP see `interpolate`.
        target: the slope, in scores per unit of x; may be traced.
        one_sided: penalize only what is steeper.

    Raises:
        ValueError, TypeError: as `gradient_norms`, and for a target that is not one
            finite number of 0 or more.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.ones((5, 4))
        >>> def critic(x):  # of slope 2
        ...     return x.sum(axis=1)
        >>> print(gradient_penalty(critic, x))
        1.0
        >>> print(gradient_penalty(critic, x, target=3.0, one_sided=True))
        0.0

    Source: Gulrajani et al., "Improved Training of Wasserstein GANs" (2017), equation
    (3); section 4 on the one-sided form.
    """
    check_flags(one_sided=one_sided)
    check_target(target)
    excess = gradient_norms(critic, x) - target
    return jnp.mean(jnp.square(jnp.maximum(excess, 0) if one_sided else excess))


def interpolate(
    key: Array, real: Float[Array, "n ..."], fake: Float[Array, "n ..."]
) -> Float[Array, "n ..."]:
    """Returns ``e real + (1 - e) fake``, e uniform in [0, 1), one for each sample.

    Args:
        key: PRNG key.
        real: samples of the data, batch axis first.
        fake: as many of the generator.

    Raises:
        TypeError: if they are not arrays of floats.
        ValueError: if their shapes differ.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> x = interpolate(jax.random.key(0), jnp.ones((2, 3)), jnp.zeros((2, 3)))
        >>> print(bool((x[0] == x[0, 0]).all()), bool(x[0, 0] == x[1, 0]))
        True False

    Source: Gulrajani et al. (2017), Algorithm 1, line 6.
    """
    _check_floats(real=real, fake=fake)
    if jnp.shape(real) != jnp.shape(fake):
        message = errors.message(
            "fake",
            got=f"shape {jnp.shape(fake)}",
            need=f"the shape of real, {jnp.shape(real)}",
            fix="as many samples of each",
        )
        raise ValueError(message)
    shape = (len(real), *(1 for _ in real.shape[1:]))
    weight = jax.random.uniform(key, shape, vector_dtype(real.dtype))
    return (weight * real + (1 - weight) * fake).astype(real.dtype)


def wgan_gp(
    critic: Critic,
    real: Float[Array, "n ..."],
    fake: Float[Array, "n ..."],
    key: Array,
    *,
    one_sided: bool = False,
) -> Float[Array, ""]:
    """Returns `gradient_penalty` at points `interpolate` real and fake, slope one.

    Multiply it by its weight, 10 in the paper.

    Args:
        critic: from a batch of samples to their scores, (n,) or (n, 1).
        real: samples of the data, batch axis first.
        fake: as many of the generator.
        key: PRNG key of the points.
        one_sided: penalize only slopes above one.

    Raises:
        ValueError, TypeError: as `interpolate` and `gradient_norms`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> real, fake = jnp.ones((5, 4)), jnp.zeros((5, 4))
        >>> print(wgan_gp(lambda x: x.sum(axis=1), real, fake, jax.random.key(0)))
        1.0

    Source: Gulrajani et al. (2017), Algorithm 1.
    """
    x = interpolate(key, real, fake)
    return gradient_penalty(critic, x, one_sided=one_sided)


def r1(critic: Critic, real: Float[Array, "n ..."]) -> Float[Array, ""]:
    """Returns ``mean(|d critic / d x|^2) / 2`` at samples of the data.

    Multiply it by its weight, gamma (10 in the paper's experiments on images).

    Args:
        critic: from a batch of samples to their scores, (n,) or (n, 1).
        real: samples of the data, batch axis first.

    Raises:
        ValueError, TypeError: as `gradient_norms`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(r1(lambda x: x.sum(axis=1), jnp.ones((5, 4))))
        2.0

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?"
    (2018), equation (9).
    """
    return jnp.mean(_squares(critic, real)) / 2


def r2(critic: Critic, fake: Float[Array, "n ..."]) -> Float[Array, ""]:
    """Returns ``mean(|d critic / d x|^2) / 2`` at samples of the generator.

    As `r1`, elsewhere: the samples are constants for the critic's step.

    Args:
        critic: from a batch of samples to their scores, (n,) or (n, 1).
        fake: samples of the generator, batch axis first.

    Raises:
        ValueError, TypeError: as `gradient_norms`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(r2(lambda x: 2 * x.sum(axis=1), jnp.ones((5, 4))))
        8.0

    Source: Mescheder et al. (2018), equation (10).
    """
    return r1(critic, fake)


def _squares(critic: Critic, x: Array) -> Array:
    """Returns the squared norm of each sample's gradient."""
    _check_floats(x=x)

    def total(x: Array) -> Array:
        scores = critic(x)
        _check_scores(scores, x)
        return jnp.sum(scores)

    gradient = jax.grad(total)(x)
    wide = gradient.astype(vector_dtype(gradient.dtype))
    return jnp.sum(jnp.square(wide), axis=tuple(range(1, x.ndim)))


def _check_floats(**arrays: Any) -> None:
    messages = [
        errors.message(
            name,
            got=errors.describe(x),
            need="an array of floats to differentiate in",
            fix=f"{name}.astype(jnp.float32)",
        )
        for name, x in arrays.items()
        if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating)
    ]
    errors.raise_all(TypeError, messages)


def _check_scores(scores: Any, x: Array) -> None:
    shapes = ((), (1,)) if x.ndim else ()
    if jnp.shape(scores) not in [(*x.shape[:1], *rest) for rest in shapes]:
        message = errors.message(
            "critic(x)",
            got=errors.describe(scores),
            need=f"one score for each sample of x, {errors.describe(x)}",
            fix="critic=lambda x: model.apply(variables, x)[..., 0]",
        )
        raise ValueError(message)
