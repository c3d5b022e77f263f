"""Several processes that train as one: start, agree, gather, and leave together."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from examples.gan.errors import UserError

# A process that is gone is noticed after this long, unless its connection breaks
# before; jax itself waits for 100 seconds.
_HEARTBEAT_SECONDS = 10
# While the first process draws and scores, the others wait for it to end.
_SHUTDOWN_SECONDS = 3_600


def join(words: str) -> None:
    """Joins this process with the others; before anything else is asked of jax.

    Args:
        words: "auto" where jax finds the others by itself (a TPU pod slice, Slurm, Open
            MPI), else "host:port,number,index" of the first one and of this one.

    Raises:
        UserError: neither of them, or there is nothing that jax finds.
    """
    found = re.fullmatch(r"([^,\s]+:\d{1,5}),(\d{1,6}),(\d{1,6})", words)
    if words != "auto" and (not found or not int(found[3]) < int(found[2])):
        raise UserError(
            f"--distributed {words} does not say where the processes meet: expected "
            "auto, or host:port,number,index with an index from 0 to number - 1."
        )
    where: dict[str, Any] = {}
    if found:
        number, index = int(found[2]), int(found[3])
        where = {
            "coordinator_address": found[1],
            "num_processes": number,
            "process_id": index,
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(
            **where,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"--distributed {words} found no other process ({reason}): expected "
            "each of them to be started with the same address."
        ) from None


def joined() -> bool:
    """Says whether `join` was called with success."""
    return jax.distributed.is_initialized()


def several() -> bool:
    """Says whether this is one of several processes."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Says whether this is the process that writes and speaks."""
    return jax.process_index() == 0


def say(*words: Any) -> None:
    """Prints, in the first process."""
    if is_first():
        print(*words)


@contextmanager
def all_or_none() -> Iterator[None]:
    """All processes leave this block, or each one raises UserError.

    Without it, one that refuses would leave the others waiting for it.
    """
    refusal = None
    try:
        yield
    except UserError as error:
        refusal = error
    others = [i for i, refused in enumerate(gather(refusal is not None)) if refused]
    if refusal is not None:
        raise refusal
    if others:
        raise UserError(f"Process {others[0]} has refused: its own words say why.")


def gather(value: Any) -> np.ndarray:
    """Returns what each process has given, one after the other."""
    value = np.asarray(value)[None]
    return np.asarray(multihost_utils.process_allgather(value, tiled=True))


def whole(tree: Any) -> Any:
    """Returns arrays that lie split over the processes as numpy arrays in each one."""
    if several():
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)


def leave(code: int) -> NoReturn:
    """Ends this process at once; at jax' own exit it would wait for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
