"""Optional libraries: imported where they are used; a missing one is one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from specjax import _errors


class MissingLibraryError(ImportError):
    """A library that this one function needs is not installed."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turns a failing import into a sentence that names the extra to install.

    Raises:
        MissingLibraryError: if a module is not found inside.

    Example:
        >>> with needs_extra("report"):
        ...     import no_such_library
        Traceback (most recent call last):
        specjax._extras.MissingLibraryError: specjax: got no library no_such_library;
        need it for this. Try: pip install 'specjax[report]'.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        message = _errors.complaint(
            "specjax",
            got=f"no library {library}",
            need="it for this",
            fix=f"pip install 'specjax[{extra}]'",
        )
        raise MissingLibraryError(message, name=library) from None
