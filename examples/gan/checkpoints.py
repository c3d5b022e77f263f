"""Saves and restores the train state with Orbax."""

from pathlib import Path
from typing import cast

import jax
import orbax.checkpoint as ocp

from examples.gan.errors import UserError
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

    def restore(self, config: Config) -> TrainState:
        """Returns the newest state.

        Raises:
            UserError: there is none, or it can not be read.
        """
        step = self._manager.latest_step()
        if step is None:
            raise UserError(f"{self._folder} holds no checkpoint: expected one.")
        try:
            args = ocp.args.StandardRestore(_template(config))
            return cast(TrainState, self._manager.restore(step, args=args))
        except Exception as error:  # Orbax raises as many kinds as files can break in
            raise UserError(
                f"{self._folder / str(step)} is damaged ({type(error).__name__}): "
                "expected a checkpoint of this run."
            ) from None


def _template(config: Config) -> TrainState:
    """Returns shapes, dtypes and the device of a state, without making one."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
        jax.eval_shape(lambda: init_state(config)),
    )
