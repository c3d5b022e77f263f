"""Public names that have moved: each works for one release, and says the new one."""

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def moved(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a module that some names have left.

    Args:
        module: the one they were in.
        homes: the new name, with its module, by the old one.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is now {homes[name]}. The old name works until the next "
            "release.",
            DeprecationWarning,
            stacklevel=2,
        )
        home, _, new = homes[name].rpartition(".")
        return getattr(importlib.import_module(home), new)

    return getattr_


def claim(module: str, names: Sequence[str], objects: Mapping[str, Any]) -> None:
    """Makes public functions and classes say the module that they are imported from."""
    for name in names:
        value = objects[name]
        if isinstance(value, type) or callable(value):
            value.__module__ = module


def renamed(**names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Lets a function take options under their old names.

    Args:
        **names: the new name by the old one.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for old in kwargs.keys() & names.keys():
                warn_renamed(function.__name__, old, names[old])
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


def warn_renamed(where: str, old: str, new: str) -> None:
    """Warns of an old name of an option."""
    warnings.warn(
        f"{where}({old}=...) is now {where}({new}=...). The old name works until the "
        "next release.",
        DeprecationWarning,
        stacklevel=3,
    )
