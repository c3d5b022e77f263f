"""Where D's kernels are put back to after each of Adam's updates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import specjax as sx
from specjax import constraints as sc
from specjax.optax import clip_weights, keep_projected


class Projection(NamedTuple):
    """One row of the table below.

    Attributes:
        words: what a kernel is after it, for the table of a run.
        link: from Adam's rate to the link of the optimizer behind it.
    """

    words: str
    link: Callable[[float], optax.GradientTransformation]


def _kept(function: Any) -> Callable[[float], optax.GradientTransformation]:
    return lambda rate: keep_projected(function)


def _clip(rate: float) -> optax.GradientTransformation:
    """Biases too, as the first WGAN: Arjovsky et al. 2017, Algorithm 1."""
    return clip_weights(0.01, kernels={r".*": sx.Matrix()})


def _soft_cap(rate: float) -> optax.GradientTransformation:
    """For updates that move 256 times 256 entries by the rate, all the same way.

    Adam's have no bound: what a larger one brings is divided down before the cap.
    """
    largest = min(0.3, 256 * rate)  # above .306 it can not hold
    return keep_projected(sc.spectral_soft_cap, max_update=largest)


PROJECTIONS = {
    "clip": Projection("with every entry in [-.01, .01]", _clip),
    "ball": Projection(
        "with singular values of 1 at most", _kept(sc.project_spectral_ball)
    ),
    "orthogonalize": Projection(
        "with all singular values at 1", _kept(sc.orthogonalize)
    ),
    "bjorck": Projection("with all singular values at 1", _kept(sc.bjorck)),
    "retract": Projection(
        "with all singular values at sqrt(out / in)", _kept(sc.retract)
    ),
    "soft-cap": Projection("with singular values of about 1 at most", _soft_cap),
    "hammer": Projection(
        "with its largest singular value put to 1", _kept(sc.spectral_hammer)
    ),
}
