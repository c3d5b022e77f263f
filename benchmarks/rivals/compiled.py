"""What a compiler says of a step: the same on each machine, however busy it is."""

import re
from typing import Any, NamedTuple

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
        distinct=len({_unnamed(body) for body in _COMPUTATION.findall(text)}),
        instructions=len(_INSTRUCTION.findall(text)),
        temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
    )


def _unnamed(body: str) -> str:
    """Returns a computation's text with a number for each name, in their order."""
    numbers: dict[str, str] = {}
    return _NAME.sub(
        lambda name: numbers.setdefault(name[0], f"%{len(numbers)}"),
        _METADATA.sub("", body),
    )
