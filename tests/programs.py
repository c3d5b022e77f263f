"""Lowered programs, read by structure: each operation, wherever in the program it is.

The text of a program hides what a pattern does not foresee: an arrow inside of the
dimension numbers, an operation on several lines. Operations have names, operands and
attributes.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

# By name, also those that jax does not make today: other dialects, dynamic shapes.
_CONTRACTS = re.compile(r"dot|conv(?!ert)|einsum|matmul|gemm")
# Routines of LAPACK and its like have no precision to set.
_ROUTINE = re.compile(
    r"Eigh|Qr|ProductOfElementaryHouseholderReflectors|(cu|hip)solver_\w+|lapack_\w+"
)
_PASSES_ON = re.compile(
    r"func\.|stablehlo\.(return|while|case|if|optimization_barrier)"
)
_TOLD = ("precision_config", "algorithm", "call_target_name")
_NARROW = ("bf16", "f16", "f8", "f4")


class Operation(NamedTuple):
    """One operation of a program, as text.

    Attributes:
        name: with its dialect, ``"stablehlo.dot_general"``.
        operands: the types of its operands, ``"tensor<3x4xf32>"``.
        results: the types of its results.
        attributes: what is told of its precision, and the target of a call.
    """

    name: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    attributes: dict[str, str]


def trace(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the function as jax has traced it, to be lowered for each platform."""
    return jax.jit(function).trace(*arguments)


def operations(traced: Any, platform: str = "cpu") -> list[Operation]:
    """Returns each operation of the program for a platform, which need not be there.

    Those of loops, branches and called functions are in it, each once.
    """
    lowered = traced.lower(lowering_platforms=(platform,))
    module: Any = lowered.compiler_ir(dialect="stablehlo")
    with module.context:
        return list(_walk(module.operation))


def _walk(operation: Any) -> Iterator[Operation]:
    # No other one: MLIR may abort in the text of a large constant.
    told = {
        name: str(operation.attributes[name])
        for name in _TOLD
        if name in operation.attributes
    }
    yield Operation(
        operation.name,
        tuple(str(value.type) for value in operation.operands),
        tuple(str(value.type) for value in operation.results),
        told,
    )
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _walk(inner.operation)


def users(found: Iterable[Operation], kind: str) -> list[str]:
    """Returns the names of the operations that compute with an array of a type.

    What hands it on, to a function, a loop or a branch, does not compute with it.
    """
    return [
        operation.name
        for operation in found
        if kind in operation.operands and not _PASSES_ON.match(operation.name)
    ]


def contractions(traced: Any, platform: str) -> list[Operation]:
    """Returns the sums of products in a program, and every call that may hide one."""
    return [
        operation
        for operation in operations(traced, platform)
        if _CONTRACTS.search(operation.name.partition(".")[2]) or _hides(operation)
    ]


def at_low_precision(found: Iterable[Operation]) -> list[Operation]:
    """Returns those with float32 in them, or more, that may be computed in less.

    A contraction of integers, or of bfloat16 that stays bfloat16, has nothing to lose.
    """
    return [
        operation
        for operation in found
        if _hides(operation) or (_is_wide(operation) and not _is_highest(operation))
    ]


def _hides(operation: Operation) -> bool:
    if operation.name != "stablehlo.custom_call":
        return False
    target = operation.attributes["call_target_name"].strip('"')
    return not _ROUTINE.fullmatch(target)


def _is_wide(operation: Operation) -> bool:
    types = operation.operands + operation.results
    elements = [
        kind.removeprefix("tensor<").removesuffix(">").split("x")[-1] for kind in types
    ]
    # The last part of "complex<f32>" is "<f32>".
    return any(
        element.lstrip("<").startswith("f") and not element.startswith(_NARROW)
        for element in elements
    )


def _is_highest(operation: Operation) -> bool:
    told = re.findall(
        r"precision (\w+)", operation.attributes.get("precision_config", "")
    )
    # An algorithm stands above the precision, and may be one of TF32.
    return told == ["HIGHEST", "HIGHEST"] and "algorithm" not in operation.attributes
