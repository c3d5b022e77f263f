"""The text of a compiled program: its instructions, and how often each of them runs.

XLA has no reader of its own text that Python can ask, and its count of a program takes
the body of a loop once. The text says how often it runs: a loop that `lax.scan` made
compares a counter, from zero, with a constant.
"""

import math
import re
from typing import NamedTuple


class Instruction(NamedTuple):
    """One line: ``name = shape operation(operands), attributes``."""

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool


class Program(NamedTuple):
    """Computations by name, each a tuple of instructions, and how often each runs."""

    computations: dict[str, tuple[Instruction, ...]]
    entry: str
    times: dict[str, float]


_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPERATION = re.compile(r" ?([\w\-]+)\(")
_NAME = re.compile(r"%([\w.\-]+)")


def parse(text: str) -> Program:
    """Returns the program that `compiled.as_text()` spells."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif instruction := _LINE.match(line):
            current.append(_instruction(*instruction.groups()))
    program = Program({k: tuple(v) for k, v in computations.items()}, entry, {})
    _count(program, entry, 1)
    return program


def _instruction(root: str | None, name: str, rest: str) -> Instruction:
    end = _closing(rest) if rest.startswith("(") else rest.index(" ") - 1
    shape, rest = rest[: end + 1], rest[end + 1 :]
    operation = _OPERATION.match(rest)
    assert operation, rest
    start = operation.end() - 1
    end = start + _closing(rest[start:])
    inside = rest[start + 1 : end]
    operands = tuple(_NAME.findall(inside))
    if operation[1] in ("constant", "parameter"):
        operands = (inside,)
    return Instruction(name, shape, operation[1], operands, rest[end + 1 :], bool(root))


def _closing(text: str) -> int:
    """Returns where the parenthesis closes that the text begins with."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i
    raise ValueError(f"a parenthesis that does not close: {text[:80]}")


def _count(program: Program, name: str, times: float) -> None:
    """Adds how often a computation runs in one call of the entry, and what it calls."""
    program.times[name] = program.times.get(name, 0) + times
    for instruction in program.computations[name]:
        # The end of an asynchronous operation names the computation that its start ran.
        if instruction.operation.endswith(("-update", "-done")):
            continue
        called = [n for n in _NAME.findall(instruction.attributes) if n in program[0]]
        rounds = n_rounds(program, instruction) if called else 1
        for other in called:
            _count(program, other, times * rounds)


def n_rounds(program: Program, instruction: Instruction) -> float:
    """Returns how often what an instruction calls runs: a loop's rounds, else one.

    NaN for a loop that goes on until something has happened.
    """
    if instruction.operation != "while":
        return 1
    condition = re.search(r"condition=%?([\w.\-]+)", instruction.attributes)
    assert condition, instruction
    lines = program.computations[condition[1]]
    root = next(line for line in lines if line.is_root)
    constants = {
        line.name: line.operands[0] for line in lines if line.operation == "constant"
    }
    limits = [constants[name] for name in root.operands if name in constants]
    counts = root.operation == "compare" and "direction=LT" in root.attributes
    return int(limits[0]) if counts and len(limits) == 1 else math.nan


def n_bytes(shape: str) -> int:
    """Returns the bytes of an array, or of all arrays of a tuple, without padding."""
    return sum(
        math.ceil(_bits(kind) * math.prod(map(int, filter(None, sizes.split(",")))) / 8)
        for kind, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shape)
    )


def _bits(kind: str) -> int:
    """Returns the width of a dtype by its name in the text: "bf16", "f8e4m3fn"."""
    if kind == "pred":
        return 8
    width = re.match(r"[a-z]+(\d+)", kind)
    if kind in ("token", "opaque"):
        return 0
    assert width, kind
    return int(width[1])
