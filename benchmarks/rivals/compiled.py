"""What a compiler says of a step: the same on each machine, however busy it is."""

import re
from typing import Any, NamedTuple

from benchmarks.tpu.hlo import parse
from benchmarks.tpu.traffic import cycles, main_memory_bytes, n_launches

_FUSION = re.compile(r" fusion\(")
_INSTRUCTION = re.compile(r"^ +(?:ROOT )?%?[\w.\-]+ = ", re.MULTILINE)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?[\w.\-]+ \([^\n]*\{\n(.*?)^\}", re.M | re.S)
_NAME = re.compile(r"%[\w.\-]+")
_METADATA = re.compile(r", metadata=\{[^}]*\}")


class Counts(NamedTuple):
    """Numbers of one compiled program.

    Attributes:
        flops: by the compiler's own count.
        bytes: accessed, by the compiler's own count.
        fusions: in the whole text, those inside of others too.
        distinct: computations that differ by more than names; the compiler for CPUs
            compiles what is equal once.
        instructions: in the whole text.
        temporary_bytes: neither arguments nor results.
    """

    flops: int
    bytes: int
    fusions: int
    distinct: int
    instructions: int
    temporary_bytes: int


def counts(compiled: Any) -> Counts:
    """Returns the numbers of a compiled program."""
    found, text = compiled.cost_analysis(), compiled.as_text()
    return Counts(
        flops=int(found["flops"]),
        bytes=int(found["bytes accessed"]),
        fusions=len(_FUSION.findall(text)),
        distinct=_n_distinct(text),
        instructions=len(_INSTRUCTION.findall(text)),
        temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
    )


class OnChip(NamedTuple):
    """What of a TPU's program is not the same with little effort as with all.

    Attributes:
        main_memory_bytes: to and from it; what is on the chip is not in it.
        cycles: that the compiler expects of the fusions.
    """

    main_memory_bytes: int
    cycles: int


def on_chip(compiled: Any) -> OnChip:
    """Returns the numbers of a program compiled for a TPU."""
    program = parse(compiled.as_text())
    return OnChip(main_memory_bytes(program), cycles(program))


class Launches(NamedTuple):
    """Numbers of one program compiled for a GPU, whose compiler counts nothing itself.

    Attributes:
        launches: of kernels, copies and calls of libraries, one after the other.
        bytes: read and written by them.
        distinct: as in `Counts`.
        instructions: in the whole text.
        temporary_bytes: neither arguments nor results.
    """

    launches: int
    bytes: int
    distinct: int
    instructions: int
    temporary_bytes: int


def launches(compiled: Any) -> Launches:
    """Returns the numbers of a program compiled for a GPU."""
    text = compiled.as_text()
    program = parse(text)
    return Launches(
        launches=n_launches(program),
        bytes=main_memory_bytes(program),
        distinct=_n_distinct(text),
        instructions=len(_INSTRUCTION.findall(text)),
        temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
    )


def _n_distinct(text: str) -> int:
    return len({_unnamed(body) for body in _COMPUTATION.findall(text)})


def _unnamed(body: str) -> str:
    """Returns a computation's text with a number for each name, in their order."""
    numbers: dict[str, str] = {}
    return _NAME.sub(
        lambda name: numbers.setdefault(name[0], f"%{len(numbers)}"),
        _METADATA.sub("", body),
    )
