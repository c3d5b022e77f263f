"""The options of a run: their defaults, their limits, and which may change later."""

import dataclasses
from typing import Any

from examples.gan.errors import UserError
from examples.gan.presets import PRESETS, Preset

CONSTRAINTS = ("sn", "none")


@dataclasses.dataclass(frozen=True)
class Config:
    """The options of one run; everything but ``steps`` is fixed for its life.

    Attributes:
        dataset: a key of ``PRESETS``.
        constraint: one of ``CONSTRAINTS``.
        steps: updates of both networks, in total.
        batch_size: images per update.
        seed: of the initial weights, the order of the data and the latent vectors.
        data_dir: where the data set's files lie; None for the digits.
        data_crc32: checksum of the images, so that a resumed run sees the same ones.
        operator: the discriminator's convolutions are read as operators. (Runs from
            before this option have no such key in their config: False.)
    """

    dataset: str
    constraint: str
    steps: int
    batch_size: int
    seed: int
    data_dir: str | None
    data_crc32: int = 0
    operator: bool = False

    @property
    def preset(self) -> Preset:
        """The preset of this run's data set."""
        return PRESETS[self.dataset]


def new_config(options: dict[str, Any]) -> Config:
    """Fills the options that were left out (None) with the data set's defaults.

    Raises:
        UserError: a value that no run can have.
    """
    dataset = options["dataset"] or "digits"
    preset = PRESETS[dataset]
    config = Config(
        dataset=dataset,
        constraint=options["constraint"] or "sn",
        steps=_or(options["steps"], preset.steps),
        batch_size=_or(options["batch_size"], preset.batch_size),
        seed=_or(options["seed"], 0),
        data_dir=options["data_dir"],
        operator=bool(options["operator"]),
    )
    _check(config)
    return config


def resumed_config(saved: Config, options: dict[str, Any]) -> Config:
    """Returns the saved run's config with the total of steps that is asked for now.

    Raises:
        UserError: an option differs from what the run was started with.
    """
    for name in ("dataset", "constraint", "batch_size", "seed"):
        asked, was = options[name], getattr(saved, name)
        if asked is not None and asked != was:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} {asked} does not fit the run to resume, which was started "
                f"with {flag} {was}."
            )
    if options["operator"] and not saved.operator:
        raise UserError(
            "--operator does not fit the run to resume, which was started without it."
        )
    config = dataclasses.replace(
        saved,
        steps=_or(options["steps"], saved.steps),
        data_dir=_or(options["data_dir"], saved.data_dir),
    )
    _check(config)
    return config


def _or(value: Any, default: Any) -> Any:
    """Returns ``default`` where an option was not given; 0 is a given value."""
    return default if value is None else value


def _check(config: Config) -> None:
    """Raises UserError for the first number that is out of range."""
    limits = {
        "--steps": (config.steps, 1, 10**8),
        "--batch-size": (config.batch_size, 2, 10**6),
        "--seed": (config.seed, 0, 2**31 - 1),
    }
    for flag, (value, low, high) in limits.items():
        check_range(flag, value, low, high)


def check_range(flag: str, value: int, low: int, high: int) -> None:
    """Raises UserError for a number that is out of range."""
    if not low <= value <= high:
        raise UserError(f"{flag} {value} is out of range: expected {low} to {high:,}.")
