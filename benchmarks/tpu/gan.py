"""The GAN example's own training step, for TPUs that are not there."""

from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import specjax as sx
from examples.gan.data import Real
from examples.gan.mesh import real_sharding, state_sharding
from examples.gan.settings import Config
from examples.gan.state import init_state
from examples.gan.train import new_train_step

BATCH = 64  # images for each device along "data", as Miyato et al. (2018) have


def lower(dataset: str, mesh: Mesh, *, normalized: bool) -> Any:
    """Returns the training step of one mesh, ready to be compiled.

    Args:
        dataset: a preset of the example; "cifar10" has the paper's widths.
        mesh: ("data", "model"), of devices that need not be there.
        normalized: whether the discriminator's kernels go through `sn_apply`, or into
            it as they are.
    """
    batch = BATCH * mesh.shape["data"]
    config = Config(dataset, "sn", 1, batch, seed=0, data_dir=None)
    side, channels = config.preset.side, config.preset.channels
    state = jax.tree.map(
        lambda leaf, lies: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies),
        jax.eval_shape(lambda: init_state(config)),
        state_sharding(config, mesh),
    )
    lies = real_sharding(mesh)
    images = 1, batch, side, side, channels
    real: Any = Real(
        jax.ShapeDtypeStruct(images, jnp.float32, sharding=lies),
        jax.ShapeDtypeStruct(images[:2], jnp.int32, sharding=lies),
    )
    with mock.patch.object(sx, "sn_apply", sx.sn_apply if normalized else _as_is):
        step: Any = new_train_step(config, mesh)
        return step.lower(state, real, np.uint32(0))


def _as_is(params: Any, state: Any, **options: Any) -> tuple[Any, Any]:
    del options
    return params, state
