"""Counts the passes over a kernel: how often what runs makes a smaller array of it.

In the text of a program compiled for the CPU an instruction (a fusion, a dot) reads the
kernel once, however often it uses it, and as often as its loop runs. What XLA has
merged or dropped is not counted: under jit it finds that flax's third product, ``v W``
for sigma, is the one before it. Torch has no compiler in between: there it is the
operations that its dispatcher sees.

What makes an array as large as the kernel is no pass. One is the division, which all of
them have; others are copies, counted beside: for a large kernel XLA's compiler for the
CPU writes ``W^T`` in memory for the rivals' ``u W^T``. Another compiler may not.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.accuracy.method import Kernel, Passes
from benchmarks.tpu.hlo import Instruction, Program, parse

# They only name arrays; what the last three call is counted by itself.
_NAMES = {"bitcast", "constant", "get-tuple-element", "opt-barrier", "parameter"}
_FREE = _NAMES | {"tuple", "call", "conditional", "while"}
# What is read does not depend on how hard LLVM tries.
_SLOW_CODE = {"xla_backend_optimization_level": 0}
_ROUNDS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_COMPUTATION = re.compile(r"%([\w.\-]+)")


def compiled_passes(
    start: Callable[..., Any],
    step: Callable[..., Any],
    layout: Callable[[Kernel], Kernel],
    kernel: Kernel,
) -> Passes:
    """Returns the passes of a jax method's start and step."""
    kernel = layout(kernel)
    state = start(kernel, 0)
    starting = jax.jit(lambda kernel: start(kernel, 0))
    starts = _program(starting, jnp.asarray(kernel))
    updates = _program(jax.jit(step), state, jnp.asarray(kernel))
    return Passes(
        start=reads(starts, kernel.size),
        update=reads(updates, kernel.size),
        copies=writes(updates, kernel.size) - 1,
    )


def _program(jitted: Any, *arguments: Any) -> str:
    return jitted.lower(*arguments).compile(_SLOW_CODE).as_text()


def reads(text: str, size: int) -> int:
    """Returns how often a program makes something smaller of an array of `size`.

    Args:
        text: of the compiled program; what is in loops counts in each round.
        size: elements of the kernel, in float32 (a mask of its shape is none); no
            vector may have as many.
    """
    program = parse(text)

    def read(line: Instruction, large: set[str]) -> int:
        return 0 if line.name in large else len(large & set(line.operands))

    return _total(program, program.entry, size, read)


def writes(text: str, size: int) -> int:
    """Returns how often a program writes an array of `size` elements, as `reads`."""
    program = parse(text)
    return _total(
        program, program.entry, size, lambda line, large: int(line.name in large)
    )


def _total(
    program: Program,
    name: str,
    size: int,
    count: Callable[[Instruction, set[str]], int],
) -> int:
    lines = program.computations[name]
    large = {line.name for line in lines if _has_size(line.shape, size)}
    total = 0
    for line in lines:
        if line.operation not in _FREE:
            total += count(line, large)
            continue
        called = [
            _total(program, other, size, count)
            for other in _COMPUTATION.findall(line.attributes)
            if other in program.computations
        ]
        # Of a conditional's branches one runs: the dearest, here.
        once = max if line.operation == "conditional" else sum
        total += _rounds(line) * once(called or [0])
    return total


def _rounds(line: Instruction) -> int:
    if line.operation != "while":
        return 1
    known = _ROUNDS.search(line.attributes)
    if not known:
        raise ValueError(
            f"{line.name} is a loop of unknown length: expected a known one."
        )
    return int(known[1])


def _has_size(shape: str, size: int) -> bool:
    array = re.match(r"f32\[([\d,]+)\]", shape)
    return bool(array) and math.prod(map(int, array[1].split(","))) == size


def dispatched_reads(torch: Any, size: int, function: Callable[[], Any]) -> int:
    """Returns how many operations of torch make something smaller of such a tensor."""
    count = 0

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal count
            result = func(*args, **(kwargs or {}))
            large = any(torch.is_tensor(a) and a.numel() == size for a in args)
            # `new_empty` asks a tensor for its dtype, and reads nothing.
            reading = large and func is not torch.ops.aten.new_empty.default
            count += reading and result.numel() != size
            return result

    with Counter():
        function()
    return count
