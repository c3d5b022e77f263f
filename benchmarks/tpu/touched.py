"""How much of an array an instruction touches: a slice of it, or all of it.

The layers of a scanned network are slices of one array. A fusion that is given the
whole array takes a slice of it inside, or puts one into it where it lies.
"""

import re

from benchmarks.tpu.hlo import Instruction, Program, n_bytes

_CALLED = re.compile(r"calls=%?([\w.\-]+)")


def bytes_read(program: Program, computation: str, line: Instruction) -> list[int]:
    """Returns, for each operand of an instruction, how many bytes of it are read."""
    lines = program.computations[computation]
    shapes = {other.name: other.shape for other in lines}
    whole = [n_bytes(shapes[name]) for name in line.operands]
    match line.operation:
        case "dynamic-slice" | "slice" | "gather":
            return [n_bytes(line.shape), *whole[1:]]
        case "dynamic-update-slice":
            return [0, *whole[1:]]
        case "fusion":
            inside = _inside(program, line)
            return [_used(program, inside, i, n) for i, n in enumerate(whole)]
        case _:
            return whole


def bytes_written(program: Program, computation: str, name: str) -> list[int]:
    """Returns the bytes written for each array that an instruction results in."""
    lines = {line.name: line for line in program.computations[computation]}
    line = lines[name]
    match line.operation:
        case "dynamic-update-slice":
            return [n_bytes(lines[line.operands[1]].shape)]
        case "bitcast":
            return bytes_written(program, computation, line.operands[0])
        case "tuple":
            each = (bytes_written(program, computation, n) for n in line.operands)
            return [sum(sizes) for sizes in each]
        case "fusion":
            inside = _inside(program, line)
            return bytes_written(program, inside, _root(program, inside))
        case _:
            return [n_bytes(line.shape)]


def _used(program: Program, computation: str, index: int, size: int) -> int:
    """Returns the bytes read of a parameter, at most all of it."""
    lines = program.computations[computation]
    name = next(
        line.name
        for line in lines
        if line.operation == "parameter" and line.operands == (str(index),)
    )
    return min(size, _read_by_users(program, computation, name))


def _read_by_users(program: Program, computation: str, name: str) -> int:
    total = 0
    for line in program.computations[computation]:
        if name not in line.operands:
            continue
        if line.operation == "bitcast" and line.is_root:
            total += n_bytes(line.shape)  # by whatever uses the fusion
        elif line.operation == "bitcast":
            total += _read_by_users(program, computation, line.name)
        elif line.operation != "tuple":
            read = bytes_read(program, computation, line)
            total += sum(
                n for n, o in zip(read, line.operands, strict=True) if o == name
            )
    return total


def _inside(program: Program, fusion: Instruction) -> str:
    called = _CALLED.search(fusion.attributes)
    assert called, fusion
    return called[1]


def _root(program: Program, computation: str) -> str:
    return next(line.name for line in program.computations[computation] if line.is_root)
