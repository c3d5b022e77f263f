"""Where a run's arrays lie: images split over "data", kernels over "model"."""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from examples.gan.errors import UserError
from examples.gan.processes import several
from examples.gan.settings import Config
from examples.gan.state import TrainState, init_state

AXES = ("data", "model")


def make_mesh(words: str | None, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns the mesh that ``--mesh`` names, with both axes; automatic sharding.

    Args:
        words: "data=4,model=2"; an axis that is not named has size 1. None is one
            device.
        devices: to take the first of; by default jax' own, on all processes.

    Raises:
        UserError: an unknown axis, a size that is not one, too many devices.
    """
    sizes = _sizes(words)
    all_devices = devices is None
    devices = jax.devices() if devices is None else devices
    if math.prod(sizes) > len(devices):
        raise UserError(
            f"--mesh {words} needs {math.prod(sizes):,} devices: expected at most the "
            f"{len(devices):,} that jax finds."
        )
    if all_devices and several() and math.prod(sizes) < len(devices):
        raise UserError(
            f"--mesh {words} leaves devices out: expected all {len(devices):,} of the "
            "processes that train together."
        )
    automatic = (AxisType.Auto,) * len(AXES)
    devices = devices[: math.prod(sizes)]
    return jax.make_mesh(sizes, AXES, axis_types=automatic, devices=devices)


def _sizes(words: str | None) -> tuple[int, ...]:
    """Returns the size of each axis."""
    sizes = dict.fromkeys(AXES, 1)
    named = (
        [word.partition("=")[::2] for word in words.split(",")]
        if words is not None
        else []
    )
    for axis, size in named:
        if axis not in AXES or not re.fullmatch(r"[1-9][0-9]{0,6}", size):
            raise UserError(
                f"--mesh {words} is not a mesh: expected data=N, model=M or "
                "data=N,model=M, each a number of devices."
            )
        sizes[axis] = int(size)
    if len({axis for axis, _ in named}) < len(named):
        raise UserError(f"--mesh {words} names an axis twice: expected each once.")
    return tuple(sizes.values())


def check_batch(config: Config, mesh: Mesh) -> None:
    """Raises UserError if a batch can not be split evenly over the axis "data"."""
    n_parts = mesh.shape["data"]
    if config.batch_size % n_parts:
        raise UserError(
            f"--batch-size {config.batch_size} can not be split over data={n_parts}: "
            "expected a multiple of it."
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns how images and latent vectors lie: split along their first axis."""
    return NamedSharding(mesh, P("data"))


def real_sharding(mesh: Mesh) -> NamedSharding:
    """Returns how the real batches of a step lie: each one as `batch_sharding` says."""
    return NamedSharding(mesh, P(None, "data"))


def state_sharding(config: Config, mesh: Mesh) -> TrainState:
    """Returns how each array of the state lies, as a state of shardings.

    A kernel is split along its last axis, its outputs, where "model" divides it; so are
    its Adam moments, its moving average, and u and u2. All the rest is on every device.
    """

    def of_leaf(path: Any, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        is_kernel = any(getattr(key, "key", None) == "kernel" for key in path)
        if not is_kernel or not leaf.shape or leaf.shape[-1] % mesh.shape["model"]:
            return NamedSharding(mesh, P())
        return NamedSharding(mesh, P(*[None] * (len(leaf.shape) - 1), "model"))

    shapes = jax.eval_shape(lambda: init_state(config))
    return jax.tree_util.tree_map_with_path(of_leaf, shapes)


def first_state(config: Config, mesh: Mesh) -> TrainState:
    """Returns the state before the first step, on the mesh: the same bits on each."""
    return place(init_state(config), state_sharding(config, mesh))


def place(tree: Any, shardings: Any) -> Any:
    """Puts arrays that every process has whole where they belong, each its own part."""

    def one(leaf: Any, sharding: NamedSharding) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

    return jax.tree.map(one, tree, shardings)
