"""The command line: ``python -m specjax report CHECKPOINT``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from specjax.checkpoints._model_part import named_part, without_optimizers
from specjax.checkpoints._read import read_checkpoint
from specjax.diagnostics._report import Report, report
from specjax.errors import (
    CheckpointError,
    MissingLibraryError,
    NoKernelError,
    checkpoint_error,
)
from specjax.kernels._presets import haiku_kernels
from specjax.kernels._rules import flax_kernels

_RULES = {"flax": flax_kernels, "haiku": haiku_kernels}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 2 for what it can not do."""
    try:
        _run(_parser().parse_args(arguments))
    except (CheckpointError, MissingLibraryError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose message is one sentence, like every other here."""

    def error(self, message: str) -> NoReturn:
        raise checkpoint_error("python -m specjax", message, "a known option", "--help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m specjax")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    about = "a table of every kernel's spectral norm: at least, exactly, at most"
    options = commands.add_parser("report", help=about, description=f"Prints {about}.")
    add = options.add_argument
    add(
        "checkpoint",
        metavar="CHECKPOINT",
        help="an Orbax folder (of one step, or of many: the newest is taken), or a "
        "flax msgpack, safetensors or npz file; nothing is unpickled, and nothing "
        "written to it",
    )
    add(
        "--params",
        metavar="NAME",
        help="the part to report on, as discriminator or generator/params (default: "
        "all but the states of optimizers)",
    )
    add(
        "--kernels",
        choices=_RULES,
        default="flax",
        help="whose names the kernels have (default: flax)",
    )
    add("--plot", metavar="FILE", help="draw the singular values (png, pdf, svg)")
    add("--json", metavar="FILE", help="write every number (json)")
    return parser


def _run(options: argparse.Namespace) -> None:
    """Reads, measures, prints and writes, in this order."""
    _check_place(options.plot, (".png", ".pdf", ".svg"))
    _check_place(options.json, (".json",))
    checkpoint = read_checkpoint(options.checkpoint)
    tree, left_out = checkpoint.tree, []
    if options.params is None:
        tree, left_out = without_optimizers(tree)
    else:
        tree = named_part(tree, options.params, checkpoint.path)
    result = _report(tree, options.kernels, checkpoint.path)
    print(f"{checkpoint.path}: {checkpoint.kind}, kernels: {len(result.rows)}")
    result.show()
    if left_out:
        print(f"Left out, as states of optimizers: {', '.join(left_out)}.")
    _write(result, options)


def _report(tree: Any, rule: str, path: Path) -> Report:
    """Returns the report on a tree that has a kernel at least."""
    try:
        result = report(tree, kernels=_RULES[rule])
    except NoKernelError:
        result = Report(())
    if not result.rows:
        names = ", ".join(list(result.undecided)[:3])
        got = f"no kernel by {rule}'s names" + (
            f" (undecided: {names})" if names else ""
        )
        fix = "--params, --kernels, or specjax.report with rules of your own"
        raise checkpoint_error(path, got, "at least one", fix)
    return result


def _write(result: Report, options: argparse.Namespace) -> None:
    try:
        if options.json:
            content = json.dumps(result.as_dict(), indent=2) + "\n"
            Path(options.json).write_text(content)
        if options.plot:
            from specjax.plotting import plot_spectra

            plot_spectra(result).savefig(options.plot, dpi=120)
    except OSError as error:
        got = f"{error.strerror} when writing {error.filename}"
        raise checkpoint_error(
            "--plot, --json", got, "room for a file", "another one"
        ) from None


def _check_place(name: str | None, endings: tuple[str, ...]) -> None:
    """Refuses a place that can not be written to, before a minute of work."""
    if name is None:
        return
    file = Path(name)
    if file.suffix.lower() not in endings:
        got, need = "another ending", f"one of {', '.join(endings)}"
        raise checkpoint_error(file, got, need, str(file.with_suffix(endings[0])))
    place = file if file.exists() else file.parent
    if file.is_dir() or not os.access(place, os.W_OK):
        got, need = "a place that can not be written to", "a file in a folder of yours"
        raise checkpoint_error(file, got, need, file.name)


if __name__ == "__main__":
    sys.exit(main())
