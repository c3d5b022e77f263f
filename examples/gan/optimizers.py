"""The two optimizers: Adam as the data set or one of the settings A to F has it."""

import optax

from examples.gan.projections import PROJECTIONS
from examples.gan.settings import Config

_NEVER = 2**31 - 1  # optax would then take the bad gradient


def optimizer(
    config: Config, projection: str | None = None
) -> optax.GradientTransformation:
    """Returns the Adam of one network, and behind it the projection of its kernels.

    Without ``--setting`` the betas are those of setting C, and the rate (that of the
    paper for the 32x32 images, twice that for the digits) falls over the data set's own
    number of steps, not over ``--steps``, and to a tenth, not to zero: a run can be
    prolonged and still be the same run. In a setting the rate is constant. A gradient
    that is not finite changes nothing; how many there were in a row is counted, and
    `loop` gives up.

    Args:
        config: of the run.
        projection: a key of ``PROJECTIONS``, for D.
    """
    game = config.game
    first = game.rate or config.preset.learning_rate
    falling = optax.linear_schedule(first, first / 10, config.preset.steps)
    adam = optax.adam(game.rate or falling, b1=game.beta1, b2=game.beta2)
    if projection is not None:
        adam = optax.chain(adam, PROJECTIONS[projection].link(first))
    return optax.apply_if_finite(adam, max_consecutive_errors=_NEVER)
