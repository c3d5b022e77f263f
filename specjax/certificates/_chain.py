"""From a chain of parts to its factors: one walk, with the shape of one example.

The constant of a chain is at most the product of its parts' constants, that of a sum at
most their sum; a kernel's is the proved upper bound of the linear map that it is.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from specjax import errors
from specjax._tree import Path
from specjax.bounds import Norm
from specjax.certificates._activations import reason_for, slope_of
from specjax.certificates._certificate import Factor
from specjax.certificates._named_layers import Layer
from specjax.certificates._parts import Part, Repeat, Reshape, Residual
from specjax.certificates._pools import Shape
from specjax.certificates._upward import product, total
from specjax.linear_maps import ResolvedMap, StackedMap

_RESHAPING = (jnp.ravel,)


@dataclasses.dataclass(frozen=True)
class Network:
    """The params as the chain names them."""

    kernels: Mapping[Path, tuple[Any, StackedMap]]
    layers: Mapping[str, Layer]
    norms: Mapping[Path, Norm]


def names_in(parts: Sequence[Any]) -> Iterator[str]:
    """Yields every name in the chain and in the chains inside it."""
    if isinstance(parts, str):
        message = errors.message(
            "parts", got=repr(parts), need="a list", fix=f"[{parts!r}]"
        )
        raise TypeError(message)
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, Residual):
            yield from names_in(part.branch)
            yield from names_in(part.shortcut)
        elif isinstance(part, Repeat):
            yield from names_in(part.parts)


Walked = tuple[tuple[Factor, ...], Shape | None]


def walk(
    parts: Sequence[Any], shape: Shape | None, network: Network, at: int | None
) -> Walked:
    """Returns the factors of a chain and the shape that it ends with, None if unknown.

    Args:
        parts: the chain.
        shape: of what goes into it.
        network: the params.
        at: which slice of every stack is meant, inside a `Repeat`.
    """
    factors = []
    for part in parts:
        factor, shape = _part(part, shape, network, at)
        factors.append(factor)
    return tuple(factors), shape


def _part(
    part: Any, shape: Shape | None, network: Network, at: int | None
) -> tuple[Factor, Shape | None]:
    match part:
        case str():
            return _kernel(part, shape, network, at)
        case Residual():
            return _residual(part, shape, network, at)
        case Repeat():
            return _repeat(part, shape, network, at)
        case part if isinstance(part, Part):
            factor = part.factor()
            constant = _number(factor.constant)
            shape = _fitting(factor.name, part.output_shape, shape)
            return factor._replace(constant=constant), shape
        case part if any(part is function for function in _RESHAPING):
            return _part(Reshape(), shape, network, at)
        case _:
            return _function(part, shape)


def _kernel(
    name: str, shape: Shape | None, network: Network, at: int | None
) -> tuple[Factor, Shape | None]:
    """Returns the bound of a named layer, or why there is none."""
    layer = network.layers[name]
    if layer.kernel is None:
        return Factor(name, math.inf, "none", layer.reason), None
    _, linear_map = network.kernels[layer.kernel]
    norm = network.norms[layer.kernel]
    values = np.asarray(norm.value, np.float64)
    if values.ndim != (at is not None):
        raise ValueError(_stack_message(name, values.shape, at))
    value = _number(values if at is None else values[at])
    kind, method = norm.kind, f"{norm.method}, of the {norm.of}"
    if value == math.inf:
        kind, method = "none", "the kernel is not finite"
    shape = _through(name, linear_map.one, shape)
    return Factor(name, value, kind, method), shape


def _stack_message(name: str, sizes: Shape, at: int | None) -> str:
    if at is None:
        got = f"a stack of {' x '.join(map(str, sizes))} kernels"
        need = "to know how they follow each other"
        fix = f"specjax.certificates.Repeat([{name!r}, ...]) for layers one after the "
        fix += "other, as in flax.linen.scan, or the params of one slice"
    else:
        got = f"{len(sizes)} axes of a stack inside of a Repeat"
        need, fix = "one", "a Repeat around stacks only, or the params of one slice"
    return errors.message(name, got=got, need=need, fix=fix)


def _through(name: str, linear_map: ResolvedMap, shape: Shape | None) -> Shape | None:
    """Returns the shape behind a linear map; a Dense works on the last axes alone."""
    before, after = linear_map.in_shape, linear_map.out_shape
    whole = linear_map.matrix_axes is None
    if shape is None:
        return after if whole else None
    rest = len(shape) - len(before)
    if rest < 0 or (whole and rest) or shape[rest:] != before:
        message = errors.message(
            name,
            got=f"an input of shape {shape} from the part before it",
            need=f"{before}",
            fix="Conv(input_shape=...) with the size that the layer is used at, or "
            "specjax.certificates.Reshape() where the network flattens",
        )
        raise ValueError(message)
    return shape[:rest] + after


def _residual(
    part: Residual, shape: Shape | None, network: Network, at: int | None
) -> tuple[Factor, Shape | None]:
    """Returns the sum of the two branches' constants."""
    inner, shapes = [], []
    for title, parts in (("branch", part.branch), ("shortcut", part.shortcut)):
        factors, after = walk(parts, shape, network, at)
        constant = product(factor.constant for factor in factors)
        method = "product" if factors else "the input itself"
        inner.append(Factor(title, constant, _kind(constant), method, factors))
        shapes.append(after)
    if None not in shapes and shapes[0] != shapes[1]:
        message = errors.message(
            "Residual",
            got=f"a branch of shape {shapes[0]} and a shortcut of shape {shapes[1]}",
            need="one shape: a sum that broadcasts stretches more",
            fix="the layers that bring the shortcut to the branch's shape",
        )
        raise ValueError(message)
    constant = total(factor.constant for factor in inner)
    factor = Factor("Residual", constant, _kind(constant), "sum", tuple(inner))
    return factor, shapes[0] if shapes[1] is None else shapes[1]


def _repeat(
    part: Repeat, shape: Shape | None, network: Network, at: int | None
) -> tuple[Factor, Shape | None]:
    """Returns the product over the slices of the stacks."""
    kernels = (network.layers[name].kernel for name in names_in(part.parts))
    sizes = {np.shape(network.norms[k].value) for k in kernels if k is not None}
    if at is not None or len(sizes) != 1 or len(*sizes) != 1:
        message = errors.message(
            "Repeat",
            got=f"stacks of shapes {', '.join(map(str, sorted(sizes)))}"
            + ", inside of another Repeat" * (at is not None),
            need="stacks along one axis of one size",
            fix="kernels={r'...': specjax.Matrix(batch_axis=0), ...}",
        )
        raise ValueError(message)
    inner = []
    for i in range(*sizes.pop()):
        factors, shape = walk(part.parts, shape, network, i)
        constant = product(factor.constant for factor in factors)
        inner.append(
            Factor(f"slice {i}", constant, _kind(constant), "product", factors)
        )
    constant = product(factor.constant for factor in inner)
    name = f"Repeat of {len(inner)}"
    return Factor(name, constant, _kind(constant), "product", tuple(inner)), shape


def _function(part: Any, shape: Shape | None) -> tuple[Factor, Shape | None]:
    """Returns the slope of an activation, or why an object has none."""
    slope, name = slope_of(part), _called(part)
    if slope is not None and slope.constant < math.inf:
        return Factor(name, slope.constant, "exact", slope.why), shape
    if slope is not None:
        return Factor(name, math.inf, "none", slope.why), shape
    reason = reason_for(name) or (
        "a function that specjax does not know. With a proof of your own: "
        "specjax.certificates.Claim(name, constant, why)"
    )
    return Factor(name, math.inf, "none", reason), None


def _called(part: Any) -> str:
    """Returns what a function or an object is called in the listing."""
    function = getattr(part, "func", part)
    name = getattr(function, "__name__", type(function).__name__)
    words = getattr(part, "keywords", {}) if function is not part else {}
    options = ", ".join(f"{word}={value}" for word, value in words.items())
    return f"{name}({options})" if options else name


def _fitting(
    name: str, function: Callable[[Shape], Shape | None], shape: Shape | None
) -> Shape | None:
    """Returns the shape that a part makes of this one, if one is known."""
    if shape is None:
        return None
    try:
        return function(shape)
    except ValueError as error:
        message = errors.message(
            name,
            got=f"an input of shape {shape} from the part before it",
            need=str(error),
            fix="the parts in the order in which they are applied",
        )
        raise ValueError(message) from None


def _kind(constant: float) -> str:
    return "none" if constant == math.inf else "upper"


def _number(value: Any) -> float:
    """Returns the value as a float, inf for what is not a number."""
    number = float(value)
    return math.inf if math.isnan(number) else number
