"""The errors that a caller may want to catch, and the one sentence shape of them all.

Every message says where, what was given, what is needed, and what to try. A message
about a tree lists every bad leaf, not the first.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = [
    "CheckpointError",
    "MissingLibraryError",
    "NoKernelError",
    "TooLargeError",
    "UndecidedKernelError",
]


class UndecidedKernelError(ValueError):
    """A leaf that a rule takes for a kernel, without knowing its axes."""


class NoKernelError(ValueError):
    """A tree in which no leaf is a kernel."""


class CheckpointError(ValueError):
    """A path that holds no checkpoint, a damaged one, or one without what was named."""


class TooLargeError(ValueError):
    """A method that would need more memory than it may take."""


class MissingLibraryError(ImportError):
    """A library that this one function needs is not installed."""


def message(where: str, *, got: str, need: str, fix: str) -> str:
    """Returns ``"{where}: got {got}; need {need}. Try: {fix}."``.

    Example:
        >>> message("Dense_0/kernel", got="int32[3,4]", need="floats", fix="a cast")
        'Dense_0/kernel: got int32[3,4]; need floats. Try: a cast.'
    """
    return f"{where}: got {got}; need {need}. Try: {fix}."


def raise_all(error: type[Exception], messages: Sequence[str]) -> None:
    """Raises one `error` that lists every message; does nothing without any.

    Raises:
        error: if there is at least one message, one line for each.
    """
    if messages:
        raise error("\n".join(messages))


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


def checkpoint_error(where: object, got: str, need: str, fix: str) -> CheckpointError:
    """Returns the error about a checkpoint, its message on one line."""
    text = message(str(where), got=got, need=need, fix=fix)
    return CheckpointError(" ".join(text.split()))


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turns a failing import into a sentence that names the extra to install.

    Raises:
        MissingLibraryError: if a module is not found inside.

    Example:
        >>> with needs_extra("report"):
        ...     import no_such_library
        Traceback (most recent call last):
        specjax.errors.MissingLibraryError: specjax: got no library no_such_library;
        need it for this. Try: pip install 'specjax[report]'.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        text = message(
            "specjax",
            got=f"no library {library}",
            need="it for this",
            fix=f"pip install 'specjax[{extra}]'",
        )
        raise MissingLibraryError(text, name=library) from None
