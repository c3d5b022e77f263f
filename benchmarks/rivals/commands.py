"""The commands: measure, print a table, write JSON."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from benchmarks.rivals import aot, measure
from benchmarks.rivals import depth as depths
from benchmarks.rivals.about import about, spelled
from benchmarks.rivals.field import FIELD, Rival
from benchmarks.rivals.nets import COUNTED, NETS
from benchmarks.rivals.plots import of_count, of_phase, plot
from benchmarks.rivals.table import counts_table, times_table

# What is compiled for, and by whose compiler.
_CHIPS = {"tpu": "TPU v5e", "gpu": "H200"}
_PACKAGES = ("jax", "libtpu", "jax-cuda12-pjrt", "jax-cuda13-pjrt")
# Wide enough for the tables where the output is no terminal.
_CONSOLE = Console(width=None if sys.stdout.isatty() else 130)


def chosen(pattern: str) -> list[Rival]:
    """Returns the rivals whose name has the pattern, and their plain steps.

    Raises:
        ValueError: if there is none.
    """
    names = ", ".join(repr(r.name) for r in FIELD if r.plain)
    try:
        found = [r for r in FIELD if r.plain and re.search(pattern, r.name)]
    except re.error as error:
        raise ValueError(
            f"{pattern!r} is no regular expression ({error}); there are {names}."
        ) from None
    if not pattern:
        found = [r for r in found if r.unasked]
    if not found:
        raise ValueError(f"No rival has {pattern!r} in its name; there are {names}.")
    plain = {rival.plain for rival in found}
    return [r for r in FIELD if r in found or r.name in plain]


class Options(NamedTuple):
    """What the command line says.

    Attributes:
        nets: names; empty: all.
        rivals: which.
        passes: in which real and fake inputs go through the network: 1 or 2.
        quick: whether to be done in minutes.
        out: a folder for the numbers, or None.
        compiler: whose counts: "tpu" or "gpu".
    """

    nets: Sequence[str]
    rivals: Sequence[Rival]
    passes: int
    quick: bool
    out: Path | None
    compiler: str = "tpu"


def step(options: Options) -> None:
    """Times the training steps, and counts them by the compiler of this device.

    Quickly, all but the MLP and the ResNet are in Linen alone, and BigGAN and the ViT
    have one block in place of four and of twelve. Without a network named, the wrapper
    around a whole network is left out: it computes what `sn_apply` does.
    """
    effort = measure.Effort(3, 30, cold=False)
    if options.quick:
        effort = measure.Effort(1, 0.5, cold=True)
    rows: list[Any] = []
    for name in options.nets or NETS:
        case, rivals = COUNTED[name], options.rivals
        if options.quick and not options.nets:
            rivals = [rival for rival in rivals if rival.quick]
        batch = case.cpu_batch if jax.default_backend() == "cpu" else case.batch
        if options.quick and case.quick_net:
            case, name = case._replace(net=case.quick_net), f"{name}, quick"
            rivals = [rival for rival in rivals if rival.module == "linen"]
        rows += measure.measure(
            name,
            case,
            batch,
            effort,
            passes=options.passes,
            rivals=rivals,
            say=_say,
        )
        if options.out:
            _write(options.out, "step.json", rows)
            for phase in ("run", "compile", "trace"):
                path = options.out / f"step_{phase}.png"
                what = f"time to {phase} (lines: how far it may be off)"
                plot(rows, of_phase(phase), what, spelled(), path)
    _CONSOLE.print(
        times_table(rows), counts_table(rows, jax.default_backend()), sep="\n"
    )
    _say(spelled())


def counts(options: Options) -> None:
    """Counts the training steps by the compiler for a TPU, or a GPU, that is not there.

    Quickly, and without a network named: the ResNet, with 128 channels and with 512, in
    Linen alone.
    """
    nets, rivals = options.nets or list(COUNTED), options.rivals
    if options.quick and not options.nets:
        nets = ["resnet_d", "resnet_d_512"]
        rivals = [rival for rival in rivals if rival.module == "linen"]
    compiler = options.compiler
    rows: list[Any] = []
    for name in nets:
        case = COUNTED[name]
        rows += aot.measure(
            name,
            case,
            case.batch,
            compiler=compiler,
            little_effort=options.quick,
            passes=options.passes,
            rivals=rivals,
            say=_say,
        )
        if options.out:
            stem = "counts" if compiler == "tpu" else f"counts_{compiler}"
            _write(options.out, f"{stem}.json", rows)
            for count in ("bytes", "fusions" if compiler == "tpu" else "launches"):
                path = options.out / f"{stem}_{count}.png"
                drawn = of_count(rows, compiler, count)
                plot(rows, drawn, count, _compiler(compiler), path)
    _CONSOLE.print(counts_table(rows, compiler))
    effort = ", with little effort" if options.quick and compiler == "tpu" else ""
    _say(f"{_CHIPS[compiler]}{effort}; passes: {options.passes}; {spelled()}")


def depth(options: Options) -> None:
    """Times a step by the number of kernels."""
    rows = []
    for row in depths.measure(quick=options.quick, say=_say):
        rows.append(row)
        if options.out:
            _write(options.out, "depth.json", rows)
    _CONSOLE.print(depths.table(rows))
    _say(spelled())


def accuracy(options: Options) -> None:
    """Measures how near sigma is, as `python -m benchmarks.accuracy` does by itself."""
    from benchmarks.accuracy.measure import run  # it needs what the GAN example needs

    run(options.quick, options.out)


def _say(what: str) -> None:
    _CONSOLE.print(f"[dim]{what}[/dim]")


def _compiler(compiler: str) -> str:
    versions = about()["versions"]
    named = [f"{name} {versions[name]}" for name in _PACKAGES if name in versions]
    return f"{_CHIPS[compiler]}, {', '.join(named)}"


def _write(out: Path, name: str, rows: list[Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_text(json.dumps(about() | {"rows": rows}, indent=1) + "\n")
