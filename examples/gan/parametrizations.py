"""What Adam moves and what D multiplies by: one row for each parametrization."""

from collections.abc import Callable
from typing import Any, NamedTuple

import specjax as sx
from specjax import constraints as sc

Tree = Any
Kernels = Any


class Parametrization(NamedTuple):
    """The way from what Adam moves (trained) over raw kernels to those that D uses.

    Attributes:
        words: what D multiplies by, for the table of a run.
        as_used: whether D multiplies by the raw kernels.
        init: ``(params, kernels) -> (trained, carried)``, the function unchanged by
            those that have a gain; carried is {} but for a second state.
        raw: ``(trained, kernels) -> params`` whose sigma is measured in each step.
        apply: ``(trained, sn, carried, kernels, update_stats) -> (used, sn, carried)``
            with `sn` specjax's state of the raw kernels.
    """

    words: str
    as_used: bool
    init: Callable[[Tree, Kernels], tuple[Tree, Tree]]
    raw: Callable[[Tree, Kernels], Tree]
    apply: Callable[[Tree, Tree, Tree, Kernels, bool], tuple[Tree, Tree, Tree]]


def _plain(params: Tree, kernels: Kernels) -> tuple[Tree, Tree]:
    return params, {}


def _same(trained: Tree, kernels: Kernels) -> Tree:
    return trained


def _direction(split: Tree, kernels: Kernels) -> Tree:
    return split["v"]


def _merged(split: Tree, kernels: Kernels) -> Tree:
    return sc.wn_apply(split, kernels=kernels)


def _measured(raw: Callable[[Tree, Kernels], Tree]) -> Any:
    """Returns the function that uses the raw kernels and only measures their sigma."""

    def apply(
        trained: Tree, sn: Tree, carried: Tree, kernels: Kernels, update_stats: bool
    ) -> tuple[Tree, Tree, Tree]:
        used = raw(trained, kernels)
        _, sn = sx.sn_apply(used, sn, kernels=kernels, update_stats=update_stats)
        return used, sn, carried

    return apply


def _normalized(**options: Any) -> Any:
    """Returns the function that divides by sigma, in one of `sx.sn_apply`'s ways."""

    def apply(
        trained: Tree, sn: Tree, carried: Tree, kernels: Kernels, update_stats: bool
    ) -> tuple[Tree, Tree, Tree]:
        used, sn = sx.sn_apply(
            trained, sn, kernels=kernels, update_stats=update_stats, **options
        )
        return used, sn, carried

    return apply


def _wn_init(params: Tree, kernels: Kernels) -> tuple[Tree, Tree]:
    return sc.wn_init(params, kernels=kernels), {}


def _sr_init(params: Tree, kernels: Kernels) -> tuple[Tree, Tree]:
    return sc.sr_init(params, kernels=kernels)[0], {}


def _sr_apply(
    split: Tree, sn: Tree, carried: Tree, kernels: Kernels, update_stats: bool
) -> tuple[Tree, Tree, Tree]:
    used, sn = sc.sr_apply(split, sn, kernels=kernels, update_stats=update_stats)
    return used, sn, carried


def _bsn_init(params: Tree, kernels: Kernels) -> tuple[Tree, Tree]:
    """The state of the forward pass is that of the raw kernels: the other is more."""
    return params, {"backward": sc.bsn_init(params, kernels=kernels)["backward"]}


def _bsn_apply(
    params: Tree, sn: Tree, carried: Tree, kernels: Kernels, update_stats: bool
) -> tuple[Tree, Tree, Tree]:
    both = {"forward": sn, "backward": carried["backward"]}
    used, both = sc.bsn_apply(params, both, kernels=kernels, update_stats=update_stats)
    return used, both["forward"], carried | {"backward": both["backward"]}


PARAMETRIZATIONS = {
    "none": Parametrization("the raw one", True, _plain, _same, _measured(_same)),
    "sn": Parametrization("raw / sigma", False, _plain, _same, _normalized()),
    "sngp": Parametrization(
        "raw / sigma where that is above 1, else raw",
        False,
        _plain,
        _same,
        _normalized(cap=True, grad_sigma=False),
    ),
    "bsn": Parametrization(
        "raw / the mean of sigma forward and backward",
        False,
        _bsn_init,
        _same,
        _bsn_apply,
    ),
    "sr": Parametrization(
        "g raw / sigma, g one trained number for each kernel",
        False,
        _sr_init,
        _direction,
        _sr_apply,
    ),
    "wn": Parametrization(
        "the raw one, g v / |v| for each unit, of which g and v are trained",
        True,
        _wn_init,
        _merged,
        _measured(_merged),
    ),
}
