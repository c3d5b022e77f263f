"""What the chips of a compiled program send each other: each collective, its bytes."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.tpu.hlo import Instruction, Program, n_bytes

_OPERATIONS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
    "send",
)


_CHANNEL = re.compile(r"channel_id=(\d+)")


class Collective(NamedTuple):
    """One instruction that makes devices talk.

    Attributes:
        operation: "all-reduce", ...; of an asynchronous pair only the start counts.
        arrays: bytes of each array of its result on one device; the compiler puts
            several into one.
        times: how often it runs in one call of the program, the rounds of loops.
    """

    operation: str
    arrays: tuple[int, ...]
    times: int


def collectives(program: Program) -> list[Collective]:
    """Returns every collective of a program, those inside of loops and fusions too.

    Raises:
        ValueError: if one is in a loop whose number of rounds is not known.
    """
    found = {}
    for name, lines in program.computations.items():
        for line in lines:
            if line.operation.removesuffix("-start") in _OPERATIONS:
                # One that is spread over several fusions, so that they compute while it
                # is under way, has the same channel in each.
                channel = _CHANNEL.search(line.attributes)
                key = channel[1] if channel else line.name
                found[key] = _collective(line, program.times.get(name, 0))
    return [one for one in found.values() if one.times]


def _collective(line: Instruction, times: float) -> Collective:
    if math.isnan(times):
        raise ValueError(f"{line.name} is in a loop of unknown length.")
    arrays = tuple(n_bytes(array) for array in _result(line.shape, line.operation))
    return Collective(line.operation.removesuffix("-start"), arrays, int(times))


def total_bytes(found: Iterable[Collective]) -> int:
    """Returns the bytes of all results in one call of the program, on one device."""
    return sum(sum(one.arrays) * one.times for one in found)


def total_count(found: Iterable[Collective]) -> int:
    """Returns how many collectives one call of the program runs."""
    return sum(one.times for one in found)


def each_array(found: Iterable[Collective]) -> Counter[tuple[str, int]]:
    """Returns how often an array of each size is sent: (operation, bytes)."""
    arrays: Counter[tuple[str, int]] = Counter()
    for one in found:
        for size in one.arrays:
            arrays[one.operation, size] += one.times
    return arrays


def _result(shape: str, operation: str) -> list[str]:
    """Returns the arrays that a collective returns, without what it was given.

    The start of an asynchronous one returns (operands, results, contexts), but that of
    an all-reduce its results alone.
    """
    if operation.endswith("-start") and operation != "all-reduce-start":
        shape = _parts(shape)[1]
    return re.findall(r"\w+\[[^\]]*\]", shape)


def _parts(shape: str) -> list[str]:
    """Returns the members of a tuple of shapes: ``(f32[2], (f32[3], u32[]))`` has 2."""
    inside, depth, parts = shape[1:-1], 0, [""]
    for letter in inside:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
