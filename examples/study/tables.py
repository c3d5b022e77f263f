"""The study's tables, from the records alone: scores, settings, spectra, orderings."""

import statistics
from collections.abc import Iterable

from examples.study.evidence import rank_share
from examples.study.markdown import table, texts
from examples.study.methods import LOSSES, METHODS, ROBUSTNESS, SETTINGS, label_of
from examples.study.orderings import orderings
from examples.study.records import Record
from examples.study.series import chosen, compared, distances, methods_of
from examples.study.verdict import shown


def scores(records: list[Record]) -> str:
    """Returns the distances of every method under both losses."""
    rows = [
        [METHODS[m].label, *(_distance(compared(records, m, loss)) for loss in LOSSES)]
        for m in methods_of(records)
    ]
    headings = ["method", *(f"{loss}, setting {LOSSES[loss]}" for loss in LOSSES)]
    return f"{table(headings, rows)}\n\n{_how_scored(records)}"


def _distance(runs: list[Record]) -> str:
    """Returns median and range of the distance, and the smallest share of a class."""
    if not runs:
        return "-"
    shares = [min(r["score"]["class_shares"] or [0.0]) for r in runs]
    return f"{shown(distances(runs))}; {min(shares):.1%}"


def _how_scored(records: Iterable[Record]) -> str:
    score = next(iter(records))["score"]
    return (
        "Frechet distance, median (smallest to largest) over the seeds; then the "
        "smallest share that any of the ten classes has in any seed. "
        f"n_real = {score['n_real']:,} held-out images, n_fake = {score['n_fake']:,}, "
        "features of a classifier that is right on "
        f"{score['judge_accuracy']:.2%} of {score['n_test']:,} held-out images. "
        f"As many real training images in place of the generated ones: "
        f"{score['floor']:.3g}."
    )


def settings(records: list[Record]) -> str:
    """Returns the distance of each method in each of Adam's settings."""
    rows = [
        [
            f"{METHODS[method].label} ({loss})",
            *(
                shown(distances(chosen(of_method, setting=setting)))
                for setting in SETTINGS
            ),
        ]
        for method, loss in ROBUSTNESS.items()
        if (of_method := chosen(records, method=method, loss=loss))
    ]
    return table(["method", *SETTINGS], rows)


def spectra(records: list[Record]) -> str:
    """Returns the effective rank of each method's layers, of what is possible."""
    layers = [n for n, x in records[0]["spectra"]["end"].items() if x["n"] > 1]
    first = records[:1]
    cells = (_layer(first, "start", layer) for layer in layers)
    rows = [["at the start", "-", *cells, shown([rank_share(first[0], "start")])]]
    for method in methods_of(records):
        for loss in LOSSES:
            runs = compared(records, method, loss)
            if runs:
                cells = (_layer(runs, "end", layer) for layer in layers)
                mean = shown([rank_share(run) for run in runs])
                rows.append([METHODS[method].label, loss, *cells, mean])
    return table(["method", "loss", *layers, "mean of layers"], rows)


def _layer(runs: list[Record], when: str, layer: str) -> str:
    """Returns a layer's effective rank over its n, and its share above half."""
    spectra = [run["spectra"][when][layer] for run in runs]
    known = [one for one in spectra if one["largest"]]
    if not known:
        return "not finite"
    rank = statistics.median(one["effective_rank"] / one["n"] for one in known)
    half = statistics.median(one["above_half"] for one in known)
    return f"{rank:.2f}; {half:.1%}"


def time(times: Record) -> str:
    """Returns the time of an update of each method, and its ratio to none's."""
    rows = [
        [
            label_of(method),
            f"{ratio['milliseconds']:.2f}",
            "{1:.2f} ({0:.2f} to {2:.2f})".format(*ratio["quartiles"]),
        ]
        for method, ratio in times["ratios"].items()
    ]
    headings = ["method", "ms per update", "of none: median (quartiles)"]
    return table(headings, rows)


def findings(records: list[Record], times: Record | None) -> str:
    """Returns each published ordering, with the numbers of both sides."""
    rows = [
        [f.claim, f.source, f.published, f.measured, f"**{f.verdict}**"]
        for f in orderings(records, times)
    ]
    headings = ["published", "where", "its numbers", "here", "verdict"]
    return texts(headings, rows)


def runs(records: list[Record], times: Record | None) -> str:
    """Returns in a sentence or two what was run, where, and for how long."""
    del times
    seconds = sum(record["seconds"] for record in records)
    steps = sorted({record["config"]["steps"] for record in records})
    devices = sorted({record["device"] for record in records})
    versions = sorted(
        {
            ", ".join(f"{name} {v}" for name, v in record["versions"].items())
            for record in records
        }
    )
    diverged = [r["name"] for r in records if r["diverged_at"] is not None]
    which = f": {', '.join(diverged)}" if diverged else ""
    return (
        f"{len(records)} runs of {' or '.join(f'{n:,}' for n in steps)} updates of the "
        f"generator, batch {records[0]['config']['batch_size']}, network "
        f"{records[0]['network']}, on {'; '.join(devices)}; {seconds / 60:.0f} minutes "
        f"of run time, added up over all processes. {'; '.join(versions)}. "
        f"{len(diverged)} of them diverged{which}."
    )
