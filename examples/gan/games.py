"""How often and how fast each player moves, and for what: settings and losses."""

from typing import NamedTuple

from specjax import gan


class Game(NamedTuple):
    """One setting.

    Attributes:
        rate: Adam's; None: the data set's own, falling.
        beta1: of Adam's mean.
        beta2: of Adam's mean square.
        n_dis: updates of D, each on a batch of its own, before one of G.
    """

    rate: float | None
    beta1: float
    beta2: float
    n_dis: int


# Miyato et al. 2018, Table 1: alpha, beta1, beta2, n_dis.
SETTINGS = {
    "A": Game(1e-4, 0.5, 0.9, 5),
    "B": Game(1e-4, 0.5, 0.999, 1),
    "C": Game(2e-4, 0.5, 0.999, 1),
    "D": Game(1e-3, 0.5, 0.9, 5),
    "E": Game(1e-3, 0.5, 0.999, 5),
    "F": Game(1e-3, 0.9, 0.999, 5),
}
OWN = Game(None, 0.5, 0.999, 1)

LOSSES = {
    "hinge": gan.hinge,
    "non-saturating": gan.non_saturating,
    "wasserstein": gan.wasserstein,
}
