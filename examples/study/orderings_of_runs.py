"""The published orderings of spectra, of times, and of the first 200 updates."""

from collections.abc import Callable

from examples.study.evidence import (
    change_of,
    of_method,
    rank_share,
    relative_change_of,
    size_of,
    spread_of_gradient,
    travel_of,
)
from examples.study.orderings_of_scores import MIYATO
from examples.study.records import Record
from examples.study.verdict import LATER, NOT_MEASURED, Finding, both, less, shown

_WRITE_UP = "the write-up"


def of_spectra(records: list[Record]) -> list[Finding]:
    """Figure 3, in which nothing but curves is printed."""
    ranks = {
        name: [
            share
            for share in of_method(records, name, "non-saturating", rank_share)
            if share is not None  # of a kernel with NaN there is none
        ]
        for name in ("sn", "clip", "wn")
    }
    start = [rank_share(record, "start") for record in records[:1]]
    return [
        Finding(
            f"the critic's layers use fewer directions with {label} than with spectral "
            "norm (effective rank, of what is possible; non-saturating)",
            f"{MIYATO}, Figure 3",
            "-",
            f"{name} {shown(ranks[name])}; sn {shown(ranks['sn'])}; "
            f"at the start {shown(start)}",
            less(ranks[name], ranks["sn"]),
        )
        for name, label in (("clip", "weight clipping"), ("wn", "weight norm"))
    ]


def of_time(times: Record | None) -> list[Finding]:
    """Section 4.1.1 and Figure 10, of which no height is printed; the write-up."""
    source = f"{MIYATO}, section 4.1.1, Figure 10"
    return [
        _by_time(
            times,
            ("wn", "sn"),
            "an update takes longer with SN than with WN",
            source,
            "sn 1.1 to 1.2 of wn",
        ),
        _by_time(
            times,
            ("sn", "gp"),
            "an update takes longer with GP than with SN",
            source,
            "gp far more",
        ),
    ]


def _by_time(
    times: Record | None, pair: tuple[str, str], claim: str, source: str, published: str
) -> Finding:
    ratios = times["ratios"] if times else {}
    if not set(pair) <= ratios.keys():
        return Finding(claim, source, published, "no times", NOT_MEASURED)
    low, high = (ratios[name]["quartiles"] for name in pair)
    measured = (
        f"of none: {pair[0]} {low[1]:.2f}, {pair[1]} {high[1]:.2f}; "
        f"{pair[1]} {high[1] / low[1]:.2f} of {pair[0]}"
    )
    return Finding(claim, source, published, measured, less(low, high))


def of_curves(records: list[Record]) -> list[Finding]:
    """The write-up's Figures 1 to 3, over 200 updates: words, no numbers."""
    return [
        _by_curve(
            records,
            "the gradient norm is more controlled with spectral norm (largest over "
            "smallest of the first 200 updates, without 5 % of them on each side)",
            "Figure 1",
            spread_of_gradient,
            ("sn", "gp"),
            ("sn", "clip"),
        ),
        _by_curve(
            records,
            "GP over-corrects: the generator's loss travels farther than with "
            "spectral norm (largest less smallest of the first 200)",
            "Figure 2",
            travel_of("generator_loss"),
            ("sn", "gp"),
        ),
        _by_curve(
            records,
            "weight clipping shows very little loss of the generator (ten times its "
            "mean absolute value in the first 200 is still less than the others')",
            "Figure 2",
            size_of("generator_loss"),
            ("clip", "sn"),
            ("clip", "gp"),
            factor=10.0,
        ),
        _by_curve(
            records,
            "the critic's loss changes more gradually with spectral norm than with GP "
            "(mean change in one of the first 200)",
            "Figure 3",
            change_of("critic_loss"),
            ("sn", "gp"),
        ),
        _by_curve(
            records,
            "the same of the change over how far the loss goes in these updates"
            + LATER,
            "Figure 3",
            relative_change_of("critic_loss"),
            ("sn", "gp"),
        ),
    ]


def _by_curve(
    records: list[Record],
    claim: str,
    figure: str,
    measure: Callable[[Record], float | None],
    *pairs: tuple[str, str],
    factor: float = 1.0,
) -> Finding:
    """Returns a finding on the Wasserstein loss: in each pair the first is less.

    ``factor`` times the first, that is.
    """
    names = sorted({name for pair in pairs for name in pair})
    values = {name: of_method(records, name, "wasserstein", measure) for name in names}
    return Finding(
        claim,
        f"{_WRITE_UP}, {figure}",
        "-",
        "; ".join(f"{name} {shown(values[name])}" for name in names),
        both(*(less(_times(factor, values[a]), values[b]) for a, b in pairs)),
    )


def _times(factor: float, values: list[float | None]) -> list[float | None]:
    return [None if value is None else factor * value for value in values]
