"""The methods that are compared, and what each looks like in every figure."""

from typing import NamedTuple


class Method(NamedTuple):
    """One row of the table below.

    Attributes:
        name: the GAN example's ``--constraint``.
        label: in figures and tables.
        color: the same in all figures.
    """

    name: str
    label: str
    color: str


# Their weights are the example's own: c = .01, lambda = 10, none tuned here.
_ALL = (
    Method("none", "none", "#7f7f7f"),
    Method("clip", "weight clipping", "#d62728"),
    Method("gp", "gradient penalty", "#ff7f0e"),
    Method("r1", "R1", "#bcbd22"),
    Method("wn", "weight norm", "#9467bd"),
    Method("layer-norm", "layer norm", "#e377c2"),
    Method("orthogonal", "orthogonal reg.", "#2ca02c"),
    Method("sn", "spectral norm", "#1f77b4"),
    Method("sn+gp", "spectral norm + GP", "#17becf"),
)
METHODS = {method.name: method for method in _ALL}


def label_of(name: str) -> str:
    """Returns how tables name a method; one that is in no figure by its flag."""
    return METHODS[name].label if name in METHODS else name


# In no figure: run under the non-saturating loss alone, for docs/which-constraint.md.
OTHERS = (
    "r2",
    "gp-one-sided",
    "off-diagonal",
    "spectral-penalty",
    "sngp",
    "bsn",
    "sr",
    "soft-cap",
    "hammer",
    "ball",
    "orthogonalize",
    "bjorck",
    "mean-only",
    "retract",
)
OTHERS_LOSS = "non-saturating"

# Each loss with a setting of Miyato et al. 2018, Table 1: A is WGAN-GP's own, C is
# DCGAN's.
LOSSES = {"wasserstein": "A", "non-saturating": "C"}
SETTINGS = ("A", "B", "C", "D", "E", "F")

# Miyato et al. 2018, Figures 1 and 2: the loss with which each was run over all of A-F.
ROBUSTNESS = {"sn": "non-saturating", "gp": "wasserstein", "clip": "non-saturating"}
