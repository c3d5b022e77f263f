"""The options of a run: their defaults, their limits, and which may change later."""

import dataclasses
from typing import Any

from examples.gan.constraint import Constraint, parse
from examples.gan.errors import UserError
from examples.gan.games import LOSSES, OWN, SETTINGS, Game
from examples.gan.hidden import ACTIVATIONS
from examples.gan.presets import PRESETS, Preset

# Options that are one word of a few.
CHOICES = {
    "loss": tuple(LOSSES),
    "setting": tuple(SETTINGS),
    "network": ("mlp", "cnn", "resnet", "biggan"),
    "activation": tuple(ACTIVATIONS),
}
# The published ones.
_ACTIVATION = dict.fromkeys(("mlp", "cnn"), "leaky_relu")
_ACTIVATION |= dict.fromkeys(("resnet", "biggan"), "relu")


@dataclasses.dataclass(frozen=True)
class Config:
    """The options of one run; everything but ``steps`` is fixed for its life.

    Attributes:
        dataset: a key of ``PRESETS``.
        constraint: names with + between them, as `parse` reads them.
        steps: updates of both networks, in total.
        batch_size: images per update.
        seed: of the initial weights, the order of the data and the latent vectors.
        data_dir: where the data set's files lie; None for the digits.
        data_crc32: checksum of the images, so that a resumed run sees the same ones.
        operator: the discriminator's convolutions are read as operators.
        loss: a key of ``games.LOSSES``.
        setting: a key of ``games.SETTINGS``; None is the data set's own.
        network: "mlp", "cnn", "resnet" or "biggan", which draws and judges classes.
        activation: a key of ``hidden.ACTIVATIONS``, for the discriminator.

    Runs from before an option have no such key in their config: it is the default.
    """

    dataset: str
    constraint: str
    steps: int
    batch_size: int
    seed: int
    data_dir: str | None
    data_crc32: int = 0
    operator: bool = False
    loss: str = "hinge"
    setting: str | None = None
    network: str = "cnn"
    activation: str = "leaky_relu"

    @property
    def preset(self) -> Preset:
        """The preset of this run's data set."""
        return PRESETS[self.dataset]

    @property
    def game(self) -> Game:
        """The rate, the betas and n_dis of this run's setting."""
        return OWN if self.setting is None else SETTINGS[self.setting]

    @property
    def conditional(self) -> bool:
        """Whether both networks know the class of each image."""
        return self.network == "biggan"

    @property
    def parts(self) -> Constraint:
        """The parts of this run's constraint."""
        return parse(self.constraint, operator=self.operator)

    @property
    def flags(self) -> str:
        """The constraint and what is not the default, as on the command line."""
        words = f"--constraint {self.constraint}{' --operator' * self.operator}"
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in CHOICES and value != field.default:
                words += f" --{field.name} {value}"
        return words


def new_config(options: dict[str, Any]) -> Config:
    """Fills the options that were left out (None) with the data set's defaults.

    Raises:
        UserError: a value that no run can have.
    """
    dataset = options["dataset"] or "digits"
    preset, network = PRESETS[dataset], options["network"] or "cnn"
    config = Config(
        dataset=dataset,
        constraint=options["constraint"] or "sn",
        steps=_or(options["steps"], preset.steps),
        batch_size=_or(options["batch_size"], preset.batch_size),
        seed=_or(options["seed"], 0),
        data_dir=options["data_dir"],
        operator=bool(options["operator"]),
        loss=options["loss"] or "hinge",
        setting=options["setting"],
        network=network,
        activation=options["activation"] or _ACTIVATION[network],
    )
    _check(config)
    return config


def resumed_config(saved: Config, options: dict[str, Any]) -> Config:
    """Returns the saved run's config with the total of steps that is asked for now.

    Raises:
        UserError: an option differs from what the run was started with.
    """
    for name in ("dataset", "constraint", *CHOICES, "batch_size", "seed"):
        asked, was = options[name], getattr(saved, name)
        if asked is not None and asked != was:
            flag = "--" + name.replace("_", "-")
            started = "without it" if was is None else f"with {flag} {was}"
            raise UserError(
                f"{flag} {asked} does not fit the run to resume, which was started "
                f"{started}."
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


def check_choices(config: Config) -> None:
    """Raises UserError for the first word that no run can have."""
    parse(config.constraint, operator=config.operator)
    for name, words in CHOICES.items():
        value, default = getattr(config, name), getattr(Config, name)
        if value != default and value not in words:
            expected = ", ".join(words)
            raise UserError(f"--{name} {value} is unknown: expected one of {expected}.")
    if config.operator and config.conditional:
        raise UserError(
            "--operator does not go with --network biggan: expected another."
        )


def _or(value: Any, default: Any) -> Any:
    """Returns ``default`` where an option was not given; 0 is a given value."""
    return default if value is None else value


def _check(config: Config) -> None:
    """Raises UserError for the first value that no run can have."""
    check_choices(config)
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
