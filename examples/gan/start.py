"""Begins a run, or goes on with one: nothing is written until all is known to fit."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from examples.gan.checkpoints import Checkpoints
from examples.gan.data import Dataset, load
from examples.gan.errors import UserError
from examples.gan.mesh import check_batch, first_state, make_mesh
from examples.gan.processes import all_or_none, is_first, several
from examples.gan.records import (
    read_config,
    read_metrics,
    trim_metrics,
    write_config,
)
from examples.gan.run_folder import create, find
from examples.gan.settings import Config, check_range, new_config, resumed_config
from examples.gan.state import TrainState


class Run(NamedTuple):
    """All that training needs."""

    folder: Path
    config: Config
    mesh: Mesh
    data: Dataset
    state: TrainState
    checkpoints: Checkpoints


def start(options: dict[str, Any]) -> Run:
    """Returns the run that the command line asks for, in each of its processes.

    Raises:
        UserError: something in the options, the files or the folder does not fit.
    """
    with all_or_none():
        if several() and options["out"] is None:
            raise UserError(
                "--distributed needs --out, a folder that all processes see."
            )
        every = 1_000 if options["save_every"] is None else options["save_every"]
        check_range("--save-every", every, 1, 10**8)
        mesh = make_mesh(options["mesh"])
    return (_resume if options["resume"] else _begin)(options, mesh, every)


def _begin(options: dict[str, Any], mesh: Mesh, every: int) -> Run:
    """Starts a new run; makes its folder last, when nothing else can be wrong."""
    with all_or_none():
        config = new_config(options)
        check_batch(config, mesh)
        data = _load(config)
        config = dataclasses.replace(config, data_crc32=data.crc32())
        folder = create(options["out"]) if is_first() else Path(options["out"])
        # From here on it is a run that can be resumed.
        if is_first():
            write_config(folder, config)
    checkpoints = Checkpoints(folder, every)
    state = first_state(config, mesh)
    checkpoints.save(config, state)
    return Run(folder, config, mesh, data, state, checkpoints)


def _resume(options: dict[str, Any], mesh: Mesh, every: int) -> Run:
    """Goes on with a run; changes nothing in its folder until all is known to fit."""
    with all_or_none():
        folder = find(options["out"])
        saved = read_config(folder)
        config = resumed_config(saved, options)
        check_batch(config, mesh)
        data = _load(config)
        _check_data(saved, config, data)
        metrics = read_metrics(folder)
    checkpoints = Checkpoints(folder, every)
    state = checkpoints.restore(config, mesh)
    with all_or_none():
        if state is None and metrics:
            raise UserError(
                f"{folder / 'checkpoints'} is empty: expected a checkpoint."
            )
        if state is None:  # killed before it had saved its first state
            state = first_state(config, mesh)
        if state.step > config.steps:
            raise UserError(
                f"--steps {config.steps} is less than the {int(state.step)} that "
                f"{folder} has done."
            )
        if is_first():
            trim_metrics(folder, int(state.step))
            write_config(folder, config)
    checkpoints.set_damaged_aside()
    checkpoints.save(config, state)
    return Run(folder, config, mesh, data, state, checkpoints)


def _check_data(saved: Config, config: Config, data: Dataset) -> None:
    """Raises UserError if the images are not those that the run was started with."""
    if data.crc32() != saved.data_crc32:
        raise UserError(
            f"--data-dir {config.data_dir} holds other images than the run to resume "
            "was started with."
        )


def _load(config: Config) -> Dataset:
    """Returns the data; it must fill a batch."""
    data = load(config.dataset, config.data_dir)
    if config.batch_size > len(data):
        raise UserError(
            f"--batch-size {config.batch_size} is out of range: expected at most the "
            f"{len(data):,} images of the data set."
        )
    return data
