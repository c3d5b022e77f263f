"""The discriminator with its constraint: its loss, and what it carries."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from examples.gan.constraint import Constraint
from examples.gan.games import LOSSES
from examples.gan.maker import Images, Labels
from examples.gan.networks import networks
from examples.gan.parametrizations import PARAMETRIZATIONS
from examples.gan.penalties import PENALTIES, Seen
from examples.gan.settings import Config
from examples.gan.state import kernels

Tree = Any


class Round(NamedTuple):
    """What one update of D sees."""

    real: Images
    fake: Images
    key: Array
    real_labels: Labels
    fake_labels: Labels


class Report(NamedTuple):
    """What one update of D leaves behind.

    Attributes:
        loss: that it minimizes, the penalties included.
        penalty: their sum, with their weights.
        used: the kernels with which it saw both batches.
        sn: specjax's state after it.
        carried: the rest of what it carries, after it.
    """

    loss: Float[Array, ""]
    penalty: Float[Array, ""] | float
    used: Tree
    sn: Tree
    carried: Tree


@dataclasses.dataclass(frozen=True)
class Critic:
    """The network and the parts of its constraint."""

    network: nn.Module
    parts: Constraint
    kernels: Any
    loss_name: str

    @classmethod
    def of(cls, config: Config) -> "Critic":
        """Returns the discriminator of a run."""
        return cls(networks(config)[1], config.parts, kernels(config), config.loss)

    def constrain(
        self, trained: Tree, sn: Tree, carried: Tree, *, update_stats: bool
    ) -> tuple[Tree, Tree, Tree]:
        """Returns the kernels that D uses, and what is carried on."""
        way = PARAMETRIZATIONS[self.parts.parametrization]
        return way.apply(trained, sn, carried, self.kernels, update_stats)

    def loss(
        self, trained: Tree, sn: Tree, carried: Tree, seen: Round
    ) -> tuple[Float[Array, ""], Report]:
        """Returns what D minimizes, and the report; what it carries makes one step."""
        used, sn, carried = self.constrain(trained, sn, carried, update_stats=True)
        real, carried = self.scores(used, carried, seen.real, seen.real_labels)
        fake, carried = self.scores(used, carried, seen.fake, seen.fake_labels)
        loss = LOSSES[self.loss_name].critic(real, fake)
        penalty = self._penalty(trained, used, sn, seen)
        total = loss if isinstance(penalty, float) else loss + penalty
        return total, Report(total, penalty, used, sn, carried)

    def _penalty(
        self, trained: Tree, used: Tree, sn: Tree, seen: Round
    ) -> Float[Array, ""] | float:
        """Returns the sum of the penalties; 0.0 if there is none."""
        way = PARAMETRIZATIONS[self.parts.parametrization]
        raw = way.raw(trained, self.kernels)
        batches = seen.real, seen.fake, seen.key
        looked = Seen(self._slopes(used, seen), *batches, raw, sn, self.kernels)
        return sum((PENALTIES[name](looked) for name in self.parts.penalties), 0.0)

    def _slopes(self, used: Tree, seen: Round) -> Any:
        """Returns the critic of a penalty: every image is judged as its real one is."""
        return lambda images: self.scores(used, {}, images, seen.real_labels)[0]

    def scores(
        self, used: Tree, carried: Tree, images: Images, labels: Labels
    ) -> tuple[Float[Array, " n"], Tree]:
        """Returns D's score of every image, as in training, and what is carried on."""
        if "batch_stats" not in carried:
            scores = self.network.apply({"params": used}, images, labels)
            return jnp.asarray(scores), carried
        variables = {"params": used, "batch_stats": carried["batch_stats"]}
        scores, changed = self.network.apply(
            variables, images, labels, mutable=["batch_stats"]
        )
        return jnp.asarray(scores), carried | dict(changed)

    def gradient_norm(
        self, used: Tree, carried: Tree, images: Images, labels: Labels
    ) -> Float[Array, ""]:
        """Returns the mean over ``images`` of the norm of D's gradient at each."""
        running = {name: carried[name] for name in carried if name == "batch_stats"}

        def total(images: Images) -> Float[Array, ""]:
            variables = {"params": used, **running}
            scores = self.network.apply(variables, images, labels, train=not running)
            return jnp.sum(jnp.asarray(scores))

        gradient = jax.grad(total)(images)
        return jnp.mean(jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2, 3))))
