"""What ``--constraint`` says: names with ``+`` between them, at most one of a kind."""

import functools
from typing import NamedTuple

from examples.gan.errors import UserError
from examples.gan.parametrizations import PARAMETRIZATIONS
from examples.gan.penalties import PENALTIES, SLOPES
from examples.gan.projections import PROJECTIONS

NORMALIZATIONS = ("layer-norm", "mean-only")
NAMES = (*PARAMETRIZATIONS, *PENALTIES, *PROJECTIONS, *NORMALIZATIONS)

# What reads a convolution as the operator that it is.
_OF_OPERATORS = ("none", "sn", *SLOPES, *NORMALIZATIONS)
# What splits a kernel in two: a projection would not know which half it is for.
_SPLIT = ("wn", "sr")


class Constraint(NamedTuple):
    """The parts of a constraint.

    Attributes:
        parametrization: a key of ``PARAMETRIZATIONS``.
        penalties: keys of ``PENALTIES``.
        projection: a key of ``PROJECTIONS``, or None.
        normalization: of D's hidden layers, one of ``NORMALIZATIONS``, or None.
    """

    parametrization: str
    penalties: tuple[str, ...]
    projection: str | None
    normalization: str | None


@functools.cache
def parse(words: str, *, operator: bool = False) -> Constraint:
    """Returns the parts that ``words`` names, as in ``sn+gp``.

    Args:
        words: the option's value.
        operator: whether ``--operator`` goes with it.

    Raises:
        UserError: an unknown name, one that is there twice, two of a kind, or two that
            do not go together.
    """
    names = words.split("+")
    for name in names:
        if name not in NAMES:
            raise UserError(
                f"--constraint {words} holds the unknown name {name!r}: expected some "
                f"of {', '.join(NAMES)}, with + between them."
            )
    _check_together(words, names)
    for name in names if operator else ():
        if name not in _OF_OPERATORS:
            raise UserError(
                f"--operator does not go with --constraint {words}: expected sn, or "
                f"some of {', '.join(_OF_OPERATORS)}."
            )
    return Constraint(
        _one_of(PARAMETRIZATIONS, names) or "none",
        tuple(name for name in names if name in PENALTIES),
        _one_of(PROJECTIONS, names),
        _one_of(NORMALIZATIONS, names),
    )


def _one_of(kind: object, names: list[str]) -> str | None:
    """Returns the name that is of this kind; there is one at most."""
    return next((name for name in names if name in kind), None)  # type: ignore[operator]


def _check_together(words: str, names: list[str]) -> None:
    """Raises UserError for names that exclude each other."""
    kinds = {
        "parametrization": PARAMETRIZATIONS,
        "projection": PROJECTIONS,
        "normalization of activations": NORMALIZATIONS,
    }
    problem = None
    for kind, table in kinds.items():
        of_kind = [name for name in names if name in table]
        if len(of_kind) > 1:
            problem = f"{' and '.join(of_kind)}: expected one {kind} at most"
    if len(set(names)) < len(names):
        problem = "a name twice: expected each once"
    if "none" in names and len(names) > 1:
        problem = "none and more: expected none alone"
    split, projection = _one_of(_SPLIT, names), _one_of(PROJECTIONS, names)
    if split and projection:
        problem = f"{split} and {projection}: expected a projection without {split}"
    slope = _one_of(SLOPES, names)
    if slope and "mean-only" in names:
        problem = (
            f"{slope} and mean-only, whose scores depend on the whole batch: expected "
            "one of them"
        )
    if problem:
        raise UserError(f"--constraint {words} names {problem}.")
