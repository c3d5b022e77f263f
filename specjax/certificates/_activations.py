"""How steep a function can be: one table, with a proof or a source for each row.

A function is known by identity (`flax.linen.relu` is `jax.nn.relu`), never by its name,
and a `functools.partial` of it by its keywords. A constant is for the function on all
real numbers, in exact arithmetic, and rounded up.
"""

import functools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Slope(NamedTuple):
    """The smallest Lipschitz constant of a function in the 2-norm, rounded up."""

    constant: float
    why: str


def slope_of(function: Any) -> Slope | None:
    """Returns the slope of a function in the table, None for any other.

    Example:
        >>> slope_of(functools.partial(jax.nn.leaky_relu, negative_slope=2)).constant
        2.0
        >>> slope_of(lambda x: jax.nn.relu(x)) is None
        True
    """
    keywords: dict[str, Any] = {}
    if isinstance(function, functools.partial):
        if function.args:
            return None
        function, keywords = function.func, function.keywords
    known = _TABLE.get(id(function))
    if known is None:
        return None
    try:
        return known[1](**keywords)
    except (TypeError, ValueError):  # a keyword that the row does not know
        return None


def _clipped_line() -> Slope:
    return Slope(1.0, "pieces of slope 0 and 1")


def _one() -> Slope:
    return Slope(1.0, "|f'| is at most 1")


def _clip(min: Any = None, max: Any = None) -> Slope:
    del min, max
    return _clipped_line()


def _leaky_relu(negative_slope: Any = 0.01) -> Slope:
    return Slope(_one_or(negative_slope), "max(1, |negative_slope|)")


def _elu(alpha: Any = 1.0) -> Slope:
    return Slope(_one_or(alpha), "f' is alpha e^x below 0: max(1, |alpha|)")


def _celu(alpha: Any = 1.0) -> Slope:
    if not float(alpha) > 0:
        return Slope(math.inf, f"f' is e^(x / alpha) below 0, and alpha is {alpha}")
    return Slope(1.0, "f' is e^(x / alpha) below 0")


def _gelu(approximate: bool = True) -> Slope:
    if approximate:
        return Slope(1.1289931, "maximum of f', at x = 1.41850 (tanh form)")
    return Slope(1.1289042, "f'' = (2 - x^2) phi(x): f' at sqrt(2)")


def _squareplus(b: Any = 4) -> Slope | None:
    why = "f' = (1 + x / sqrt(x^2 + b)) / 2 is below 1"
    return Slope(1.0, why) if float(b) >= 0 else None


def _softmax(axis: Any = -1) -> Slope:
    del axis
    # v (diag(p) - p p^T) v is the variance of v under p: at most (max - min)^2 / 4
    # (Popoviciu), and (max - min)^2 is at most 2 |v|^2.
    return Slope(0.5, "v^T f' v is a variance, at most (max v - min v)^2 / 4")


def _one_or(number: Any) -> float:
    """Returns ``max(1, |number|)``, NaN for NaN."""
    size = abs(float(number))
    return 1.0 if size <= 1 else size


def _fixed(constant: float, why: str) -> Callable[[], Slope]:
    return lambda: Slope(constant, why)


_ROWS: tuple[tuple[Callable[..., Slope | None], tuple[Any, ...]], ...] = (
    (
        _clipped_line,
        (jax.nn.relu, jax.nn.relu6, jax.nn.hard_tanh, jnp.abs, jnp.absolute, lax.abs),
    ),
    (_clip, (jnp.clip,)),
    (_fixed(1.0, "changes nothing"), (jax.nn.identity, lax.stop_gradient)),
    (_fixed(1.0, "turns the sign"), (jnp.negative, lax.neg)),
    (
        _one,
        (
            jax.nn.tanh, jnp.tanh, lax.tanh, jnp.sin, lax.sin, jnp.cos, lax.cos,
            jnp.arctan, jnp.arcsinh, jax.nn.soft_sign, jax.nn.softplus,
            jax.nn.log_sigmoid, jax.nn.sparse_plus,
        ),
    ),
    (_leaky_relu, (jax.nn.leaky_relu,)),
    (_elu, (jax.nn.elu,)),
    (_celu, (jax.nn.celu,)),
    (_fixed(1.7580994, "f' at 0 from below: scale times alpha"), (jax.nn.selu,)),
    (_gelu, (jax.nn.gelu,)),
    # With x tanh(x / 2) = 2, f' = 1/2 + x/4.
    (
        _fixed(1.0998394, "maximum of f', at x = 2.39936"),
        (jax.nn.silu, jax.nn.swish),
    ),
    (_fixed(1.0884982, "maximum of f', at x = 1.49057"), (jax.nn.mish,)),
    (_fixed(0.25, "f' = f (1 - f)"), (jax.nn.sigmoid, lax.logistic)),
    (_fixed(math.nextafter(1 / 6, 1), "relu6(x + 3) / 6"), (jax.nn.hard_sigmoid,)),
    (
        _fixed(1.5, "f' = (2 x + 3) / 6 up to x = 3"),
        (jax.nn.hard_silu, jax.nn.hard_swish),
    ),
    (_fixed(0.5, "pieces of slope 0 and 1/2"), (jax.nn.sparse_sigmoid,)),
    (_squareplus, (jax.nn.squareplus,)),
    (
        _fixed(1.1283792, "f' = 2 e^(-x^2) / sqrt(pi)"),
        (lax.erf, jax.scipy.special.erf),
    ),
    (_softmax, (jax.nn.softmax,)),
)  # fmt: skip
# The functions are held beside their ids: an id is taken again when its object is gone.
_TABLE = {
    id(function): (function, row) for row, functions in _ROWS for function in functions
}

# What is often met and has no finite constant, by name: the answer is inf in any case,
# the name only finds the reason.
_REASONS = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (
            "attention",
            "dot-product attention: a product of two projections of the input, which "
            "grows with it (Kim et al. 2021)",
        ),
        (
            "batch_?norm",
            "batch statistics: in training the output for one input depends on the "
            "rest of its batch. In evaluation: "
            "specjax.certificates.Scale(scale / sqrt(var + epsilon))",
        ),
        (
            "(layer|group|rms|instance)_?norm|^normalize$|^standardize$",
            "divides by the deviation of its own input: steep where that is small. "
            "With an epsilon: at most "
            "specjax.certificates.Scale(max|scale| / sqrt(epsilon))",
        ),
        (
            "dropout",
            "draws at random in training: two calls differ at one x. In evaluation it "
            "is left out of the chain",
        ),
        ("embed", "its input is an integer: there is no distance to compare with"),
        ("log_softmax", "sqrt(n) for n classes: specjax.certificates.Scale(sqrt(n))"),
        ("glu$", "a product of two parts of the input grows with it"),
        ("^(exp|expm1|square|log|log1p|sqrt|reciprocal)$", "its slope has no bound"),
    )
)


def reason_for(name: str) -> str | None:
    """Returns why what has this name has no finite constant, None if not known.

    Example:
        >>> reason_for("Dropout_0")[:28]
        'draws at random in training:'

    Source: for attention, Kim, Papamakarios and Mnih, "The Lipschitz Constant of
    Self-Attention" (2021), section 3: not Lipschitz on an unbounded domain.
    """
    found = (reason for pattern, reason in _REASONS if pattern.search(name))
    return next(found, None)
