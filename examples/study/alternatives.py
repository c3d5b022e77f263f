"""The table of docs/which-constraint.md: when to use what, with what it costs."""

from typing import NamedTuple

from examples.study.markdown import texts
from examples.study.methods import LOSSES
from examples.study.records import Record
from examples.study.series import compared, distances
from examples.study.verdict import shown


class Alternative(NamedTuple):
    """One row.

    Attributes:
        name: as people call it.
        function: of ``specjax``, or of ``specjax.constraints`` where there is no dot.
        method: the GAN example's ``--constraint``.
        use: when to use it.
        trade: what it costs beside time.
    """

    name: str
    function: str
    method: str
    use: str
    trade: str


_ROWS = (
    Alternative(
        "none", "-", "none", "to know what a constraint changes",
        "nothing bounds the critic: its gradients grow",
    ),
    Alternative(
        "spectral normalization", "`sn_apply`", "sn",
        "the default for a GAN's critic", "bounds each layer, not the slope as such",
    ),
    Alternative(
        "gradient penalty (WGAN-GP)", "`wgan_gp`", "gp",
        "the slope itself is to be near 1, where the samples are",
        "a second backward pass (\"2-3x slower than spectral norm\" is what one reads: "
        "compare the next column); holds only where it was measured",
    ),
    Alternative(
        "both", "`sn_apply`, `wgan_gp`", "sn+gp",
        "a Wasserstein critic that is bounded everywhere and steep where it matters",
        "the cost of both",
    ),
    Alternative(
        "weight clipping", "`specjax.optax.clip_weights`", "clip",
        "to repeat the first WGAN",
        "its bound on the norm, c sqrt(in * out), is loose; few directions survive, "
        "learning is slow",
    ),
    Alternative(
        "layer normalization", "`flax.linen.LayerNorm`", "layer-norm",
        "transformers and RNNs", "of activations, not of weights: no Lipschitz bound",
    ),
    Alternative(
        "mean-only batch normalization", "`MeanOnlyBatchNorm`", "mean-only",
        "beside weight normalization, or to center without a division",
        "of activations; scores depend on the batch",
    ),
    Alternative(
        "weight normalization", "`wn_apply`", "wn",
        "length and direction of a unit are to be learned apart",
        "bounds no norm of the layer; its largest direction can take all",
    ),
    Alternative(
        "orthogonal regularization", '`orthogonal_penalty(form="squared")`',
        "orthogonal", "all singular values are to stay near each other",
        "a wish, not a bound; a weight to choose (1e-4 here: BigGAN's, for another "
        "form of it)",
    ),
    Alternative(
        "R1", "`r1`", "r1", "a critic without a bound, as in StyleGAN",
        "a second backward pass; only at real images",
    ),
    Alternative(
        "R2", "`r2`", "r2", "the same at generated images", "as R1",
    ),
    Alternative(
        "one-sided gradient penalty", "`wgan_gp(one_sided=True)`", "gp-one-sided",
        "slopes below 1 are no mistake", "as the two-sided one",
    ),
    Alternative(
        "off-diagonal regularization", "`orthogonal_penalty`",
        "off-diagonal", "BigGAN: units apart, their length free",
        "a wish, not a bound",
    ),
    Alternative(
        "spectral norm regularization", "`spectral_penalty`", "spectral-penalty",
        "the norms are to be small, how small is to be learned",
        "a wish, not a bound; a weight to choose",
    ),
    Alternative(
        "SNGP's SN", "`sn_apply(cap=True, grad_sigma=False)`", "sngp",
        "a layer may be smaller than its bound, as for distances in a classifier",
        "a smaller slope than the bound allows",
    ),
    Alternative(
        "bidirectional SN", "`bsn_apply`", "bsn",
        "the gradient's size is to be kept, too",
        "two power iterations; of dense kernels, as here, it is SN",
    ),
    Alternative(
        "sigma-reparametrization", "`sr_apply`", "sr",
        "attention: the norm is learned, not fixed", "no bound: the gain is free",
    ),
    Alternative(
        "projection on the spectral ball", "`project_spectral_ball`", "ball",
        "exactly at most the bound after each update",
        "an SVD, or 28 steps of 3 products, for each kernel and update",
    ),
    Alternative(
        "orthogonalization", "`orthogonalize`", "orthogonalize",
        "every singular value is to be 1: with MaxMin, slopes reach the bound",
        "14 steps of 3 products for each kernel and update",
    ),
    Alternative(
        "Bjorck orthogonalization", "`bjorck`", "bjorck",
        "the same, differentiated through its steps, as in Lipschitz networks",
        "30 steps of 2 products for each kernel and update",
    ),
    Alternative(
        "retraction", "`retract`", "retract",
        "the same at a size that fits a layer's widths", "as orthogonalization",
    ),
    Alternative(
        "spectral soft cap", "`spectral_soft_cap`", "soft-cap",
        "a bound with products of matrices alone, for small updates",
        "shrinks every singular value a little; refuses large updates",
    ),
    Alternative(
        "spectral hammer", "`spectral_hammer`", "hammer",
        "the largest singular value alone is to be set",
        "the second largest may be the next to stand out",
    ),
)  # fmt: skip


def alternatives(records: list[Record], times: Record | None) -> str:
    """Returns the table; a dash where nothing was measured."""
    rows = [
        [
            f"{row.name} (`{row.method}`)",
            row.function,
            row.use,
            row.trade,
            _cost(times, row.method),
            *(_score(records, row.method, loss) for loss in LOSSES),
        ]
        for row in _ROWS
    ]
    distances_ = (f"distance, {loss}" for loss in LOSSES)
    headings = ["name (flag)", "function", "when", "trade-off", "cost per step"]
    return texts([*headings, *distances_], rows)


def _cost(times: Record | None, method: str) -> str:
    ratios = times["ratios"] if times else {}
    return f"{ratios[method]['quartiles'][1]:.2f}" if method in ratios else "-"


def _score(records: list[Record], method: str, loss: str) -> str:
    runs = compared(records, method, loss)
    return shown(distances(runs)) if runs else "-"
