"""Saves and restores a run with Orbax; what is damaged is named and passed over."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh

from examples.gan.checksums import checksums
from examples.gan.errors import UserError
from examples.gan.mesh import state_sharding
from examples.gan.processes import gather, is_first
from examples.gan.quiet import without_late_reads
from examples.gan.settings import Config
from examples.gan.state import TrainState, init_state, key_of_step

_STATE, _RECORD = "state", "record"
_MAY_CHANGE = ("steps", "data_dir")


class Checkpoints:
    """The newest two states of a run, below its folder.

    A checkpoint is one folder that Orbax writes under another name and renames when it
    is whole. It holds ``state`` (both networks, specjax's state, both optimizers, the
    average) and ``record``: the config, the number of the next batch in the order that
    the seed fixes, the random key of that step, and a checksum for each array.
    """

    def __init__(self, folder: Path, every: int = 1_000) -> None:
        """Opens (or makes) ``folder/checkpoints``; ``every`` counts steps."""
        self.every = every
        self._folder = folder / "checkpoints"
        self._damaged: list[int] = []
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,  # what a killed process has left
        )
        self._manager = ocp.CheckpointManager(self._folder.absolute(), options=options)

    def save(self, config: Config, state: TrainState) -> None:
        """Saves the state under its step, if it is not there yet."""
        step = int(state.step)
        if step not in self._manager.all_steps():
            record = _position(config, step) | {"checksums": checksums(state)}
            items = {
                _STATE: ocp.args.StandardSave(_saved(state)),
                _RECORD: ocp.args.JsonSave(record),
            }
            self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, config: Config, mesh: Mesh) -> TrainState | None:
        """Returns the newest state that is whole, on this mesh; None if none was saved.

        Each damaged one is told on stderr.

        Raises:
            UserError: all are damaged.
        """
        steps, told = sorted(self._manager.all_steps(), reverse=True), []
        for step in steps:
            with without_late_reads():
                state, problem = self._read(step, config, mesh)
            if state is not None:
                self._tell(told, step)
                return state
            told.append(f"{self._folder / str(step)} is damaged ({problem})")
            self._damaged.append(step)
        if steps:
            raise UserError(f"{'; '.join(told)}: expected a checkpoint of this run.")
        return None

    def set_damaged_aside(self) -> None:
        """Moves what `restore` passed over out of the way of the next checkpoints."""
        aside = self._folder.parent / "damaged"
        for step in self._damaged if is_first() else ():
            aside.mkdir(exist_ok=True)
            number = sum(1 for _ in aside.iterdir()) + 1
            (self._folder / str(step)).rename(aside / f"{step}-{number}")
        gather(True)  # nobody looks before the first process is done
        if self._damaged:
            self._manager.reload()
        self._damaged.clear()

    def _tell(self, told: list[str], step: int) -> None:
        for sentence in told if is_first() else ():
            print(f"{sentence}: going back to step {step:,}.", file=sys.stderr)

    def _read(
        self, step: int, config: Config, mesh: Mesh
    ) -> tuple[TrainState | None, str]:
        """Returns a state, or None and why it can not be used, in all processes."""
        state, record, problem = None, {}, ""
        folder = epath.Path(self._folder.absolute()) / str(step)
        # Not by the manager, at whose end all processes meet: one may have failed.
        try:
            template = ocp.args.StandardRestore(_saved(_template(config, mesh)))
            saved = ocp.StandardCheckpointHandler().restore(
                folder / _STATE, args=template
            )
            state = TrainState(**({"carried": {}} | saved))
            record = dict(ocp.JsonCheckpointHandler().restore(folder / _RECORD))
        except Exception as error:  # Orbax raises as many kinds as files can break in
            problem = type(error).__name__
        if gather(bool(problem)).any():
            return None, problem or "in another process"
        sums = record.pop("checksums", None)
        if sums != checksums(state):
            return None, "the checksum is another"
        if not _continues(record, _position(config, step)):
            return None, "it belongs to another run"
        return state, ""


def _saved(state: TrainState) -> dict[str, Any]:
    """Returns the fields of a state; without ``carried`` where nothing is in it.

    Of runs from before that field there is none.
    """
    fields = state._asdict()
    if not state.carried:
        del fields["carried"]
    return fields


def _position(config: Config, step: int) -> dict[str, Any]:
    """Returns where a run is after ``step`` steps, beside its state."""
    key = jax.random.key_data(key_of_step(config.seed, step))
    return {
        "config": dataclasses.asdict(config),
        "next_batch": step * config.game.n_dis,
        "key": key.tolist(),
    }


def _continues(record: dict[str, Any], position: dict[str, Any]) -> bool:
    """Says whether a run at ``position`` is the one that was recorded there."""
    fixed = {
        name: value
        for name, value in position["config"].items()
        if name not in _MAY_CHANGE
    }
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(Config)
        if field.default is not dataclasses.MISSING
    }  # of options that came after the run
    recorded = defaults | record.get("config", {})
    return record | {"config": {k: recorded.get(k) for k in fixed}} == position | {
        "config": fixed
    }


def _template(config: Config, mesh: Mesh) -> TrainState:
    """Returns shapes, dtypes and places of a state, without making one."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(lambda: init_state(config)),
        state_sharding(config, mesh),
    )
