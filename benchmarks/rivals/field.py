"""The field: every rival by name, beside the plain step of its own framework."""

import importlib
import importlib.util
from typing import NamedTuple

from benchmarks.rivals.training import Training
from benchmarks.rivals.weights import Problem


class Rival(NamedTuple):
    """A way to normalize, or none.

    Attributes:
        name: of the row in the table.
        package: what must be installed.
        module: the rest of `with_...` in this package, which holds the adapter.
        function: in that module.
        plain: the name of the same framework's step without normalization; None for
            that one itself.
        ours: whether it is specjax.
        unasked: whether it is in the tables of those who do not name it.
        quick: whether it is timed in a quick look at every network.
    """

    name: str
    package: str
    module: str
    function: str
    plain: str | None
    ours: bool = False
    unasked: bool = True
    quick: bool = True

    def missing(self) -> str | None:
        """Returns None if its package is there, else what to say of it."""
        if importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed"
        return None

    def prepare(self, problem: Problem) -> Training:
        """Returns the training of a network.

        Raises:
            ImportError: without its package.
        """
        module = importlib.import_module(f"benchmarks.rivals.with_{self.module}")
        return getattr(module, self.function)(problem)


_LINEN, _NNX = "linen, plain", "nnx, plain"


def _shortest(name: str, function: str) -> Rival:
    return Rival(name, "flax", "shortest", function, _LINEN, unasked=False)


FIELD = (
    Rival(_LINEN, "flax", "linen", "plain", None),
    Rival("flax.linen.SpectralNorm", "flax", "linen", "flax", _LINEN),
    Rival("specjax sn_apply", "flax", "linen", "functions", _LINEN, ours=True),
    Rival("specjax.linen.SpectralNorm", "flax", "linen", "specjax", _LINEN, ours=True),
    Rival(
        "specjax.linen, one around all", "flax", "linen", "around", _LINEN,
        ours=True, quick=False,
    ),
    Rival("specjax renormalize", "flax", "linen", "renormalized", _LINEN, ours=True),
    Rival(
        "specjax, sigma constant", "flax", "linen", "constant_sigma", _LINEN,
        ours=True, unasked=False,
    ),
    _shortest("shortest, sigma constant", "constant"),
    _shortest("shortest", "miyato"),
    _shortest("shortest, in stacks", "in_stacks"),
    Rival(_NNX, "flax", "nnx", "plain", None),
    Rival("flax.nnx.SpectralNorm", "flax", "nnx", "flax", _NNX),
    Rival("specjax.nnx.SpectralNorm", "flax", "nnx", "specjax", _NNX, ours=True),
    Rival(
        "specjax.nnx, one around all", "flax", "nnx", "around", _NNX,
        ours=True, quick=False,
    ),
    Rival("haiku, plain", "haiku", "haiku", "plain", None),
    Rival("haiku SNParamsTree", "haiku", "haiku", "haiku", "haiku, plain"),
    Rival("equinox, plain", "equinox", "equinox", "plain", None),
    Rival(
        "equinox.nn.SpectralNorm", "equinox", "equinox", "equinox", "equinox, plain"
    ),
    Rival("torch, plain", "torch", "torch", "plain", None),
    Rival(
        "torch spectral_norm", "torch", "torch", "torch_parametrized", "torch, plain"
    ),
    Rival("keras, plain", "keras", "keras", "plain", None),
    Rival(
        "keras SpectralNormalization", "keras", "keras", "keras_wrapped", "keras, plain"
    ),
)  # fmt: skip
