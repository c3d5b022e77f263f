"""The command line of the study: what can be said, and what is left out."""

import argparse
import os
from pathlib import Path
from typing import Any, NoReturn

import jax

from examples.gan.errors import UserError
from examples.gan.settings import CHOICES, check_range
from examples.study.plan import FULL, QUICK, Size

COMMANDS = {
    "all": "every part below, in their order (the default)",
    "runs": "make the runs that have no record yet",
    "time": "measure the time of an update of each method",
    "figures": "draw the figures, from the records alone",
    "tables": "write the tables, from the records alone",
}
NETWORKS = {
    "mnist": ("mlp",),
    "fashion_mnist": ("mlp",),
    "cifar10": ("cnn", "resnet"),
}

EPOCHS, QUICK_EPOCHS = 6, 4
ROUNDS, QUICK_ROUNDS = 15, 5


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence, like every other of this program."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[0].upper()}{message[1:]}; --help lists the options.")


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    options = _Parser(
        prog="python -m examples.study",
        description="Trains the same GAN under every way to constrain its critic, and "
        "draws and writes what came out. Killed, it goes on where it was.",
        epilog="; ".join(f"{name}: {words}" for name, words in COMMANDS.items()),
    )
    add = options.add_argument
    add("command", nargs="?", choices=COMMANDS, default="all", metavar="COMMAND")
    add("--dataset", choices=NETWORKS, default="mnist", help="(default: mnist)")
    add("--data-dir", metavar="FOLDER", help="where the data set's files are")
    add(
        "--out",
        metavar="FOLDER",
        help="the study's folder (default: runs/study-DATASET; with --quick "
        "runs/study-DATASET-quick)",
    )
    add(
        "--records",
        metavar="FOLDER",
        help="figures, tables: the folder to read and to write; like --out",
    )
    add("--quick", action="store_true", help="all figures, of short runs, in minutes")
    add(
        "--network",
        metavar="NAMES",
        help="mlp, cnn or resnet, with commas between them (default: mlp; for cifar10 "
        "cnn,resnet)",
    )
    add("--steps", type=int, help=f"updates of G in a run (default: {FULL.steps:,})")
    add("--seeds", type=int, help=f"of each compared method (default: {FULL.seeds})")
    add(
        "--processes",
        type=int,
        help="that make runs, one core for each (default: 2, if there are two)",
    )
    add("--rounds", type=int, help=f"of the measured times (default: {ROUNDS})")
    add(
        "--only",
        metavar="REGEX",
        help="only the runs, or only the figures, that have this in their name",
    )
    add(
        "--page",
        metavar="FILE",
        help="tables: also fill this page in, between its marks of this data set",
    )
    return options


def folder_of(options: dict[str, Any]) -> Path:
    """Returns the study's folder."""
    name = f"study-{options['dataset']}{'-quick' * options['quick']}"
    return Path(options["records"] or options["out"] or f"runs/{name}")


def processes_of(options: dict[str, Any], n_runs: int) -> int:
    """Returns how many processes make this many runs.

    A layer of 256 units is too small to be split over cores, so that each process has
    one; on an accelerator there is one process.
    """
    free = len(os.sched_getaffinity(0)) if jax.default_backend() == "cpu" else 1
    return min(options["processes"] or min(2, free), max(n_runs, 1))


def networks_of(options: dict[str, Any]) -> tuple[str, ...]:
    """Returns the networks that are trained.

    Raises:
        UserError: one that the GAN example does not have.
    """
    asked = options["network"]
    names = tuple(asked.split(",")) if asked else NETWORKS[options["dataset"]]
    for name in names:
        if name not in CHOICES["network"]:
            raise UserError(
                f"--network {name} is unknown: expected some of "
                f"{', '.join(CHOICES['network'])}, with commas between them."
            )
    return names


def size_of(options: dict[str, Any]) -> Size:
    """Returns how much is made.

    Raises:
        UserError: a number that is out of range.
    """
    base = QUICK if options["quick"] else FULL
    for name, low, high in (
        ("steps", 1, 10**7), ("seeds", 1, 100), ("processes", 1, 64),
        ("rounds", 1, 10**4),
    ):  # fmt: skip
        if options[name] is not None:
            check_range(f"--{name}", options[name], low, high)
    return base._replace(
        seeds=options["seeds"] or base.seeds,
        setting_seeds=options["seeds"] or base.setting_seeds,
        steps=options["steps"] or base.steps,
    )
