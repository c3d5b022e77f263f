"""The command line: what can be said, and how a mistake in it is told."""

import argparse
from typing import NoReturn

from examples.gan.constraint import NAMES
from examples.gan.errors import UserError
from examples.gan.presets import PRESETS
from examples.gan.settings import CHOICES


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence, like every other of this program."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[0].upper()}{message[1:]}; --help lists the options.")


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    options = _Parser(
        prog="python -m examples.gan",
        description="Trains a GAN whose discriminator is constrained, draws "
        "samples and curves, and scores it. Without options: on the handwritten digits "
        "that come with scikit-learn.",
    )
    add = options.add_argument
    add("--dataset", choices=PRESETS, help="the images to learn (default: digits)")
    add(
        "--data-dir",
        metavar="FOLDER",
        help="where the data set's files are: train-images-idx3-ubyte and "
        "train-labels-idx1-ubyte (plain or .gz), or data_batch_1.bin to 5 (or .bin.xz)",
    )
    add(
        "--constraint",
        metavar="NAMES",
        help="sn: divide every kernel of the discriminator by its largest singular "
        "value; none: only measure it; or others, with + between those that go "
        f"together, as sn+gp: {', '.join(NAMES)} (default: sn)",
    )
    add("--loss", choices=CHOICES["loss"], help="of both networks (default: hinge)")
    add(
        "--setting",
        choices=CHOICES["setting"],
        help="Adam's rate, constant, its betas, and the updates of the discriminator "
        "for one of the generator, as in Table 1 of Miyato et al. 2018 (default: the "
        "data set's falling rate, one update each)",
    )
    add(
        "--network",
        choices=CHOICES["network"],
        help="of dense layers, of convolutions (Miyato et al. 2018, Table 3), residual "
        "(Table 4), or BigGAN's, which knows the classes and is normalized in both "
        "networks (default: cnn)",
    )
    add(
        "--activation",
        choices=CHOICES["activation"],
        help="of the discriminator (default: leaky_relu; relu in resnet and biggan)",
    )
    add(
        "--operator",
        action="store_true",
        default=None,
        help="take the largest singular value of a convolution itself, at the size "
        "that it is used at, not that of its reshaped kernel",
    )
    add(
        "--steps",
        type=int,
        help="updates of both networks in total, before and after a --resume (default: "
        + ", ".join(f"{preset.steps:,} {name}" for name, preset in PRESETS.items())
        + ")",
    )
    add(
        "--batch-size", type=int, help="images per update (default: 32 digits, else 64)"
    )
    add("--seed", type=int, help="of weights, data order and latents (default: 0)")
    add(
        "--mesh",
        metavar="AXES",
        help="split the work over devices, and the kernels, too: data=8 or "
        "data=4,model=2 (default: one device); may change with a --resume",
    )
    add(
        "--distributed",
        metavar="WHERE",
        help="this is one of several processes: auto where jax finds the others itself "
        "(a TPU pod slice, Slurm, Open MPI), else host:port,number,index of the first "
        "process and of this one; --out is a folder that all of them see",
    )
    add(
        "--save-every",
        type=int,
        metavar="STEPS",
        help="how often to save; the last state is saved in any case (default: 1,000)",
    )
    add(
        "--out",
        metavar="FOLDER",
        help="the run's folder (default: the first free runs/gan-NNN)",
    )
    add(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint of --out, or of the newest run in runs",
    )
    return options
