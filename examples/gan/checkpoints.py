"""Saves and restores the train state with Orbax."""

from pathlib import Path
from typing import cast

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from examples.gan.errors import UserError
from examples.gan.mesh import state_sharding
from examples.gan.settings import Config
from examples.gan.state import TrainState, init_state


class Checkpoints:
    """The newest two states of a run, below its folder."""

    def __init__(self, folder: Path) -> None:
        """Opens (or makes) ``folder/checkpoints``."""
        self._folder = folder / "checkpoints"
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(self._folder.absolute(), options=options)

    def save(self, state: TrainState) -> None:
        """Saves the state under its step, if it is not there yet."""
        step = int(state.step)
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, config: Config, mesh: Mesh) -> TrainState:
        """Returns the newest state, on this mesh, whichever it was saved from.

        Raises:
            UserError: there is none, or it can not be read.
        """
        step = self._manager.latest_step()
        if step is None:
            raise UserError(f"{self._folder} holds no checkpoint: expected one.")
        try:
            args = ocp.args.StandardRestore(_template(config, mesh))
            return cast(TrainState, self._manager.restore(step, args=args))
        except Exception as error:  # Orbax raises as many kinds as files can break in
            raise UserError(
                f"{self._folder / str(step)} is damaged ({type(error).__name__}): "
                "expected a checkpoint of this run."
            ) from None


def _template(config: Config, mesh: Mesh) -> TrainState:
    """Returns shapes, dtypes and places of a state, without making one."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(lambda: init_state(config)),
        state_sharding(config, mesh),
    )
