"""What the compiler says of one program: `Counts`, for one device and one step."""

import time
from typing import Any, NamedTuple

from benchmarks.tpu.collectives import collectives, total_bytes, total_count
from benchmarks.tpu.hlo import parse
from benchmarks.tpu.traffic import cycles, main_memory_bytes, n_fusions


class Counts(NamedTuple):
    """Numbers of one compiled program; every one is for one device and one step.

    Attributes:
        collectives: how many run, those in loops as often as the loop.
        collective_bytes: of their results.
        memory_bytes: read from and written to main memory.
        cycles: that the compiler expects the fusions to take.
        fusions: in the program's text.
        flops: by the compiler's own count, a loop's body once.
        temporary_bytes: of main memory that are neither arguments nor results.
        seconds: that compiling took, here and now.
    """

    collectives: int
    collective_bytes: int
    memory_bytes: int
    cycles: int
    fusions: int
    flops: int
    temporary_bytes: int
    seconds: float


def count(lowered: Any, options: dict[str, Any] | None = None) -> Counts:
    """Compiles a lowered program for its devices and returns its numbers."""
    start = time.perf_counter()
    compiled = lowered.compile(compiler_options=options)
    seconds = time.perf_counter() - start
    program = parse(compiled.as_text())
    found = collectives(program)
    return Counts(
        collectives=total_count(found),
        collective_bytes=total_bytes(found),
        memory_bytes=main_memory_bytes(program),
        cycles=cycles(program),
        fusions=n_fusions(program),
        flops=int(compiled.cost_analysis()["flops"]),
        temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
        seconds=seconds,
    )
