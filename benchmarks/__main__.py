"""Compares a training step with spectral normalization with the same step without.

    python -m benchmarks [step|counts|depth|accuracy|budget] [--net NET] [--quick]

`step` times every rival and ours, each against the plain step of its own framework, in
interleaved rounds, and adds what the compiler counts. `counts` is by the compiler for a
TPU, or for a GPU with `--compiler gpu`; neither has to be there. `depth` times ours by
the number of kernels. `accuracy` is how near sigma is for its passes over the kernel,
beside the rivals. `budget`, which has to be named, writes the counts that a test
guards. Device: any, the quoted numbers say which. Time on a CPU with 2 cores: with
--quick about 9 minutes, else hours.
"""

import argparse
import io
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.gpu import GET_COMPILER, has_compiler, is_there

_PASSES = "real and fake in one batch (1, the default), or one after the other (2)"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    # Else an installed libtpu, which `counts` compiles with, looks for its TPU.
    gpu = has_compiler() and is_there()
    os.environ.setdefault("JAX_PLATFORMS", "cuda,cpu" if gpu else "cpu")
    # Reading a program from a folder is not compiling it.
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    from benchmarks.rivals import budget, commands
    from benchmarks.rivals.nets import COUNTED

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    every = {
        "step": commands.step,
        "counts": commands.counts,
        "depth": commands.depth,
        "accuracy": commands.accuracy,
    }
    parts = [*every, "budget"]
    add("what", nargs="?", choices=parts, help="one part (default: all but budget)")
    add("--net", choices=COUNTED, action="append", help="repeatable (default: all)")
    add("--rivals", default="", help="a regular expression: those whose name has it")
    add("--passes", type=int, choices=(1, 2), default=1, help=_PASSES)
    add("--compiler", choices=("tpu", "gpu"), default="tpu", help="of counts")
    add("--quick", action="store_true", help="few rounds, small batches, little effort")
    add("--out", type=Path, help="a folder for the numbers as JSON, and pictures")
    options = parser.parse_args(arguments)
    if options.what in ("depth", "accuracy", "budget") and (
        options.net or options.rivals
    ):
        parser.error(f"--net and --rivals are for step and counts: {options.what}?")
    if options.compiler == "gpu" and not has_compiler():
        parser.error(f"--compiler gpu: {GET_COMPILER}")
    if options.what == "budget" and not has_compiler():
        parser.error(f"budget, which has a GPU's counts, too: {GET_COMPILER}")
    if options.what == "budget":
        budget.write(budget.measure())
        return
    try:
        rivals = commands.chosen(options.rivals)
    except ValueError as error:
        parser.error(str(error))
    chosen = commands.Options(
        options.net or [],
        rivals,
        options.passes,
        options.quick,
        options.out,
        options.compiler,
    )
    if options.what:
        every[options.what](chosen)
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # two processes write to it
    commands.step(chosen)
    commands.depth(chosen)
    # What is no time can be measured beside something else.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as beside:
        accuracy = beside.submit(commands.accuracy, chosen)
        commands.counts(chosen)
    accuracy.result()


if __name__ == "__main__":
    main()
