"""What a method would allocate, said before it does."""

from specjax import errors
from specjax.linear_maps import StackedMap

MAX_BYTES = 4 * 2**30


def check_bytes(
    method: str,
    needed: int,
    max_bytes: int,
    *,
    linear_map: StackedMap,
    fix: str,
) -> None:
    """Raises a TooLargeError if a method needs more memory than it may take."""
    if needed <= max_bytes:
        return
    message = errors.message(
        method,
        got=f"a kernel of shape {linear_map.shape} under {linear_map}, for which it "
        f"takes {_readable(needed)}",
        need=f"at most max_bytes={max_bytes} ({_readable(max_bytes)})",
        fix=fix,
    )
    raise errors.TooLargeError(message)


def _readable(n_bytes: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"
