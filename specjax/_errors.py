"""One sentence shape for every error: where, what was given, what is needed, a fix."""

from collections.abc import Sequence


class UndecidedKernelError(ValueError):
    """A leaf that a rule takes for a kernel, without knowing its axes."""


class NoKernelError(ValueError):
    """A tree in which no leaf is a kernel."""


class CheckpointError(ValueError):
    """A path that holds no checkpoint, a damaged one, or one without what was named."""


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


def refusal(where: object, got: str, need: str, fix: str) -> CheckpointError:
    """Returns the error about a checkpoint, its complaint on one line."""
    message = complaint(str(where), got=got, need=need, fix=fix)
    return CheckpointError(" ".join(message.split()))
