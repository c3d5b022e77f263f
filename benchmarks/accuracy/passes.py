"""Counts the passes over a kernel: how often what runs reads an array of its size.

In the text of a program compiled for the CPU an instruction (a fusion, a dot, a copy)
reads the kernel once, however often it uses it, and as often as its loop runs. What XLA
has merged or dropped is not counted: under jit it finds that flax's third product,
``v W`` for sigma, is the one before it. Torch has no compiler in between: there it is
the operations that its dispatcher sees.
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
    return Passes(
        start=_reads_of(starting, jnp.asarray(kernel)),
        update=_reads_of(jax.jit(step), state, jnp.asarray(kernel)) - 1,
    )


def _reads_of(jitted: Any, *arguments: Any) -> int:
    text = jitted.lower(*arguments).compile(_SLOW_CODE).as_text()
    return reads(text, arguments[-1].size)


def reads(text: str, size: int) -> int:
    """Returns how often a program reads an array of `size` elements, loops unrolled.

    Args:
        text: of the compiled program.
        size: elements of the kernel, in float32 (a mask of its shape is none); no
            vector may have as many.
    """
    program = parse(text)
    return _reads(program, program.entry, size)


def _reads(program: Program, name: str, size: int) -> int:
    lines = program.computations[name]
    large = {line.name for line in lines if _has_size(line.shape, size)}
    total = 0
    for line in lines:
        if line.operation not in _FREE:
            total += len(large & set(line.operands))
            continue
        called = [
            _reads(program, other, size)
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
    """Returns how many of torch's operations read a tensor of `size` elements.

    A view (a transposition, say) gives the same memory another name: it reads nothing.
    """
    count = 0

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal count
            result = func(*args, **(kwargs or {}))
            large = [a for a in args if torch.is_tensor(a) and a.numel() == size]
            if func is torch.ops.aten.new_empty.default:  # asks for the dtype alone
                return result
            place = getattr(result, "data_ptr", lambda: None)()
            count += bool(large) and all(a.data_ptr() != place for a in large)
            return result

    with Counter():
        function()
    return count
