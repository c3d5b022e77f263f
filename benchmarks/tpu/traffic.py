"""What a compiled program moves to and from a chip's main memory, and for how long.

The compiler's own count ("bytes accessed") takes a loop's body once, and adds what
moves inside the chip. Here an instruction counts as often as it runs, a slice as the
slice, and nothing that lies in the chip's own memory (`S(1)` in its layout).
"""

import re

from benchmarks.tpu.hlo import Instruction, Program, n_bytes
from benchmarks.tpu.touched import bytes_read, bytes_written

# They name arrays and move nothing, or what they call is counted by itself.
_FREE = {
    "after-all", "bitcast", "call", "conditional", "constant", "get-tuple-element",
    "opt-barrier", "parameter", "partition-id", "replica-id", "tuple", "while",
}  # fmt: skip
_FREE_CALLS = re.compile(r'"(AllocateBuffer|ConcatBitcast|AssumeGatherIndicesInBound)"')
_ARRAY = re.compile(r"\w+\[[\d,]*\](?:\{[^}]*\})?")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")


def main_memory_bytes(program: Program) -> int:
    """Returns the bytes that one call reads from and writes to HBM, on one device."""
    total = 0.0
    for name, times in executed(program).items():
        total += times * sum(_moved(program, name, line) for line in program[0][name])
    return int(total)


def cycles(program: Program) -> int:
    """Returns the cycles that the compiler expects its fusions to take in one call.

    Collectives and copies have no such number, and are not in it.
    """
    found = 0.0
    for name, times in executed(program).items():
        for line in program.computations[name]:
            known = re.search(r'"estimated_cycles":"(\d+)"', line.attributes)
            found += times * int(known[1]) if known else 0
    return int(found)


def n_fusions(program: Program) -> int:
    """Returns how many fusions the program holds; one in a loop counts once."""
    lines = (line for name in executed(program) for line in program[0][name])
    return sum(line.operation == "fusion" for line in lines)


def n_launches(program: Program) -> int:
    """Returns how many operations a device is told to do in one call, one by one."""
    total = 0.0
    for name, times in executed(program).items():
        total += times * sum(_is_launched(line) for line in program[0][name])
    return int(total)


def _is_launched(line: Instruction) -> bool:
    return not (
        line.operation in _FREE or line.operation.endswith(("-done", "-update"))
    )


def executed(program: Program) -> dict[str, float]:
    """Returns how often each computation runs that is not a part of an instruction."""
    parts = {
        called
        for lines in program.computations.values()
        for line in lines
        if line.operation not in ("call", "while", "conditional")
        for called in _CALLED.findall(line.attributes)
    }
    return {k: times for k, times in program.times.items() if k not in parts}


def _moved(program: Program, name: str, line: Instruction) -> int:
    operation = line.operation
    if not _is_launched(line):
        return 0
    if operation == "custom-call" and _FREE_CALLS.search(line.attributes):
        return 0
    shapes = {other.name: other.shape for other in program.computations[name]}
    operands = [shapes[operand] for operand in line.operands]
    if operation in ("copy-start", "slice-start"):
        return _moved_by_copy(line)
    read = bytes_read(program, name, line)
    moved = sum(n for n, shape in zip(read, operands, strict=True) if _in_main(shape))
    results = _ARRAY.findall(line.shape)
    written = bytes_written(program, name, line.name)
    if len(written) != len(results):  # all of a tuple, as one number
        return moved + sum(written) * _in_main(line.shape)
    return moved + sum(
        n for n, shape in zip(written, results, strict=True) if _in_main(shape)
    )


def _moved_by_copy(line: Instruction) -> int:
    """Returns the bytes of a copy, or of a slice, from one memory to the other."""
    one, other = _ARRAY.findall(line.shape)[:2]
    return min(n_bytes(one), n_bytes(other)) * (_in_main(one) + _in_main(other))


def _in_main(shape: str) -> bool:
    return "S(" not in shape
