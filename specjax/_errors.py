"""One sentence shape for every error: where, what was given, what is needed, a fix."""

from collections.abc import Sequence


class UndecidedKernelError(ValueError):
    """A leaf that a rule takes for a kernel, without knowing its axes."""


class TooLargeError(ValueError):
    """A method that would need more memory than it may take."""


def complaint(where: str, *, got: str, need: str, fix: str) -> str:
    """Returns ``"{where}: got {got}; need {need}. Try: {fix}."``.

    Example:
        >>> complaint("Dense_0/kernel", got="int32[3,4]", need="floats", fix="a cast")
        'Dense_0/kernel: got int32[3,4]; need floats. Try: a cast.'
    """
    return f"{where}: got {got}; need {need}. Try: {fix}."


def raise_together(error: type[Exception], complaints: Sequence[str]) -> None:
    """Raises one `error` that lists every complaint; does nothing without any.

    Raises:
        error: if there is at least one complaint, one line for each.
    """
    if complaints:
        raise error("\n".join(complaints))


def describe(leaf: object) -> str:
    """Returns dtype and shape as jax prints them.

    Example:
        >>> import numpy as np
        >>> describe(np.zeros((3, 4), np.float32))
        'float32[3,4]'
    """
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if shape is None or dtype is None:
        return f"a {type(leaf).__name__}"
    return f"{dtype}[{','.join(map(str, shape))}]"
