"""Which runs the study is made of, in the order in which they are made."""

import re
from typing import NamedTuple

from examples.gan.errors import UserError
from examples.study.methods import (
    LOSSES,
    METHODS,
    OTHERS,
    OTHERS_LOSS,
    ROBUSTNESS,
    SETTINGS,
)


class Job(NamedTuple):
    """One run: what is constrained how, and the seed of weights, batches, latents."""

    network: str
    loss: str
    setting: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """What its record is called."""
        return "-".join(map(str, self))

    @property
    def is_compared(self) -> bool:
        """Whether it is one of those in which all methods are compared."""
        return self.method in METHODS and LOSSES[self.loss] == self.setting

    @property
    def program(self) -> tuple[str, ...]:
        """What is compiled for it: the same for every seed."""
        return self[:-1]


class Size(NamedTuple):
    """How much is made.

    Attributes:
        seeds: of each method that is compared.
        setting_seeds: of each method in each of the other settings.
        other_seeds: of each method that is in no figure.
        steps: updates of the generator in each run.
        methods: that are compared.
        settings: of A to F.
    """

    seeds: int
    setting_seeds: int
    other_seeds: int
    steps: int
    methods: tuple[str, ...]
    settings: tuple[str, ...]


# Those that the figures are made for; the full study has layer norm and R1, too.
_NAMED = ("none", "clip", "gp", "wn", "orthogonal", "sn", "sn+gp")

FULL = Size(3, 3, 1, 1_600, tuple(METHODS), SETTINGS)
QUICK = Size(2, 1, 0, 200, _NAMED, SETTINGS)


def plan(networks: tuple[str, ...], size: Size, only: str | None) -> list[Job]:
    """Returns the comparison's runs, those that the settings add, and the others.

    Seeds of one program are next to each other. ``only`` is a regular expression that
    a run's name holds.

    Raises:
        UserError: ``only`` is no regular expression, or no run's name holds it.
    """
    jobs = [
        Job(network, loss, setting, method, seed)
        for network in networks
        for loss, setting, method, seeds in _programs(size)
        for seed in range(seeds)
    ]
    try:
        chosen = [job for job in jobs if re.search(only or "", job.name)]
    except re.error as error:
        raise UserError(
            f"--only {only} is no regular expression ({error}): expected one that a "
            f"run's name holds, like {jobs[0].name}."
        ) from None
    if not chosen:
        raise UserError(
            f"--only {only} fits none of the {len(jobs)} runs: expected a part of a "
            f"name like {jobs[0].name}."
        )
    return chosen


def _programs(size: Size) -> list[tuple[str, str, str, int]]:
    """Returns loss, setting, method and number of seeds of each program, once."""
    compared = [
        (loss, setting, method, size.seeds)
        for loss, setting in LOSSES.items()
        for method in size.methods
    ]
    robustness = [
        (loss, setting, method, size.setting_seeds)
        for method, loss in ROBUSTNESS.items()
        for setting in size.settings
        if LOSSES[loss] != setting
    ]
    others = [
        (OTHERS_LOSS, LOSSES[OTHERS_LOSS], method, size.other_seeds)
        for method in OTHERS
    ]
    return compared + robustness + others
