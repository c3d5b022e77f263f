"""What D's loss gets added: penalties of its slope and of its raw kernels."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from specjax import constraints as sc
from specjax import gan

Tree = Any


class Seen(NamedTuple):
    """All that a penalty of an update of D may look at.

    Attributes:
        critic: from images to their scores, with the kernels that D uses.
        real: the batch of the data.
        fake: as many images of G.
        key: of the points between them.
        raw: D's params before they are normalized; with ``wn`` as they are used.
        sn: specjax's state of them.
        kernels: which leaves of them are kernels.
    """

    critic: Callable[[Array], Array]
    real: Array
    fake: Array
    key: Array
    raw: Tree
    sn: Tree
    kernels: Any


def _gp(seen: Seen) -> Float[Array, ""]:
    return 10 * gan.wgan_gp(seen.critic, seen.real, seen.fake, seen.key)


def _gp_one_sided(seen: Seen) -> Float[Array, ""]:
    return 10 * gan.wgan_gp(seen.critic, seen.real, seen.fake, seen.key, one_sided=True)


def _r1(seen: Seen) -> Float[Array, ""]:
    return 10 * gan.r1(seen.critic, seen.real)


def _r2(seen: Seen) -> Float[Array, ""]:
    return 10 * gan.r2(seen.critic, seen.fake)


def _orthogonal(seen: Seen) -> Float[Array, ""]:
    return 1e-4 * sc.orthogonal_penalty(seen.raw, kernels=seen.kernels, form="squared")


def _off_diagonal(seen: Seen) -> Float[Array, ""]:
    return 1e-4 * sc.orthogonal_penalty(seen.raw, kernels=seen.kernels)


def _spectral(seen: Seen) -> Float[Array, ""]:
    """Of the u that the step has just moved: it takes no power step of its own."""
    penalty, _ = sc.spectral_penalty(
        seen.raw, seen.sn, kernels=seen.kernels, update_stats=False
    )
    return 0.01 * penalty


# Of the slope at images: their scores must not depend on each other.
SLOPES = {"gp": _gp, "gp-one-sided": _gp_one_sided, "r1": _r1, "r2": _r2}
PENALTIES = SLOPES | {
    "orthogonal": _orthogonal,
    "off-diagonal": _off_diagonal,
    "spectral-penalty": _spectral,
}
